#!/usr/bin/env bash
# Celery, unchanged, with its results over AMQP 0-9-1 too: tasks, retries, countdowns, groups, chains, revocation and remote control; with
# classic queues, and with quorum queues, on which Celery delays by exchanges and TTLs. And kombu alone. Wants $POSTHOUSE (the binary) and
# $VENV (the Python clients' bin directory); with --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_server "$@"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$checks_dir" BROKER="amqp://guest:guest@127.0.0.1:$PORT//"

for QUEUE_TYPE in classic quorum; do
    export QUEUE_TYPE
    echo "== with $QUEUE_TYPE queues"
    (cd "$work_dir" && exec "$VENV/celery" --app celery_tasks worker --concurrency 2 --loglevel INFO --hostname "$QUEUE_TYPE@check") \
        >"$work_dir/worker.log" 2>&1 &
    worker_pid=$!
    code=0
    timeout 120 "$VENV/python" "$checks_dir/celery_client.py" || code=$?
    kill "$worker_pid" 2>/dev/null || true
    wait "$worker_pid" || true
    worker_pid=""
    ((code == 0)) || { tail -n 60 "$work_dir/worker.log"; exit "$code"; }
done
amqp_server_is_well

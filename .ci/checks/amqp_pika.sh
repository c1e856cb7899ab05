#!/usr/bin/env bash
# pika, unchanged, over AMQP 0-9-1: confirms, returns, acknowledgements, dead letters, TTL, priorities, every kind of exchange, transactions,
# direct reply-to, streams, and the errors that clients rely on. Wants $POSTHOUSE (the binary) and $VENV (the Python clients' bin directory);
# with --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_server "$@"
PYTHONDONTWRITEBYTECODE=1 "$VENV/python" "$checks_dir/amqp_pika.py" "$PORT"
amqp_server_is_well

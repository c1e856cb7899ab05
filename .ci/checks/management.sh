#!/usr/bin/env bash
# What rabbitmqadmin, an autoscaler and a team that moves do with RabbitMQ's management API, with plain Python requests.
# Wants $POSTHOUSE (the binary) and $VENV (the Python clients' bin directory).
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir

work_dir="$(mktemp -d)"
posthouse="$(realpath "$POSTHOUSE")"
server_pid=""
# The server still writes while it drains: its directory goes after it.
trap '[[ -z "$server_pid" ]] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null || true; rm -rf "$work_dir"' EXIT

# Made before the shell that writes it begins.
: >"$work_dir/out"
"$posthouse" serve --http off --grpc off --amqp off --management 127.0.0.1:0 --data "$work_dir/data" >"$work_dir/out" 2>"$work_dir/log" &
server_pid=$!
url=""
for _ in $(seq 100); do
    # The ready line: posthouse VERSION ready: management=URL (data DIR)
    url="$(sed -n 's/.* management=\(http[^ ]*\) .*/\1/p' "$work_dir/out")"
    [[ -z "$url" ]] || break
    kill -0 "$server_pid" || { cat "$work_dir/log"; exit 1; }
    sleep 0.1
done
[[ -n "$url" ]] || { echo "the server printed no address"; cat "$work_dir/out" "$work_dir/log"; exit 1; }

PYTHONDONTWRITEBYTECODE=1 "$VENV/python" "$checks_dir/management.py" "$url"

kill -0 "$server_pid" || { echo "the server has ended"; tail -n 50 "$work_dir/log"; exit 1; }
if grep -A5 panicked "$work_dir/log"; then
    exit 1
fi

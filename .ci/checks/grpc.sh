#!/usr/bin/env bash
# Google's own Python client, with stubs made from the .proto files as a user would make them, does what docs/protocols/grpc.md says:
# publish and consume streams, replay, requests and answers, health, reflection. Wants $POSTHOUSE (the binary) and $VENV (the Python
# clients' bin directory).
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir proto_dir="$checks_dir/../../crates/api/proto"

"$VENV/python" -c 'import grpc, grpc_tools, grpc_health, grpc_reflection' ||
    { echo "grpcio is not installed: run .ci/run once without --no-install"; exit 1; }

work_dir="$(mktemp -d)"
posthouse="$(realpath "$POSTHOUSE")"
server_pid=""
# The server still writes while it drains: its directory goes after it.
trap '[[ -z "$server_pid" ]] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null || true; rm -rf "$work_dir"' EXIT

mkdir "$work_dir/stubs"
"$VENV/python" -m grpc_tools.protoc --proto_path="$proto_dir" --python_out="$work_dir/stubs" \
    --grpc_python_out="$work_dir/stubs" "$proto_dir"/posthouse/v1/*.proto

# Made before the shell that writes it begins.
: >"$work_dir/out"
"$posthouse" serve --http off --grpc 127.0.0.1:0 --amqp off --management off --data "$work_dir/data" >"$work_dir/out" 2>"$work_dir/log" &
server_pid=$!
address=""
for _ in $(seq 100); do
    # The ready line: posthouse VERSION ready: URL (data DIR)
    address="$(sed -n 's/.* ready: grpc:\/\/\([^ ]*\) .*/\1/p' "$work_dir/out")"
    [[ -z "$address" ]] || break
    kill -0 "$server_pid" || { cat "$work_dir/log"; exit 1; }
    sleep 0.1
done
[[ -n "$address" ]] || { echo "the server printed no address"; cat "$work_dir/out" "$work_dir/log"; exit 1; }

PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$work_dir/stubs" "$VENV/python" "$checks_dir/grpc_client.py" "$address"

kill -0 "$server_pid" || { echo "the server has ended"; tail -n 50 "$work_dir/log"; exit 1; }
if grep -A5 panicked "$work_dir/log"; then
    exit 1
fi

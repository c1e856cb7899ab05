#!/usr/bin/env bash
# Over a plain socket, what clients of AMQP 0-9-1 seldom send or hide how it is answered: flow, renewed secrets, recovery, empty names, methods
# without answers, second settlements, what closes a channel and what the connection. Wants $POSTHOUSE (the binary) and $VENV (the Python
# clients' bin directory); with --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_server "$@"
PYTHONDONTWRITEBYTECODE=1 "$VENV/python" "$checks_dir/amqp_raw.py" "$PORT"
amqp_server_is_well

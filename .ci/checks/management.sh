#!/usr/bin/env bash
# What rabbitmqadmin, an autoscaler and a team that moves do with RabbitMQ's management API, with plain Python requests.
# Wants $POSTHOUSE (the binary) and $VENV (the Python clients' bin directory).
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_server
PYTHONDONTWRITEBYTECODE=1 "$VENV/python" "$checks_dir/management.py" "http://127.0.0.1:$MANAGEMENT_PORT"
amqp_server_is_well

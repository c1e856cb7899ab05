#!/usr/bin/env bash
# The test suite of RabbitMQ's own Go client passes as far as it passes on RabbitMQ, but for the tests of recovery, which have the management
# API cut connections and take minutes. Wants $POSTHOUSE (the binary) and Go 1.21 or later: where it is not there, nothing is checked. With
# --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_find_go || exit 0
amqp_server "$@"
python3 "$checks_dir/../amqp/suites.py" amqp091-go --port "$PORT"
amqp_server_is_well

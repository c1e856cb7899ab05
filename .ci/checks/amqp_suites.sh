#!/usr/bin/env bash
# The test suites of amqplib, py-amqp and kombu, as their authors publish them, pass as far as they pass on RabbitMQ; what they may miss
# stands with its reason in .ci/amqp/skips. Wants $POSTHOUSE (the binary), python3 and npm; with --against-running, $PORT instead of the
# binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"

amqp_server "$@"
python3 "$checks_dir/../amqp/suites.py" amqplib py-amqp kombu --port "$PORT"
amqp_server_is_well

#!/usr/bin/env bash
# RabbitMQ's own Go client, unchanged, over AMQP 0-9-1: deferred confirms, many channels, `immediate`, concurrent publishers, hard errors.
# Wants $POSTHOUSE (the binary) and Go 1.21 or later, which Debian 12 does not have: where it is not there, nothing is checked. With
# --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir amqp_dir="$checks_dir/../amqp"
# shellcheck source=../amqp/server.sh
source "$amqp_dir/server.sh"

amqp_find_go || exit 0
target="${CARGO_TARGET_DIR:-$checks_dir/../../target}"
mkdir -p "$target"
program="$(cd "$target" && pwd)/amqp-go"
(cd "$amqp_dir/go" && "$GO" build -mod=readonly -o "$program" .)

amqp_server "$@"
timeout 120 "$program" "amqp://guest:guest@127.0.0.1:$PORT/"
amqp_server_is_well

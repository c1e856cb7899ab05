#!/usr/bin/env bash
# RabbitMQ's own Go client, unchanged, over AMQP 0-9-1: deferred confirms, many channels, `immediate`, concurrent publishers, hard errors.
# Wants $POSTHOUSE (the binary) and Go; with --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir amqp_dir="$checks_dir/../amqp"
# shellcheck source=../amqp/server.sh
source "$amqp_dir/server.sh"

go="$(command -v go || echo /usr/local/go/bin/go)"
[[ -x "$go" ]] || { echo "Go is not installed: run .ci/run once without --no-install"; exit 1; }
target="${CARGO_TARGET_DIR:-$checks_dir/../../target}"
mkdir -p "$target"
program="$(cd "$target" && pwd)/amqp-go"
(cd "$amqp_dir/go" && "$go" build -mod=readonly -o "$program" .)

amqp_server "$@"
timeout 120 "$program" "amqp://guest:guest@127.0.0.1:$PORT/"
amqp_server_is_well

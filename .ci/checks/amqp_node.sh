#!/usr/bin/env bash
# amqplib, unchanged, over AMQP 0-9-1, by its promises and by its callbacks. Wants $POSTHOUSE (the binary), node and npm; with
# --against-running, $PORT instead of the binary.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir amqp_dir="$checks_dir/../amqp"
# shellcheck source=../amqp/server.sh
source "$amqp_dir/server.sh"

if ! command -v npm >/dev/null; then
    echo "npm is not installed: run .ci/run once without --no-install"
    exit 1
fi
# Kept for as long as the pinned list stays the same.
clients="${CARGO_TARGET_DIR:-$checks_dir/../../target}/amqp-node"
if ! cmp -s "$amqp_dir/node/package-lock.json" "$clients/package-lock.json" || [[ ! -d "$clients/node_modules/amqplib" ]]; then
    rm -rf "$clients"
    mkdir -p "$clients"
    cp "$amqp_dir/node/package.json" "$amqp_dir/node/package-lock.json" "$clients/"
    (cd "$clients" && npm ci --silent --no-audit --no-fund --ignore-scripts)
fi

amqp_server "$@"
NODE_PATH="$(cd "$clients" && pwd)/node_modules" timeout 120 node "$checks_dir/amqp_node.js" "$PORT"
amqp_server_is_well

#!/usr/bin/env bash
# The AsyncAPI document that the SDK makes of a service is valid by AsyncAPI's own parser. Wants node and npm.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir parser_dir="$checks_dir/../asyncapi"
cd "$checks_dir/../.."

if ! command -v npm >/dev/null; then
    echo "npm is not installed: run .ci/run once without --no-install"
    exit 1
fi
# Kept for as long as the pinned list stays the same.
parser="${CARGO_TARGET_DIR:-target}/asyncapi-node"
if ! cmp -s "$parser_dir/package-lock.json" "$parser/package-lock.json" || [[ ! -d "$parser/node_modules/@asyncapi/parser" ]]; then
    rm -rf "$parser"
    mkdir -p "$parser"
    cp "$parser_dir/package.json" "$parser_dir/package-lock.json" "$parser/"
    (cd "$parser" && npm ci --silent --no-audit --no-fund --ignore-scripts)
fi

document="$(mktemp)"
output="$(mktemp)"
trap 'rm -f "$document" "$output"' EXIT
# The whole workspace, as in the step `tests`: with one package alone, features would differ and all would be built again.
ASYNCAPI_OUT="$document" cargo test --workspace --lib asyncapi:: >"$output" 2>&1 || { cat "$output"; exit 1; }
[[ -s "$document" ]] || { echo "no test wrote the document"; cat "$output"; exit 1; }
NODE_PATH="$(cd "$parser" && pwd)/node_modules" timeout 120 node "$checks_dir/asyncapi.js" "$document"

#!/usr/bin/env bash
# The HTTP API against its own OpenAPI document: no server error, every answer as the document says, every operation
# reached with success at least once. Wants $POSTHOUSE (the binary) and $VENV (the Python clients' bin directory).
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir

work_dir="$(mktemp -d)"
posthouse="$(realpath "$POSTHOUSE")"
server_pid=""
# The server still writes while it drains: its directory goes after it.
trap '[[ -z "$server_pid" ]] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null || true; rm -rf "$work_dir"' EXIT

"$posthouse" serve --http 127.0.0.1:0 --grpc off --amqp off --management off --data "$work_dir/data" >"$work_dir/out" 2>&1 &
server_pid=$!
address=""
for _ in $(seq 100); do
    address="$(grep -oE '127\.0\.0\.1:[0-9]+' "$work_dir/out" | grep -v ':0$' | head -n 1 || true)"
    [[ -z "$address" ]] || break
    kill -0 "$server_pid" || { cat "$work_dir/out"; exit 1; }
    sleep 0.1
done
[[ -n "$address" ]] || { echo "the server printed no address"; cat "$work_dir/out"; exit 1; }
url="http://$address"

# The clients keep what they find in the directory that they run in.
cd "$work_dir"
export PYTHONDONTWRITEBYTECODE=1

# First by hand: every operation of the document, with success. It also makes what the generated requests then name.
"$VENV/python" "$checks_dir/schemathesis_walk.py" "$url"

# Then generated requests, most of them wrong. The two event streams never end, so that only the walk asks for them.
# The seed is fixed: a run tests the same requests each time. Set SEED to try others, EXAMPLES for more.
echo "seed ${SEED:-1}"
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks+=,response_schema_conformance,unsupported_method
SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH="$checks_dir" "$VENV/schemathesis" run "$url/openapi.json" \
    --seed "${SEED:-1}" --max-examples "${EXAMPLES:-20}" --phases fuzzing --mode all --checks "$checks" --auth root:walk \
    --exclude-path '/v1/{ns}/topics/{topic}/tail' --exclude-path '/v1/{ns}/live' \
    --request-timeout 10 --continue-on-failure --suppress-health-check all --workers 2

kill -0 "$server_pid" || { echo "the server has ended"; tail -n 50 "$work_dir/out"; exit 1; }
if grep -q panicked "$work_dir/out"; then
    grep -A5 panicked "$work_dir/out"
    exit 1
fi

# The checks of AMQP clients source this. `amqp_server "$@"` starts the binary $POSTHOUSE with an AMQP listener and sets $PORT,
# $MANAGEMENT_PORT (of the management API) and $work_dir. With the argument --against-running it starts nothing, and $PORT is of the server
# that is to be checked: that is how a check is held against RabbitMQ.
# shellcheck shell=bash

work_dir="$(mktemp -d)"
server_pid=""

# shellcheck disable=SC2329 # called by the trap
amqp_stop() {
    # A check that has a worker names it so.
    [[ -z "${worker_pid:-}" ]] || { kill "$worker_pid" && wait "$worker_pid"; } 2>/dev/null || true
    # The server still writes while it drains: its directory goes after it.
    [[ -z "$server_pid" ]] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null || true
    rm -rf "$work_dir"
}
trap amqp_stop EXIT

amqp_server() {
    if [[ "${1:-}" == --against-running ]]; then
        [[ -n "${PORT:-}" ]] || { echo "PORT must say where the server listens"; return 1; }
        return 0
    fi
    local posthouse
    : >"$work_dir/out"
    posthouse="$(realpath "$POSTHOUSE")"
    "$posthouse" serve --http off --grpc off --amqp 127.0.0.1:0 --management 127.0.0.1:0 --data "$work_dir/data" >"$work_dir/out" 2>"$work_dir/log" &
    server_pid=$!
    PORT=""
    for _ in $(seq 100); do
        PORT="$(sed -n 's/.*amqp:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work_dir/out")"
        [[ -z "$PORT" ]] || break
        kill -0 "$server_pid" 2>/dev/null || { cat "$work_dir/log"; return 1; }
        sleep 0.1
    done
    [[ -n "$PORT" ]] || { echo "the server printed no AMQP address"; cat "$work_dir/out" "$work_dir/log"; return 1; }
    MANAGEMENT_PORT="$(sed -n 's/.* management=http:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work_dir/out")"
    export PORT MANAGEMENT_PORT
}

# After the clients: the server must still be there, and must not have panicked.
amqp_server_is_well() {
    [[ -n "$server_pid" ]] || return 0
    kill -0 "$server_pid" 2>/dev/null || { echo "the server has ended"; tail -n 50 "$work_dir/log"; return 1; }
    if grep -A5 panicked "$work_dir/log"; then
        return 1
    fi
}

# Sets $GO, if there is one that the client's module can be built by.
amqp_find_go() {
    local version
    GO="$(command -v go || echo /usr/local/go/bin/go)"
    version="$("$GO" env GOVERSION 2>/dev/null || true)"
    # From 1.21 on Go gets itself whatever later version a module asks for.
    if [[ ! "$version" =~ ^go1\.([0-9]+) ]] || ((BASH_REMATCH[1] < 21)); then
        echo "skipped: Go 1.21 or later is not installed"
        return 1
    fi
    export GO
}

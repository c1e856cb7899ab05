#!/usr/bin/env bash
# Starts RabbitMQ of Debian's packages on loopback, for suites and checks to be held against it: rabbitmq.sh DIRECTORY PORT
# Prints one line, `ready PORT PID`, and runs until it is told to end (TERM). All of it is below DIRECTORY.
# Settings: HTTP_PORT (the management API; off without it), PLUGINS (more to enable, with commas between).
set -euo pipefail
directory="$(realpath -m "$1")"
port="$2"
home=/usr/lib/rabbitmq/bin
[[ -x "$home/rabbitmq-server" ]] || { echo "RabbitMQ is not installed: apt-get install rabbitmq-server" >&2; exit 1; }
mkdir -p "$directory/home"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
dist_port="$(free_port)"
plugins="rabbitmq_consistent_hash_exchange${PLUGINS:+,$PLUGINS}"
[[ -z "${HTTP_PORT:-}" ]] || plugins+=,rabbitmq_management
echo "[$plugins]." >"$directory/plugins"
cat >"$directory/rabbitmq.conf" <<END
listeners.tcp.local = 127.0.0.1:$port
management.tcp.ip = 127.0.0.1
management.tcp.port = ${HTTP_PORT:-1}
cluster_formation.classic_config.nodes = none
vm_memory_high_watermark.relative = 0.6
disk_free_limit.absolute = 50MB
log.console = false
END
sed -i '/^cluster_formation/d' "$directory/rabbitmq.conf"
[[ -n "${HTTP_PORT:-}" ]] || sed -i '/^management/d' "$directory/rabbitmq.conf"

# A node name, a cookie and a port mapper of its own, all on loopback: nothing that is installed is touched.
export HOME="$directory/home" RABBITMQ_NODENAME="check$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_DIST_PORT="$dist_port" RABBITMQ_MNESIA_BASE="$directory/mnesia" RABBITMQ_LOG_BASE="$directory/log"
export RABBITMQ_ENABLED_PLUGINS_FILE="$directory/plugins" RABBITMQ_CONFIG_FILE="$directory/rabbitmq.conf"
export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE="$directory/pid" ERL_EPMD_ADDRESS=127.0.0.1
ERL_EPMD_PORT="$(free_port)"
export ERL_EPMD_PORT
RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS

epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >"$directory/epmd.out" 2>&1 &
epmd_pid=$!
"$home/rabbitmq-server" >"$directory/out" 2>&1 &
server_pid=$!
# shellcheck disable=SC2329 # called by the trap
stop() {
    trap - TERM INT EXIT
    kill "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
    kill "$epmd_pid" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 0' TERM INT
env >"$directory/environment"

for _ in $(seq 600); do
    kill -0 "$server_pid" 2>/dev/null || { cat "$directory/out" >&2; exit 1; }
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        # The server is a child of the script that starts it; its own id is in its file.
        echo "ready $port $(cat "$directory/pid" 2>/dev/null || echo "$server_pid")"
        wait "$server_pid"
        exit
    fi
    sleep 0.1
done
echo "RabbitMQ did not start within a minute" >&2
cat "$directory/out" >&2
exit 1

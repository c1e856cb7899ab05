#!/usr/bin/env bash
# The SDK's transport `amqp`, its conformance suite among them, against Posthouse and against RabbitMQ of Debian's packages.
# Wants $POSTHOUSE (the binary) and rabbitmq-server.
set -euo pipefail
checks_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly checks_dir
# shellcheck source=../amqp/server.sh
source "$checks_dir/../amqp/server.sh"
cd "$checks_dir/../.."

amqp_server
rabbitmq_port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
bash "$checks_dir/../amqp/rabbitmq.sh" "$work_dir/rabbitmq" "$rabbitmq_port" >"$work_dir/rabbitmq.out" 2>"$work_dir/rabbitmq.log" &
worker_pid=$! # ended by the trap of server.sh
for _ in $(seq 600); do
    grep -q '^ready' "$work_dir/rabbitmq.out" && break
    kill -0 "$worker_pid" 2>/dev/null || { cat "$work_dir/rabbitmq.log"; exit 1; }
    sleep 0.1
done
grep -q '^ready' "$work_dir/rabbitmq.out" || { echo "RabbitMQ did not start within a minute"; exit 1; }

export SDK_POSTHOUSE_AMQP_URL="amqp://guest:guest@127.0.0.1:$PORT/%2f"
export SDK_RABBITMQ_URL="amqp://guest:guest@127.0.0.1:$rabbitmq_port/%2f"
# The whole workspace, as in the step `tests`: with one package alone, features would differ and all would be built again.
cargo test --workspace --test it brokers:: -- --nocapture >"$work_dir/tests.out" 2>&1 || { cat "$work_dir/tests.out"; exit 1; }
grep -E '^test .*brokers::' "$work_dir/tests.out" | tail -n 3
passed="$(grep -cE '^test .*brokers::.* ok$|^test brokers::.* ok$' "$work_dir/tests.out" || true)"
echo "$passed tests passed against both brokers"
((passed > 0)) || { echo "no test ran"; cat "$work_dir/tests.out"; exit 1; }
amqp_server_is_well

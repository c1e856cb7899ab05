#!/usr/bin/env bash
# AMQP over TLS with pika, unchanged: a password, a client certificate (EXTERNAL), and a wrong password. Wants $POSTHOUSE (the binary), $VENV
# (the Python clients' bin directory) and openssl.
set -euo pipefail
posthouse="$(realpath "$POSTHOUSE")"
work_dir="$(mktemp -d)"
server_pid=""

# shellcheck disable=SC2329 # called by the trap
on_exit() {
    # The server still writes while it drains: its directory goes after it.
    [[ -z "$server_pid" ]] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null || true
    rm -rf "$work_dir"
}
trap on_exit EXIT

cd "$work_dir"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=ca 2>/dev/null
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >extensions
for name in localhost worker; do
    openssl req -newkey rsa:2048 -nodes -keyout "$name.key" -out "$name.csr" -subj "/CN=$name" 2>/dev/null
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$name.pem" \
        -extfile extensions 2>/dev/null
done
: >out
POSTHOUSE_ADMIN_PASSWORD=secret "$posthouse" serve --data data --http 127.0.0.1:0 --grpc off --management off --amqp off \
    --amqps 127.0.0.1:0 --tls-cert localhost.pem --tls-key localhost.key --tls-client-ca ca.pem >out 2>log &
server_pid=$!
for _ in $(seq 100); do
    grep -q ready out && break
    kill -0 "$server_pid" 2>/dev/null || { cat log; exit 1; }
    sleep 0.1
done
url="$(grep -o 'https://[0-9.:]*' out)"
curl -sSf --cacert ca.pem -u admin:secret -X PUT "$url/admin/v1/users/worker" -H 'content-type: application/json' -d '{"admin":true}' >/dev/null
"$VENV/python" - "$(sed -n 's/.*amqps:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' out)" <<'PYTHON'
import ssl
import sys

import pika

context = ssl.create_default_context(cafile="ca.pem")
context.load_cert_chain("worker.pem", "worker.key")


def connect(credentials):
    options = pika.SSLOptions(context, "localhost")
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]), credentials=credentials, ssl_options=options)
    )


for credentials in [pika.PlainCredentials("admin", "secret"), pika.credentials.ExternalCredentials()]:
    connection = connect(credentials)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("letters", durable=True)
    # Longer than a frame and than a TLS record.
    channel.basic_publish("", "letters", b"x" * 300_000, pika.BasicProperties(delivery_mode=2))
    _, _, body = channel.basic_get("letters", auto_ack=True)
    assert body == b"x" * 300_000
    connection.close()
try:
    connect(pika.PlainCredentials("admin", "wrong"))
    raise AssertionError("a wrong password was let in")
except pika.exceptions.ProbableAuthenticationError:
    pass
PYTHON

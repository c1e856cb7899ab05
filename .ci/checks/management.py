"""The calls of rabbitmqadmin, of KEDA's scaler, and of an import, against a running server."""

import sys

import requests

URL = sys.argv[1] + "/api"
SESSION = requests.Session()
SESSION.auth = ("guest", "guest")
# As rabbitmqadmin sends them: every value a string.
STRINGS = {"durable": "true", "auto_delete": "false"}


def call(method, path, status, **options):
    answer = SESSION.request(method, URL + path, timeout=10, **options)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text)
    return answer.json() if answer.content else None


def rabbitmqadmin():
    call("PUT", "/queues/%2F/jobs", 201, json={**STRINGS, "arguments": {}, "name": "jobs", "vhost": "/"})
    call("PUT", "/exchanges/%2F/orders", 201, json={**STRINGS, "type": "topic", "internal": "false"})
    binding = {"source": "orders", "destination": "jobs", "routing_key": "a.#", "arguments": {}}
    call("POST", "/bindings/%2F/e/orders/q/jobs", 201, json=binding)
    message = {"properties": {"delivery_mode": 2}, "routing_key": "a.b", "payload": "hello", "payload_encoding": "string"}
    assert call("POST", "/exchanges/%2F/orders/publish", 200, json=message) == {"routed": True}
    ask = {"ackmode": "ack_requeue_true", "count": "1", "encoding": "auto"}
    assert call("POST", "/queues/%2F/jobs/get", 200, json=ask)[0]["payload"] == "hello"
    assert call("GET", "/overview", 200)["object_totals"]["queues"] == 1
    listed = call("GET", "/queues?columns=name,messages", 200)
    assert listed == [{"name": "jobs", "messages": 1}], listed
    for path in ["nodes", "vhosts", "users", "permissions", "connections", "channels", "consumers", "bindings", "policies"]:
        assert isinstance(call("GET", "/" + path, 200), list), path
    call("DELETE", "/bindings/%2F/e/orders/q/jobs/a.%2523", 204)
    call("DELETE", "/queues/%2F/jobs/contents", 204)


def autoscaler():
    queue = call("GET", "/queues/%2F/jobs", 200)
    assert (queue["name"], queue["messages"], queue["messages_unacknowledged"]) == ("jobs", 0, 0), queue
    assert "rate" in queue["message_stats"]["publish_details"]
    page = call("GET", "/queues/%2F?page=1&use_regex=true&pagination=false&name=%5Ejobs&page_size=100", 200)
    assert [item["name"] for item in page["items"]] == ["jobs"], page


def move():
    definitions = {
        "rabbit_version": "4.0.5",
        "users": [
            # `hello`, as RabbitMQ keeps it: a salt of four bytes, and the SHA-256 of salt and password.
            {"name": "mover", "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"]}
        ],
        "vhosts": [{"name": "shop"}],
        "permissions": [{"user": "mover", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [{"name": "q", "vhost": "shop", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}],
        "parameters": [{"vhost": "shop", "component": "shovel", "name": "s", "value": {}}],
    }
    report = call("POST", "/definitions", 200, json=definitions)
    assert [left["name"] for left in report["not_imported"]] == ["s"], report
    SESSION.auth = ("mover", "hello")
    assert call("GET", "/queues/shop/q", 200)["type"] == "quorum"
    exported = call("GET", "/definitions", 200)
    assert exported["users"][0]["password_hash"] == HASH, exported["users"]
    for check in ["alarms", "virtual-hosts", "protocol-listener/http"]:
        assert call("GET", f"/health/checks/{check}", 200)["status"] == "ok"
    SESSION.auth = ("guest", "guest")
    call("GET", "/whoami", 401)


def password_hash(password):
    import base64
    import hashlib

    salt = b"\x90\x8d\xc6\x0a"
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


HASH = password_hash("hello")
rabbitmqadmin()
autoscaler()
move()
print("management API: well")

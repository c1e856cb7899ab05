"""Stock clients against a running server, whose address is the only argument."""

import base64
import json
import sys

import requests
from websockets.sync.client import connect

URL = sys.argv[1]
HOST = URL.removeprefix("http://")
NS = f"{URL}/v1/default"
PATIENCE_S = 30


def same(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: {got!r}, not {wanted!r}")


class Http:
    """One session, as a service keeps one; its connection is used again and again."""

    def __init__(self):
        self.session = requests.Session()

    def call(self, method, path, status=200, **options):
        answer = self.session.request(method, NS + path, timeout=PATIENCE_S, **options)
        same(answer.status_code, status, f"{method} {path} ({answer.text})")
        return answer

    def take(self, queue):
        answer = self.call("POST", f"/queues/{queue}/receive", json={"max": 10, "wait_ms": 10_000})
        return answer.json()["deliveries"]


class Ws:
    """One connection; frames that are waited for by their kind, in order."""

    def __init__(self, socket):
        self.socket = socket
        self.wait_for("welcome")

    def send(self, kind, **fields):
        self.socket.send(json.dumps({kind: fields}))

    def wait_for(self, kind):
        frame = json.loads(self.socket.recv(timeout=PATIENCE_S))
        if list(frame) != [kind]:
            sys.exit(f"{frame!r} came, not {kind}")
        return frame[kind]


def definitions(http):
    http.call("PUT", "/topics/orders", 201, json={"retention": {"max_age_ms": 3_600_000}})
    for queue in ["http", "ws", "events"]:
        http.call("PUT", f"/queues/{queue}", 201, json={"retry": {"max_attempts": 2, "initial_ms": 10, "jitter": False}})
        binding = {"topic": "orders", "target": {"queue": queue}, "filter": {"subject": f"to.{queue}.#"}}
        http.call("POST", "/bindings", 201, json=binding)


def http_publishes_consumes_and_acks(http):
    body = {"order": 1, "price": 12.5, "name": "sm\u00f8rrebr\u00f8d"}
    answer = http.call("POST", "/topics/orders/messages", params={"subject": "to.http.x", "key": "c-7"}, json=body)
    same([one["queues"] for one in answer.json()["published"]], [1], "queues that got it")
    raw = bytes(range(256))
    headers = {"content-type": "application/octet-stream", "posthouse-header-kind": "raw"}
    http.call("POST", "/topics/orders/messages", params={"subject": "to.http.y"}, data=raw, headers=headers)

    deliveries = http.take("http")
    while len(deliveries) < 2:
        deliveries += http.take("http")
    first, second = (delivery["message"] for delivery in deliveries)
    same((first["body"], first["key"], first["subject"]), (body, "c-7", "to.http.x"), "the JSON message")
    same(second["headers"], {"kind": "raw"}, "the raw message's headers")
    same(base64.b64decode(second["base64"]), raw, "the raw message's body")
    for delivery in deliveries:
        http.call("POST", "/queues/http/ack", 204, json={"receipt": delivery["receipt"]})
    again = http.call("POST", "/queues/http/ack", 410, json={"receipt": deliveries[0]["receipt"]})
    same(again.headers["content-type"], "application/problem+json", "a problem's content type")
    same(again.json()["type"], "urn:posthouse:problem:unknown-delivery", "a second ack")


def websocket_publishes_consumes_and_acks(http):
    address = f"ws://{HOST}/v1/default/ws"
    with connect(address, open_timeout=PATIENCE_S) as first, connect(address, open_timeout=PATIENCE_S) as second:
        websockets_share_the_work(http, Ws(first), Ws(second))


def websockets_share_the_work(http, ws, other):
    ws.send("consume", id="c", queue="ws", credit=2)
    same(ws.wait_for("opened"), {"id": "c"}, "the opened consumer")
    messages = [{"subject": "to.ws.a", "body": {"n": n}} for n in range(3)]
    other.send("publish", seq=1, to={"topic": "orders"}, messages=messages)
    published = other.wait_for("published")
    same((published["seq"], [one["routed"] for one in published["published"]]), (1, [True] * 3), "a publish")

    # Two of three come for the credit; the third once there is credit again.
    deliveries = [ws.wait_for("delivery")["delivery"] for _ in range(2)]
    same([one["message"]["body"]["n"] for one in deliveries], [0, 1], "what came first")
    settlements = [
        {"receipt": deliveries[0]["receipt"], "action": "ack"},
        {"receipt": deliveries[1]["receipt"], "action": "reject", "error": "card declined"},
    ]
    ws.send("settle", seq=2, settlements=settlements)
    same([one["ok"] for one in ws.wait_for("settled")["results"]], [True, True], "the settlements")
    ws.send("credit", id="c", messages=1)
    third = ws.wait_for("delivery")["delivery"]
    same(third["message"]["body"], {"n": 2}, "the third")
    ws.send("settle", seq=3, settlements=[{"receipt": third["receipt"], "action": "ack"}])
    same([one["ok"] for one in ws.wait_for("settled")["results"]], [True], "its settlement")

    # What one protocol refused, the other sees among the dead letters.
    (dead,) = http.take("ws.dlq")
    same(dead["message"]["body"], {"n": 1}, "the dead letter")
    same(dead["message"]["headers"]["ph-dead-letter-error"], "card declined", "its reason")

    ws.send("request", seq=4, message={"subject": "nobody.here", "body": 1})
    same(ws.wait_for("failed")["problem"]["type"], "urn:posthouse:problem:no-responders", "a request to nobody")


def a_cloudevent_is_received(http):
    event = {
        "ce-specversion": "1.0",
        "ce-id": "e-1",
        "ce-type": "to.events.created",
        "ce-source": "/shop",
        "ce-region": "eu",
        "content-type": "application/json",
    }
    http.call("POST", "/topics/orders/messages", data=b'{"order": 1}', headers=event)
    answer = http.call("POST", "/queues/events/receive-event", params={"wait_ms": 10_000})
    got = {name: answer.headers[name] for name in event}
    same(got, event, "the event's attributes, in binary mode")
    same(answer.json(), {"order": 1}, "the event's data")
    http.call("POST", "/queues/events/ack", 204, json={"receipt": answer.headers["ce-phreceipt"]})

    structured = {"specversion": "1.0", "id": "e-2", "type": "to.events.paid", "source": "/shop", "data": {"order": 2}}
    kind = "application/cloudevents+json"
    http.call("POST", "/topics/orders/messages", data=json.dumps(structured), headers={"content-type": kind})
    answer = http.call("POST", "/queues/events/receive-event", params={"wait_ms": 10_000}, headers={"accept": kind})
    same(answer.headers["content-type"].split(";")[0], kind, "the content type in structured mode")
    got = answer.json()
    same({name: got[name] for name in structured}, structured, "the event in structured mode")
    http.call("POST", "/queues/events/ack", 204, json={"receipt": got["phreceipt"]})
    http.call("POST", "/queues/events/receive-event", 204)


session = Http()
definitions(session)
for check in [
    http_publishes_consumes_and_acks,
    websocket_publishes_consumes_and_acks,
    a_cloudevent_is_received,
]:
    check(session)
    print(f"{check.__name__}: ok")

"""Asks for every operation of the document once, so that it succeeds, and has each answer checked against the document.

Usage: schemathesis_walk.py URL. Ends with 1 if an operation is left out, fails, or answers otherwise than documented.
"""

import base64
import json
import sys
import threading

import requests
import schemathesis

url = sys.argv[1]
schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
reached = set()
DEFAULT = {"ns": "default"}
auth = {}


def call(method, path, body=None, query=None, media_type=None, headers=None, **variables):
    """Calls an operation and gives its JSON answer. A body that is bytes goes as it is."""
    parameters = {**(DEFAULT if "{ns}" in path else {}), **variables}
    arguments = {"path_parameters": parameters, "query": query or {}, "headers": {**auth, **(headers or {})}}
    if body is not None:
        arguments |= {"body": body, "media_type": media_type or "application/json"}
    response = schema[path][method].Case(**arguments).call_and_validate()
    assert response.status_code < 300, f"{method} {path}: {response.status_code} {response.content}"
    reached.add((method, path))
    return json.loads(response.content) if response.content else None


def stream(path, query, trigger, **variables):
    """Opens an event stream, and reads its first event after the trigger."""
    place = path.format(**DEFAULT, **variables)
    with requests.get(url + place, params=query, stream=True, timeout=10, headers=auth) as response:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream"
        trigger()
        for line in response.iter_lines():
            if line.startswith(b"data: "):
                reached.add(("GET", path))
                return json.loads(line.removeprefix(b"data: "))
    raise AssertionError(f"{path}: no event")


TOPIC, QUEUE, GROUP = "/v1/{ns}/topics/{topic}", "/v1/{ns}/queues/{queue}", "/v1/{ns}/groups/{group}"
t, q, g = {"topic": "walk-topic"}, {"queue": "walk-queue"}, {"group": "walk-group"}


def administration():
    call("PUT", "/admin/v1/users/{user}", {"password": "walk", "admin": True}, user="root")
    auth["Authorization"] = "Basic " + base64.b64encode(b"root:walk").decode()
    call("GET", "/admin/v1/status")
    # An archive, and not JSON.
    backup = schema["/admin/v1/backup"]["GET"].Case(headers=dict(auth)).call_and_validate()
    assert backup.status_code == 200 and len(backup.content) == int(backup.headers["content-length"][0])
    reached.add(("GET", "/admin/v1/backup"))
    call("PUT", "/admin/v1/namespaces/{namespace}", {"description": "walk"}, namespace="walk")
    call("GET", "/admin/v1/namespaces")
    call("GET", "/admin/v1/namespaces/{namespace}", namespace="walk")
    call("DELETE", "/admin/v1/namespaces/{namespace}", namespace="walk")
    call("PUT", "/admin/v1/users/{user}", {"permissions": {"default": {"read": ["*"]}}}, user="reader")
    token = call("POST", "/admin/v1/users/{user}/tokens", {"description": "walk"}, user="reader")["token"]
    call("GET", "/admin/v1/users")
    shown = call("GET", "/admin/v1/users/{user}", user="reader")
    assert token not in json.dumps(shown)
    call("DELETE", "/admin/v1/tokens/{token}", token=shown["tokens"][0]["id"])
    call("DELETE", "/admin/v1/users/{user}", user="reader")


def definitions():
    call("PUT", TOPIC, {"retention": {}, "key_index": True}, **t)
    call("PUT", QUEUE, {"retry": {"max_attempts": 3, "initial_ms": 1}}, **q)
    call("PUT", GROUP, {"topic": "walk-topic"}, **g)
    call("PUT", "/v1/{ns}/policies/{policy}", {"pattern": "none*", "applies_to": "all"}, policy="walk-policy")
    binding = {"topic": "walk-topic", "target": {"queue": "walk-queue"}, "filter": {"subject": "walk.#"}}
    made = call("POST", "/v1/{ns}/bindings", binding)["item"]["id"]
    call("GET", "/v1/{ns}/bindings/{binding}", binding=made)
    for kind in ("topics", "queues", "groups", "policies", "bindings"):
        call("GET", "/v1/{ns}/" + kind)
    call("GET", TOPIC, **t)
    call("GET", QUEUE, **q)
    call("GET", GROUP, **g)
    call("GET", "/v1/{ns}/policies/{policy}", policy="walk-policy")


def receive():
    return call("POST", QUEUE + "/receive", {"wait_ms": 5000}, **q)["deliveries"][0]["receipt"]


def messages():
    message = {"subject": "walk.on", "key": "k", "headers": {"h": {"type": "int8", "value": 1}}, "body": {"n": 1}}
    call("POST", TOPIC + "/messages", message, media_type="application/vnd.posthouse.message+json", **t)
    call("POST", QUEUE + "/messages", {"messages": [message] * 6}, media_type="application/vnd.posthouse.batch+json", **q)
    call("POST", "/v1/{ns}/subjects/{subject}/messages", {"n": 1}, subject="walk-topic.x")
    call("GET", QUEUE + "/messages", **q)
    call("POST", QUEUE + "/ack", {"receipt": receive()}, **q)
    call("POST", QUEUE + "/nack", {"receipt": receive(), "after_ms": 0, "error": "walk"}, **q)
    receipt = receive()
    call("POST", QUEUE + "/extend", {"receipt": receipt, "by_ms": 60000}, **q)
    call("POST", QUEUE + "/release", {"receipt": receipt}, **q)
    call("POST", QUEUE + "/settle", {"settlements": [{"receipt": receive(), "action": "ack"}, {"receipt": "x", "action": "ack"}]}, **q)
    publishes = [{"to": {"topic": "walk-topic"}, "messages": [{"text": "walk"}]}]
    call("POST", QUEUE + "/ack-and-publish", {"receipt": receive(), "publishes": publishes}, **q)
    call("POST", QUEUE + "/messages", message, media_type="application/vnd.posthouse.message+json", **q)
    call("POST", QUEUE + "/receive-event", {"wait_ms": 5000, "auto_ack": True}, **q)
    call("POST", QUEUE + "/reject", {"receipt": receive(), "error": "walk"}, **q)
    dead = call("GET", QUEUE, **q)["effective"]["dead_letter"]["queue"]
    call("POST", QUEUE + "/redrive", {"rate": 0.1, "to": "walk-queue"}, queue=dead)
    call("GET", QUEUE + "/redrive", queue=dead)
    call("DELETE", QUEUE + "/redrive", queue=dead)
    call("DELETE", QUEUE + "/messages", **q)


def replay():
    call("GET", TOPIC + "/messages", query={"from": "earliest"}, **t)
    call("GET", TOPIC + "/keys/{key}", key="k", **t)
    call("GET", TOPIC + "/keys/{key}/messages", key="k", **t)
    generation = call("POST", GROUP + "/join", {"member": "m"}, **g)["generation"]
    call("POST", GROUP + "/fetch", {"member": "m", "generation": generation}, **g)
    offsets = [{"partition": 0, "offset": 1}]
    call("POST", GROUP + "/commit", {"member": "m", "generation": generation, "offsets": offsets}, **g)
    call("POST", GROUP + "/seek", {"to": "earliest"}, **g)
    call("POST", GROUP + "/leave", {"member": "m"}, **g)
    record = stream(TOPIC + "/tail", {"from": "earliest"}, lambda: None, **t)
    assert record["message"]["subject"] == "walk.on", record


def requests_and_replies():
    asked, answers = [], []
    ask = threading.Thread(target=lambda: answers.append(call("POST", "/v1/{ns}/request/{subject}", {"n": 1}, subject="walk-ask")))
    asked.append(stream("/v1/{ns}/live", {"subject": "walk-ask"}, ask.start))
    query = {"correlation_id": asked[0]["correlation_id"]} if "correlation_id" in asked[0] else {}
    call("POST", "/v1/{ns}/reply/{reply_to}", {"yes": True}, query=query, reply_to=asked[0]["reply_to"])
    ask.join()
    assert answers[0]["body"] == {"yes": True}, answers


def deletions():
    call("PUT", TOPIC, {"retention": {}}, topic="gone")
    call("PUT", QUEUE, {}, queue="gone")
    call("PUT", GROUP, {"topic": "gone"}, group="gone")
    call("PUT", "/v1/{ns}/policies/{policy}", {"pattern": "none*", "applies_to": "all"}, policy="gone")
    made = call("POST", "/v1/{ns}/bindings", {"topic": "gone", "target": {"queue": "gone"}})["item"]["id"]
    call("DELETE", "/v1/{ns}/bindings/{binding}", binding=made)
    call("DELETE", "/v1/{ns}/policies/{policy}", policy="gone")
    call("DELETE", GROUP, group="gone")
    call("DELETE", QUEUE, queue="gone")
    call("DELETE", TOPIC, topic="gone")


for part in (administration, definitions, messages, replay, requests_and_replies, deletions):
    part()
every = {(operation.ok().method.upper(), operation.ok().path) for operation in schema.get_all_operations()}
if every - reached:
    sys.exit(f"never reached: {sorted(every - reached)}")
print(f"all {len(every)} operations were reached with success")

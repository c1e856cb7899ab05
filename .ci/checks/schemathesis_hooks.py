"""Makes generated requests name what is there, so that they get past "not found"."""

import zlib

import schemathesis

# What the walk has made.
THERE = {"ns": "default", "topic": "walk-topic", "queue": "walk-queue", "group": "walk-group", "policy": "walk-policy"}


@schemathesis.hook
def before_call(context, case, kwargs):
    # Who is asking must stay who it is: names that answers held are tried too.
    if case.path_parameters.get("user") == "root":
        case.path_parameters["user"] = "other"
    # A deletion of what is there would leave nothing for the requests after it.
    if case.method.upper() == "DELETE" and not case.path.endswith(("/messages", "/redrive")):
        return
    for name, value in THERE.items():
        # Seven in eight: the names that were generated are to be tried too.
        if name in case.path_parameters and zlib.crc32(str(case.path_parameters[name]).encode(errors="replace")) % 8:
            case.path_parameters[name] = value
    # A wait makes the run long and finds nothing.
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("wait_ms"), int):
        body["wait_ms"] = min(body["wait_ms"], 20)
    for name in ("wait_ms", "timeout_ms"):
        if case.query and isinstance(case.query.get(name), int):
            case.query[name] = min(case.query[name], 20)

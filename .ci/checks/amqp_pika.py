"""What applications do with RabbitMQ, done by pika. Takes the port, and the names of the functions to run (all without)."""

import datetime
import decimal
import sys
import time
import uuid

import pika
from pika.exceptions import (
    ChannelClosedByBroker, ConnectionClosedByBroker, NackError, ProbableAccessDeniedError, ProbableAuthenticationError, UnroutableError)

PORT = int(sys.argv[1])
# Longest that something may take to arrive.
PATIENCE_S = 10


def connect(user="guest", password="guest", vhost="/", **more):
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", PORT, vhost, credentials, heartbeat=30, **more))


def fresh(kind="q"):
    return f"check-{kind}-{uuid.uuid4().hex[:12]}"


def queue(channel, **arguments):
    """A durable queue with arguments; `_` stands for `-`."""
    name = fresh()
    channel.queue_declare(name, durable=True, arguments={key.replace("_", "-"): value for key, value in arguments.items()})
    return name


def put(channel, routing_key, body, exchange="", mandatory=False, **properties):
    properties.setdefault("delivery_mode", 2)
    channel.basic_publish(exchange, routing_key, body if isinstance(body, bytes) else body.encode(),
                          pika.BasicProperties(**properties), mandatory=mandatory)


def get(channel, name, patience_s=PATIENCE_S):
    """The next message within the patience: its method, properties and body."""
    deadline = time.monotonic() + patience_s
    while True:
        found = channel.basic_get(name)
        if found[0] is not None:
            return found
        assert time.monotonic() < deadline, f"nothing came to {name} within {patience_s} s"
        time.sleep(0.05)


def depth(channel, name, wanted, patience_s=PATIENCE_S):
    """Waits until so many messages are ready."""
    deadline = time.monotonic() + patience_s
    while True:
        found = channel.queue_declare(name, passive=True).method.message_count
        if found == wanted:
            return
        assert time.monotonic() < deadline, f"{name} has {found} messages, not {wanted}"
        time.sleep(0.05)


def bodies(channel, name, count):
    taken = []
    for _ in range(count):
        method, _, body = get(channel, name)
        channel.basic_ack(method.delivery_tag)
        taken.append(body.decode())
    return taken


def closed(kind, code, call):
    """The server must close the channel or the connection with this code. Gives its text."""
    try:
        call()
    except kind as error:
        assert error.reply_code == code, f"{error!r}, not {code}"
        return error.reply_text
    raise AssertionError(f"nothing was closed with {code}")


def properties_arrive_unchanged(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel)
    headers = {
        "text": "grüße", "int": 7, "negative": -7, "large": 2**40, "yes": True, "no": False, "nothing": None,
        "decimal": decimal.Decimal("12.34"), "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "table": {"inner": {"deep": "x"}, "n": 1}, "list": [1, "two", {"three": 3}, [4]], "bytes": b"\x00\xff",
        "empty": {}, "none": []}
    put(channel, name, b"\x00body\xff", headers=headers, content_type="application/json", content_encoding="gzip", priority=3,
        correlation_id="c-1", reply_to="answers", expiration="600000", message_id="m-1", timestamp=1700000000, type="kind",
        user_id="guest", app_id="check", cluster_id="here")
    method, found, body = get(channel, name)
    assert body == b"\x00body\xff" and method.exchange == "" and method.routing_key == name and not method.redelivered
    for key, value in headers.items():
        given = found.headers[key]
        if isinstance(given, datetime.datetime) and given.tzinfo is None:
            given = given.replace(tzinfo=datetime.timezone.utc)
        assert given == value, f"the header {key} came as {given!r}"
    wanted = {"content_type": "application/json", "content_encoding": "gzip", "priority": 3, "correlation_id": "c-1",
              "reply_to": "answers", "expiration": "600000", "message_id": "m-1", "timestamp": 1700000000, "type": "kind",
              "user_id": "guest", "app_id": "check", "cluster_id": "here", "delivery_mode": 2}
    for key, value in wanted.items():
        assert getattr(found, key) == value, f"the property {key} came as {getattr(found, key)!r}"
    channel.queue_delete(name)


def large_bodies_arrive_whole(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel)
    sent = [b"", b"x", b"y" * 131_064, b"z" * 131_065, bytes(range(256)) * 4096 * 3]
    for body in sent:
        put(channel, name, body)
    for body in sent:
        method, _, found = get(channel, name)
        assert found == body, f"{len(body)} bytes came as {len(found)}"
        channel.basic_ack(method.delivery_tag)
    channel.queue_delete(name)


def what_has_no_route_is_returned(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        put(channel, fresh("nowhere"), "x", mandatory=True)
        raise AssertionError("it was taken")
    except UnroutableError as error:
        returned = error.messages[0]
        assert returned.method.reply_code == 312 and returned.method.reply_text == "NO_ROUTE" and returned.body == b"x"
    # Without `mandatory` it is confirmed and dropped.
    put(channel, fresh("nowhere"), "x")
    text = closed(ChannelClosedByBroker, 404, lambda: put(channel, "x", "x", exchange=fresh("no-exchange")))
    assert "no exchange" in text, text


def unacknowledged_messages_come_back_in_their_order(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel)
    for number in range(6):
        put(channel, name, str(number))
    tags = [get(channel, name)[0].delivery_tag for _ in range(4)]
    channel.basic_nack(tags[2], requeue=True)
    channel.basic_reject(tags[0], requeue=True)
    channel.basic_ack(tags[1])
    method, _, body = get(channel, name)
    assert (body, method.redelivered) == (b"0", True), (body, method)
    method, _, body = get(channel, name)
    assert (body, method.redelivered) == (b"2", True), (body, method)
    channel.close()
    # What a closed channel held comes back too: 0, 2 and 3.
    channel = connection.channel()
    depth(channel, name, 5)
    assert bodies(channel, name, 5) == ["0", "2", "3", "4", "5"]
    # Several at once.
    for number in range(5):
        put(channel, name, str(number))
    tags = [get(channel, name)[0].delivery_tag for _ in range(5)]
    channel.basic_ack(tags[1], multiple=True)
    channel.basic_nack(tags[4], multiple=True, requeue=True)
    assert bodies(channel, name, 3) == ["2", "3", "4"]
    # basic.recover gives back what is not acknowledged.
    put(channel, name, "again")
    get(channel, name)
    channel.basic_recover(requeue=True)
    method, _, body = get(channel, name)
    assert method.redelivered and body == b"again"
    channel.basic_ack(method.delivery_tag)
    text = closed(ChannelClosedByBroker, 406, lambda: (channel.basic_ack(method.delivery_tag), channel.queue_declare(name, passive=True)))
    assert "unknown delivery tag" in text, text
    connection.channel().queue_delete(name)


def a_consumer_gets_no_more_than_its_prefetch(connection):
    channel = connection.channel()
    name = queue(channel)
    for number in range(20):
        put(channel, name, str(number))
    channel.basic_qos(prefetch_count=5)
    came = []
    tag = channel.basic_consume(name, lambda _, method, properties, body: came.append((method.delivery_tag, body)))
    deadline = time.monotonic() + PATIENCE_S
    while len(came) < 5 and time.monotonic() < deadline:
        connection.process_data_events(0.2)
    connection.process_data_events(0.3)
    assert len(came) == 5, len(came)
    channel.basic_ack(came[-1][0], multiple=True)
    while len(came) < 10 and time.monotonic() < deadline:
        connection.process_data_events(0.2)
    connection.process_data_events(0.3)
    assert [body for _, body in came] == [str(number).encode() for number in range(10)], came
    channel.basic_cancel(tag)
    channel.close()
    channel = connection.channel()
    depth(channel, name, 15)
    channel.queue_delete(name)


def a_consumer_is_told_when_its_queue_goes(connection):
    channel = connection.channel()
    name = queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume(name, lambda *_: None)
    connection.channel().queue_delete(name)
    deadline = time.monotonic() + PATIENCE_S
    while not cancelled and time.monotonic() < deadline:
        connection.process_data_events(0.2)
    assert cancelled, "no cancel came"


def dead_letters_say_where_they_died(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    exchange, graves = fresh("dlx"), queue(channel)
    channel.exchange_declare(exchange, "fanout", durable=True)
    channel.queue_bind(graves, exchange)

    def death(source, reason, routing_key):
        method, found, _ = get(channel, graves)
        channel.basic_ack(method.delivery_tag)
        first = found.headers["x-death"][0]
        assert (first["queue"], first["reason"], first["count"], first["exchange"]) == (source, reason, 1, ""), first
        assert first["routing-keys"] == [source] and isinstance(first["time"], datetime.datetime), first
        assert found.headers["x-first-death-queue"] == source and found.headers["x-first-death-reason"] == reason
        assert found.headers["x-first-death-exchange"] == "" and method.exchange == exchange
        assert method.routing_key == routing_key, method
        return first, found

    name = queue(channel, x_dead_letter_exchange=exchange)
    put(channel, name, "rejected")
    channel.basic_reject(get(channel, name)[0].delivery_tag, requeue=False)
    death(name, "rejected", name)
    put(channel, name, "expired", expiration="100")
    first, found = death(name, "expired", name)
    assert first["original-expiration"] == "100" and found.expiration is None, (first, found)
    name = queue(channel, x_dead_letter_exchange=exchange, x_dead_letter_routing_key="graves", x_max_length=1)
    put(channel, name, "first")
    put(channel, name, "second")
    death(name, "maxlen", "graves")
    assert bodies(channel, name, 1) == ["second"]
    name = queue(channel, x_dead_letter_exchange=exchange, x_queue_type="quorum", x_delivery_limit=2)
    put(channel, name, "poison")
    for delivery in range(3):
        method, found, _ = get(channel, name)
        count = (found.headers or {}).get("x-delivery-count", 0)
        assert count == delivery and method.redelivered == (delivery > 0), (count, delivery, method)
        channel.basic_nack(method.delivery_tag, requeue=True)
    death(name, "delivery_limit", name)
    # Twice in the same queue for the same reason is one entry that counts.
    loop = fresh()
    channel.queue_declare(loop, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": loop})
    put(channel, loop, "round")
    for deaths in range(3):
        method, found, _ = get(channel, loop)
        entries = (found.headers or {}).get("x-death", [])
        assert [entry["count"] for entry in entries] == ([deaths] if deaths else []), entries
        channel.basic_nack(method.delivery_tag, requeue=False)


def messages_expire_at_the_head(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel, x_message_ttl=200)
    put(channel, name, "x")
    depth(channel, name, 0)
    name = queue(channel)
    put(channel, name, "x", expiration="100")
    depth(channel, name, 0)
    put(channel, name, "stays")
    put(channel, name, "x", expiration="0")
    assert bodies(channel, name, 1) == ["stays"]
    depth(channel, name, 0)
    closed((ChannelClosedByBroker, ConnectionClosedByBroker), 406, lambda: put(channel, name, "x", expiration="soon"))


def an_unused_queue_expires(connection):
    channel = connection.channel()
    name = queue(channel, x_expires=300)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        probe = connection.channel()
        time.sleep(0.5)
        try:
            probe.queue_declare(name, passive=True)
        except ChannelClosedByBroker as error:
            assert error.reply_code == 404
            return
        assert time.monotonic() < deadline, "the queue is still there"


def priorities_go_first(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel, x_max_priority=5)
    for priority in [0, 3, 5, 1, 3, None, 9]:
        put(channel, name, str(priority), priority=priority)
    assert bodies(channel, name, 7) == ["5", "9", "3", "3", "1", "0", "None"]


def bounds_hold(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel, x_max_length=2)
    for number in range(4):
        put(channel, name, str(number))
    assert bodies(channel, name, 2) == ["2", "3"]
    # Bodies beside which it does not matter what else of a message counts.
    name = queue(channel, x_max_length_bytes=8000)
    for number in range(4):
        put(channel, name, str(number) * 3000)
    assert bodies(channel, name, 2) == ["2" * 3000, "3" * 3000]
    name = queue(channel, x_max_length=1, x_overflow="reject-publish")
    put(channel, name, "first")
    try:
        for _ in range(10):
            put(channel, name, "more")
        raise AssertionError("a full queue took all")
    except NackError as error:
        assert error.messages == []


def exchanges_route(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queues = [queue(channel) for _ in range(3)]
    one, two, three = queues

    def exchange(kind, **more):
        name = fresh(kind)
        channel.exchange_declare(name, kind, durable=True, **more)
        return name

    def reached(exchange_name, routing_key, **properties):
        try:
            put(channel, routing_key, "x", exchange=exchange_name, mandatory=True, **properties)
        except UnroutableError:
            return set()
        found = set()
        for at, name in enumerate(queues, 1):
            method, _, _ = channel.basic_get(name, auto_ack=True)
            if method is not None:
                found.add(at)
            assert channel.basic_get(name, auto_ack=True)[0] is None, "it came twice"
        return found

    direct = exchange("direct")
    channel.queue_bind(one, direct, "a")
    channel.queue_bind(two, direct, "a")
    channel.queue_bind(two, direct, "b")
    assert [reached(direct, key) for key in "abc"] == [{1, 2}, {2}, set()]
    channel.queue_unbind(two, direct, "b")
    assert reached(direct, "b") == set()
    fanout = exchange("fanout")
    for name in queues:
        channel.queue_bind(name, fanout, "ignored")
    assert reached(fanout, "") == {1, 2, 3}
    topic = exchange("topic")
    channel.queue_bind(one, topic, "stock.*.nyse")
    channel.queue_bind(two, topic, "stock.#")
    channel.queue_bind(three, topic, "#.nyse")
    cases = {"stock.usd.nyse": {1, 2, 3}, "stock": {2}, "stock.a.b.c": {2}, "nyse": {3}, "stock..nyse": {1, 2, 3}, "x": set()}
    for key, wanted in cases.items():
        assert reached(topic, key) == wanted, (key, reached(topic, key))
    headers = exchange("headers")
    channel.queue_bind(one, headers, arguments={"x-match": "all", "a": 1, "b": "x"})
    channel.queue_bind(two, headers, arguments={"x-match": "any", "a": 1, "b": "x"})
    channel.queue_bind(three, headers, arguments={"x-match": "any-with-x", "x-special": True})
    assert reached(headers, "", headers={"a": 1, "b": "x", "c": 2}) == {1, 2}
    assert reached(headers, "", headers={"a": 1}) == {2}
    assert reached(headers, "", headers={"a": "1"}) == set()
    assert reached(headers, "", headers={"x-special": True}) == {3}
    # From exchange to exchange, and the way back.
    source = exchange("direct")
    channel.exchange_bind(fanout, source, "all")
    assert reached(source, "all") == {1, 2, 3}
    channel.exchange_unbind(fanout, source, "all")
    assert reached(source, "all") == set()
    # What finds no way goes to the alternate exchange.
    lost = exchange("direct", arguments={"alternate-exchange": fanout})
    channel.queue_bind(one, lost, "found")
    assert reached(lost, "found") == {1} and reached(lost, "lost") == {1, 2, 3}
    ring = exchange("x-consistent-hash")
    for name in queues:
        channel.queue_bind(name, ring, "1")
    first = reached(ring, "key-1")
    assert len(first) == 1 and all(reached(ring, "key-1") == first for _ in range(3)), first
    assert set().union(*(reached(ring, f"key-{number}") for number in range(100))) == {1, 2, 3}
    # CC and BCC name further routing keys of the same exchange.
    assert reached(direct, "a", headers={"CC": ["b"], "BCC": ["c"]}) == {1, 2}
    channel.queue_bind(three, direct, "hidden")
    put(channel, "a", "x", exchange=direct, headers={"BCC": ["hidden"], "CC": ["other"]})
    _, found, _ = channel.basic_get(three, auto_ack=True)
    assert "BCC" not in found.headers and found.headers["CC"] == ["other"], found.headers
    internal = exchange("fanout", internal=True)
    closed(ChannelClosedByBroker, 403, lambda: put(channel, "", "x", exchange=internal))


def transactions_are_all_or_nothing(connection):
    channel = connection.channel()
    other = connection.channel()
    name = queue(channel)
    channel.tx_select()
    put(channel, name, "never")
    channel.tx_rollback()
    put(channel, name, "1")
    put(channel, name, "2")
    depth(other, name, 0)
    channel.tx_commit()
    depth(other, name, 2)
    method, _, _ = get(channel, name)
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    assert bodies(other, name, 1) == ["2"]
    closed(ChannelClosedByBroker, 406, channel.confirm_delivery)


def replies_find_their_way_back(connection):
    asking, answering = connection.channel(), connect()
    server = answering.channel()
    name = server.queue_declare("", exclusive=True).method.queue
    assert name.startswith("amq.gen-"), name
    replies = []
    asking.basic_consume("amq.rabbitmq.reply-to", lambda _, method, properties, body: replies.append((properties, body)), auto_ack=True)
    put(asking, name, "question", reply_to="amq.rabbitmq.reply-to", correlation_id="7", delivery_mode=1)
    method, found, body = get(server, name)
    assert found.reply_to.startswith("amq.rabbitmq.reply-to.") and body == b"question"
    # The answerer can see whether somebody still waits.
    server.queue_declare(found.reply_to, passive=True)
    put(server, found.reply_to, "answer", correlation_id=found.correlation_id, delivery_mode=1)
    deadline = time.monotonic() + PATIENCE_S
    while not replies and time.monotonic() < deadline:
        connection.process_data_events(0.1)
    assert [(properties.correlation_id, body) for properties, body in replies] == [("7", b"answer")], replies
    answering.close()
    # Without a consumer there is nowhere for a reply to go.
    closed(ChannelClosedByBroker, 406,
           lambda: (lambda channel: (put(channel, "x", "x", reply_to="amq.rabbitmq.reply-to"), channel.queue_declare("", exclusive=True)))(
               connection.channel()))


def queues_belong_to_whom_they_belong(connection):
    other = connect()
    channel = connection.channel()
    mine = channel.queue_declare("", exclusive=True).method.queue
    closed(ChannelClosedByBroker, 405, lambda: other.channel().queue_declare(mine, passive=True))
    closed(ChannelClosedByBroker, 405, lambda: other.channel().basic_get(mine))
    exclusive = queue(other.channel())
    other.channel().basic_consume(exclusive, lambda *_: None, exclusive=True)
    closed(ChannelClosedByBroker, 403, lambda: connection.channel().basic_consume(exclusive, lambda *_: None))
    fleeting = fresh()
    channel.queue_declare(fleeting, auto_delete=True)
    channel.basic_cancel(channel.basic_consume(fleeting, lambda *_: None))
    closed(ChannelClosedByBroker, 404, lambda: connection.channel().queue_declare(fleeting, passive=True))
    theirs = other.channel().queue_declare("", exclusive=True).method.queue
    other.close()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.channel().queue_declare(theirs, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return
        assert time.monotonic() < deadline, "the queue of a closed connection is still there"
        time.sleep(0.1)


def definitions_that_differ_are_refused(connection):
    name, exchange = queue(connection.channel()), fresh("x")
    connection.channel().exchange_declare(exchange, "direct", durable=True)

    def refused(code, call, kind=ChannelClosedByBroker):
        return closed(kind, code, lambda: call(connection.channel()))

    refused(406, lambda channel: channel.queue_declare(name, durable=False))
    refused(406, lambda channel: channel.queue_declare(name, durable=True, arguments={"x-max-length": 1}))
    refused(406, lambda channel: channel.exchange_declare(exchange, "fanout", durable=True))
    refused(406, lambda channel: channel.queue_declare(fresh(), durable=True, arguments={"x-message-ttl": "soon"}))
    refused(406, lambda channel: channel.queue_declare(fresh(), durable=True, arguments={"x-message-ttl": -1}))
    refused(406, lambda channel: channel.queue_declare(fresh(), durable=True, arguments={"x-queue-type": "none"}))
    refused(404, lambda channel: channel.queue_declare(fresh(), passive=True))
    refused(404, lambda channel: channel.exchange_declare(fresh(), passive=True))
    refused(404, lambda channel: channel.queue_bind(name, fresh()))
    refused(404, lambda channel: channel.basic_consume(fresh(), lambda *_: None))
    refused(403, lambda channel: channel.queue_declare("amq.mine"))
    refused(403, lambda channel: channel.exchange_declare("amq.mine"))
    refused(403, lambda channel: channel.exchange_delete("amq.direct"))
    put(connection.channel(), name, "x")
    depth(connection.channel(), name, 1)
    refused(406, lambda channel: channel.queue_delete(name, if_empty=True))
    channel = connection.channel()
    channel.basic_consume(name, lambda *_: None)
    refused(406, lambda other: other.queue_delete(name, if_unused=True))
    channel.close()
    channel = connection.channel()
    depth(channel, name, 1)
    assert channel.queue_purge(name).method.message_count == 1
    assert channel.queue_delete(name).method.message_count == 0
    # Deleting what is not there is no error.
    channel.queue_delete(name)
    channel.exchange_delete(fresh())
    refused(406, lambda channel: (channel.basic_publish("", "x", b"", pika.BasicProperties(user_id="other")),
                                  channel.queue_declare("", exclusive=True)))


def strangers_stay_outside(_):
    try:
        connect(password="wrong")
        raise AssertionError("a wrong password was taken")
    except ProbableAuthenticationError as error:
        assert "403" in str(error) and "ACCESS_REFUSED" in str(error), error
    try:
        connect(vhost=fresh("vhost"))
        raise AssertionError("a vhost that is not there was opened")
    except ProbableAccessDeniedError as error:
        assert "530" in str(error), error
    except ConnectionClosedByBroker as error:
        assert error.reply_code == 530, error


def one_consumer_is_active(connection):
    channel, other = connection.channel(), connect()
    name = queue(channel, x_single_active_consumer=True)
    came = []
    tag = channel.basic_consume(name, lambda _, method, properties, body: came.append(("first", body)), auto_ack=True)
    second = other.channel()
    second.basic_consume(name, lambda _, method, properties, body: came.append(("second", body)), auto_ack=True)

    def until(count):
        deadline = time.monotonic() + PATIENCE_S
        while len(came) < count and time.monotonic() < deadline:
            connection.process_data_events(0.1)
            other.process_data_events(0.1)

    for number in range(4):
        put(channel, name, str(number))
    until(4)
    assert {who for who, _ in came} == {"first"} and len(came) == 4, came
    channel.basic_cancel(tag)
    put(channel, name, "4")
    until(5)
    assert came[-1] == ("second", b"4"), came
    other.close()


def consumers_with_priority_go_first(connection):
    channel = connection.channel()
    name = queue(channel)
    came = []
    for priority in (0, 10):
        channel.basic_consume(name, lambda _, method, properties, body, who=priority: came.append(who), auto_ack=True,
                              arguments={"x-priority": priority})
    for _ in range(10):
        put(channel, name, "x")
    deadline = time.monotonic() + PATIENCE_S
    while len(came) < 10 and time.monotonic() < deadline:
        connection.process_data_events(0.1)
    assert came == [10] * 10, came


def a_stream_is_read_from_any_offset_by_many(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = queue(channel, x_queue_type="stream")
    for number in range(20):
        put(channel, name, str(number))

    def read(offset, count):
        reading = connection.channel()
        reading.basic_qos(prefetch_count=100)
        came = []

        def take(on, method, properties, body):
            came.append((properties.headers["x-stream-offset"], body.decode()))
            on.basic_ack(method.delivery_tag)

        reading.basic_consume(name, take, arguments={"x-stream-offset": offset})
        deadline = time.monotonic() + PATIENCE_S
        while len(came) < count and time.monotonic() < deadline:
            connection.process_data_events(0.1)
        reading.close()
        return came

    everything = [(number, str(number)) for number in range(20)]
    assert read("first", 20) == everything and read("first", 20) == everything
    assert read(15, 5) == everything[15:]
    # The last chunk is at least the last message.
    assert read("last", 1)[-1] == everything[-1]
    reading, came = connection.channel(), []
    reading.basic_qos(prefetch_count=10)
    reading.basic_consume(name, lambda _, method, properties, body: came.append(body), arguments={"x-stream-offset": "next"})
    put(channel, name, "new")
    deadline = time.monotonic() + PATIENCE_S
    while not came and time.monotonic() < deadline:
        connection.process_data_events(0.1)
    assert came == [b"new"], came
    closed((ChannelClosedByBroker, ConnectionClosedByBroker), 540, lambda: connection.channel().basic_get(name))


CHECKS = [
    properties_arrive_unchanged, large_bodies_arrive_whole, what_has_no_route_is_returned,
    unacknowledged_messages_come_back_in_their_order, a_consumer_gets_no_more_than_its_prefetch, a_consumer_is_told_when_its_queue_goes,
    dead_letters_say_where_they_died, messages_expire_at_the_head, an_unused_queue_expires, priorities_go_first, bounds_hold,
    exchanges_route, transactions_are_all_or_nothing, replies_find_their_way_back, queues_belong_to_whom_they_belong,
    definitions_that_differ_are_refused, strangers_stay_outside, one_consumer_is_active, consumers_with_priority_go_first,
    a_stream_is_read_from_any_offset_by_many,
]


def main():
    failed = 0
    for check in CHECKS:
        if sys.argv[2:] and check.__name__ not in sys.argv[2:]:
            continue
        connection = connect()
        try:
            check(connection)
            print(f"ok      {check.__name__}")
        except Exception as error:  # All checks run, also after one failed.
            failed += 1
            trace, line = error.__traceback__, 0
            while trace:
                if trace.tb_frame.f_code.co_filename == __file__:
                    line = trace.tb_lineno
                trace = trace.tb_next
            print(f"FAILED  {check.__name__}, line {line}: {type(error).__name__}: {error}")
        if connection.is_open:
            connection.close()
    print(f"{len(CHECKS) if not sys.argv[2:] else len(sys.argv) - 2} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What clients seldom send, or hide how it is answered: method by method, over a plain socket. Takes the port.

pika's codec writes and reads the frames; none of its clients is used.
"""

import socket
import sys
import uuid

from pika import frame, spec

LIMIT_S = 10


def fresh(kind):
    return f"check-{kind}-{uuid.uuid4().hex[:12]}"


class Peer:
    """A connection, with channel 1 open."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=LIMIT_S)
        self.input = b""
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(spec.Connection.Start, 0)
        capabilities = {"capabilities": {"consumer_cancel_notify": True, "basic.nack": True, "publisher_confirms": True}}
        self.send(spec.Connection.StartOk(capabilities, "PLAIN", "\0guest\0guest", "en_US"), 0)
        tune = self.expect(spec.Connection.Tune, 0)
        self.send(spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0), 0)
        self.send(spec.Connection.Open("/"), 0)
        self.expect(spec.Connection.OpenOk, 0)
        self.open(1)

    def open(self, channel):
        self.send(spec.Channel.Open(), channel)
        self.expect(spec.Channel.OpenOk, channel)

    def send(self, *methods):
        """Sends methods, at once. The last argument may be the channel."""
        channel = 1
        if isinstance(methods[-1], int):
            *methods, channel = methods
        self.socket.sendall(b"".join(frame.Method(channel, method).marshal() for method in methods))

    def publish(self, exchange, key, body, mandatory=False, **properties):
        method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
        frames = [frame.Method(1, method), frame.Header(1, len(body), spec.BasicProperties(**properties)), frame.Body(1, body)]
        self.socket.sendall(b"".join(one.marshal() for one in frames))

    def frame(self):
        while True:
            size, found = frame.decode_frame(self.input)
            if found is not None:
                self.input = self.input[size:]
                if isinstance(found, frame.Heartbeat):
                    continue
                return found
            more = self.socket.recv(65536)
            if not more:
                raise AssertionError("the socket was closed")
            self.input += more

    def method(self, channel=1):
        found = self.frame()
        assert isinstance(found, frame.Method), f"{found} instead of a method"
        assert found.channel_number == channel, f"{found.method} on channel {found.channel_number} instead of {channel}"
        return found.method

    def expect(self, kind, channel=1):
        method = self.method(channel)
        assert isinstance(method, kind), f"{method} instead of {kind.__name__}"
        return method

    def call(self, method, kind, channel=1):
        self.send(method, channel)
        return self.expect(kind, channel)

    def body(self):
        """The body of the message whose method was just read."""
        header, body = self.frame(), b""
        assert isinstance(header, frame.Header), f"{header} instead of a header"
        while len(body) < header.body_size:
            body += self.frame().fragment
        return body.decode()

    def get(self, queue):
        """`(tag, redelivered, body)` of the next message, or `None`."""
        self.send(spec.Basic.Get(queue=queue))
        method = self.method()
        if isinstance(method, spec.Basic.GetEmpty):
            return None
        return method.delivery_tag, method.redelivered, self.body()

    def count(self, queue):
        return self.call(spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count

    def queue(self, **options):
        name = fresh("q")
        self.call(spec.Queue.Declare(queue=name, durable=True, **options), spec.Queue.DeclareOk)
        return name

    def refused(self, code, text=""):
        """The channel must be closed with this code, and the connection go on."""
        close = self.expect(spec.Channel.Close)
        assert close.reply_code == code and text in close.reply_text, f"{close.reply_code} {close.reply_text} instead of {code} {text}"
        self.send(spec.Channel.CloseOk())
        self.open(1)

    def ended(self, code, text=""):
        """The connection must be closed with this code."""
        close = self.expect(spec.Connection.Close, 0)
        assert close.reply_code == code and text in close.reply_text, f"{close.reply_code} {close.reply_text} instead of {code} {text}"
        self.send(spec.Connection.CloseOk(), 0)
        self.socket.close()

    def quiet(self):
        """Nothing was said before the answer to this."""
        self.call(spec.Basic.Qos(prefetch_count=0), spec.Basic.QosOk)

    def close(self):
        self.call(spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk, 0)
        self.socket.close()


def flow_goes_on_and_never_stops(peer):
    assert peer.call(spec.Channel.Flow(active=True), spec.Channel.FlowOk).active
    peer.send(spec.Channel.Flow(active=False))
    peer.ended(540, "active=false")


def a_new_secret_is_taken(peer):
    peer.call(spec.Connection.UpdateSecret(b"new", "because"), spec.Connection.UpdateSecretOk, 0)
    peer.close()


def recovered_messages_come_again_in_their_order(peer):
    queue = peer.queue()
    for body in (b"one", b"two", b"three"):
        peer.publish("", queue, body)
    assert [peer.get(queue)[1:] for _ in range(2)] == [(False, "one"), (False, "two")]
    peer.call(spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    assert [peer.get(queue)[1:] for _ in range(3)] == [(True, "one"), (True, "two"), (False, "three")]
    peer.send(spec.Basic.RecoverAsync(requeue=True))
    assert [peer.get(queue)[1:] for _ in range(3)] == [(True, "one"), (True, "two"), (True, "three")]
    peer.call(spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
    peer.call(spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)
    peer.send(spec.Basic.Recover(requeue=False))
    peer.ended(540, "requeue=false")


def the_default_exchange_is_nobodys(peer):
    queue = peer.queue()
    for method in (
            spec.Exchange.Declare(exchange="", passive=True), spec.Exchange.Delete(exchange=""),
            spec.Queue.Bind(queue=queue, exchange="", routing_key="x"), spec.Exchange.Bind(destination="", source="amq.fanout")):
        peer.send(method)
        peer.refused(403, "operation not permitted on the default exchange")
    peer.call(spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)
    peer.close()


def an_empty_name_is_the_queue_declared_last(peer):
    for method in (
            spec.Basic.Get(queue=""), spec.Basic.Consume(queue=""), spec.Queue.Purge(queue=""), spec.Queue.Delete(queue=""),
            spec.Queue.Bind(queue="", exchange="amq.direct", routing_key="")):
        peer.send(method)
        peer.refused(404, "no previously declared queue")
    first = peer.call(spec.Queue.Declare(queue="", exclusive=True), spec.Queue.DeclareOk).queue
    second = peer.call(spec.Queue.Declare(queue="", exclusive=True), spec.Queue.DeclareOk).queue
    assert first.startswith("amq.gen-") and first != second
    # Whoever names neither queue nor key means the queue's name as the key.
    peer.call(spec.Queue.Bind(queue="", exchange="amq.direct", routing_key=""), spec.Queue.BindOk)
    peer.publish("amq.direct", second, b"x")
    assert peer.get("")[2] == "x" and peer.get(first) is None
    peer.call(spec.Queue.Unbind(queue="", exchange="amq.direct", routing_key=""), spec.Queue.UnbindOk)
    peer.publish("amq.direct", second, b"y")
    assert peer.get("") is None
    peer.call(spec.Queue.Purge(queue=""), spec.Queue.PurgeOk)
    assert peer.call(spec.Basic.Consume(queue=""), spec.Basic.ConsumeOk).consumer_tag.startswith("amq.ctag-")
    # A passive declaration counts as the last one too.
    peer.call(spec.Queue.Declare(queue=first, passive=True), spec.Queue.DeclareOk)
    peer.call(spec.Queue.Delete(queue=""), spec.Queue.DeleteOk)
    peer.send(spec.Queue.Declare(queue=first, passive=True))
    peer.refused(404)
    peer.close()


def what_is_not_to_be_answered_is_not_answered_unless_it_fails(peer):
    queue, exchange = fresh("q"), fresh("x")
    peer.send(
        spec.Queue.Declare(queue=queue, durable=True, nowait=True), spec.Exchange.Declare(exchange=exchange, type="fanout", nowait=True),
        spec.Queue.Bind(queue=queue, exchange=exchange, nowait=True), spec.Queue.Purge(queue=queue, nowait=True),
        spec.Confirm.Select(nowait=True), spec.Basic.Consume(queue=queue, consumer_tag="mine", no_ack=True, nowait=True),
        spec.Basic.Cancel(consumer_tag="mine", nowait=True))
    peer.quiet()
    peer.publish(exchange, "", b"x")
    peer.expect(spec.Basic.Ack)
    assert peer.count(queue) == 1
    none = fresh("none")
    for wrong, code in (
            (spec.Queue.Declare(queue=queue, nowait=True), 406), (spec.Queue.Bind(queue=none, exchange=exchange, nowait=True), 404),
            (spec.Exchange.Declare(exchange=exchange, type="direct", nowait=True), 406), (spec.Queue.Purge(queue=none, nowait=True), 404),
            (spec.Queue.Delete(queue=queue, if_empty=True, nowait=True), 406),
            (spec.Exchange.Delete(exchange=exchange, if_unused=True, nowait=True), 406)):
        peer.send(wrong)
        peer.refused(code)
    peer.send(spec.Queue.Delete(queue=queue, nowait=True), spec.Exchange.Delete(exchange=exchange, nowait=True))
    peer.send(spec.Queue.Declare(queue=queue, passive=True))
    peer.refused(404)
    peer.close()


def what_has_no_meaning_here_ends_the_connection(peer):
    peer.send(spec.Basic.Qos(prefetch_size=1))
    peer.ended(540, "prefetch_size!=0 (1)")
    for method, channel in ((spec.Channel.Open(), 1), (spec.Basic.Qos(prefetch_count=1), 9)):
        peer = Peer()
        peer.send(method, channel)
        peer.ended(504)
    peer = Peer()
    queue = peer.call(spec.Queue.Declare(queue="", exclusive=True), spec.Queue.DeclareOk).queue
    peer.call(spec.Basic.Consume(queue=queue, consumer_tag="twice"), spec.Basic.ConsumeOk)
    peer.send(spec.Basic.Consume(queue=queue, consumer_tag="twice"))
    peer.ended(530, "attempt to reuse consumer tag 'twice'")


def a_channel_is_one_thing_at_a_time(peer):
    for first, ok, second in (
            (spec.Tx.Select(), spec.Tx.SelectOk, spec.Confirm.Select()), (spec.Confirm.Select(), spec.Confirm.SelectOk, spec.Tx.Select())):
        peer.call(first, ok)
        peer.send(second)
        peer.refused(406)
    for method in (spec.Tx.Commit(), spec.Tx.Rollback()):
        peer.send(method)
        peer.refused(406, "channel is not transactional")
    peer.close()


def each_delivery_is_settled_once(peer):
    queue = peer.queue()
    for body in (b"one", b"two"):
        peer.publish("", queue, body)
    tags = [peer.get(queue)[0] for _ in range(2)]
    # 0 is all there are, and none is fine.
    peer.send(spec.Basic.Ack(delivery_tag=tags[1], multiple=True), spec.Basic.Ack(delivery_tag=0, multiple=True))
    peer.quiet()
    assert peer.count(queue) == 0
    for method in (spec.Basic.Ack(delivery_tag=tags[0]), spec.Basic.Nack(delivery_tag=7, multiple=True), spec.Basic.Reject(delivery_tag=0)):
        peer.send(method)
        peer.refused(406, "unknown delivery tag")
    peer.call(spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)
    peer.close()


def what_a_cancelled_consumer_had_is_settled_as_it_says(peer):
    for settled, comes_again in ((spec.Basic.Ack, False), (spec.Basic.Nack, True)):
        queue = peer.queue()
        peer.publish("", queue, b"x")
        tag = peer.call(spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk).consumer_tag
        delivery = peer.expect(spec.Basic.Deliver)
        peer.body()
        # A tag that nobody has any more is cancelled as well.
        for _ in range(2):
            peer.call(spec.Basic.Cancel(consumer_tag=tag), spec.Basic.CancelOk)
        peer.send(settled(delivery_tag=delivery.delivery_tag), spec.Basic.Consume(queue=queue, consumer_tag="next"))
        peer.expect(spec.Basic.ConsumeOk)
        if comes_again:
            assert peer.expect(spec.Basic.Deliver).redelivered
            peer.body()
        peer.call(spec.Basic.Cancel(consumer_tag="next"), spec.Basic.CancelOk)
        peer.call(spec.Basic.Recover(requeue=True), spec.Basic.RecoverOk)
        assert peer.count(queue) == int(comes_again)
        peer.call(spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)
    peer.close()


def a_queue_goes_before_its_consumers_are_told(peer):
    queue = peer.queue()
    consume = spec.Basic.Consume(queue=queue, arguments={"x-cancel-on-ha-failover": True, "x-unknown": 1})
    tag = peer.call(consume, spec.Basic.ConsumeOk).consumer_tag
    assert peer.call(spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).consumer_count == 1
    peer.call(spec.Queue.Delete(queue=queue), spec.Queue.DeleteOk)
    assert peer.expect(spec.Basic.Cancel).consumer_tag == tag
    peer.close()


def a_message_that_only_a_stream_took_is_not_returned(peer):
    stream, exchange = peer.queue(arguments={"x-queue-type": "stream"}), fresh("x")
    peer.call(spec.Exchange.Declare(exchange=exchange, type="fanout", durable=True), spec.Exchange.DeclareOk)
    peer.call(spec.Queue.Bind(queue=stream, exchange=exchange, routing_key="k"), spec.Queue.BindOk)
    peer.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
    for to, key in ((exchange, ""), ("", stream)):
        peer.publish(to, key, b"x", mandatory=True, delivery_mode=1)
        peer.expect(spec.Basic.Ack)
    peer.publish("", fresh("none"), b"x", mandatory=True)
    assert peer.expect(spec.Basic.Return).reply_code == 312
    peer.body()
    peer.expect(spec.Basic.Ack)
    peer.call(spec.Queue.Delete(queue=stream), spec.Queue.DeleteOk)
    peer.call(spec.Exchange.Delete(exchange=exchange), spec.Exchange.DeleteOk)
    peer.close()


CHECKS = [
    flow_goes_on_and_never_stops, a_new_secret_is_taken, recovered_messages_come_again_in_their_order, the_default_exchange_is_nobodys,
    an_empty_name_is_the_queue_declared_last, what_is_not_to_be_answered_is_not_answered_unless_it_fails,
    what_has_no_meaning_here_ends_the_connection, a_channel_is_one_thing_at_a_time, each_delivery_is_settled_once,
    what_a_cancelled_consumer_had_is_settled_as_it_says, a_queue_goes_before_its_consumers_are_told,
    a_message_that_only_a_stream_took_is_not_returned,
]


def main():
    failed = 0
    for check in CHECKS:
        peer = Peer()
        try:
            check(peer)
            print(f"ok      {check.__name__}")
        except Exception as error:  # All checks run, also after one failed.
            failed += 1
            trace, line = error.__traceback__, 0
            while trace:
                if trace.tb_frame.f_code.co_name == check.__name__:
                    line = trace.tb_lineno
                trace = trace.tb_next
            print(f"FAILED  {check.__name__}, line {line}: {type(error).__name__}: {error}")
        peer.socket.close()
    print(f"{len(CHECKS)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

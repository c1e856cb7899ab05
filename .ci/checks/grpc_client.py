"""Google's gRPC client against a running server, whose address is the only argument. The stubs are on the Python path."""

import queue
import sys
import threading

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from posthouse.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    consume_pb2,
    consume_pb2_grpc,
    definitions_pb2,
    live_pb2,
    live_pb2_grpc,
    message_pb2,
    publish_pb2,
    publish_pb2_grpc,
    replay_pb2,
    replay_pb2_grpc,
)

ADDRESS = sys.argv[1]
PATIENCE_S = 60


def same(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: {got!r}, not {wanted!r}")


class Frames:
    """What is sent on a stream: an iterator that ends when it is told to."""

    def __init__(self):
        self.queue = queue.Queue()

    def send(self, frame):
        self.queue.put(frame)

    def end(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def queue_of(name):
    return publish_pb2.Target(queue=name)


def publish_stream(publisher):
    """A message that is refused in the middle does not end the stream."""
    frames = Frames()
    answers = publisher.PublishStream(iter(frames), timeout=PATIENCE_S)
    good = [message_pb2.Message(subject=f"s.{number}", body=str(number).encode()) for number in range(100)]
    bad = message_pb2.Message(subject="x" * 5000, body=b"bad")
    opened = publish_pb2.PublishOpen(to=queue_of("work"), details=True)
    frames.send(publish_pb2.PublishFrame(open=opened, messages=good[:50] + [bad]))
    frames.send(publish_pb2.PublishFrame(messages=good[50:]))
    frames.end()
    confirmed, failures, published = 0, [], []
    for answer in answers:
        confirmed = answer.confirmed
        failures.extend(answer.failures)
        published.extend(answer.published)
    same(confirmed, 101, "messages confirmed")
    same([(f.first, f.count, f.problem.type, f.problem.limit) for f in failures],
         [(50, 1, "too-large", "MAX_SUBJECT_BYTES")], "failures")
    same((len(published), {one.queues for one in published}), (100, {1}), "published")


def consume_stream(consumer, admin):
    """Credit, acknowledgements by range, a nack that brings a message again, an extension; and a stray settlement that is told."""
    frames = Frames()
    call = consumer.Consume(iter(frames), timeout=PATIENCE_S)
    frames.send(consume_pb2.ConsumeRequest(open=consume_pb2.ConsumeOpen(queue="work"), credit_messages=10))

    deliveries, state = {}, {"settled": 0, "failures": []}

    def until(done, what):
        while not done():
            answer = next(call, None)
            if answer is None:
                sys.exit(f"the consumer's stream ended before {what}")
            for number, delivery in enumerate(answer.deliveries, answer.first):
                deliveries[number] = delivery
            state["settled"] = max(state["settled"], answer.settled)
            state["failures"].extend(answer.failures)

    until(lambda: len(deliveries) >= 10, "10 deliveries")
    same([delivery.message.body for delivery in deliveries.values()], [str(n).encode() for n in range(10)], "deliveries")
    same(admin.GetQueue(admin_pb2.GetQueueRequest(name="work")).depth.in_flight, 10, "in flight")

    settle = consume_pb2.StreamSettlement
    frames.send(consume_pb2.ConsumeRequest(settlements=[
        settle(action=consume_pb2.SETTLE_ACTION_EXTEND, deliveries=[10], extend_ms=60_000),
        settle(action=consume_pb2.SETTLE_ACTION_ACK, ranges=[consume_pb2.DeliveryRange(first=1, last=8)]),
        settle(action=consume_pb2.SETTLE_ACTION_NACK, deliveries=[9], after_ms=0, error="later"),
        settle(action=consume_pb2.SETTLE_ACTION_ACK, deliveries=[3]),
    ]))
    until(lambda: state["settled"] >= 4, "4 settlements")
    same([(f.settlement, f.delivery, f.problem.type) for f in state["failures"]], [(3, 3, "unknown-delivery")], "failures")

    frames.send(consume_pb2.ConsumeRequest(credit_messages=91))
    until(lambda: len(deliveries) >= 101, "all deliveries")
    again = [delivery for delivery in deliveries.values() if delivery.attempt == 2]
    same([(delivery.message.body, delivery.redelivered) for delivery in again], [(b"8", True)], "what was nacked")
    last = consume_pb2.DeliveryRange(first=1, last=101)
    frames.send(consume_pb2.ConsumeRequest(settlements=[settle(action=consume_pb2.SETTLE_ACTION_ACK, ranges=[last])]))
    until(lambda: state["settled"] >= 5, "5 settlements")
    same(len(state["failures"]), 1, "failures in the end")
    frames.end()
    same(list(call), [], "answers after the end")
    depth = admin.GetQueue(admin_pb2.GetQueueRequest(name="work")).depth
    same((depth.ready, depth.in_flight, depth.delayed), (0, 0, 0), "the queue in the end")


def replay(admin, publisher, reader):
    config = definitions_pb2.TopicConfig(retention=definitions_pb2.Retention(), key_index=True)
    admin.PutTopic(admin_pb2.PutTopicRequest(name="log", config=config))
    to = publish_pb2.Target(topic="log")
    messages = [message_pb2.Message(subject="log.x", key=b"k", body=str(number).encode()) for number in range(10)]
    publisher.Publish(publish_pb2.PublishRequest(to=to, messages=messages))
    found = []
    for answer in reader.Replay(replay_pb2.ReplayRequest(topic="log", **{"from": replay_pb2.StartAt(offset=4)})):
        found.extend(record.message.body for record in answer.records)
    same(found, [str(number).encode() for number in range(4, 10)], "a replay from offset 4")
    same(reader.LastValue(replay_pb2.LastValueRequest(topic="log", key=b"k")).message.body, b"9", "the last value")
    following = reader.Replay(replay_pb2.ReplayRequest(topic="log", follow=True, max=11), timeout=PATIENCE_S)
    first = next(following)
    publisher.Publish(publish_pb2.PublishRequest(to=to, messages=[message_pb2.Message(subject="log.x", body=b"new")]))
    records = list(first.records) + [record for answer in following for record in answer.records]
    same((len(records), records[-1].message.body), (11, b"new"), "a replay that follows")


def request_reply(live):
    try:
        live.Request(live_pb2.RequestRequest(message=message_pb2.Message(subject="sum")), timeout=PATIENCE_S)
        sys.exit("nobody was there to answer, and somebody did")
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.UNAVAILABLE, "a request without anybody to answer")

    frames = Frames()
    serving = live.Reply(iter(frames), timeout=PATIENCE_S)
    frames.send(live_pb2.ReplyFrame(open=live_pb2.SubscribeRequest(subject="sum")))
    same(next(serving).opened, True, "the reply stream's first answer")

    def serve():
        for asked in serving:
            for number, request in enumerate(asked.requests, asked.first):
                total = sum(int(part) for part in request.body.split(b"+"))
                answer = message_pb2.Message(body=str(total).encode())
                frames.send(live_pb2.ReplyFrame(answers=[live_pb2.Answer(request=number, message=answer)]))
            if asked.failures:
                sys.exit(f"an answer failed: {asked.failures}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    for _ in range(20):
        request = message_pb2.Message(subject="sum", body=b"1+2+39")
        same(live.Request(live_pb2.RequestRequest(message=request), timeout=PATIENCE_S).message.body, b"42", "an answer")
    frames.end()
    thread.join(PATIENCE_S)
    same(thread.is_alive(), False, "the reply stream ends when it is ended")


def refusals(admin):
    try:
        admin.PutQueue(admin_pb2.PutQueueRequest(name="q", config=definitions_pb2.QueueConfig(overflow=99)))
        sys.exit("an unknown enum value was taken")
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.INVALID_ARGUMENT, "an unknown enum value")
        same("overflow" in error.details(), True, "its field's name in the error")
    try:
        admin.GetQueue(admin_pb2.GetQueueRequest(name="none"), metadata=[("authorization", "Bearer nonsense")])
        sys.exit("a wrong token was taken")
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.UNAUTHENTICATED, "a wrong token")


def main():
    channel = grpc.insecure_channel(ADDRESS)
    grpc.channel_ready_future(channel).result(PATIENCE_S)
    admin = admin_pb2_grpc.AdminStub(channel)
    publisher = publish_pb2_grpc.PublisherStub(channel)
    retry = definitions_pb2.Retry(initial_ms=1)
    made = admin.PutQueue(admin_pb2.PutQueueRequest(name="work", config=definitions_pb2.QueueConfig(retry=retry)))
    same((made.outcome, made.queue.config.retry.initial_ms), (admin_pb2.OUTCOME_CREATED, 1), "a new queue")

    publish_stream(publisher)
    consume_stream(consume_pb2_grpc.ConsumerStub(channel), admin)
    replay(admin, publisher, replay_pb2_grpc.ReaderStub(channel))
    request_reply(live_pb2_grpc.LiveStub(channel))
    refusals(admin)

    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "posthouse.v1.Publisher"]:
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        same(status, health_pb2.HealthCheckResponse.SERVING, f"health of {service!r}")

    reflection = ProtoReflectionDescriptorDatabase(channel)
    services = set(reflection.get_services())
    wanted = {f"posthouse.v1.{name}" for name in ["Admin", "Consumer", "Live", "Publisher", "Reader"]}
    same(wanted - services, set(), "services that reflection does not show")
    found = reflection.FindFileContainingSymbol("posthouse.v1.Publisher")
    same(found.name, "posthouse/v1/publish.proto", "the file of a service")
    print("all is as docs/protocols/grpc.md says")


main()

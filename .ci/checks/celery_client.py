"""Gives a Celery worker work, and looks at what comes back."""

import sys
import time

import celery_tasks as tasks
import kombu
from celery import chain, group

PATIENCE_S = 30


def results_come_back():
    assert tasks.add.delay(2, 3).get(timeout=PATIENCE_S) == 5
    pending = [tasks.add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=PATIENCE_S) for result in pending] == list(range(1, 51))
    try:
        tasks.breaks.delay().get(timeout=PATIENCE_S)
        raise AssertionError("it did not break")
    except ValueError as error:
        assert "as told" in str(error)


def what_fails_is_tried_again():
    assert tasks.fails_twice.delay().get(timeout=PATIENCE_S) == 2


def a_countdown_is_kept():
    asked = time.time()
    delayed = [tasks.when.apply_async(countdown=seconds) for seconds in (2, 3)]
    at_once = tasks.when.delay().get(timeout=PATIENCE_S)
    waited = [result.get(timeout=PATIENCE_S) - asked for result in delayed]
    assert at_once - asked < 2 and waited[0] >= 1.9 and waited[1] >= 2.9, (at_once - asked, waited)


def groups_and_chains_end():
    assert group(tasks.add.s(number, number) for number in range(10))().get(timeout=PATIENCE_S) == [2 * number for number in range(10)]
    assert chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))().get(timeout=PATIENCE_S) == 10
    # A chord needs a backend that counts, which rpc:// of Celery is not: the sum is asked for by the client.
    parts = group(tasks.add.s(number, 0) for number in range(5))().get(timeout=PATIENCE_S)
    assert tasks.total.delay(parts).get(timeout=PATIENCE_S) == 10


def the_worker_can_be_controlled():
    # Through fanout exchanges and queues of the worker's own.
    assert tasks.app.control.ping(timeout=5)[0][f"{tasks.KIND}@check"] == {"ok": "pong"}
    active = tasks.app.control.inspect(timeout=5).active_queues()
    assert [queue["name"] for queue in active[f"{tasks.KIND}@check"]] == [tasks.QUEUE], active
    doomed = tasks.when.apply_async(countdown=3)
    doomed.revoke()
    try:
        doomed.get(timeout=PATIENCE_S)
        raise AssertionError("a revoked task was done")
    except Exception as error:
        assert type(error).__name__ == "TaskRevokedError", error


def kombu_alone():
    with kombu.Connection(tasks.app.conf.broker_url) as connection:
        simple = connection.SimpleQueue(f"check-kombu-{tasks.KIND}")
        simple.put({"text": "grüße"}, compression="zlib", headers={"n": 1}, priority=2)
        message = simple.get(timeout=PATIENCE_S)
        assert message.payload == {"text": "grüße"} and message.headers["n"] == 1, message
        message.requeue()
        message = simple.get(timeout=PATIENCE_S)
        assert message.delivery_info["redelivered"] is True
        message.ack()
        assert simple.qsize() == 0
        simple.close()
        simple.queue(connection.default_channel).delete()


def main():
    failed, checks = 0, [results_come_back, what_fails_is_tried_again, a_countdown_is_kept, groups_and_chains_end,
                         the_worker_can_be_controlled, kombu_alone]
    for check in checks:
        try:
            check()
            print(f"ok      {check.__name__}")
        except Exception as error:  # All checks run, also after one failed.
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
    print(f"{len(checks)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The tasks of the check with Celery."""

import os
import time

import kombu
from celery import Celery

KIND = os.environ["QUEUE_TYPE"]
QUEUE = f"check-celery-{KIND}"

app = Celery("check", broker=os.environ["BROKER"], backend="rpc://")
app.conf.update(
    task_default_queue=QUEUE, task_default_exchange=QUEUE, task_default_routing_key=QUEUE, task_default_queue_type=KIND,
    # Quorum queues are routed to by topic, so that Celery's delays find them.
    task_default_exchange_type="topic" if KIND == "quorum" else "direct",
    broker_transport_options={"confirm_publish": True}, broker_connection_retry_on_startup=True, result_expires=60, task_acks_late=True,
    task_queues=[kombu.Queue(QUEUE, kombu.Exchange(QUEUE, type="topic" if KIND == "quorum" else "direct"), routing_key=QUEUE,
                             queue_arguments={"x-queue-type": KIND})])


@app.task
def add(one, other):
    return one + other


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def fails_twice(self):
    if self.request.retries < 2:
        raise self.retry(countdown=1, exc=RuntimeError("not yet"))
    return self.request.retries


@app.task(bind=True)
def when(self):
    return time.time()


@app.task
def breaks():
    raise ValueError("as told")

"""The application that Celery's worker and its client both load; its settings come from the environment.

From Celery's guide "Optimizing": a large prefetch multiplier for short tasks, transient queues and messages where nothing need survive.
With ``BENCH_SAFE=1`` as safe as Celery gets on RabbitMQ: quorum queue, persistent messages, `confirm_publish`, late acknowledgement.
"""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import work

SAFE = os.environ["BENCH_SAFE"] == "1"

app = Celery("bench", broker=os.environ["BENCH_URL"], backend="rpc://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": SAFE},
    task_acks_late=SAFE,
    task_default_queue_type="quorum" if SAFE else "classic",
    task_default_delivery_mode="persistent" if SAFE else "transient",
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=128,
)
same = app.task(work.same, name="same")
add = app.task(work.add, name="add")

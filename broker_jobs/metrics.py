"""Numbers for Prometheus, and whether a process is well: what workers and coordinators serve over HTTP.

Every daemon has a registry of its own, so that several live in one process. Labels are classes, kinds of outcome, states:
never a job or a task, since each value of a label is a series that is kept for ever.

=========================================== ========= =====================================================================
name                                        labels    meaning
=========================================== ========= =====================================================================
``broker_jobs_tasks_total``                 class,    worker: executions that ended; outcome: succeeded, failed, canceled,
                                            outcome   crashed
``broker_jobs_task_queue_seconds``          class     coordinator: from the release of an attempt to its start
``broker_jobs_task_wait_seconds``           class     worker: from the arrival of a message to the start of its task
``broker_jobs_task_run_seconds``            class     worker: from start to end of an execution
``broker_jobs_task_end_to_end_seconds``     class     coordinator: from submission to the recorded outcome
``broker_jobs_resource_total``              resource  worker: what it gives to tasks (cpus, memory in bytes, …)
``broker_jobs_resource_used``               resource  worker: what tasks hold of it
``broker_jobs_resource_free``               resource  worker: what nobody holds
``broker_jobs_running_tasks``                         worker: executions that run
``broker_jobs_crashes_total``               class     worker: processes of functions that vanished; coordinator: attempts
                                                      that were lost or crashed
``broker_jobs_returned_tasks_total``        reason    worker: attempts that went back without an outcome
``broker_jobs_dead_letters_total``          reason    messages that were refused: decode or security
``broker_jobs_reconnects_total``                      connections after the first
``broker_jobs_connected``                             1 with a connection to the broker, else 0
``broker_jobs_duplicates_total``            class     coordinator: outcomes that came for a task that had one already
``broker_jobs_dropped_messages_total``      reason    coordinator: messages that came too late to be of use: a late
                                                      question, a reply without a job, news of a forgotten job
``broker_jobs_ledger_lag_seconds``                    coordinator: age of the oldest message of the last batch
``broker_jobs_ledger_messages``                       coordinator: messages that wait in the ledger queue
``broker_jobs_ledger_batches_total``                  coordinator: transactions
``broker_jobs_ledger_batch_messages``                 coordinator: messages in a transaction
``broker_jobs_jobs``                        state     coordinator: jobs of the ledger
``broker_jobs_outbox_messages``                       coordinator: messages that are recorded and not confirmed yet
``broker_jobs_hook_failures_total``         hook      coordinator: hooks of plugins that raised or did not answer in time
``broker_jobs_hook_dropped_total``          plugin    coordinator: moments of which a plugin was not told, being too slow
``broker_jobs_workers``                     state     coordinator: workers that are known
``broker_jobs_partition``                             coordinator: which partition of the ledger it keeps or would keep
=========================================== ========= =====================================================================
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import socket
import sys
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from broker_jobs.core.quantities import UNIT
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from broker_jobs.core.resources import Resources

MetricsPort = int | Literal["auto"]
"""A port, 0 for none, ``"auto"`` for any free one."""

SILENCE_LIMIT: Final = 30.0
"""Seconds without a sign of life after which a process is not well."""

MOST_CONNECTIONS: Final = 64
"""Open at a time; where one more comes, the one that is open for longest is cut: nobody keeps others from the numbers by saying nothing,
and the daemon's descriptors and threads are for its tasks."""

_LOG: Final = logging.getLogger(__name__)
_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 10_000.0, 86_400.0)
_PORT_DIGITS: Final = 5
_MILLISECONDS: Final = tuple(1000 * seconds for seconds in _SECONDS)
_SIZES: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Durations(Collector):
    """A histogram by class that takes many durations at once: of single ones, the library's takes longer than all else for a short task.

    Args:
        registry: shows it
    """

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._classes: dict[str, tuple[list[int], list[int]]] = {}
        registry.register(self)

    def observe(self, name: str, milliseconds: Iterable[int]) -> None:
        """Count these durations of a class."""
        counts, total = self._classes.setdefault(name, ([0] * (len(_MILLISECONDS) + 1), [0]))
        # Of many quick tasks, most take as many.
        for taken, number in collections.Counter(milliseconds).items():
            counts[bisect_left(_MILLISECONDS, taken)] += number
            total[0] += number * taken

    def collect(self) -> Iterator[Metric]:
        """What is shown, in seconds; called by the registry, in any thread."""
        family = HistogramMetricFamily(self._name, self._text, labels=("class",))
        for name, (counts, total) in list(self._classes.items()):
            below = zip((*map(str, _SECONDS), "+Inf"), accumulate(counts), strict=True)
            family.add_metric((name,), list(below), total[0] / 1000)
        yield family


class DaemonMetrics:
    """What workers and coordinators have in common.

    Attributes:
        registry: of this daemon alone
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.dead_letters = self._counter("dead_letters", "Messages that were refused.", "reason")
        self.reconnects = self._counter("reconnects", "Connections to the broker after the first.")
        self.connected = self._gauge("connected", "1 with a connection to the broker, else 0.")
        self.crashes = self._counter("crashes", "Executions that vanished with their process or worker.", "class")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"broker_jobs_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"broker_jobs_{name}", text, labels, registry=self.registry)

    def _durations(self, name: str, text: str) -> Durations:
        return Durations(f"broker_jobs_{name}", text, self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"broker_jobs_{name}", text, labels, registry=self.registry, buckets=buckets)


class WorkerMetrics(DaemonMetrics):
    """The numbers of a worker.

    Args:
        total: what it may give to tasks
    """

    def __init__(self, total: Resources) -> None:
        super().__init__()
        self.tasks = self._counter("tasks", "Executions that ended.", "class", "outcome")
        self.wait = self._durations("task_wait_seconds", "From the arrival of a message to the start of its task.")
        self.run = self._durations("task_run_seconds", "From start to end of an execution.")
        self.running = self._gauge("running_tasks", "Executions that run.")
        self.returned = self._counter("returned_tasks", "Attempts that went back without an outcome.", "reason")
        self._total = self._gauge("resource_total", "What the worker gives to tasks.", "resource")
        self._used = self._gauge("resource_used", "What tasks hold.", "resource")
        self._free = self._gauge("resource_free", "What nobody holds.", "resource")
        self._amounts = _shown(total)
        for name, amount in self._amounts.items():
            self._total.labels(name).set(amount)
        self.resources(total)

    def resources(self, free: Resources) -> None:
        """Note what is free now."""
        left = _shown(free)
        for name, amount in self._amounts.items():
            self._free.labels(name).set(left.get(name, 0))
            self._used.labels(name).set(amount - left.get(name, 0))


class CoordinatorMetrics(DaemonMetrics):
    """The numbers of a coordinator.

    Args:
        partition: which one it keeps, or would keep
    """

    def __init__(self, partition: int) -> None:
        super().__init__()
        self._gauge("partition", "Which partition of the ledger it keeps or would keep.").set(partition)
        self.queue = self._durations("task_queue_seconds", "From the release of an attempt to its start.")
        self.end_to_end = self._durations("task_end_to_end_seconds", "From submission to the recorded outcome.")
        self.duplicates = self._counter("duplicates", "Outcomes that came for a task that had one already.", "class")
        self.dropped = self._counter("dropped_messages", "Messages that came too late to be of use.", "reason")
        self.ledger_lag = self._gauge("ledger_lag_seconds", "Age of the oldest message of the last batch.")
        self.ledger_messages = self._gauge("ledger_messages", "Messages that wait in the ledger queue.")
        self.batches = self._counter("ledger_batches", "Transactions.")
        self.batch_messages = self._histogram("ledger_batch_messages", "Messages in a transaction.", buckets=_SIZES)
        self.jobs = self._gauge("jobs", "Jobs of the ledger.", "state")
        self.outbox = self._gauge("outbox_messages", "Messages that are recorded and not confirmed yet.")
        self.hook_failures = self._counter("hook_failures", "Hooks of plugins that raised or did not answer in time.", "hook")
        self.hook_dropped = self._counter("hook_dropped", "Moments of which a plugin was not told, because it was too slow.", "plugin")
        self.workers = self._gauge("workers", "Workers that are known.", "state")


def _shown(resources: Resources) -> dict[str, float]:
    """Amounts as people write them: processors whole, memory in bytes."""
    return {name: amount if name == "memory" else amount / UNIT for name, amount in resources.amounts}


@dataclass(slots=True)
class Pulse:
    """The sign of life of an event loop, given by the loop and read by the thread that serves ``/healthz``.

    Attributes:
        facts: for people who look, such as whether there is a connection; changed by whoever beats
    """

    facts: dict[str, object] = field(default_factory=dict)
    _at: float = field(default_factory=time.monotonic)

    def beat(self, **facts: object) -> None:
        """Be alive, and say how it goes."""
        self.facts = {**self.facts, **facts}
        self._at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._at


class MetricsServer:
    """Serves ``/metrics`` and ``/healthz`` from a thread of its own, so that it answers when the event loop does not.

    Args:
        registry: what to show
        pulse: its sign of life
        host: address to listen on
        port: ``"auto"`` takes any free one

    Attributes:
        port: the port that it has

    Raises:
        ValidationError: the port is in use or may not be used
    """

    def __init__(self, registry: CollectorRegistry, pulse: Pulse, *, host: str = "127.0.0.1", port: MetricsPort = "auto") -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "pulse": pulse})
        try:
            self._server = _Server((host, 0 if port == "auto" else port), handler)
        except (OSError, OverflowError) as error:
            raise ValidationError(
                f"the metrics port {port} on {host} cannot be used ({error}): choose another with --metrics-port, or 'auto' for a free one"
            ) from error
        self.host, self.port = host, self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Where another process listens already, this one must not take half of its requests.
    allow_reuse_port = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._taken: dict[socket.socket, None] = {}
        self._changing = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread."""
        with self._changing:
            self._taken[request] = None
            if len(self._taken) > MOST_CONNECTIONS:
                oldest = next(iter(self._taken))
                del self._taken[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        with self._changing:
            self._taken.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asks may go away before the answer: that is no news. Anything else is."""
        del request, client_address
        if not isinstance(sys.exc_info()[1], OSError):
            _LOG.exception("a request for the numbers failed")


class _Handler(BaseHTTPRequestHandler):
    registry: ClassVar[CollectorRegistry]
    pulse: ClassVar[Pulse]
    timeout: ClassVar[float] = 10.0

    def do_GET(self) -> None:
        """Answer a request."""
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.registry))
            case "/healthz":
                silence = self.pulse.silence
                well = silence < SILENCE_LIMIT
                body = {"status": "ok" if well else "stuck", "silent_seconds": round(silence, 1), **self.pulse.facts}
                status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "application/json", json.dumps(body).encode() + b"\n")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics and /healthz\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is inherited)
        """Say nothing: a scrape every few seconds is no news."""


def parse_port(text: str) -> MetricsPort:
    """The port in a text of the command line.

    Raises:
        ValidationError: it is neither a port nor ``auto``
    """
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS and int(text) < 2**16:
        return int(text)
    raise ValidationError(f"a metrics port is a number up to 65535, 0 for none, or 'auto', not {text!r}")

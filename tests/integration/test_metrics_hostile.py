"""The numbers over HTTP, with peers that do not speak it, never finish, or never end: others are answered all the same."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING, Final

import pytest

from broker_jobs.core.request import Request
from broker_jobs.metrics import MOST_CONNECTIONS, MetricsServer, Pulse, WorkerMetrics
from tests.support.daemons import until
from tests.support.inbox import PATIENCE
from tests.support.mutations import SEED, Mutator

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS: Final = (
    b"GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: text/plain\r\n\r\n",
    b"GET /healthz?x=1 HTTP/1.0\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999\r\n\r\nbody",
    b"GET http://elsewhere/healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\nffffffff\r\n",
    b"OPTIONS * HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /metrics\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    pulse = Pulse()
    pulse.beat(connected=True)
    server = MetricsServer(WorkerMetrics(Request()).registry, pulse)
    yield server
    server.close()


def answered(server: MetricsServer) -> None:
    """Both pages are served."""
    for path, part in (("/metrics", b"broker_jobs_connected"), ("/healthz", b'"status": "ok"')):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE) as answer:
            assert part in answer.read()


def connected(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def heard(link: socket.socket) -> bytes:
    """All that comes until the other end closes, which it does."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [400, pytest.param(6000, marks=[pytest.mark.long, pytest.mark.hours])])
def test_requests_that_were_made_wrong_are_answered_or_refused(
    server: MetricsServer, count: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    print(f"{count} requests of BROKER_JOBS_FUZZ_SEED={SEED}")
    statuses = set()
    for number in range(count):
        mutator = Mutator(random.Random(SEED << 32 | number))
        request = mutator.several(mutator.octets, REQUESTS[number % len(REQUESTS)])
        with connected(server) as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(request)
                link.shutdown(socket.SHUT_WR)
            answer = heard(link)
        if answer.startswith(b"HTTP/1.0 "):
            statuses.add(int(answer[9:12]))
        if number % 100 == 0:
            answered(server)
    assert statuses <= {200, 400, 404, 414, 431, 501, 505}, statuses
    assert statuses >= {200, 400, 404, 501}, statuses
    answered(server)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in capfd.readouterr().err


def test_many_that_never_finish_keep_nobody_from_the_numbers(server: MetricsServer) -> None:
    """Half requests, and silence: they take neither the threads nor the descriptors of the daemon."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are enough)
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(connected(server)) for _ in range(3 * MOST_CONNECTIONS)]
        for number, link in enumerate(links):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.sendall((b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: he")[number % 3])
        answered(server)
        until(lambda: _ours(before, links) <= MOST_CONNECTIONS, "what is too much is closed")
        until(lambda: _threads() <= MOST_CONNECTIONS, "and so are their threads")
        for link in links[:MOST_CONNECTIONS]:
            assert heard(link) == b"", "the oldest are cut"
        answered(server)
    until(lambda: _ours(before, []) <= 0, "nothing is left")
    answered(server)


def _threads() -> int:
    """Threads of the server for its connections."""
    return sum("process_request" in thread.name for thread in threading.enumerate())


def _ours(before: int, links: list[socket.socket]) -> int:
    """Descriptors of the server for its connections."""
    return len(os.listdir("/proc/self/fd")) - before - len(links)  # noqa: PTH208 (names are enough)


def test_headers_without_end_are_cut_off_while_others_are_answered(server: MetricsServer) -> None:
    stop = threading.Event()
    cut = []

    def talk(line: bytes) -> None:
        with connected(server) as link:
            try:
                link.sendall(b"GET /metrics HTTP/1.1\r\n")
                while not stop.is_set():
                    link.sendall(line)
            except (BrokenPipeError, ConnectionResetError):
                cut.append(line)

    threads = [
        threading.Thread(target=talk, args=(line,)) for line in (b"X-Again: and again\r\n", b"x" * 4096, b"X: " + b"y" * 70_000 + b"\r\n")
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            answered(server)
        until(lambda: len(cut) == len(threads), "each is cut off")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)


def test_a_scrape_whose_reader_goes_away_is_no_news(server: MetricsServer, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        with connected(server) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # its end is a reset
            link.sendall(REQUESTS[0])
    answered(server)
    assert not caplog.records


def test_a_number_that_cannot_be_made_is_news(
    server: MetricsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("broker_jobs.metrics.generate_latest", fail)
    with connected(server) as link:
        link.sendall(REQUESTS[0])
        assert heard(link) == b""
    until(lambda: "a request for the numbers failed" in caplog.text, "it is logged")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=PATIENCE) as answer:
        assert json.loads(answer.read())["status"] == "ok"

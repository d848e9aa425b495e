"""``broker-jobs doctor``: what works from here, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.cli.options import (
    UNREACHABLE,
    WORK_FAILED,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    PartitionOption,
    UrlOption,
    connect,
    exit_codes,
    out,
)
from broker_jobs.cli.show import write_json
from broker_jobs.errors import AccessRefused, BrokerError, CoordinatorUnavailable, TopologyMismatch
from broker_jobs.ids import new_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.broker.port import Broker, Delivery
    from broker_jobs.config import Settings
    from broker_jobs.wire.messages import Cluster, WorkerInfo
    from broker_jobs.wire.signing import SigningKey
    from broker_jobs.wire.topology import Topology

PATIENCE: Final = 10.0
PAUSE: Final = 0.05
CLOCK_TOLERANCE_MS: Final = 1000
LEAST_DISK: Final = 2**30
OLDEST_RABBITMQ: Final = (3, 10)
BACKLOG: Final = 10_000


class Verdict(StrEnum):
    """How a check went."""

    ok = "ok"
    note = "note"
    problem = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


def doctor(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Check what can be checked from here, and say what to do.

    Address, key, value store, broker version, permissions, queue arguments, confirms, alarms, coordinator, clocks, workers, dead letters.
    Exits with 0 if there is no problem, 1 if there is one, 3 if the broker cannot be reached.
    """
    from broker_jobs.config import resolve

    findings: list[Finding] = []
    with exit_codes():
        settings = resolve(url, namespace, partition=partition)
        if settings.embedded:
            # Connecting starts the node, as every command does.
            connect(None, namespace, partition).close()
    findings += _own(settings)
    try:
        asyncio.run(_examine(settings, findings, partial(_daemons, url, namespace, settings.partition)))
    except BrokerError as error:
        findings.append(Finding("connection", Verdict.problem, str(error)))
        _show(findings, output)
        sys.exit(UNREACHABLE)
    _show(findings, output)
    if any(finding.verdict is Verdict.problem for finding in findings):
        sys.exit(WORK_FAILED)


def _own(settings: Settings) -> list[Finding]:
    """Address, key and value store, as this process has them."""
    from broker_jobs.config import shown

    found = [Finding("address", Verdict.ok, f"{shown(settings.url)}, namespace {settings.namespace}{_shown(settings.partition)}")]
    if settings.key is None:
        found.append(
            Finding(
                "key",
                Verdict.problem,
                "there is none, so nothing can be submitted",
                "set BROKER_JOBS_SIGNING_KEY, or signing_key_file in broker-jobs.toml; make one with: broker-jobs key new",
            )
        )
    else:
        found.append(Finding("key", Verdict.ok, f"id {_key_ids(settings.key)}; workers and coordinators must show the same"))
    if settings.value_store is None:
        remedy = "for larger ones set value_store in broker-jobs.toml to a folder that all hosts share"
        found.append(Finding("value store", Verdict.note, "there is none: values up to 8 MiB travel in messages", remedy))
        return found
    if "://" in settings.value_store:
        found.append(Finding("value store", Verdict.note, f"{settings.value_store}: not looked at"))
        return found
    folder = Path(settings.value_store)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        found.append(Finding("value store", Verdict.problem, f"{existing} cannot be written", "change its owner or its mode"))
    elif free < LEAST_DISK:
        found.append(Finding("value store", Verdict.problem, f"{folder} has only {free / 2**20:.0f} MiB left", "make room, or forget jobs"))
    else:
        found.append(Finding("value store", Verdict.ok, f"{folder}, {free / 2**30:.0f} GiB free"))
    return found


async def _examine(settings: Settings, findings: list[Finding], daemons: Callable[[], list[Finding]]) -> None:
    """Ask the broker; `BrokerError` where it cannot be reached."""
    from broker_jobs.broker import open_broker

    broker = await open_broker(settings.url, name=new_name("doctor"), timeout=PATIENCE)
    try:
        await _inspect(broker, settings, findings, daemons)
    finally:
        await broker.close()


async def _inspect(broker: Broker, settings: Settings, findings: list[Finding], daemons: Callable[[], list[Finding]]) -> None:
    """What the broker says and does, and who else is there; the first problem that stands in the way of the rest ends it."""
    from broker_jobs.broker.former import refuse_former
    from broker_jobs.wire.topology import Topology

    topology = Topology(settings.namespace)
    name = new_name("doctor")
    findings.append(_version(broker.server))
    try:
        kept = (topology.ledger(settings.partition), topology.dead_letters())
        await refuse_former(broker, topology, kept)
        await broker.declare(topology.exchanges(), (*kept, topology.reply_queue(name)))
    except AccessRefused as error:
        remedy = f"a submitter must be allowed to configure, write and read what begins with {settings.namespace}."
        findings.append(Finding("permissions", Verdict.problem, str(error), remedy))
        return
    except TopologyMismatch as error:
        remedy = "use the same ?queues= everywhere; what another version made is migrated as the text says"
        findings.append(Finding("queue arguments", Verdict.problem, str(error), remedy))
        return
    findings.append(Finding("permissions", Verdict.ok, "exchanges and queues can be made, and are as they should be"))
    trip = await _round_trip(broker, topology, name)
    findings.append(trip)
    if trip.verdict is Verdict.ok and settings.key is not None:
        findings += await asyncio.to_thread(daemons)
    findings += await _queues(broker, topology, settings.partition)


def _shown(partition: int) -> str:
    """Of several partitions, all but the first are named."""
    return f", partition {partition}" if partition else ""


def _key_ids(key: SigningKey) -> str:
    """Of the key that signs, and of those that are accepted, too."""
    return key.id + (f" (also accepted: {', '.join(other.id for other in key.also)})" if key.also else "")


def _version(server: str) -> Finding:
    """Whether the broker is one that is supported."""
    name, _, version = server.partition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "RabbitMQ" and numbers < OLDEST_RABBITMQ:
        return Finding("broker", Verdict.problem, server, "RabbitMQ 3.10 or later is needed")
    return Finding("broker", Verdict.ok, server)


async def _round_trip(broker: Broker, topology: Topology, name: str) -> Finding:
    """Whether a message is confirmed and comes back, and how fast."""
    came: asyncio.Queue[Delivery] = asyncio.Queue()
    await broker.consume(topology.reply_queue(name).name, 1, came.put_nowait)
    begun = time.perf_counter()
    try:
        (receipt,) = await asyncio.wait_for(broker.publish([Outgoing(topology.replies, topology.answer_key(name), b"doctor")]), PATIENCE)
        confirmed = time.perf_counter()
        if receipt is not Receipt.confirmed:
            return Finding("confirms", Verdict.problem, f"a message was {receipt.value}", "look into the log of the broker")
        broker.done(await asyncio.wait_for(came.get(), PATIENCE))
    except TimeoutError:
        if broker.blocked:
            remedy = "free memory or disk on the broker, or raise its watermarks"
            return Finding("alarms", Verdict.problem, f"the broker takes no messages: {broker.blocked}", remedy)
        return Finding("confirms", Verdict.problem, f"no message came back within {PATIENCE:g} s", "look into the log of the broker")
    both = f"confirmed after {(confirmed - begun) * 1000:.1f} ms, back after {(time.perf_counter() - begun) * 1000:.1f} ms"
    return Finding("confirms", Verdict.ok, both)


async def _queues(broker: Broker, topology: Topology, partition: int) -> list[Finding]:
    """What waits in the ledger queue and among the dead letters."""
    found = []
    ledger, dead = await broker.depth(topology.ledger_name(partition)), await broker.depth(topology.dead_name)
    if ledger is not None and ledger.ready > BACKLOG:
        found.append(Finding("ledger queue", Verdict.problem, f"{ledger.ready:,} messages wait", "is the coordinator up and fast enough?"))
    if dead is not None and dead.ready:
        remedy = "somebody sends what nobody can read, perhaps with another key: broker-jobs dead list"
        found.append(Finding("dead letters", Verdict.note, f"{dead.ready:,}", remedy))
    else:
        found.append(Finding("dead letters", Verdict.ok, "none"))
    return found


def _daemons(url: str | None, namespace: str | None, partition: int) -> list[Finding]:
    """Whether a coordinator answers, what time it has, and which workers it knows."""
    with connect(url, namespace, partition) as client:
        begun = time.time()
        try:
            cluster = client.cluster()
        except CoordinatorUnavailable:
            option = f" --partition {partition}" if partition else ""
            remedy = (
                "the node may run with another key or namespace: end it with broker-jobs down; the next command starts it again"
                if client.settings.embedded and not partition
                else f"start one: broker-jobs coordinator start{option}; one that runs must have the same address, namespace and key"
            )
            return [Finding("coordinator", Verdict.problem, "none answers", remedy)]
        ended = time.time()
        # The worker of a node that has just started says hello a moment after its coordinator is up.
        deadline = time.monotonic() + (PATIENCE if client.settings.embedded else 0)
        while not _up(cluster) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            cluster = client.cluster()
    return [
        Finding("coordinator", Verdict.ok, f"{cluster.coordinator}, version {cluster.version}; open jobs: {cluster.active_jobs}"),
        _clock(cluster.now_ms, begun * 1000, ended * 1000),
        _workers(cluster),
    ]


def _clock(theirs: int, begun: float, ended: float) -> Finding:
    """Whether the clocks of this host and of the coordinator's agree."""
    off = max(begun - theirs, theirs - ended, 0.0)
    if off > CLOCK_TOLERANCE_MS:
        remedy = "run a time service on both; times that are shown, and waiting times in the numbers, are off by so much"
        return Finding("clocks", Verdict.problem, f"this host and the coordinator's differ by {off / 1000:.1f} s", remedy)
    return Finding("clocks", Verdict.ok, "this host and the coordinator's agree")


def _up(cluster: Cluster) -> list[WorkerInfo]:
    return [worker for worker in cluster.workers if worker.state == "active"]


def _workers(cluster: Cluster) -> Finding:
    """Whether anybody works."""
    up = _up(cluster)
    if not up:
        return Finding("workers", Verdict.problem, "none is up, so tasks wait", "start one: broker-jobs worker start")
    return Finding("workers", Verdict.ok, f"{len(up)} up; hosts: {', '.join(sorted({worker.host.rpartition('/')[2] for worker in up}))}")


def _show(findings: list[Finding], output: OutputFormat) -> None:
    if output is OutputFormat.json:
        write_json([{"check": one.check, "verdict": one.verdict.value, "text": one.text, "remedy": one.remedy} for one in findings])
        return
    if output is OutputFormat.quiet:
        for one in findings:
            if one.verdict is Verdict.problem:
                out.out(f"{one.check}: {one.text}{f'; {one.remedy}' if one.remedy else ''}")
        return
    marks = {Verdict.ok: ("✓", "green"), Verdict.note: ("•", "yellow"), Verdict.problem: ("✗", "bold red")}
    grid = Table.grid(padding=(0, 2))
    for one in findings:
        mark, style = marks[one.verdict]
        grid.add_row(Text(mark, style=style), one.check, Text(one.text))
        if one.remedy:
            grid.add_row("", "", Text(f"→ {one.remedy}", style="dim"))
    out.print(grid)

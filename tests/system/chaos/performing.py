"""Faults, done to a deployment: each begins and is over in a thread of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from tests.support.daemons import until
from tests.system.chaos.deployment import CLOCK
from tests.system.chaos.faults import Kind, Role
from tests.system.chaos.links import Cut, Deaf, Delayed, Silent, Throttled, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.system.chaos.deployment import Deployment
    from tests.system.chaos.faults import Fault

DELAY: Final = Delayed(0.4)
THROTTLE: Final = Throttled(20_000)
_STEP: Final = "+3600"
_STOP_SECONDS: Final = 45.0
"""For a worker that drains, while the broker may be away, and for a node that was given up and starts anew."""
_ONE_NODE: Final = threading.Lock()
"""A busy machine takes longer for a fault than its window: the next node waits for it."""


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done: times are those of the monotonic clock.

    Attributes:
        trouble: what has gone wrong with doing it
    """

    fault: Fault
    begun: float
    ended: float
    trouble: str = ""


def impossible(deployment: Deployment) -> set[tuple[Kind, Role]]:
    """What there are no means for on this machine, and with this ledger."""
    possible = deployment.ground.possible()
    found = {(kind, Role.store) for kind in Kind if kind not in possible}
    return found if CLOCK else found | {(Kind.clock_stepped, role) for role in Role}


def perform(deployment: Deployment, faults: Sequence[Fault], say: Callable[[str], None]) -> list[Done]:
    """Do them all, each at its time; returns when all are over."""
    begin = time.monotonic()
    done: list[Done] = []
    threads = [threading.Thread(target=_do, args=(deployment, fault, begin, done, say), name=str(fault)) for fault in faults]
    for fault, thread in zip(faults, threads, strict=True):
        time.sleep(max(0.0, begin + fault.begins - time.monotonic()))
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done, key=lambda each: each.begun)


def _do(deployment: Deployment, fault: Fault, begin: float, done: list[Done], say: Callable[[str], None]) -> None:
    with _ONE_NODE if fault.target.role is Role.node else contextlib.nullcontext():
        _do_now(deployment, fault, begin, done, say)


def _do_now(deployment: Deployment, fault: Fault, begin: float, done: list[Done], say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    trouble = ""
    try:
        _begin(deployment, fault)
        time.sleep(fault.ends - fault.begins)
    except Exception as error:  # noqa: BLE001 (the run reports it)
        trouble = repr(error)
    try:
        _end(deployment, fault)
    except Exception as error:  # noqa: BLE001 (the same)
        trouble = f"{trouble} {error!r}"
    ended = time.monotonic()
    done.append(Done(fault, begun, ended, trouble))
    say(f"{fault}: {begun - begin:.1f} s to {ended - begin:.1f} s {trouble}")


def _begin(deployment: Deployment, fault: Fault) -> None:
    target = fault.target
    if target.role is Role.store:
        deployment.ground.begin(fault.kind)
        return
    if target.role is Role.node:
        _begin_at_node(deployment, fault)
        return
    unit = deployment.unit(target)
    match fault.kind:
        case Kind.killed:
            unit.end(signal.SIGKILL, _STOP_SECONDS)
        case Kind.frozen:
            unit.signal(signal.SIGSTOP)
        case Kind.rolled:
            unit.wanted = False
            unit.signal(signal.SIGTERM)
        case Kind.cut:
            deployment.become(target, Cut())
        case Kind.delayed:
            deployment.become(target, DELAY)
        case Kind.throttled:
            deployment.become(target, THROTTLE)
        case Kind.silent:
            deployment.become(target, Silent())
        case Kind.deaf:
            deployment.become(target, Deaf())
        case Kind.clock_stepped:
            if unit.clock is not None:
                unit.clock.write_text(_STEP)
        case Kind.stopped | Kind.app_stopped | Kind.closed | Kind.memory_alarm | Kind.disk_alarm | Kind.full:
            raise ValueError(fault)
        case _:
            assert_never(fault.kind)


def _end(deployment: Deployment, fault: Fault) -> None:
    target = fault.target
    if target.role is Role.store:
        deployment.ground.end(fault.kind)
        return
    if target.role is Role.node:
        _end_at_node(deployment, fault)
        return
    unit = deployment.unit(target)
    match fault.kind:
        case Kind.killed:
            unit.start()
        case Kind.frozen:
            unit.signal(signal.SIGCONT)
        case Kind.rolled:
            assert unit.process is not None
            try:
                unit.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                unit.end(signal.SIGKILL, _STOP_SECONDS)
            unit.start()
        case Kind.cut | Kind.delayed | Kind.throttled | Kind.silent | Kind.deaf:
            deployment.become(target, Whole())
        case Kind.clock_stepped:
            if unit.clock is not None:
                unit.clock.write_text("+0")
        case Kind.stopped | Kind.app_stopped | Kind.closed | Kind.memory_alarm | Kind.disk_alarm | Kind.full:
            raise ValueError(fault)
        case _:
            assert_never(fault.kind)


def _begin_at_node(deployment: Deployment, fault: Fault) -> None:
    node = deployment.node(fault.target)
    until(node.answers, f"{fault.target} is at work", _STOP_SECONDS)
    match fault.kind:
        case Kind.killed:
            node.kill()
        case Kind.frozen:
            node.freeze()
        case Kind.stopped:
            node.stop()
        case Kind.app_stopped:
            node.ctl("stop_app")
        case Kind.closed:
            node.close_connections(deployment.vhost)
        case Kind.memory_alarm:
            node.ctl("set_vm_memory_high_watermark", "0.00001")
        case Kind.disk_alarm:
            node.ctl("set_disk_free_limit", "100000GB")
        case _:
            raise ValueError(fault)


def _end_at_node(deployment: Deployment, fault: Fault) -> None:
    node = deployment.node(fault.target)
    match fault.kind:
        case Kind.killed | Kind.stopped:
            node.start()
        case Kind.frozen:
            node.thaw()
        case Kind.app_stopped:
            node.ctl("start_app")
        case Kind.memory_alarm:
            node.ctl("set_vm_memory_high_watermark", "0.4")
        case Kind.disk_alarm:
            node.ctl("set_disk_free_limit", "10MB")
        case _:
            pass

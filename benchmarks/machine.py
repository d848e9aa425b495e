"""What this was measured on, without a name of a host or a path."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMQNode


def described(node: RabbitMQNode) -> dict[str, str]:
    """Facts by their names, in the order in which they are shown."""
    overview = json.loads(node.management.request("GET", "overview"))
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "RabbitMQ": f"{overview['rabbitmq_version']} on Erlang {overview['erlang_version']}, one node, on the same machine",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def load() -> float:
    """Processes that want to run, over the last minute: what else is going on."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")

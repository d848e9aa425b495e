"""Steps that workers of tests serve."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from broker_jobs import Client, current, step


@step(name="simulate", version="1.2.0", tags=["physics"])
def simulate(x: Annotated[float, Field(ge=0)], n: int = 2, parts: list[str] = []) -> dict[str, float]:  # noqa: B006 (nobody changes it)
    """Simulate the flow."""
    print(f"simulating {x:g}")
    return {"y": x * n, "parts": len(parts)}


@step(name="simulate", version="1.10.0")
def simulate_better(x: float) -> dict[str, float]:
    """Simulate the flow better."""
    return {"y": -x}


@step(version="1.0.0")
async def later(seconds: float) -> str:
    """Wait, as a coroutine."""
    await asyncio.sleep(seconds)
    return f"attempt {current.attempt} of {current.name}"


@step(version="1.0.0")
def fail(what: str) -> int:
    """Fail in a way."""
    match what:
        case "raise":
            raise ArithmeticError("no such number")
        case "exit":
            sys.exit(3)
        case "result":
            return "seven"  # type: ignore[return-value]
        case _:
            return 7


@step(version="1.0.0")
def until_told(started: str, go: str) -> str:
    """Say that it runs, and wait for a file."""
    current.progress(0.25, "a quarter")
    Path(started).touch()
    while not Path(go).exists():
        time.sleep(0.005)
    return "done"


@step(version="1.0.0")
def total(values: list[float], offset: dict[str, float]) -> float:
    """Add up."""
    return sum(values) + offset["y"]


@step(version="1.0.0")
def leave(started: str, go: str) -> str:
    """Start a job below this one that goes on when this one has ended."""
    with Client() as client:
        return client.step("until_told").configure(started=started, go=go).start().id


@step(version="1.0.0")
def divide(parts: int, poison: bool = False) -> list[float]:
    """Have the parts simulated by jobs below this one."""
    with Client() as client:
        runs = client.step("simulate", "1.2.0").tags(["part"]).start_each({"x": part} for part in range(parts))
        if poison:
            client.step("fail").configure(what="raise").start().result()
        return [run.result()["y"] for run in runs]

"""Steps that workers of the tests of pinexQ's face serve."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from broker_jobs import Client, InputData, OutputCollection, OutputData, current, step
from broker_jobs.compat.pinexq import Job


@step(name="my_function", version="1.0.0", tags=["first"])
def my_function(x: int = 1) -> dict[str, int]:
    """Square a number."""
    return {"square": x * x}


@step(version="0.1.9")
def grow(x: int) -> str:
    return "0.1.9"


@step(name="grow", version="0.1.10")
def grow_better(x: int) -> str:
    return "0.1.10"


@step(name="grow", version="0.2.0-rc.1")
def grow_early(x: int) -> str:
    return "0.2.0-rc.1"


@step(name="grow", version="0.3.0", deprecated="it is slow")
def grow_slowly(x: int) -> str:
    return "0.3.0"


@step(version="1.0.0")
def give(what: Literal["zero", "empty", "false", "none"]) -> int | str | bool | None:
    return {"zero": 0, "empty": "", "false": False, "none": None}[what]


@step(version="1.0.0")
def wait(go: str) -> str:
    """Wait for a file."""
    while not Path(go).exists():
        current.progress(0.5)
    return "gone"


@step(version="1.0.0")
def fail(what: str) -> int:
    if what == "raise":
        raise ArithmeticError("no such number")
    return what  # type: ignore[return-value]


@step(version="1.0.0")
def join(first: InputData, more: list[InputData], out: OutputData, copies: OutputCollection, note: InputData | None = None) -> int:
    """Put texts behind each other."""
    texts = [each.text() for each in (first, *more)]
    for text in texts:
        copies.new(f"{text}.txt").write(text)
    out.name, out.media_type = "joined.txt", "text/plain"
    out.write("".join(texts) + (note.text() if note else ""))
    return len(texts)


@step(version="1.0.0")
def trickle(out: OutputData, go: str) -> None:
    """Write a little, and the rest when a file is there."""
    with out.open() as file:
        file.write(b"so far")
        file.flush()
        while not Path(go).exists():
            current.progress(0.5)
        file.write(b", and the rest")


@step(version="1.0.0")
def divide(parts: int, poison: bool = False) -> list[int]:
    """Start sub-jobs in the manner of pinexQ, and wait for them."""
    with Client() as client:
        own = Job.from_url(client, current.job or "")
        jobs = [
            own.create_sub_job(f"part {part}").select_processing("my_function", version="1.0.0").configure_parameters(x=part).start()
            for part in range(parts)
        ]
        if poison:
            own.create_sub_job("poison").select_processing("fail").configure_parameters(what="raise").start()
        own.wait_for_sub_jobs_complete(timeout_s=60)
        return [job.get_result()["square"] for job in jobs]

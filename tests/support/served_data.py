"""Steps with slots for data that workers of tests serve."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from broker_jobs import InputData, OutputCollection, OutputData, Slot, step


@step(name="count", version="1.2.0")
def simulate(x: float, mesh: InputData, out: OutputData, more: list[InputData] = [], note: InputData | None = None) -> dict[str, int]:  # noqa: B006
    """Count the lines of a mesh."""
    with mesh.open() as file:
        lines = sum(1 for _ in file)
    out.name, out.media_type = "result.csv", "text/csv"
    out.tags.append("made")
    with out.open("w") as file:
        file.write(f"{x:g},{lines}" + "".join(each.text() for each in more))
    return {"lines": lines, "noted": note is not None}


@step(version="1.0.0")
def split(
    text: Annotated[InputData, Slot(media_type="text/*", title="The text")],
    parts: Annotated[OutputCollection, Slot(media_type="text/plain", least=1, most=12)],
    nothing: OutputData,
) -> int:
    """Split a text into its lines."""
    with text.path() as path:
        for number, line in enumerate(path.read_text().splitlines()):
            parts.new(f"part{number}.txt").write(line)
    return len(parts.made)


@step(version="1.0.0")
def slow(out: OutputData, go: str) -> None:
    """Write a little, and the rest later."""
    with out.open() as file:
        file.write(b"so far")
        file.flush()
        while not Path(go).exists():
            time.sleep(0.005)
        file.write(b", and the rest")


@step(version="1.0.0")
def spoil(out: OutputData, how: str) -> None:
    """Make something, and spoil it."""
    out.write("something")
    match how:
        case "raise":
            raise ValueError("no")
        case "name":
            out.name = "../etc/passwd"
        case "type":
            out.media_type = "nonsense"
        case _:
            out.tags.append(" blank ")


@step(version="1.0.0")
def picture(out: Annotated[OutputData, Slot(media_type="image/png")], kind: str) -> str:
    """Make a picture."""
    out.media_type = kind
    return out.name

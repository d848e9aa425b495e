"""Why a task waits, as a table, as JSON, or in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from broker_jobs.cli import show
from broker_jobs.cli.options import OutputFormat, out
from broker_jobs.core.quantities import shown_amount

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Explanation, Shortage, VariantFit


def explanation(found: Explanation, output: OutputFormat) -> None:
    """Reasons first, then the workers, a line for each way to run the task there."""
    if output is OutputFormat.json:
        show.write_json(show.as_json(found))
        return
    if output is OutputFormat.quiet:
        out.out(found.state.value)
        return
    out.print(show.state(found.state.value))
    for reason in found.reasons:
        out.print(Text(f"  {reason}"))
    if not found.workers:
        return
    out.print()
    out.print(Text(f"asks for {found.asks}", style="dim"))
    variants = found.asks.split(" or ")
    table = show.new_table("worker", "group", "state", *(["variant"] if len(variants) > 1 else []), "could run it", "short of")
    for worker in found.workers:
        for number, fit in enumerate(worker.variants):
            named = [Text(f"{number + 1}: {variants[number]}")] if len(variants) > 1 else []
            shortages = Text(", ".join(map(_shortage, fit.short)))
            table.add_row(worker.worker, worker.group, show.state(worker.state), *named, _verdict(fit, holds=worker.holds), shortages)
    show.print_table(table)


def _verdict(fit: VariantFit, *, holds: bool) -> Text:
    if holds:
        return Text("has it", style="green")
    if fit.now:
        return Text("now", style="green")
    return Text("when it is free", style="yellow") if fit.ever else Text("never", style="bold red")


def _shortage(short: Shortage) -> str:
    """What is wanted, and what is there."""
    if short.resource == "lifetime":
        return f"lifetime: {short.wanted / 1000:g} s wanted, {short.has / 1000:.0f} s left"
    if short.resource.startswith("only "):
        return f"it takes tasks with {short.resource.removeprefix('only ')} alone"
    if " " in short.resource:
        return f"{short.resource}: it is not served there"
    wanted = "all" if not short.wanted else _amount(short.resource, short.wanted)
    return f"{short.resource}: {wanted} wanted, {_amount(short.resource, short.free)} free of {_amount(short.resource, short.has)}"


def _amount(resource: str, value: int) -> str:
    return f"{value / 2**30:.3g} GiB" if resource == "memory" else shown_amount(value)

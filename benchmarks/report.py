"""What was measured, as a table on the terminal, as JSON, and as a page."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.table import Table

from benchmarks.judge import judge, ratio, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.case import Case, Figure, Side
    from benchmarks.judge import Verdict
    from benchmarks.run import Outcome

MANY: Final = 3
MARKS: Final = {True: "reached", False: "missed", None: "open"}


@dataclass(frozen=True, slots=True)
class Result:
    """A case and what came of it.

    Attributes:
        load: of the machine before it
    """

    case: Case
    outcomes: Mapping[str, Outcome]
    load: float

    @property
    def verdicts(self) -> list[Verdict]:
        """Of all targets."""
        return [judge(self.case, self.outcomes, target) for target in self.case.targets]

    def table(self) -> list[list[str]]:
        """Heads, then rows: a side a row, or where there are many figures, a figure a row."""
        sides = [side for side in self.case.sides if self.outcomes[side.name].measures or self.outcomes[side.name].trouble]
        columns = [
            ["", *(side.name for side in sides)],
            ["tasks", *(self._tasks(side) for side in sides)],
            *([figure.unit, *(self._cell(side, figure) for side in sides)] for figure in self.case.figures),
            ["ours is better by", *(self._better(side) for side in sides)],
        ]
        shown = [column for column in columns if any(column[1:])]
        return shown if len(self.case.figures) > MANY else [list(row) for row in zip(*shown, strict=True)]

    def _tasks(self, side: Side) -> str:
        measures = self.outcomes[side.name].measures
        return f"{measures[0].tasks:,}" if measures else "failed"

    def _cell(self, side: Side, figure: Figure) -> str:
        found = spread(self.outcomes[side.name], figure.key)
        if found is None:
            return ""
        median, least, most = (f"{value:,.{figure.digits}f}" for value in (found.median, found.least, found.most))
        return median if least == most else f"{median} ({least}–{most})"

    def _better(self, side: Side) -> str:
        better = ratio(self.case, self.outcomes, side)
        return "" if better is None else f"{better:,.2f} ×"


def terminal(result: Result) -> Table:
    """For people who wait."""
    heads, *rows = result.table()
    table = Table(title=f"{result.case.name}: {result.case.title}", title_justify="left", box=None)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def notes(result: Result) -> list[str]:
    """What stands below the table: what went wrong, what came of the targets, what each side promises."""
    troubles = [f"{name}: {outcome.trouble}" for name, outcome in result.outcomes.items() if outcome.trouble]
    verdicts = [f"{MARKS[verdict.reached]}: {verdict.wanted}; {verdict.found}" for verdict in result.verdicts]
    return [*troubles, *verdicts, *(f"{', '.join(names)}: {safety}." for safety, names in _safety([result]).items())]


def write(folder: Path, machine: Mapping[str, str], results: Sequence[Result], command: str) -> None:
    """``results.json`` and ``RESULTS.md``."""
    cases = [
        {
            "name": result.case.name,
            "title": result.case.title,
            "load": round(result.load, 2),
            "sides": {
                name: {"rounds": [dataclasses.asdict(measure) for measure in outcome.measures], "trouble": outcome.trouble}
                for name, outcome in result.outcomes.items()
            },
            "targets": [dataclasses.asdict(verdict) for verdict in result.verdicts],
        }
        for result in results
    ]
    data = {"command": command, "machine": dict(machine), "cases": cases}
    (folder / "results.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text("\n".join(_page(machine, results, command)) + "\n", encoding="utf-8")


def _page(machine: Mapping[str, str], results: Sequence[Result], command: str) -> Iterator[str]:
    yield "# Results\n"
    yield f"Written by `{command}`; how to read it: [docs/performance.md](../docs/performance.md).\n"
    yield from _table(["", ""], [[name, value] for name, value in machine.items()])
    yield "Medians of all rounds, with least and most. *Tasks* are those of the measured step: a slower system does fewer.\n"
    yield "## Targets\n"
    rows = [[result.case.title, verdict.wanted, verdict.found, MARKS[verdict.reached]] for result in results for verdict in result.verdicts]
    yield from _table(["what", "wanted", "found", ""], rows)
    for result in results:
        yield f"## {result.case.name}: {result.case.title}\n"
        yield f"Counted: {result.case.counted}. Load of the machine before it: {result.load:.1f}.\n"
        heads, *rows = result.table()
        yield from _table(heads, rows)
        for name, outcome in result.outcomes.items():
            if outcome.trouble:
                yield f"- {name}: {outcome.trouble}"
        yield ""
    yield "## What each promises, and how it was set up\n"
    for safety, names in _safety(results).items():
        yield f"- {'; '.join(f'**{name}**' for name in names)}: {safety}."


def _safety(results: Iterable[Result]) -> dict[str, list[str]]:
    """Names of sides by what they promise."""
    found: dict[str, list[str]] = {}
    for result in results:
        for side in result.case.sides:
            names = found.setdefault(side.safety, [])
            if side.name not in names:
                names.append(side.name)
    found.pop("", None)
    return found


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""

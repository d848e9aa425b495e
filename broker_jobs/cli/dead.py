"""``broker-jobs dead``: the messages that nobody could read, each with its reason."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from broker_jobs.broker.letter import AT, EXCHANGE, KEY, QUEUE, REASON
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.cli.operating import YesOption, be_sure, operate, publish
from broker_jobs.cli.options import WORK_FAILED, NamespaceOption, OutputFormat, OutputOption, UrlOption, err, exit_codes, out
from broker_jobs.cli.show import first_line, new_table, print_table, when, write_json
from broker_jobs.config import resolve
from broker_jobs.errors import LookupFailed, MessageError, ValidationError
from broker_jobs.wire.topology import Topology
from broker_jobs.wire.way_back import way_back

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from broker_jobs.broker.port import Browsing, Letter, OperatedBroker
    from broker_jobs.config import Settings

MOST: Final = 2_000
"""So many, the oldest, are looked through for an id: the broker hands them over with their bytes."""
_SHOWN_BYTES: Final = 256
_LONGEST_TIME: Final = 15
_UNPRINTABLE: Final = re.compile("[^ -~]")

app = typer.Typer(no_args_is_help=True, help="Messages that nobody could read.")

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="As dead list shows it, or the beginning of it.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", metavar="", help=f"Every one, up to {MOST:,}.")]


@dataclass(frozen=True, slots=True)
class _Dead:
    """A dead letter, and where it was.

    Attributes:
        id: made of what it is, where it was and since when it is one: the same at each look
        at_ms: since when; None where the broker itself gave it up
    """

    id: str
    letter: Letter
    queue: str
    exchange: str
    key: str
    reason: str
    at_ms: int | None

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "id": self.id,
            "queue": self.queue,
            "exchange": self.exchange,
            "key": self.key,
            "reason": self.reason,
            "at_ms": self.at_ms,
            "bytes": len(self.letter.body),
        }


def _dead(letter: Letter) -> _Dead:
    queue, exchange, key, reason = (letter.headers.get(name, "") for name in (QUEUE, EXCHANGE, KEY, REASON))
    at = letter.headers.get(AT, "")
    known = "\0".join((queue, exchange, key or letter.key, reason, at)).encode(errors="replace")
    number = hashlib.sha256(known + b"\0" + letter.body).hexdigest()[:8]
    return _Dead(
        number, letter, queue, exchange, key or letter.key, reason, int(at) if at.isdecimal() and len(at) <= _LONGEST_TIME else None
    )


def _all(browsing: Browsing) -> list[_Dead]:
    """The oldest first, whatever order the queue has by now; those of which nobody knows the time are the very first."""
    return sorted(map(_dead, browsing.letters), key=lambda one: one.at_ms or 0)


@app.command("list")
def list_letters(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=MOST, help="At most so many, the oldest.")] = 100,
) -> None:
    """List dead letters, the oldest first, with the queue in which each was and why nobody could read it."""
    with exit_codes():
        settings = resolve(url, namespace)
        found, there = operate(settings, partial(_look, names=Topology(settings.namespace)))
        found, more = found[:limit], there - min(limit, len(found))
        if output is OutputFormat.quiet:
            for one in found:
                out.out(one.id)
        elif output is OutputFormat.json:
            write_json([one.as_json() for one in found])
        elif not found:
            out.print("[dim]no dead letters[/]")
        else:
            table = new_table("id", "since", "bytes", "was in", "why")
            for one in found:
                table.add_row(one.id, when(one.at_ms), f"{len(one.letter.body):,}", Text(one.queue or "?"), Text(first_line(one.reason)))
            print_table(table)
            if more:
                err.print(f"[dim]and {more:,} more: --limit {min(MOST, limit + more)}[/]")


@app.command("show")
def show(
    number: Annotated[str, typer.Argument(metavar="ID", help="As dead list shows it, or the beginning of it.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show a dead letter: why it is one, where it was, what it says as far as it can be read, and whether it would be taken now."""
    with exit_codes():
        settings = resolve(url, namespace)
        names = Topology(settings.namespace)
        found, _ = operate(settings, partial(_look, names=names))
        one = _chosen(found, [number], everything=False)[0]
        refused = _refused(one, settings, names)
        message = _said(one, settings)
        if output is OutputFormat.quiet:
            out.out(one.id)
        elif output is OutputFormat.json:
            body = base64.b64encode(one.letter.body).decode()
            write_json({**one.as_json(), "message": message, "refused": refused, "body_base64": body})
        else:
            grid = Table.grid(padding=(0, 2))
            for label, value in (
                ("id", one.id),
                ("why", one.reason or "?"),
                ("since", when(one.at_ms) or "?"),
                ("was in", one.queue or "?"),
                ("came by", f"exchange {one.exchange or '?'}, key {one.key or '?'}"),
                ("says", message or "what cannot be read"),
                ("now", f"would be refused: {refused}" if refused else f"would be taken: broker-jobs dead requeue {one.id}"),
                ("bytes", f"{len(one.letter.body):,}"),
            ):
                grid.add_row(Text(label, style="dim"), Text(value))
            out.print(grid)
            out.print(Text(_dump(one.letter.body[:_SHOWN_BYTES]), style="dim"))


@app.command("requeue")
def requeue(
    numbers: IdsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    everything: AllOption = False,
) -> None:
    """Send dead letters back to where they were.

    Only what would be taken now goes: with the signature, the sender and the place that its receiver asks for. The rest stays.
    A dead letter is removed once the broker has confirmed that it lies in its queue.
    """
    with exit_codes():
        settings = resolve(url, namespace)
        names = Topology(settings.namespace)
        settings.required_key()

        async def one_back(broker: OperatedBroker, browsing: Browsing, one: _Dead) -> str:
            refused = _refused(one, settings, names)
            way = way_back(names, one.queue, one.exchange, one.key)
            if refused or way is None:
                return f"stays: {refused}"
            (receipt,) = await publish(broker, [Outgoing(*way, one.letter.body)])
            if receipt is not Receipt.confirmed:
                return f"stays: {one.queue} is not there any more, or does not take it ({receipt.value})"
            await browsing.remove(one.letter)
            return f"is in {one.queue} again"

        _act(settings, numbers, one_back, output, everything=everything)


@app.command("drop")
def drop(
    numbers: IdsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    everything: AllOption = False,
    yes: YesOption = False,
) -> None:
    """Remove dead letters for good."""
    with exit_codes():
        settings = resolve(url, namespace)

        async def one_gone(_: OperatedBroker, browsing: Browsing, one: _Dead) -> str:
            return "dropped" if await browsing.remove(one.letter) else "stays: somebody else has it"

        _which(numbers, everything=everything)
        be_sure(f"Drop {'every dead letter' if everything else ', '.join(numbers or ())} for good?", yes=yes)
        _act(settings, numbers, one_gone, output, everything=everything)


def _act(
    settings: Settings,
    numbers: list[str] | None,
    act: Callable[[OperatedBroker, Browsing, _Dead], Awaitable[str]],
    output: OutputFormat,
    *,
    everything: bool,
) -> None:
    """Do this with each of those that were chosen, and tell; exits with 1 where one stays."""
    _which(numbers, everything=everything)
    names = Topology(settings.namespace)

    async def work(broker: OperatedBroker) -> list[tuple[_Dead, str]]:
        if await broker.depth(names.dead_name) is None:
            _chosen([], numbers or [], everything=everything)
            return []
        async with broker.browse(names.dead_name, MOST) as browsing:
            found = _all(browsing)
            return [(one, await act(broker, browsing, one)) for one in _chosen(found, numbers or [], everything=everything)]

    done = operate(settings, work)
    stay = [one for one, what in done if what.startswith("stays")]
    if output is OutputFormat.json:
        write_json([{**one.as_json(), "done": one not in stay, "text": what} for one, what in done])
    elif output is OutputFormat.quiet:
        for one, _ in done:
            if one not in stay:
                out.out(one.id)
    elif not done:
        out.print("[dim]no dead letters[/]")
    else:
        for one, what in done:
            out.print(Text(f"{one.id} {what}", style="yellow" if one in stay else ""), soft_wrap=True)
    if stay:
        sys.exit(WORK_FAILED)


async def _look(broker: OperatedBroker, names: Topology) -> tuple[list[_Dead], int]:
    """Dead letters, the oldest first, and how many there are. To look at fewer would change their order, of which only we know the time."""
    depth = await broker.depth(names.dead_name)
    if depth is None:
        return [], 0
    async with broker.browse(names.dead_name, MOST) as browsing:
        found = _all(browsing)
    return found, max(depth.ready, len(found))


def _which(numbers: Sequence[str] | None, *, everything: bool) -> None:
    if bool(numbers) == everything:
        raise typer.BadParameter("say which: ids, or --all")


def _chosen(found: Sequence[_Dead], numbers: Sequence[str], *, everything: bool) -> list[_Dead]:
    """Those with these ids; equal messages have the same one."""
    if everything:
        return list(found)
    chosen: dict[int, _Dead] = {}
    for number in numbers:
        fitting = [one for one in found if one.id.startswith(number.lower())]
        if not fitting:
            raise LookupFailed(f"there is no dead letter {number}; broker-jobs dead list shows those that are there")
        if len({one.id for one in fitting}) > 1:
            raise ValidationError(f"several dead letters begin with {number}: {', '.join(sorted({one.id for one in fitting}))}")
        chosen |= {one.letter.number: one for one in fitting}
    return list(chosen.values())


def _refused(one: _Dead, settings: Settings, names: Topology) -> str:
    """Why its receiver would refuse it now, or an empty text: it is asked what the receiver asks."""
    from broker_jobs.coordinator.admission import admit
    from broker_jobs.wire.signing import Signer
    from broker_jobs_worker.intake import read_chunk, read_control

    if way_back(names, one.queue, one.exchange, one.key) is None:
        return "nobody knows where it came from" if not one.queue else f"there is no way back to {one.queue}"
    if settings.key is None:
        return "there is no key here to check it with"
    signer = Signer(settings.namespace, settings.key)
    name = names.rest_of(one.queue) or ""
    kind, _, rest = name.partition(".")
    try:
        match kind:
            case "ledger":
                admit(signer.open(one.letter.body), names, one.exchange, one.key, int(rest))
            case "task":
                read_chunk(one.letter.body, names.queue_name(name), signer, names)
            case "control":
                read_control(one.letter.body, signer)
            case _:
                signer.open(one.letter.body)
    except MessageError as error:
        return str(error)
    return ""


def _said(one: _Dead, settings: Settings) -> str:
    """What kind of message it is and who signed it, where that can be read."""
    from broker_jobs.wire.signing import Signer

    if settings.key is None:
        return ""
    try:
        opened = Signer(settings.namespace, settings.key).open(one.letter.body)
    except MessageError:
        return ""
    return f"{type(opened.message).__name__} of a {opened.role.value}"


def _dump(data: bytes) -> str:
    """Bytes as text, where they are some, in lines of 16."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        lines.append(f"{part.hex(' '):<47}  {_UNPRINTABLE.sub('.', part.decode('latin-1'))}")
    return "\n".join(lines)

"""``broker-jobs queue``: the queues of a namespace. AMQP alone is spoken: no plugin of the broker is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from broker_jobs.cli.operating import YesOption, be_sure, no_queue, operate, whole_name
from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, UrlOption, connect, err, exit_codes, out
from broker_jobs.cli.show import new_table, print_table, write_json
from broker_jobs.core.spec import Lane
from broker_jobs.errors import CoordinatorUnavailable, SigningKeyMissing, ValidationError
from broker_jobs.ids import MOST_PARTITIONS
from broker_jobs.wire.way_back import way_back

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.broker.port import OperatedBroker
    from broker_jobs.wire.topology import Queue, Topology

app = typer.Typer(no_args_is_help=True, help="The queues at the broker.")

_NAME: Final = "Name of a queue, whole or without namespace and version, such as ledger.0."
QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE", help=_NAME, show_default=False)]
QueuesArgument = Annotated[list[str], typer.Argument(metavar="QUEUE...", help=_NAME, show_default=False)]

_LOST: Final = {
    "ledger": "Jobs that were submitted and what workers have told since are lost, unless they are recorded already.",
    "tasks": "Their tasks stay in the ledger, and come again when the coordinator looks for what nobody has.",
    "dead": "They cannot be looked at or sent back any more.",
}


@dataclass(frozen=True, slots=True)
class _Row:
    queue: str
    kind: str
    ready: int
    consumers: int


@app.command("list")
def list_queues(url: UrlOption = None, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.table) -> None:
    """List the queues that are kept for all, with what waits in them and how many consume them.

    What a consumer holds is not counted. Without coordinators, which know them, the queues of tasks are left out.
    """
    from broker_jobs.wire.topology import Topology

    with exit_codes(), connect(url, namespace, None) as client:
        names = Topology(client.settings.namespace)
        ledgers = operate(client.settings, partial(_rows, queues=map(names.ledger, range(MOST_PARTITIONS))))
        partitions = [int(row.queue.rpartition(".")[2]) for row in ledgers]
        classes = {name for partition in partitions for name in _classes(url, namespace, partition)}
        queues = [*(names.class_queue(name, lane) for name in sorted(classes) for lane in Lane), names.dead_letters()]
        _show(ledgers + operate(client.settings, partial(_rows, queues=queues)), output)


def _classes(url: str | None, namespace: str | None, partition: int) -> list[str]:
    """The classes that the coordinator of a partition knows; none where it does not say."""
    with connect(url, namespace, partition) as client:
        try:
            return [each.name for each in client.cluster().classes]
        except (CoordinatorUnavailable, SigningKeyMissing) as error:
            err.print(f"[yellow]queues of tasks are not shown:[/] {error}", soft_wrap=True)
            return []


async def _rows(broker: OperatedBroker, queues: Iterable[Queue]) -> list[_Row]:
    found = []
    for queue in queues:
        depth = await broker.depth(queue.name)
        if depth is not None:
            found.append(_Row(queue.name, queue.kind.value, depth.ready, depth.consumers))
    return found


def _show(rows: list[_Row], output: OutputFormat) -> None:
    if output is OutputFormat.quiet:
        for row in rows:
            out.out(row.queue)
    elif output is OutputFormat.json:
        write_json([{"queue": row.queue, "kind": row.kind, "ready": row.ready, "consumers": row.consumers} for row in rows])
    elif not rows:
        out.print("[dim]no queues[/]")
    else:
        table = new_table("queue", "kind", "waiting", "consumers")
        for row in rows:
            alarming = row.ready and (row.kind == "dead" or not row.consumers)
            table.add_row(row.queue, row.kind, Text(f"{row.ready:,}", style="yellow" if alarming else ""), str(row.consumers))
        print_table(table)


@app.command("purge")
def purge(
    name: QueueArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    yes: YesOption = False,
) -> None:
    """Remove what waits in a queue. What a consumer holds stays."""
    from broker_jobs.config import resolve
    from broker_jobs.wire.topology import Topology

    with exit_codes():
        settings = resolve(url, namespace)
        names = Topology(settings.namespace)
        queue = _kept(names, whole_name(names, name))
        depth = operate(settings, lambda broker: broker.depth(queue.name))
        if depth is None:
            raise no_queue(queue.name)
        count = f"{depth.ready:,} message{'' if depth.ready == 1 else 's'}"
        be_sure(f"Remove {count} from {queue.name}? {_LOST[queue.kind.value]}", yes=yes)
        removed = operate(settings, lambda broker: broker.purge(queue.name))
        if output is OutputFormat.json:
            write_json({"queue": queue.name, "removed": removed})
        elif output is OutputFormat.table:
            out.print(f"removed from {queue.name}: {removed:,}", markup=False)


@app.command("migrate")
def migrate(
    names: QueuesArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Give queues the properties that they should have, with all that waits in them and in those of an earlier version.

    Stop what consumes them before: coordinators for a ledger, workers for tasks. Nothing is lost if this is interrupted: call it again.
    A message may come twice, which changes nothing.
    """
    from broker_jobs.config import resolve
    from broker_jobs.wire.topology import Topology

    with exit_codes():
        settings = resolve(url, namespace)
        topology = Topology(settings.namespace)
        queues = [_kept(topology, whole_name(topology, name)) for name in names]

        async def work(broker: OperatedBroker) -> list[bool]:
            await broker.declare(topology.exchanges(), [topology.dead_letters()] if topology.dead_letters() not in queues else [])
            return [await _migrate(broker, topology, queue) for queue in queues]

        changed = operate(settings, work)
        if output is OutputFormat.json:
            write_json([{"queue": queue.name, "migrated": moved} for queue, moved in zip(queues, changed, strict=True)])
        elif output is OutputFormat.table:
            for queue, moved in zip(queues, changed, strict=True):
                out.print(f"{queue.name}: {'migrated' if moved else 'as it should be already'}", markup=False)


async def _migrate(broker: OperatedBroker, topology: Topology, queue: Queue) -> bool:
    def back(exchange: str, key: str) -> tuple[str, str]:
        return way_back(topology, queue.name, exchange, key) or (topology.dead, key)

    return await broker.migrate(queue, topology.former_name(queue.name), back)


def _kept(names: Topology, name: str) -> Queue:
    """The queue of this name; `ValidationError` where it is none that is kept for all."""
    queue = names.kept(name)
    if queue is None:
        those = f"{names.ledger_name(0)}, {names.queue_name('task.CLASS.LANE')} and {names.dead_name}"
        raise ValidationError(f"{name} is no queue that is kept for all: those are {those}")
    return queue

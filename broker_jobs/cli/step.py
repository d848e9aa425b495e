"""``broker-jobs step``: the steps that workers have announced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, PartitionOption, UrlOption, connect, exit_codes, out
from broker_jobs.cli.show import as_json, first_line, new_table, print_table, when, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.core.data import SlotSpec
    from broker_jobs.wire.messages import KnownStep

app = typer.Typer(no_args_is_help=True, help="The named, versioned steps that workers serve.")

_NOBODY = "[yellow]no worker has announced a step; start one with:[/] broker-jobs worker start --steps MODULE"


@app.command("list")
def list_steps(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only these: a name, or a pattern such as 'sim*'.", show_default=False)] = "*",
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only steps with this tag; may be given several times.", show_default=False)
    ] = None,
) -> None:
    """List the steps that workers have announced, with those workers that serve them now."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = client.steps(name, tags=tag or ())
        if output is OutputFormat.quiet:
            for one in found:
                out.out(str(one.spec))
        elif output is OutputFormat.json:
            write_json([_brief(one) for one in found])
        elif not found:
            out.print(_NOBODY if name == "*" and not tag else "[yellow]no step fits[/]")
        else:
            _table(found)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a step.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    version: Annotated[
        str,
        typer.Option(
            metavar="VERSION",
            help="A version such as 1.2.0, or a range such as ^1.0, ~1.2 or '>=1.0 <2.1', of which the latest is shown.",
        ),
    ] = "*",
) -> None:
    """Show a step: what it takes, what it returns, and who serves it.

    Only a whole version finds pre-releases, and what is deprecated.
    """
    with exit_codes(), connect(url, namespace, partition) as client:
        found = client.find_step(name, version)
        if output is OutputFormat.quiet:
            out.out(str(found.spec))
        elif output is OutputFormat.json:
            spec = found.spec
            more = {"description": spec.description, "parameters": json.loads(spec.parameters), "returns": json.loads(spec.returns)}
            slots = {"inputs": [as_json(slot) for slot in spec.inputs], "outputs": [as_json(slot) for slot in spec.outputs]}
            write_json(_brief(found) | more | slots)
        else:
            _details(found)


def _brief(one: KnownStep) -> dict[str, object]:
    spec = one.spec
    return {
        "name": spec.name,
        "version": str(spec.version),
        "title": spec.title,
        "tags": list(spec.tags),
        "deprecated": spec.deprecated,
        "workers": list(one.workers),
        "announced_ms": one.announced_ms,
    }


def _table(found: Sequence[KnownStep]) -> None:
    tags = any(one.spec.tags for one in found)
    table = new_table("step", "version", "workers", *(["tags"] if tags else []), "title")
    for one in found:
        spec = one.spec
        deprecated = spec.deprecated is not None
        title = Text(f"deprecated: {first_line(spec.deprecated or '')}", style="yellow") if deprecated else Text(first_line(spec.title))
        workers = Text(str(len(one.workers)), style="" if one.workers else "yellow")
        table.add_row(spec.name, str(spec.version), workers, *([Text(", ".join(spec.tags))] if tags else []), title)
    print_table(table)


def _details(one: KnownStep) -> None:
    spec = one.spec
    grid = Table.grid(padding=(0, 2))
    rows: list[tuple[str, str | Text]] = [
        ("step", Text(str(spec), style="bold")),
        ("title", Text(spec.title)),
        ("deprecated", Text(spec.deprecated or "", style="yellow")),
        ("tags", Text(", ".join(spec.tags))),
        ("workers", ", ".join(one.workers) or Text("none is there that serves it", style="yellow")),
        ("announced", when(one.announced_ms)),
        ("returns", Text(_kind(json.loads(spec.returns), json.loads(spec.returns)))),
    ]
    for label, value in rows:
        if value:
            grid.add_row(Text(label, style="dim"), value)
    out.print(grid)
    if spec.description:
        out.print()
        out.print(Text(spec.description))
    schema = json.loads(spec.parameters)
    if schema.get("properties"):
        out.print()
        table = new_table("parameter", "type", "default", "what")
        for name, part in schema["properties"].items():
            required = "default" not in part
            default = Text("must be given", style="dim") if required else Text(json.dumps(part["default"], ensure_ascii=False))
            table.add_row(Text(name), Text(_kind(part, schema)), default, Text(part.get("description", "")))
        print_table(table)
    for label, slots in (("input", spec.inputs), ("output", spec.outputs)):
        if slots:
            out.print()
            table = new_table(label, "media type", "how many", "what")
            for slot in slots:
                what = ": ".join(filter(None, (slot.title, slot.description)))
                table.add_row(Text(slot.name), Text(slot.media_type), _how_many(slot), Text(what))
            print_table(table)


def _how_many(slot: SlotSpec) -> str:
    if slot.most is None:
        return f"{slot.least} or more"
    return str(slot.most) if slot.least == slot.most else f"{slot.least} to {slot.most}"


def _kind(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a part of a schema allows, in few words."""
    if "$ref" in part:
        found = schema.get("$defs", {}).get(part["$ref"].rpartition("/")[2], {})
        return str(found.get("title", "object")) if "properties" in found else _kind(found, schema)
    if "enum" in part:
        return " | ".join(json.dumps(each, ensure_ascii=False) for each in part["enum"])
    if "anyOf" in part:
        return " | ".join(_kind(each, schema) for each in part["anyOf"])
    kind = part.get("type", "anything")
    if kind == "array" and isinstance(part.get("items"), dict):
        return f"array of {_kind(part['items'], schema)}"
    return f"{kind} ({part['format']})" if "format" in part else str(kind)

"""Options that stand in a script: ``#BJ --cpus 4`` in its comment lines, before the first line of code."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK: Final = "#BJ"
LOOKED_AT: Final = 32 * 1024
"""Bytes of a script in which directives are looked for."""

_STDIN: Final = "broker_jobs.standard_input"


class Directives(StrEnum):
    """Where directives are looked for."""

    auto = "auto"
    """In the program, where its name ends with ``.sh``."""
    file = "file"
    """In the program."""
    stdin = "stdin"
    """In the standard input that the program will get."""
    off = "off"


class DirectedCommand(TyperCommand):
    """A command that takes options from directives too: those of the command line win, those that may be given several times add up."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # Typer hides the wider one
        """Parse the command line, after the directives of the script that it names."""
        tokens = [] if ctx.resilient_parsing or "--help" in args[:1] else self._directives(ctx, args)
        return super().parse_args(ctx, [*tokens, *args])

    def _directives(self, ctx: typer.Context, args: Sequence[str]) -> list[str]:
        options, _, _ = self.make_parser(ctx).parse_args(list(args))
        program: Sequence[str] = options.get("program") or ()
        mode = options.get("directives", Directives.auto)
        match mode:
            case Directives.file if program:
                text, place = _head(Path(program[0]), must=True), program[0]
            case Directives.auto if program and program[0].endswith(".sh"):
                text, place = _head(Path(program[0]), must=False), program[0]
            case Directives.stdin:
                if not options.get("stdin"):
                    raise typer.BadParameter("--directives stdin reads what --stdin hands on: give --stdin too", ctx)
                text, place = standard_input(ctx)[:LOOKED_AT].decode(errors="replace"), "standard input"
            case _:
                return []
        tokens = found_in(text, place)
        if tokens:
            self._check(ctx, tokens, place)
        return tokens

    def _check(self, ctx: typer.Context, tokens: Sequence[str], place: str) -> None:
        """Directives are options of this command, and nothing else."""
        try:
            options, _, _ = self.make_parser(ctx).parse_args([*tokens, MARK])
        except typer.TyperException as error:
            raise typer.BadParameter(f"in the directives of {place}: {error}", ctx) from error
        program = tuple(options.get("program") or ())
        if not program:
            raise typer.BadParameter(f"in the directives of {place}: {tokens[-1]} requires an argument", ctx)
        if program != (MARK,):
            raise typer.BadParameter(f"in the directives of {place}: {program[0]!r} is no option", ctx)
        if "directives" in options:
            raise typer.BadParameter(f"in the directives of {place}: --directives can only be given on the command line", ctx)


def found_in(text: str, place: str) -> list[str]:
    """The directives in the comment lines at the beginning of a script, taken apart as a shell does."""
    tokens: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            break
        mark, _, rest = stripped.partition(" ")
        if mark == MARK:
            try:
                tokens += shlex.split(rest)
            except ValueError as error:
                raise typer.BadParameter(f"in the directives of {place}, line {number}: {error}") from None
    return tokens


def standard_input(ctx: typer.Context) -> bytes:
    """All of the standard input of this command, read once."""
    if _STDIN not in ctx.meta:
        ctx.meta[_STDIN] = sys.stdin.buffer.read()
    data: bytes = ctx.meta[_STDIN]
    return data


def interpreted(program: Sequence[str], mode: Directives) -> list[str]:
    """The program with the interpreter that the first line of its script names, so that the script need not be executable."""
    script = Path(program[0])
    if mode not in {Directives.auto, Directives.file} or (mode is Directives.auto and script.suffix != ".sh") or not script.is_file():
        return list(program)
    first = _head(script, must=False).partition("\n")[0]
    if not first.startswith("#!"):
        return [str(script.absolute()), *program[1:]]
    # As the kernel does it: the interpreter, and all of the rest of the line as one argument.
    interpreter, _, argument = first.removeprefix("#!").strip().partition(" ")
    return [interpreter, *([argument.strip()] if argument.strip() else []), str(script.absolute()), *program[1:]]


def _head(path: Path, *, must: bool) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LOOKED_AT).decode(errors="replace")
    except OSError as error:
        if must:
            raise typer.BadParameter(f"{path} cannot be read for its directives: {error.strerror}") from None
        return ""

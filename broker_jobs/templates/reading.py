"""Templates from a TOML file.

[[template]]
name = "simulate"
type = "program"

[template.variables]
DATA = "$(APP_WORKSPACE)/data"

[template.parameters]
argv = ["simulate", "$(DATA)/mesh.vtk"]
time_limit = "1h"
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.errors import ValidationError
from broker_jobs.templates.template import JobTemplate

if TYPE_CHECKING:
    import os

_HEADER: Final = re.compile(r"\s*\[\[\s*template\s*\]\]")
_KEYS: Final = ("name", "type", "parameters", "variables")


def load_templates(path: str | os.PathLike[str]) -> list[JobTemplate]:
    """The templates of a file, in their order.

    Args:
        path: of a TOML file with a ``[[template]]`` for each; `broker_jobs.templates.reading` shows one

    Raises:
        ValidationError: the file cannot be read, or something in it is wrong; the text says where
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ValidationError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"{file} is no TOML: {error}") from None
    rows = tables.pop("template", None)
    if tables or not isinstance(rows, list):
        raise ValidationError(f"{file} must hold [[template]] tables" + (f", and not {', '.join(map(repr, tables))}" if tables else ""))
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _HEADER.match(line)]
    # Tables that are written in another way (`template = [{…}]`) are counted instead.
    exact = len(lines) == len(rows)
    found: dict[str, JobTemplate] = {}
    for index, row in enumerate(rows):
        place = f"{file}, line {lines[index]}" if exact else f"{file}, template {index + 1}"
        template = _template(row, place)
        if template.name in found:
            raise ValidationError(f"{place}: there is a template {template.name!r} already")
        found[template.name] = template
    return list(found.values())


def _template(row: Any, place: str) -> JobTemplate:
    if not isinstance(row, dict):
        raise ValidationError(f"{place}: a template is a table, written [[template]]")
    for key in row:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            raise ValidationError(
                f"{place}: unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}")
            )
    if "name" not in row:
        raise ValidationError(f"{place}: a template needs a name")
    try:
        return JobTemplate(**row)
    except ValidationError as error:
        raise ValidationError(f"{place}: {error}") from None

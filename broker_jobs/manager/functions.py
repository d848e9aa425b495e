"""Functions of users by their dotted paths, since a row cannot hold a function."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, Final

from broker_jobs.errors import ValidationError

Function = Callable[..., object]
_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def path_of(given: Any, what: str) -> str:
    """The dotted path of a function, or a path as it is.

    Args:
        given: a function that can be imported, or a path such as ``"mypkg.results.process"``; it is imported when it is needed
        what: it is for

    Raises:
        ValidationError: it is neither
    """
    if isinstance(given, str):
        if not _PATH.fullmatch(given):
            raise ValidationError(f"{what} must be a function or a dotted path such as 'mypkg.results.process', not {given!r}")
        return given
    if not callable(given):
        raise ValidationError(f"{what} must be a function or a dotted path such as 'mypkg.results.process', not {given!r}")
    path = f"{getattr(given, '__module__', None)}.{getattr(given, '__qualname__', None)}"
    # What cannot be found again could not be called by another process, or tomorrow.
    if not _PATH.fullmatch(path) or function(path) is not given:
        raise ValidationError(f"{what} must be a function that can be imported: define {given!r} at the top of a module")
    return path


def function(path: str) -> Function:
    """The function at a dotted path, imported here.

    Raises:
        ValidationError: it cannot be imported; the text says why
    """
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            # A module that is missing further down is the problem of the module that needs it.
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise ValidationError(f"{path} cannot be imported here: {error}") from error
            continue
        except Exception as error:  # whatever a module of a user does when it is imported
            raise ValidationError(f"{path} cannot be imported here: {type(error).__name__}: {error}") from error
        for part in parts[count:]:
            found = getattr(found, part, None)
        if callable(found):
            return found  # type: ignore[no-any-return] # it is called with one argument, and what it returns is ignored
        raise ValidationError(f"{path} cannot be imported here: {name} has no function {'.'.join(parts[count:])}")
    raise ValidationError(f"{path} cannot be imported here: there is no module {parts[0]}")

"""Whether a function is still what it was when it was pickled: what its pickle is made of, where that can be seen cheaply.

A function of ``__main__`` travels whole, with the values of the globals that it uses, and that takes longer than everything else of a
call. Most functions are made of parts that cannot change; what these are is told here, and as long as they are the same, so is the pickle.
"""

from __future__ import annotations

import sys
import types
from operator import is_
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Parts = tuple[object, ...]

_FIXED: Final = frozenset({type(None), bool, int, float, complex, str, bytes, types.BuiltinFunctionType})
_ABSENT: Final = object()


def parts(function: Callable[..., object]) -> Parts | None:
    """What the pickle of a function is made of; None where something of that may change unseen, as a list does."""
    found: list[object] = []
    return tuple(found) if type(function) is types.FunctionType and _collect(function, found, set()) else None


def same(before: Parts, now: Parts | None) -> bool:
    """Whether these are the very same parts: ``1`` and ``True`` are equal, but not the same."""
    return now is not None and len(before) == len(now) and all(map(is_, before, now))


def _collect(function: types.FunctionType, found: list[object], seen: set[types.FunctionType]) -> bool:
    """Add the parts of a function, never a function itself: they are kept as long as it is; whether none can change unseen."""
    code, module = function.__code__, sys.modules.get(function.__module__)
    found += (code, module, function.__qualname__, function.__doc__)
    seen.add(function)
    if module is None:
        return False
    if function.__module__ != "__main__" and getattr(module, function.__qualname__, None) is function:
        return True  # it travels as a name
    defaults = function.__defaults__ or ()
    if function.__closure__ or function.__kwdefaults__ or function.__dict__ or not _FIXED.issuperset(map(type, defaults)):
        return False
    found.append(function.__defaults__)
    for name in _names(code):
        value = function.__globals__.get(name, _ABSENT)
        if type(value) is types.FunctionType:
            if value not in seen and not _collect(value, found, seen):
                return False
        elif type(value) in _FIXED or value is _ABSENT or _is_plain_module(value):
            found.append(value)
        else:
            return False
    return True


def _names(code: types.CodeType) -> Iterator[str]:
    """Every name in a function and in those inside it that may be a global."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names(constant)


def _is_plain_module(value: object) -> bool:
    """Whether this is a module that travels as a name; with a package, modules of it travel that were imported meanwhile."""
    return type(value) is types.ModuleType and sys.modules.get(value.__name__) is value and not hasattr(value, "__path__")

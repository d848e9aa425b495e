"""The exceptions: each is in the tree of the module's docstring, at its place, and has a message of its own."""

from __future__ import annotations

import inspect
import re

from broker_jobs import errors

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, BaseException)}
BRANCH = re.compile(r"^    (?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?: \((?P<builtin>\w+)\))?", re.MULTILINE)


def _tree() -> dict[str, tuple[str, ...]]:
    """Bases of each exception, as the docstring draws them."""
    bases: dict[str, tuple[str, ...]] = {}
    above: list[str] = []
    for match in BRANCH.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4
        del above[depth:]
        parent = above[-1] if above else "Exception"
        bases[match["name"]] = (parent, match["builtin"]) if match["builtin"] else (parent,)
        above.append(match["name"])
    return bases


def test_the_tree_shows_every_exception_below_its_base() -> None:
    assert {name: tuple(base.__name__ for base in kind.__bases__) for name, kind in CLASSES.items()} == _tree()


def test_all_of_them_are_exported() -> None:
    assert list(errors.__all__) == sorted(CLASSES)


def test_the_docstring_is_the_default_message() -> None:
    for kind in CLASSES.values():
        assert str(kind()) == (kind.__doc__ or "").splitlines()[0]

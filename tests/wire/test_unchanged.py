"""Functions that are not pickled again: only those of which nothing can have changed unseen."""

from __future__ import annotations

import builtins
import gc
import math
import pickle
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.wire import payload, unchanged

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Function


def function(source: str, **names: object) -> Any:
    """A function of ``__main__``, which travels whole."""
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, **names}
    exec(source, space)
    made = space["f"]
    made.__module__ = "__main__"
    return made


def value(sent: tuple[str, Function], *args: object) -> object:
    return pickle.loads(sent[1].data)(*args)


KEPT = {
    "alone": function("def f(x): return [x for _ in range(2)]"),
    "a default": function("def f(x=1): return x"),
    "a module": function("def f(x): return math.floor(x)", math=math),
    "a number": function("def f(x): return x + y", y=2),
    "another function": function("def g(x): return x\ndef f(x): return g(x)"),
    "each other": function("def g(x): return f(x)\ndef f(x): return g(x)"),
    "of a module": payload.dump_function,
}
PICKLED_AGAIN = {
    "a list": function("def f(x): return y", y=[]),
    "a default list": function("def f(x=[]): return x"),
    "a class": function("class C: pass\ndef f(x): return C"),
    "a closure": function("def g():\n  y = []\n  return lambda: y\nf = g()"),
    "an attribute": function("def f(x): return x\nf.y = 1"),
    "a function with a list": function("def g(x): return y\ndef f(x): return g(x)", y=[]),
    "no function": abs,
}


@pytest.mark.parametrize("name", KEPT)
def test_a_function_of_fixed_parts_is_pickled_once(name: str) -> None:
    assert payload.dump_function(KEPT[name]) is payload.dump_function(KEPT[name])


@pytest.mark.parametrize("name", PICKLED_AGAIN)
def test_a_function_with_a_part_that_may_change_is_pickled_each_time(name: str) -> None:
    assert payload.dump_function(PICKLED_AGAIN[name]) is not payload.dump_function(PICKLED_AGAIN[name])


def test_a_part_that_was_exchanged_is_seen() -> None:
    f = function("def g(x): return x + y\ndef h(x): return x\ndef f(x, z=0): return g(h(x)) + z", y=2)
    assert value(payload.dump_function(f), 1) == 3
    f.__globals__["y"] = 3
    assert value(payload.dump_function(f), 1) == 4
    f.__globals__["y"] = 3.0
    assert repr(value(payload.dump_function(f), 1)) == "4.0"
    f.__globals__["g"] = function("def f(x): return -x")
    assert value(payload.dump_function(f), 1) == -1
    f.__defaults__ = (10,)
    assert value(payload.dump_function(f), 1) == 9
    f.__globals__["h"].__code__ = function("def f(x): return 5 * x").__code__
    assert value(payload.dump_function(f), 1) == 5
    f.__globals__["max"] = function("def f(x): return 7")
    f.__code__ = function("def f(x): return max(x)").__code__
    assert value(payload.dump_function(f), 1) == 7


def test_functions_of_equal_code_are_told_apart() -> None:
    one, two = (function("def f(x, y=1): return y") for _ in range(2))
    two.__defaults__ = (2,)
    f = function("def f(x): return one(x), two(x)", one=one, two=two)
    assert value(payload.dump_function(f), 0) == (1, 2)
    two.__defaults__ = (3,)
    assert value(payload.dump_function(f), 0) == (1, 3)


def test_what_is_kept_goes_with_its_function() -> None:
    f = function("def g(x): return f(x)\ndef f(x): return g(x)")
    payload.dump_function(f)
    gone = weakref.ref(f)
    f.__globals__.clear()
    del f
    gc.collect()
    assert gone() is None


def test_the_parts_are_never_the_function() -> None:
    found = unchanged.parts(KEPT["each other"])
    assert found
    assert not any(type(part) is types.FunctionType for part in found)

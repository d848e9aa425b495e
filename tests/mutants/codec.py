"""Bugs that could be in the codec; the properties in ``tests/wire`` must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/wire/test_hostile_messages.py tests/wire/test_codec.py"

_CODEC: Final = "broker_jobs/wire/codec.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant)
    ("accept a value of another type", _CODEC, "        raise _bad(kind.__name__, raw)\n", "        return raw\n"),
    (
        "let a wrong value of an enumeration through",
        _CODEC,
        '        except ValueError:\n            raise _Misfit(f" cannot be',
        '        except TypeError:\n            raise _Misfit(f" cannot be',
    ),
    (
        "let a refused field of a core through",
        _CODEC,
        "        except ValidationError as error:\n            raise _Misfit(",
        "        except TypeError as error:\n            raise _Misfit(",
    ),
    (
        "require fields that have a default",
        _CODEC,
        "                if default is MISSING:\n                    raise",
        "                if default is not None:\n                    raise",
    ),
    ("leave out what a message must have", _CODEC, "if part is not default and (default is MISSING or part != default):", "if part:"),
    ("fail on keys that are no texts", _CODEC, "            if type(key) is not str:\n", "            if not raw:\n"),
    (
        "read any kind of message as the first",
        _CODEC,
        "reader = readers.get(tag) if isinstance(tag, str) else None",
        "reader = next(iter(readers.values()))",
    ),
    ("fail on a kind that is no text", _CODEC, "readers.get(tag) if isinstance(tag, str) else None", "readers.get(tag)"),
)

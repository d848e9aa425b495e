"""Bugs that could be in the codec; the properties in ``tests/wire`` must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/wire/test_hostile_messages.py tests/wire/test_codec.py"

_CODEC: Final = "broker_jobs/wire/codec.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant)
    ("accept a value of another type", _CODEC, "        raise _bad(where, kind.__name__, raw)\n", "        return raw\n"),
    (
        "let a wrong value of an enumeration through",
        _CODEC,
        '        except ValueError:\n            raise DecodeError(f"{where} cannot be',
        '        except TypeError:\n            raise DecodeError(f"{where} cannot be',
    ),
    (
        "let a refused field of a core through",
        _CODEC,
        "        except ValidationError as error:\n            raise DecodeError",
        "        except TypeError as error:\n            raise DecodeError",
    ),
    ("require fields that have a default", _CODEC, "            elif default is MISSING:\n", "            else:\n"),
    ("leave out what a message must have", _CODEC, "if part is not default and (default is MISSING or part != default):", "if part:"),
    ("fail on keys that are no texts", _CODEC, "        if any(type(key) is not str for key in raw):\n", "        if not raw:\n"),
    (
        "read any kind of message as the first",
        _CODEC,
        "reader = readers.get(tag) if isinstance(tag, str) else None",
        "reader = next(iter(readers.values()))",
    ),
    ("fail on a kind that is no text", _CODEC, "readers.get(tag) if isinstance(tag, str) else None", "readers.get(tag)"),
)

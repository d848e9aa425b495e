"""Bugs that could be in the codec; the properties in ``tests/wire`` must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/wire/test_hostile_messages.py tests/wire/test_codec.py"

_CODEC: Final = "broker_jobs/wire/codec.py"
_COMPILED: Final = "broker_jobs/wire/compiled.py"
_UNCHANGED, _UNCHANGED_TESTS = "broker_jobs/wire/unchanged.py", "tests/wire/test_unchanged.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant)
    ("accept a value of another type", _COMPILED, "        raise _misfit(kind.__name__, raw)\n", "        return raw\n"),
    (
        "let a wrong value of an enumeration through",
        _COMPILED,
        '        except (KeyError, TypeError):\n            raise Misfit(f" cannot be',
        '        except TypeError:\n            raise Misfit(f" cannot be',
    ),
    (
        "let a refused field of a core through",
        _COMPILED,
        'lines += ["    except ValidationError as error:"',
        'lines += ["    except TypeError as error:"',
    ),
    (
        "require fields that have a default",
        _COMPILED,
        '        if self.default is not MISSING:\n            yield f"{indent}{part}',
        '        if self.default is None:\n            yield f"{indent}{part}',
    ),
    ("leave out what a message must have", _COMPILED, "if part is not d{self.number} and part != d{self.number}:", "if part:"),
    ("say another place than that of the fault", _COMPILED, 'yield f"{indent}at = {self.name!r}"', "yield f\"{indent}at = 'place'\""),
    ("write a class without its kind", _COMPILED, "_class(kind).tagged if", "_class(kind).write if"),
    ("fail on keys that are no texts", _COMPILED, "            if type(key) is not str:\n", "            if not raw:\n"),
    (
        "read any kind of message as the first",
        _COMPILED,
        "decoder = readers.get(tag) if type(tag) is str else None",
        "decoder = next(iter(readers.values()), None)",
    ),
    ("fail on a kind that is no text", _COMPILED, "readers.get(tag) if type(tag) is str else None", "readers.get(tag)"),
    ("fail on half of a surrogate pair", _CODEC, "    except UnicodeEncodeError:\n", "    except UnicodeDecodeError:\n"),
    ("take what is equal for the very same part", _UNCHANGED, "all(map(is_, before, now))", "before == now", _UNCHANGED_TESTS),
    (
        "not see a list that is a default",
        _UNCHANGED,
        "not _FIXED.issuperset(map(type, defaults))",
        "not defaults is defaults",
        _UNCHANGED_TESTS,
    ),
    ("not look into functions that a function calls", _UNCHANGED, "value not in seen and not", "value in seen and not", _UNCHANGED_TESTS),
)

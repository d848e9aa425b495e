"""Bugs that could be in what plugins are told, and when."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property/test_hook_order.py"

_ORDER: Final = "broker_jobs/hooks/order.py"
_CALLING, _CALLS = "broker_jobs/hooks/calling.py", "tests/unit/test_hook_calls.py"
_TELLING, _TELLING_TESTS = "broker_jobs/coordinator/telling.py", "tests/unit/test_hook_telling.py"
_PLUGINS, _PLUGINS_TESTS = "broker_jobs/hooks/plugins.py", "tests/unit/test_hook_plugins.py"
_WATCHING, _WATCHING_TESTS = "broker_jobs/client/watching.py", "tests/property/test_jobview.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant, tests that must find it)
    ("tell plugins an end again", _ORDER, "if not self.expects(number) or self._phases[number] == _OVER:", "if not self.expects(number):"),
    ("tell plugins an end without its start", _ORDER, "if begun or ending == KILLED:", "if True:"),
    ("tell plugins of a start that never was", _ORDER, "if begun or ending == KILLED:", "if begun:"),
    (
        "tell plugins of news before the submission",
        _ORDER,
        "if self._holds:\n            self._held.append(now)",
        "if False:\n            self._held.append(now)",
    ),
    ("forget what plugins were not told yet", _ORDER, "held, self._held = self._held, []", "held, self._held = [], []"),
    ("tell plugins of an attempt that is over", _ORDER, "(now.attempt, _reach(now.state)) < (attempt, _reach(state))", "False"),
    ("tell plugins what a ledger says that is behind", _ORDER, "return int(state is TaskState.running)", "return 2"),
    ("tell plugins the same news twice", _ORDER, "if seen == (attempt, state, progress, text):", "if False:"),
    ("tell plugins of other people's tasks", _ORDER, "and self._phases[number] != _NOT_OURS", ""),
    ("tell plugins the end of a job twice", _ORDER, "if self.over:", "if False:"),
    ("tell plugins again after a restart", _ORDER, "elif state in _BEGUN or attempt > 1:", "elif False:"),
    ("forget news of a task whose start was missed", _ORDER, "return [started, *self._going_on(now)]", "return [started]"),
    ("let an exception of a plugin end its thread", _CALLING, "except BaseException:", "except ZeroDivisionError:", _CALLS),
    ("wait again and again for a plugin that hangs", _CALLING, "if caller.hangs and not own:", "if False:", _CALLS),
    ("let a plugin wait for itself", _CALLING, "own = _inside.get() is caller", "own = False", _CALLS),
    ("keep old progress for a slow plugin", _CALLING, "self._latest[key] = latest\n", "self._latest.setdefault(key, latest)\n", _CALLS),
    (
        "take nothing for a no",
        _CALLING,
        "if self._call(item.hook, hook, one) is False]",
        "if not self._call(item.hook, hook, one)]",
        _CALLS,
    ),
    (
        "use the parent's thread after a fork",
        _CALLING,
        "if self._pid != os.getpid():\n            self._begin()",
        "if False:\n            self._begin()",
        _CALLS,
    ),
    ("let a plugin have hooks that there are not", _PLUGINS, "not in known and not", "in known and not", _PLUGINS_TESTS),
    ("let what is installed and broken stop the client", _PLUGINS, "except Exception:  #", "except LookupError:  #", _PLUGINS_TESTS),
    (
        "tell coordinators' plugins of calls",
        _TELLING,
        "if facts.ephemeral:\n            return",
        "if False:\n            return",
        _TELLING_TESTS,
    ),
    ("let a million moments into a batch", _TELLING, "room = MOST - len(self._moments)", "room = 10**9", _TELLING_TESTS),
    ("tell coordinators' plugins of tasks without names", _TELLING, "if name else moment", "if False else moment", _TELLING_TESTS),
    ("tell a client's plugins only what workers say", _WATCHING, "for info in changes.tasks:", "for info in ():", _WATCHING_TESTS),
    ("tell a client's plugins only what the ledger says", _WATCHING, "for item in reply.items:", "for item in ():", _WATCHING_TESTS),
    ("end a job before its tasks", _WATCHING, "(surely or not self.order.open)", "True", _WATCHING_TESTS),
)

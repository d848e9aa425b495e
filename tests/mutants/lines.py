"""Seeded bugs in lines of calls."""

from __future__ import annotations

from typing import Final

_MACHINE: Final = "worker/broker_jobs_worker/machine"
_TESTS: Final = "tests/unit/test_worker_lines.py"
_PACE, _PACE_TESTS = "broker_jobs/core/pace.py", "tests/unit/test_pace.py"
_EXECUTOR: Final = "tests/integration/test_executor_lines.py"
_LINES: Final = f"{_EXECUTOR}::test_progress_is_its_own_also_where_it_is_heard_when_all_have_run"
_OWN: Final = "test_each_program_of_a_line_has_what_is_its_own"
_SURROUNDINGS: Final = "worker/broker_jobs_worker/runners/surroundings.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant, tests that must find it)
    (
        "lines: begin one although nothing is known",
        _PACE,
        "return 1 if known is None",
        "return 50 if known is None",
        _PACE_TESTS,
    ),
    (
        "lines: forget a slow one among quick ones",
        _PACE,
        "if milliseconds > self._together_ms else",
        "if milliseconds < 0 else",
        _PACE_TESTS,
    ),
    ("lines: remember every function", _PACE, "if len(self._averages) >= MEMORY:", "if False:", _PACE_TESTS),
    (
        "lines: take all of a chunk",
        f"{_MACHINE}/worker.py",
        "return min(fitting, -(-len(bundle.waiting) // slots))",
        "return fitting",
        _TESTS,
    ),
    (
        "lines: hand over more than the executor takes",
        f"{_MACHINE}/worker.py",
        "min(self._longest_line, self._pace.fitting(sort_of(next(iter(bundle.waiting.values())).work)))",
        "self._pace.fitting(sort_of(next(iter(bundle.waiting.values())).work))",
        _TESTS,
    ),
    ("lines: let others follow what has a limit", f"{_MACHINE}/execution.py", "and all(one is None for one in watched)", "", _TESTS),
    ("lines: let others follow what runs fresh", f"{_MACHINE}/execution.py", "and options.isolation is Isolation.warm", "", _TESTS),
    ("lines: mix functions", f"{_MACHINE}/execution.py", "(one.function, one.setup,", "(other.function, one.setup,", _TESTS),
    ("lines: mix setups", f"{_MACHINE}/execution.py", "(one.function, one.setup,", "(one.function, other.setup,", _TESTS),
    ("lines: mix values", f"{_MACHINE}/execution.py", "one.setup, one.inputs)", "one.setup, other.inputs)", _TESTS),
    ("lines: mix options", f"{_MACHINE}/execution.py", "return alike and leader.options == task.options", "return alike", _TESTS),
    ("lines: mix programs", f"{_MACHINE}/execution.py", "alike = one.argv[:1] == other.argv[:1] and", "alike =", _TESTS),
    (
        "lines: let programs with files follow",
        f"{_MACHINE}/execution.py",
        " and not (other.task_dir or other.files or other.collects)",
        "",
        _TESTS,
    ),
    (
        "lines: begin them with what prints",
        f"{_MACHINE}/worker.py",
        "LINE_MS + 1 if news.stdout.size or news.stderr.size else took",
        "took",
        _TESTS,
    ),
    ("lines: give the resources back with the first", f"{_MACHINE}/holdings.py", "if line is None or not line.left:", "if True:", _TESTS),
    (
        "lines: give the resources back with the first successes",
        f"{_MACHINE}/holdings.py",
        "if allocation is not None and not line.left:",
        "if allocation is not None:",
        "tests/unit/test_worker_lines.py tests/property/test_worker_machine.py",
    ),
    (
        "lines: let a message wait for what has succeeded",
        f"{_MACHINE}/holdings.py",
        "                dues[due] = None\n                due.unfinished.discard(attempt.key)\n",
        "                dues[due] = None\n",
        "tests/unit/test_worker_lines.py",
    ),
    (
        "lines: say that all have begun together",
        f"{_MACHINE}/worker.py",
        "started_ms = (news.started_ms, *news.ended_ms[:-1])",
        "started_ms = (news.started_ms,) * len(news.ended_ms)",
        "tests/unit/test_worker_lines.py::test_what_has_only_succeeded_is_told_together",
    ),
    (
        "notes: heed them across a gap",
        "worker/broker_jobs_worker/executors/local.py",
        " and notes[0].place == running.line.begun:",
        ":",
        _LINES,
    ),
    (
        "notes: note also what has spoken",
        "worker/broker_jobs_worker/runners/child.py",
        "more and not self._spoke and isinstance(outcome, Succeeded) and self._notes",
        "more and isinstance(outcome, Succeeded) and self._notes",
        _LINES,
    ),
    (
        "notes: note also what a call of its own has said",
        "worker/broker_jobs_worker/runners/child.py",
        "more and not self._spoke and isinstance(outcome, Succeeded) and not",
        "more and isinstance(outcome, Succeeded) and not",
        _LINES,
    ),
    (
        "notes: believe what follows broken ones",
        "worker/broker_jobs_worker/executors/local.py",
        "        child.notes.broken = True\n",
        "",
        f"{_EXECUTOR}::test_a_task_that_writes_where_its_child_does_ends_its_child",
    ),
    (
        "notes: believe that a task ends twice",
        "worker/broker_jobs_worker/executors/local.py",
        "notes[0].place < running.line.begun and not",
        "False and not",
        f"{_EXECUTOR}::test_a_task_that_writes_where_its_child_does_ends_its_child",
    ),
    (
        "notes: begin anew with a part of one",
        "worker/broker_jobs_worker/executors/notes.py",
        "        del self._inbox[:place]\n",
        "        self._inbox.clear()\n",
        "tests/unit/test_notes.py",
    ),
    (
        "notes: drop what does not fit",
        "worker/broker_jobs_worker/runners/notes.py",
        "                poll.poll()\n",
        "                return\n",
        "tests/unit/test_notes.py",
    ),
    (
        "lines: believe that one which had to wait is slow",
        _PACE,
        "[: max(len(spent) - max(",
        "[max(0 * len(spent) - max(",
        _PACE_TESTS,
    ),
    (
        "lines: let long ones go on beside those who are idle",
        f"{_MACHINE}/worker.py",
        "if (stuck or long) and now",
        "if stuck and now",
        _TESTS,
    ),
    ("lines: keep the resources", f"{_MACHINE}/holdings.py", "if line is None or not line.left:", "if line is None:", _TESTS),
    (
        "lines: put what comes back behind the rest",
        f"{_MACHINE}/holdings.py",
        "bundle.waiting = {**returned, **bundle.waiting}",
        "bundle.waiting = {**bundle.waiting, **returned}",
        "tests/unit/test_worker_lines.py tests/property/test_worker_machine.py",
    ),
    ("lines: lose what comes back", f"{_MACHINE}/holdings.py", "            waiting.appendleft(bundle)\n", "            pass\n", _TESTS),
    ("lines: never ask for what waits", f"{_MACHINE}/worker.py", "        yield from self._recall(now)\n", "", _TESTS),
    (
        "lines: never ask for the last one",
        f"{_MACHINE}/worker.py",
        " and (len(line.left) > 1 or line.asked < line.moved)",
        " and len(line.left) > 1",
        _TESTS,
    ),
    ("lines: say that one has started which may wait", f"{_MACHINE}/worker.py", "as run if run.alone:", "as run:", _TESTS),
    (
        "lines: run what was canceled meanwhile",
        f"{_MACHINE}/worker.py",
        "            elif self._revoked.of(attempt.key) is not None:\n                self._have.drop(attempt)\n",
        "            elif False:\n                self._have.drop(attempt)\n",
        _TESTS,
    ),
    (
        "lines: let wait what comes back although the worker drains",
        f"{_MACHINE}/worker.py",
        "elif self.draining or self._seating",
        "elif self._seating",
        _TESTS,
    ),
    (
        "lines: run what has lost its message",
        f"{_MACHINE}/worker.py",
        "            if not attempt.dues:\n                # They died",
        "            if False:\n                # They died",
        _TESTS,
    ),
    *(
        (f"programs in lines: {what}", f"worker/broker_jobs_worker/runners/{file}.py", text, mutant, f"{_EXECUTOR}::{test}")
        for what, file, text, mutant, test in (
            (
                "tell each what the first is told",
                "program",
                "                env[name] = str(value).encode()\n",
                "                pass\n",
                _OWN,
            ),
            ("overrule the user", "program", "None if name in chosen else name.encode()", "name.encode()", _OWN),
            ("pass variables on to the next", "program", "env = self._env.copy()", "env = self._env", _OWN),
            ("forget the variables of each", "program", "        if program.env:\n", "        if False:\n", _OWN),
            (
                "do not look at what it says",
                "program",
                "return in_own_words(_execute(program, env, self._stdout, self._stderr), self._error_file)",
                "return Ending(_execute(program, env, self._stdout, self._stderr))",
                "test_a_program_of_a_line_ends_as_one_by_itself",
            ),
            (
                "take each for a success",
                "child",
                "if more and isinstance(ending.outcome, Succeeded) and self._notes",
                "if more and self._notes",
                "test_a_program_of_a_line_ends_as_one_by_itself",
            ),
            (
                "leave its processes to the next",
                "child",
                "then.executions[index]))\n        clean = _alone()\n",
                "then.executions[index]))\n        clean = True\n",
                "test_what_a_program_of_a_line_leaves_is_gone_before_the_next",
            ),
            (
                "stay in a folder that is gone",
                "child",
                "            os.chdir(self._folder)\n",
                "            os.chdir('.')\n",
                "test_programs_of_a_line_begin_in_the_folder_that_there_is_now",
            ),
        )
    ),
    (
        "client: give programs the options of those before, whatever the job has now",
        "broker_jobs/client/authoring.py",
        "if plain is None or plain[0] != here:",
        "if plain is None:",
        "tests/unit/test_authoring.py::test_programs_without_options_have_those_that_the_job_has_at_that_time",
    ),
    *(
        (
            f"surroundings: do not look at {what}",
            _SURROUNDINGS,
            text,
            mutant,
            "tests/integration/test_executor_lines.py::test_what_one_changes_the_next_does_not_see",
        )
        for what, text, mutant in (
            ("variables", "self._applied == _raw_environment\n            and ", ""),
            ("the list of arguments", "self._argv == self._arguments\n            and ", ""),
            ("the import path", "self._path == self._folders\n            and ", ""),
            ("handlers of signals", "_handlers() == self._handlers\n            and ", ""),
            ("limits", "            and not (self._limited and _limits() != self._limits)\n", ""),
            ("who asks for other limits", "        if event in _LIMITING:\n", "        if False:\n"),
            ("the priority", "os.getpriority(os.PRIO_PROCESS, 0) == self._nice\n            and os", "os"),
            ("processors", "os.sched_getaffinity(0) == self._affinity\n            and _", "_"),
        )
    ),
    *(
        (
            f"answers: {what}",
            f"worker/broker_jobs_worker/runners/{file}.py",
            text,
            mutant,
            f"tests/integration/test_child_answers.py::{test}",
        )
        for what, file, text, mutant, test in (
            (
                "put back what waits for nothing first",
                "child",
                "        if not self._surroundings.kept():\n",
                "        if True:\n",
                "test_a_call_is_answered_before_its_surroundings_are_put_back",
            ),
            (
                "go on printing",
                "child",
                "            self._surroundings.hush()\n",
                "            pass\n",
                "test_a_call_is_answered_before_its_surroundings_are_put_back",
            ),
            (
                "keep a folder busy",
                "child",
                "        if not done.more:\n            self._leave()\n",
                "",
                "test_what_a_call_has_changed_is_put_back_before_the_answer",
            ),
            (
                "put everything back after each call",
                "child",
                "applied and not (call and self._surroundings.suit(run))",
                "applied",
                "test_a_call_that_sets_the_same_variables_goes_on_with_them",
            ),
            (
                "go on with what another call was given",
                "child",
                "not (call and self._surroundings.suit(run))",
                "not call",
                "test_what_only_one_call_sets_no_other_task_finds",
            ),
            (
                "start programs in what a call has left",
                "child",
                "(call and self._surroundings.suit(run))",
                "self._surroundings.suit(run)",
                "test_what_only_one_call_sets_no_other_task_finds",
            ),
            (
                "keep the name of the job before",
                "surroundings",
                "        if run.job != self._job:\n",
                "        if not self._job:\n",
                "test_a_call_that_sets_the_same_variables_goes_on_with_them",
            ),
            (
                "put back later what a call has changed",
                "child",
                "        if not self._surroundings.kept():\n",
                "        if False:\n",
                "test_what_a_call_has_changed_is_put_back_before_the_answer",
            ),
            (
                "go on where nothing can be put back",
                "child",
                "        if not self._usable or (",
                "        if (",
                "test_a_child_that_cannot_be_put_back_begins_nothing_more",
            ),
        )
    ),
    (
        "surroundings: tell programs of a call nothing",
        _SURROUNDINGS,
        "                    _put_c(place)\n",
        "                    pass\n",
        "tests/integration/test_executor_lines.py::test_programs_that_a_call_starts_are_told_its_name",
    ),
    (
        "surroundings: do not hear that variables are set anew",
        _SURROUNDINGS,
        "        elif event in _SETTING:\n",
        "        elif False:\n",
        "tests/integration/test_executor_lines.py::test_programs_that_a_call_starts_are_told_its_name",
    ),
    (
        "surroundings: tell all of a line the name of the first",
        _SURROUNDINGS,
        "            if name not in chosen:\n",
        "            if False:\n",
        "tests/integration/test_executor_lines.py::test_each_of_a_line_is_told_its_own_name",
    ),
)

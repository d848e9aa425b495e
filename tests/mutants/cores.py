"""Bugs that could be in the smaller cores, each with the tests that must find it."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property"

_CONFIRMS, _CONFIRMS_TESTS = "broker_jobs/core/confirms.py", "tests/property/test_confirms.py"
_DELIVERIES, _DELIVERIES_TESTS = "broker_jobs/core/deliveries.py", "tests/property/test_deliveries.py"
_GRAPH, _GRAPH_TESTS = "broker_jobs/core/graph.py", "tests/property/test_graph.py"
_PLACEHOLDERS, _PLACEHOLDERS_TESTS = "broker_jobs/core/placeholders.py", "tests/property/test_placeholders.py"
_RESOURCES, _RESOURCES_TESTS = "broker_jobs/core/resources.py", "tests/property/test_resources.py"
_NAMES_TESTS = "tests/property/test_class_names.py"
_RETRY, _RETRY_TESTS = "broker_jobs/core/retry.py", "tests/property/test_retry.py"
_SPEC, _SPEC_TESTS = "broker_jobs/core/spec.py", "tests/property/test_spec.py"
_STATES, _STATES_TESTS = "broker_jobs/core/states.py", "tests/unit/test_states.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant, tests that must find it)
    (
        "acknowledge another message after a reconnect",
        _DELIVERIES,
        "        if tag.generation != self.generation or tag.number not in self._owed:",
        "        if tag.number not in self._owed:",
        _DELIVERIES_TESTS,
    ),
    (
        "settle what is stale",
        _DELIVERIES,
        "        if tag.generation != self.generation or tag.number not in self._owed:",
        "        if tag.generation == self.generation and tag.number not in self._owed:",
        _DELIVERIES_TESTS,
    ),
    ("settle twice", _DELIVERIES, "        del self._owed[tag.number]\n", "", _DELIVERIES_TESTS),
    ("owe what was delivered by an older connection", _DELIVERIES, "        self._owed.clear()\n", "", _DELIVERIES_TESTS),
    (
        "number messages from 0",
        _CONFIRMS,
        "        self._last += 1\n        self._pending[self._last] = item\n",
        "        self._pending[self._last] = item\n        self._last += 1\n",
        _CONFIRMS_TESTS,
    ),
    (
        "go on numbering on the next channel",
        _CONFIRMS,
        "        self._last = self._answered = 0\n        return",
        "        self._answered = self._last\n        return",
        _CONFIRMS_TESTS,
    ),
    (
        "leave out the last of a cumulative answer",
        _CONFIRMS,
        "next(iter(self._pending)) <= upto:",
        "next(iter(self._pending)) < upto:",
        _CONFIRMS_TESTS,
    ),
    ("take a cumulative answer for a single one", _CONFIRMS, "        if not multiple:\n", "        if number:\n", _CONFIRMS_TESTS),
    ("take one answer for one of all", _CONFIRMS, "        if not multiple:\n", "        if not number:\n", _CONFIRMS_TESTS),
    (
        "take a refusal for a confirmation",
        _CONFIRMS,
        "self._answer(number, Receipt.refused,",
        "self._answer(number, Receipt.confirmed,",
        _CONFIRMS_TESTS,
    ),
    ("take what came back for confirmed", _CONFIRMS, "            return item, Receipt.unroutable\n", "", _CONFIRMS_TESTS),
    ("remember a return for the next channel", _CONFIRMS, "            self._returned.discard(number)\n", "", _CONFIRMS_TESTS),
    (
        "believe a return of what was answered",
        _CONFIRMS,
        "        if number in self._pending:\n            self._returned.add(number)",
        "        self._returned.add(number)",
        _CONFIRMS_TESTS,
    ),
    (
        "forget what was pending when the channel closed",
        _CONFIRMS,
        "        self._pending.clear()\n",
        "        self._pending.popitem() if self._pending else None\n",
        _CONFIRMS_TESTS,
    ),
    (
        "take less than was asked for",
        _RESOURCES,
        "                self._sums[name] -= amount\n",
        "                self._sums[name] -= min(amount, 7)\n",
        _RESOURCES_TESTS,
    ),
    (
        "give back less than was held",
        _RESOURCES,
        "                self._sums[name] += amount\n",
        "                self._sums[name] += min(amount, 7)\n",
        _RESOURCES_TESTS,
    ),
    (
        "grant more than is free",
        _RESOURCES,
        "            elif self._sums.get(name, 0) < amount:\n",
        "            elif self._sums.get(name, 0) + 1 < amount:\n",
        _RESOURCES_TESTS,
    ),
    ("release twice", _RESOURCES, "        del self._held[allocation.number]\n", "", _RESOURCES_TESTS),
    (
        "release what looks the same",
        _RESOURCES,
        "self._held.get(allocation.number) is not allocation",
        "allocation.number not in self._held",
        _RESOURCES_TESTS,
    ),
    ("give an index that is in use", _RESOURCES, "if left == UNIT][:whole]", "if left][:whole]", _RESOURCES_TESTS),
    ("give the same index whole and shared", _RESOURCES, "if left >= rest and index not in chosen]", "if left >= rest]", _RESOURCES_TESTS),
    (
        "share what has too little left",
        _RESOURCES,
        "if left >= rest and index not in chosen]",
        "if left and index not in chosen]",
        _RESOURCES_TESTS,
    ),
    (
        "break a whole one for a share",
        _RESOURCES,
        "min(shareable)[1]",
        "max(shareable)[1]",
        "tests/unit/test_resources.py",
    ),
    ("count shares of what is whole twice", _RESOURCES, "_ceiling(max(0, times - shares), UNIT // rest)", "0", _RESOURCES_TESTS),
    ("count what no request of this kind can have", _RESOURCES, "if left < UNIT)", "if left <= UNIT)", _RESOURCES_TESTS),
    ("round memory down", _RESOURCES, "return -(-amount // step)", "return amount // step", _NAMES_TESTS),
    (
        "name classes by what people read alone",
        _RESOURCES,
        'exact = ";".join(f"{name}={amount}" for name, amount in amounts)',
        'exact = readable.replace("/", "_")',
        _NAMES_TESTS,
    ),
    (
        "name classes before rounding",
        _RESOURCES,
        "    amounts = rounded(request).amounts\n    if not amounts",
        "    amounts = request.amounts\n    if not amounts",
        _NAMES_TESTS,
    ),
    ("let a name have any character", _RESOURCES, "re.sub('[^A-Za-z0-9_-]', '_', readable)", "readable", _NAMES_TESTS),
    ("rename every class", _RESOURCES, 'f"{name}={amount}"', 'f"{name}:{amount}"', "tests/unit/test_resources.py"),
    ("grant one attempt too many", _RETRY, "failures >= policy.max_attempts", "failures > policy.max_attempts", _RETRY_TESTS),
    (
        "exceed the cap by the jitter",
        _RETRY,
        "    return RetryIn(min(delay * (1 + policy.jitter * (2 * noise - 1)), policy.max_backoff))",
        "    return RetryIn(delay * (1 + policy.jitter * (2 * noise - 1)))",
        _RETRY_TESTS,
    ),
    ("spread to one side", _RETRY, "(2 * noise - 1)", "(2 * noise)", "tests/unit/test_retry.py"),
    ("grow one step too early", _RETRY, "range(failures - 1)", "range(failures)", _RETRY_TESTS),
    ("add the factor", _RETRY, "        delay *= policy.factor\n", "        delay += policy.factor\n", _RETRY_TESTS),
    (
        "overflow at a late attempt",
        _RETRY,
        "    delay = min(delay, policy.max_backoff)\n",
        "    delay = min(policy.backoff * policy.factor ** (failures - 1), policy.max_backoff)\n",
        _RETRY_TESTS,
    ),
    ("retry what the filter does not name", _RETRY, "or not _selected(policy, outcome):", ":", "tests/unit/test_retry.py"),
    ("leave a circle unseen", _GRAPH, "    if sum(map(len, found)) < len(needs):\n", "    if not found:\n", _GRAPH_TESTS),
    ("walk out of the circle", _GRAPH, "if other in needs)\n", ")\n", _GRAPH_TESTS),
    ("name the way to the circle too", _GRAPH, "*list(walked)[walked[number] :]", "*list(walked)", _GRAPH_TESTS),
    ("forget what comes after", _GRAPH, "{*deps, *after}", "{*deps}", _GRAPH_TESTS),
    ("read minutes as seconds", _SPEC, "(86_400_000, 3_600_000, 60_000, 1000, 1)", "(86_400_000, 3_600_000, 1000, 1000, 1)", _SPEC_TESTS),
    ("read GiB as GB", _SPEC, "(1024 if binary else 1000)", "1000", _SPEC_TESTS),
    (
        "let an amount be too fine",
        _SPEC,
        "    if scaled != scaled.to_integral_value():",
        "    if not scaled.is_finite():",
        "tests/unit/test_spec.py",
    ),
    (
        "let a quantity be larger than the wire can say",
        _SPEC,
        'not Decimal("0.5") < exact <= MOST',
        'not Decimal("0.5") < exact',
        _SPEC_TESTS,
    ),
    ("let a duration be nothing", _SPEC, 'not Decimal("0.5") < exact <= MOST', "not 0 <= exact <= MOST", _SPEC_TESTS),
    ("accept a request that is not canonical", _SPEC, "name <= before or value <= 0", "value <= 0", _SPEC_TESTS),
    ("accept a request for less than nothing", _SPEC, "name <= before or value <= 0", "name <= before", _SPEC_TESTS),
    (
        "take what needs a canceled task along when it retries",
        _STATES,
        "        _T.retry_due: _S.queued,\n",
        "        _T.retry_due: _S.running,\n",
        "tests/property/test_job_machine.py",
    ),
    ("let an end be left", _STATES, "    _S.aborted: {},\n", "    _S.aborted: {_T.released: _S.queued},\n", _STATES_TESTS),
    (
        "call a job with a failed task canceled",
        _STATES,
        "            (TaskState.failed, JobState.failed),\n            (TaskState.canceled, JobState.canceled),\n",
        "            (TaskState.canceled, JobState.canceled),\n            (TaskState.failed, JobState.failed),\n",
        _STATES_TESTS,
    ),
    ("drop a placeholder that nobody knows", _PLACEHOLDERS, "found[1], found[0]", 'found[1], ""', _PLACEHOLDERS_TESTS),
    ("let a placeholder begin inside another", _PLACEHOLDERS, "([^{}]*)", "(.*)", _PLACEHOLDERS_TESTS),
)

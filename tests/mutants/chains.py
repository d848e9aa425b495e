"""Bugs that could be in how chains are sent, run and recorded; the tests named for each must find it."""

from __future__ import annotations

from typing import Final

_WORKER: Final = "worker/broker_jobs_worker/machine"
_HERE: Final = "broker_jobs/coordinator"
_RUN: Final = "tests/unit/test_worker_chains.py"
_INTAKE: Final = "tests/unit/test_worker_intake.py"

TESTS: Final = "tests/unit/test_ledger_chains.py"

MUTANTS: Final = (
    (
        "chains: two tasks wait for the one before",
        "broker_jobs/core/job/machine.py",
        "if len(waiting) == 1 else None",
        "if waiting else None",
    ),
    (
        "chains: take along what waits for others, too",
        "broker_jobs/core/job/machine.py",
        "record.state is not TaskState.waiting or record.missing != 1 or",
        "record.state is not TaskState.waiting or",
    ),
    ("chains: take along what has other options", f"{_HERE}/chains.py", "options != options:", "options == -1:"),
    ("chains: be as long as there are tasks", f"{_HERE}/chains.py", "min(worth - 1, LONGEST)", "LONGEST"),
    ("chains: have no end", f"{_HERE}/chains.py", "min(worth - 1, LONGEST)", "worth - 1"),
    ("chains: be sent although they are short", f"{_HERE}/chains.py", "len(chain) < heads - 1", "len(chain) < 0"),
    ("chains: be sent although there are many", f"{_HERE}/chains.py", "heads > HEADS_PER_SLOT * max(1, slots)", "heads < 0"),
    (
        "chains: forget the tasks beside the first",
        f"{_HERE}/jobs.py",
        "            job.window.add(draft.group, ready)\n        name",
        "            pass\n        name",
    ),
    ("chains: make chunks that are too large", f"{_HERE}/release.py", "if not first and self.size + size > CHUNK_LIMIT:", "if False:"),
    (
        "chains: read what has only just come",
        f"{_HERE}/jobs.py",
        "            if job.machine.linked:\n                self._parts.results.keep",
        "            if not job.machine.linked:\n                self._parts.results.keep",
    ),
    (
        "chains: send what a worker has begun",
        f"{_HERE}/replies.py",
        "            if good and isinstance(item, Started | Ended) and item.after:\n",
        "            if False:\n",
    ),
    (
        "chains: lose sight of what a worker has begun",
        f"{_HERE}/replies.py",
        "                    self._jobs.joined(batch, job, item.task)\n",
        "                    pass\n",
    ),
    (
        "chains: count what had another value",
        f"{_HERE}/replies.py",
        "    if not isinstance(item, Started | Ended) or not item.after:\n",
        "    if True:\n",
    ),
    ("chains: run again what ran before a pause", "broker_jobs/core/job/record.py", "return attempt == 1 and self.ahead", "return False"),
    (
        "chains: forget which attempt ran before a pause",
        "broker_jobs/core/job/machine.py",
        "                tasks[number].attempt = attempt\n",
        "                pass\n",
    ),
    (
        "chains: hear of no start before a pause",
        "broker_jobs/core/job/machine.py",
        "record.attempt == event.attempt or record.expects(event.attempt)",
        "record.attempt == event.attempt",
    ),
    ("results: keep all of them", f"{_HERE}/results.py", "while self._bytes > MOST_BYTES:", "while False:", "tests/unit/test_results.py"),
    (
        "results: mix up jobs",
        f"{_HERE}/results.py",
        "self._kept.get((job, number))",
        "self._kept.get((3 - job, number)) or self._kept.get((job, number))",
        "tests/unit/test_results.py",
    ),
    ("chains: run what follows a failure", f"{_WORKER}/worker.py", "if isinstance(news.outcome, Succeeded) and (chain", "if (chain", _RUN),
    (
        "chains: say nothing of what follows",
        f"{_WORKER}/worker.py",
        "        self._say(follower, Started(",
        "        self._reservations.tick(now, set()) or (lambda *_: None)(follower, Started(",
        _RUN,
    ),
    ("chains: do not say after what it ran", f"{_WORKER}/worker.py", "*times, *printed, after)", "*times, *printed)", _RUN),
    (
        "chains: go on although the worker drains",
        f"{_WORKER}/worker.py",
        "return None if self.draining or others_first",
        "return None if others_first",
        _RUN,
    ),
    ("chains: go on before what is more urgent", f"{_WORKER}/worker.py", " or self._have.waits_above(attempt.source.lane)", "", _RUN),
    (
        "chains: go on in a team",
        f"{_WORKER}/worker.py",
        "others_first = self._is_closed(attempt.source, request) or",
        "others_first =",
        _RUN,
    ),
    (
        "chains: go on until the worker ends",
        f"{_WORKER}/worker.py",
        "others_first or not self._lasts(request, now) else task",
        "others_first else task",
        _RUN,
    ),
    (
        "chains: go on although they are slow",
        f"{_WORKER}/worker.py",
        " or now - chain.begun >= self.timing.line_patience:\n            return None\n        task",
        ":\n            return None\n        task",
        _RUN,
    ),
    ("chains: go on without a message", f"{_WORKER}/worker.py", "if not chain.left or not attempt.dues or", "if not chain.left or", _RUN),
    (
        "chains: go on after a revocation",
        f"{_WORKER}/worker.py",
        "                attempt.state.chain = None\n",
        "                pass\n",
        _RUN,
    ),
    (
        "chains: run what was revoked",
        f"{_WORKER}/worker.py",
        "            or self._is_past(key, None)\n",
        "",
        _RUN,
    ),
    (
        "chains: run what lacks a value",
        f"{_WORKER}/worker.py",
        "or not all(name in given or name in chunk.values for name in task.work.inputs)",
        "",
        _RUN,
    ),
    (
        "chains: run what was called off before",
        f"{_WORKER}/worker.py",
        "            or self._revoked.names(key.job, key.task)\n",
        "",
        _RUN,
    ),
    ("chains: call nothing off", f"{_HERE}/jobs.py", "revoked += _called_off(job, event, number)", "pass"),
    (
        "chains: call off what fails by itself",
        f"{_HERE}/jobs.py",
        "if record.attempt or not isinstance(event, CancelRequested | PauseRequested):",
        "if record.attempt:",
    ),
    ("chains: forget at a restart what is in one", f"{_HERE}/live.py", "if len(numbers) == 1:", "if False:"),
    (
        "chains: keep in mind what was heard of",
        f"{_HERE}/jobs.py",
        "        job.following.difference_update(moved.tasks if job.following else ())\n",
        "",
    ),
    (
        "chains: never run again what came with one",
        f"{_WORKER}/worker.py",
        "(in_chains if attempt.chained else closed).append(key)",
        "closed.append(key)",
        _RUN,
    ),
    (
        "chains: say twice how one ended",
        f"{_WORKER}/worker.py",
        "(not delivery.redelivered or key in self._closed_in_chains)",
        "not delivery.redelivered",
        _RUN,
    ),
    (
        "chains: give nothing back of a chunk that comes again",
        f"{_WORKER}/worker.py",
        "(not delivery.redelivered or key in",
        "(True or key in",
        _RUN,
    ),
    (
        "chains: acknowledge what goes on",
        f"{_WORKER}/holdings.py",
        "            self.tie(follower, due)\n",
        "            self.attempts[follower.key] = follower\n",
        _RUN,
    ),
    (
        "chains: say that something began that has ended",
        f"{_WORKER}/replies.py",
        "                buffer.items.pop()  #",
        "                pass  #",
        _RUN,
    ),
    (
        "chains: believe a submitter",
        "worker/broker_jobs_worker/intake.py",
        "if chunk.chain and opened.role",
        "if False and opened.role",
        _INTAKE,
    ),
    ("chains: let a task follow itself", "worker/broker_jobs_worker/intake.py", "<= len(chunk.chain):", "< 0:", _INTAKE),
    ("chains: believe in values that are not there", "worker/broker_jobs_worker/intake.py", "        before = task\n", "", _INTAKE),
    (
        "teams: stay because of something else",
        f"{_WORKER}/worker.py",
        "attempt.source == place and not isinstance(attempt.state, Closing) for",
        "True for",
        "tests/unit/test_worker_teams.py",
    ),
)

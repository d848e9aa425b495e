"""Bugs that could be in the coordinator; the properties in ``tests/property/test_coordinator_ledger.py``, or the stories in
``tests/unit/test_coordinator_ledger.py``, must find each.

What the reconciler heals by itself only a story can show.
"""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property/test_coordinator_ledger.py"

_STORIES: Final = "tests/unit/test_coordinator_ledger.py"

_URGENCY: Final = "tests/property/test_urgency.py"

_REGISTRY: Final = "tests/unit/test_step_registry.py"

_PACKS: Final = "tests/property/test_ledger_packs.py"

_PACKED: Final = "tests/unit/test_ledger_packs.py"

_STORE: Final = "tests/unit/test_coordinator_store.py"

_VERIFY: Final = "tests/unit/test_ledger_verify.py"

_HERE: Final = "broker_jobs/coordinator"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant[, tests that must find it])
    (
        "steps: let the first announcement count",
        f"{_HERE}/registry.py",
        "if known is None or known.spec != spec:",
        "if known is None:",
        _REGISTRY,
    ),
    (
        "steps: any of the tags will do",
        f"{_HERE}/registry.py",
        "set(question.tags) <= set(known.spec.tags)",
        "(not question.tags or set(question.tags) & set(known.spec.tags))",
        _REGISTRY,
    ),
    (
        "steps: list versions as they were announced",
        f"{_HERE}/registry.py",
        "key=lambda item: item[0][1], reverse=True",
        "key=lambda item: 0",
        _REGISTRY,
    ),
    ("steps: begin each part of a list anew", f"{_HERE}/registry.py", "        del steps[: max(0, question.skip)]\n", "", _REGISTRY),
    (
        "steps: answer with nothing where a step is large",
        f"{_HERE}/registry.py",
        "if size > MOST_ANSWER and count:",
        "if size > MOST_ANSWER:",
        _REGISTRY,
    ),
    (
        "apply a chunk that comes twice",
        f"{_HERE}/intake.py",
        "if job is None or chunk.chunk in job.chunks:",
        "if job is None:",
    ),
    (
        "do not keep replies that come before their task",
        f"{_HERE}/replies.py",
        "        batch.writes.early.append(EarlyRow(self._next_early, reply.job, item.task, alone, batch.now_ms))\n",
        "",
        _STORIES,
    ),
    (
        "do not apply them when the task comes",
        f"{_HERE}/ledger.py",
        "                    self._replies.catch_up(batch, job, [task.number for task in message.tasks], self._patience)",
        "                    pass",
        _STORIES,
    ),
    (
        "forget the outbox at the start",
        f"{_HERE}/ledger.py",
        "        batch.effects.outbox = self._outbox\n",
        "",
        _STORIES,
    ),
    (
        "take messages out of the outbox before they are confirmed",
        f"{_HERE}/mailer.py",
        "        batch.writes.outbox.append(row)\n",
        "",
        _STORIES,
    ),
    (
        "do not write down in which chunk a task is",
        f"{_HERE}/live.py",
        "            facts.chunk,\n",
        "            None,\n",
    ),
    (
        "do not note that a task was taken",
        f"{_HERE}/replies.py",
        "        job.taken.add(item.task)\n",
        "",
        _STORIES,
    ),
    (
        "do not tell the rows what was taken",
        f"{_HERE}/live.py",
        "            number in self.taken,\n",
        "            False,\n",
    ),
    (
        "leave what a lost worker had taken",
        f"{_HERE}/jobs.py",
        "        for job, number in self.taken_by(worker, boot):\n            self.lose_task(batch, job, number)\n",
        "",
        _STORIES,
    ),
    (
        "do not look for delayed attempts after a start",
        f"{_HERE}/jobs.py",
        "                if task.due_ms is not None:\n",
        "                if False:\n",
    ),
    (
        "believe any time at which an attempt is due",
        f"{_HERE}/jobs.py",
        "wait = min(max(0.0, (task.due_ms - now_ms) / 1000), longest)",
        "wait = max(0.0, (task.due_ms - now_ms) / 1000)",
        "tests/unit/test_coordinator_ledger.py::test_a_clock_that_was_wrong_delays_an_attempt_by_one_delay_more_at_most",
    ),
    (
        "wait for attempts by the clock of the day",
        f"{_HERE}/jobs.py",
        "heapq.heappush(self._due, (batch.now + seconds, job.facts.id, number, attempt))",
        "heapq.heappush(self._due, (batch.now_ms / 1000 + seconds, job.facts.id, number, attempt))",
        "tests/unit/test_coordinator_ledger.py::test_a_clock_that_was_wrong_delays_an_attempt_by_one_delay_more_at_most",
    ),
    (
        "do not write down when an attempt is due",
        f"{_HERE}/jobs.py",
        "                        job.tasks[number].due_ms = batch.now_ms + round(seconds * 1000)\n",
        "",
    ),
    (
        "do not miss what is nowhere",
        f"{_HERE}/jobs.py",
        "        for number, attempt in lost.attempts:\n            self.send_again(batch, job, number, attempt)\n",
        "",
    ),
    (
        "never free the place of a chunk",
        f"{_HERE}/live.py",
        "            self.window.land(facts.chunk, number, busy_ms)\n",
        "",
    ),
    (
        "send tasks without the results of their predecessors",
        f"{_HERE}/release.py",
        "        packed |= more\n",
        "",
    ),
    (
        "read the results before they are written",
        f"{_HERE}/jobs.py",
        "            self._store.write_payloads(batch.writes)\n",
        "",
    ),
    (
        "record an outcome of an older attempt",
        f"{_HERE}/replies.py",
        "        event = AttemptEnded(item.task, item.attempt, clean",
        "        event = AttemptEnded(item.task, job.machine.tasks[item.task].attempt, clean",
        _STORIES,
    ),
    (
        "do not write down a cancel",
        f"{_HERE}/jobs.py",
        "        facts.cancel_reason, facts.void_reason = machine.cancel_reason, machine.void_reason\n",
        "",
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "drop late tasks of a job that has ended",
        f"{_HERE}/intake.py",
        "return None if chunk.chunk in self._store.look.chunk_names(facts.key) else self._jobs.restore(facts, batch.now)",
        "return None",
        _STORIES,
    ),
    (
        "do not write down that a task is isolated",
        f"{_HERE}/live.py",
        "            record.isolated,\n",
        "            False,\n",
    ),
    (
        "do not miss what a worker that says hello has lost",
        f"{_HERE}/workers.py",
        "            yield Lose(worker.name, worker.boot)\n        asked =",
        "            pass\n        asked =",
        "tests/unit/test_workers.py",
    ),
    (
        "priorities: send out more than can run",
        f"{_HERE}/urgency.py",
        "room = min(int(slots * more) - standing[group.queue], _room(group, out, fleet, more))",
        "room = int(slots * more) - standing[group.queue]",
        _URGENCY,
    ),
    (
        "priorities: let less urgent tasks take what an urgent one waits for",
        f"{_HERE}/urgency.py",
        "        held_back.append(group)\n",
        "",
        _URGENCY,
    ),
    (
        "priorities: hold everything back behind an urgent task",
        f"{_HERE}/urgency.py",
        "for other, count in out.items() if other.priority < urgent.priority}",
        "for other, count in out.items()}",
        _URGENCY,
    ),
    (
        "priorities: forget which group of a queue is the most urgent",
        f"{_HERE}/window.py",
        "            self._note(group, heap[0])\n",
        "            pass\n",
        "tests/unit/test_window.py " + _URGENCY,
    ),
    (
        "small chunks: let a few quick tasks wait though nothing is under way",
        f"{_HERE}/window.py",
        "return flying > 0 and len(",
        "return len(",
        "tests/unit/test_window.py",
    ),
    (
        "small chunks: let tasks wait though a slot has no work",
        f"{_HERE}/window.py",
        " and flying >= CHUNKS_AT_HAND * slots(group)",
        "",
        "tests/unit/test_window.py",
    ),
    (
        "small chunks: forget to offer what waits to workers that come later",
        f"{_HERE}/jobs.py",
        "            self._hungry.update(job_id for job_id, job in self.live.items() if job.window.waiting)\n",
        "            self._hungry.update(())\n",
        "tests/unit/test_coordinator_ledger.py",
    ),
    (
        "priorities: look ahead before anything is known of the tasks",
        f"{_HERE}/urgency.py",
        "return 0.0 if ms is None",
        "return float(MOST_AHEAD) if ms is None",
        _URGENCY,
    ),
    (
        "do not tell a worker that comes later what was canceled",
        "broker_jobs/coordinator/ledger.py",
        "        revoked = (*self.jobs.standing.all(), *revoked)\n",
        "",
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "forget at a restart what was canceled",
        "broker_jobs/coordinator/store/writes.py",
        "        self._revocations.run(cursor, writes.revocations)\n",
        "",
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "revoke for ever what is nowhere any more",
        "broker_jobs/coordinator/standing.py",
        "        if chunk.startswith(_MARK):\n",
        "        if False:\n",
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "give all tasks that move together the same version",
        "broker_jobs/coordinator/store/sweeps.py",
        '_given("version") + 1 + tasks.c.number',
        '_given("version") + 1',
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "forget the chunk of a task that was called back",
        "broker_jobs/coordinator/jobs.py",
        "            if not record.called_back:\n                job.land(number)\n",
        "            job.land(number)\n",
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "resume rows without a new attempt",
        "broker_jobs/coordinator/store/sweeps.py",
        '"attempt": tasks.c.attempt + 1',
        '"attempt": tasks.c.attempt + 0',
        "tests/unit/test_coordinator_control.py",
    ),
    (
        "leave running what had begun with a lost worker",
        "broker_jobs/coordinator/jobs.py",
        "        for job, number in self._begun_by(worker, boot):\n",
        "        for job, number in self._begun_by(worker, boot)[:0]:\n",
        "tests/unit/test_coordinator_ledger.py",
    ),
    (
        "keep what a task has waited for in another job",
        "broker_jobs/coordinator/links.py",
        "                batch.writes.links_done.append(row)\n",
        "                pass\n",
        "tests/unit/test_ledger_links.py",
    ),
    (
        "wait for another job without writing it down",
        "broker_jobs/coordinator/links.py",
        "                        batch.writes.links.append(row)\n",
        "                        pass\n",
        "tests/unit/test_ledger_links.py",
    ),
    (
        "packs: give all tasks of one the same version",
        f"{_HERE}/store/packs.py",
        "changed=pack.changed + place)",
        "changed=pack.changed)",
        _PACKS,
    ),
    (
        "packs: give all successes of a reply the same version",
        f"{_HERE}/store/packs.py",
        "yield Success(row.changed + place,",
        "yield Success(row.changed,",
        _PACKS,
    ),
    (
        "packs: keep one whose tasks have rows",
        f"{_HERE}/store/writes.py",
        "        self._packs_done.run(cursor, [(job, first)])\n",
        "",
        _PACKS,
    ),
    (
        "packs: do to late tasks what was asked of earlier ones",
        f"{_HERE}/store/store.py",
        "        self._writer.sweeps(self._cursor, writes)\n",
        "",
        _PACKED,
    ),
    (
        "packs: leave one as it is when all tasks of its job move",
        f"{_HERE}/jobs.py",
        "        for pack in sorted(pack for pack in packs if pack is not None):\n",
        "        for pack in ():\n",
        _PACKS,
    ),
    (
        "packs: leave one as it is when one of its tasks does something else",
        f"{_HERE}/jobs.py",
        "        if pack is not None:\n            self._take_apart",
        "        if False:\n            self._take_apart",
        _PACKS,
    ),
    (
        "packs: forget at a restart which task is in one",
        f"{_HERE}/live.py",
        "                    kept[number].pack = pack.first\n",
        "                    pass\n",
        _PACKS,
    ),
    (
        "packs: put tasks into one that wait for others",
        f"{_HERE}/intake.py",
        "not (task.deps or task.after or task.outside or machine.knows(number))",
        "not (task.outside or machine.knows(number))",
        _PACKED,
    ),
    (
        "packs: keep no size of tasks that get rows",
        f"{_HERE}/jobs.py",
        "                task.pack, task.size = None, size\n",
        "                task.pack = None\n",
        _PACKED,
    ),
    (
        "packs: leave the successes of a forgotten job",
        f"{_HERE}/store/writes.py",
        "schema.uses, schema.packs, schema.successes)",
        "schema.uses, schema.packs)",
        _PACKED,
    ),
    (
        "packs: run tasks again without knowing their size",
        f"{_HERE}/resubmission.py",
        "TaskFacts(options, len(spec), ready_ms",
        "TaskFacts(options, 0, ready_ms",
        _PACKED,
    ),
    (
        "questions: give up on a coordinator that is behind",
        "broker_jobs/client/link.py",
        "last_chance = backlog.ready == 0",
        "last_chance = True",
        "tests/integration/test_client_link.py::test_a_coordinator_that_is_behind_has_longer_for_an_answer",
    ),
    (
        "epoch: write although another has taken it",
        f"{_HERE}/store/store.py",
        "                if found is None or found[0] != epoch:\n",
        "                if found is None:\n",
        _STORE,
    ),
    (
        "verify: do not count tasks that share a row",
        f"{_HERE}/verify/job.py",
        "                self._tasks.setdefault(number, task)\n",
        "",
        _VERIFY,
    ),
    (
        "verify: repair the counts and leave the version",
        f"{_HERE}/verify/job.py",
        "Recount(facts.key, counts, max(newest, facts.version))",
        "Recount(facts.key, counts, facts.version)",
        _VERIFY,
    ),
    (
        "verify: take what came with a task for what is there",
        f"{_HERE}/verify/job.py",
        "self._function + digest not in rows.blobs",
        "not digest",
        _VERIFY,
    ),
)

"""The replica of a job agrees with the ledger in the end, whatever comes in between, in any order, twice or never."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_jobs.client.followed import Followed
from broker_jobs.client.jobview import JobView, Layout, Row
from broker_jobs.client.watching import Watch
from broker_jobs.core.outcome import Cause, Crashed, Failed, Outcome, Succeeded
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import ENDED, TaskState, job_state
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire.messages import Changes, Ended, JobInfo, Reply, ReplyItem, Started, TaskInfo
from tests.support.told import ENDINGS, Everything, by_task, check_order

JOB = "0" * 32
TASKS = 4
LAYOUT = Layout((Row(0, 3, "many", range(3), program=False, retry=Retry(2)), Row(3, 1, "one", None, program=False, retry=None)), TASKS)

SUCCESS = Succeeded(Inline(Encoding.msgpack, b"\x01"))
FAILURE = Failed(Cause.error, "no")


class Ledger(RuleBasedStateMachine):
    """A job as a ledger has it; its news reach two replicas: one of the submitter, one of somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.states = [TaskState.queued] * TASKS
        self.attempts = [1] * TASKS
        self.failures = [0] * TASKS
        self.outcomes: list[Outcome | None] = [None] * TASKS
        self.changed = [0] * TASKS
        self.version = 1
        self.replies: list[Reply] = []
        self.submitter = JobView(JOB, LAYOUT)
        self.told = Everything()
        followed = Followed(self.submitter, grace=0.0)
        self.watch = Watch(self.told, followed)
        self.watch.order.expect(range(TASKS))
        self.stranger = JobView(JOB)
        self.since = 0
        self.snapshots: list[tuple[Changes, bool]] = []
        self.reported: Counter[int] = Counter()
        self.doubtful: set[int] = set()
        self.ended_before: set[int] = set()
        self.newest = 0

    def _item(self, task: int, item: ReplyItem, state: TaskState, outcome: Outcome | None = None) -> None:
        self.replies.append(Reply(JOB, "w", "b", (item,)))
        self.states[task] = state
        self.outcomes[task] = outcome
        self.version += 1
        self.changed[task] = self.version

    @precondition(lambda self: any(state not in ENDED for state in self.states))
    @rule(data=st.data(), kind=st.sampled_from(["started", "succeeded", "failed", "crashed", "aborted"]))
    def something_happens(self, data: st.DataObject, kind: str) -> None:
        task = data.draw(st.sampled_from([number for number, state in enumerate(self.states) if state not in ENDED]))
        attempt = self.attempts[task]
        execution = f"e{attempt}"
        match kind:
            case "started":
                self._item(task, Started(task, attempt, execution, 0), TaskState.running)
            case "succeeded":
                self._item(task, Ended(task, attempt, execution, SUCCESS, 0, 0), TaskState.succeeded, SUCCESS)
            case "failed":
                self.failures[task] += 1
                final = task == 3 or self.failures[task] == 2
                self._item(task, Ended(task, attempt, execution, FAILURE, 0, 0), TaskState.failed if final else TaskState.retrying, FAILURE)
                self.attempts[task] += 1
            case "crashed":
                self._item(task, Ended(task, attempt, execution, Crashed("gone"), 0, 0), TaskState.queued)
                self.attempts[task] += 1
            case _:
                self.version += 1
                self.states[task], self.changed[task] = TaskState.aborted, self.version

    @precondition(lambda self: any(state not in ENDED for state in self.states))
    @rule(data=st.data())
    def a_lost_worker_speaks_late(self, data: st.DataObject) -> None:
        """The ledger has made another attempt meanwhile, and keeps nothing of this."""
        task = data.draw(st.sampled_from([number for number, state in enumerate(self.states) if state not in ENDED]))
        self._item(task, Ended(task, self.attempts[task], "late", FAILURE, 0, 0), TaskState.queued)
        self.attempts[task] += 1
        self.doubtful.add(task)

    @precondition(lambda self: self.replies)
    @rule(keep=st.booleans())
    def a_reply_arrives(self, keep: bool) -> None:
        """In order of sending; it may come again later."""
        reply = self.replies[0] if keep else self.replies.pop(0)
        known = {ending.number for ending in self.submitter.endings()}
        found = self.submitter.heard(reply)
        self.watch.heard(reply, found)
        endings = [ending.number for ending in found]
        assert not known & set(endings)
        self.reported.update(endings)

    @precondition(lambda self: self.replies)
    @rule()
    def a_reply_is_lost(self) -> None:
        self.doubtful.update(item.task for item in self.replies.pop(0).items)

    @rule(values=st.booleans())
    def the_ledger_answers_later(self, values: bool) -> None:
        self.snapshots.append((self._changes(0, values=values), values))

    @precondition(lambda self: self.snapshots)
    @rule()
    def a_late_answer_arrives(self) -> None:
        changes, values = self.snapshots.pop(0)
        self.submitter.changed(changes, values=values)
        self.watch.told(changes)

    @rule(values=st.booleans())
    def the_ledger_tells(self, values: bool) -> None:
        changes = self._changes(0, values=values)
        self.submitter.changed(changes, values=values)
        self.watch.told(changes)

    @rule()
    def the_ledger_tells_of_the_job_alone(self) -> None:
        self.submitter.told(self._changes(0, values=False).info)
        self.watch.heard(Reply(JOB, "w", "b", ()), ())

    @rule()
    def the_ledger_tells_the_stranger_what_is_new(self) -> None:
        changes = self._changes(self.since, values=True)
        self.stranger.changed(changes, values=True)
        self.since = changes.upto

    def _changes(self, since: int, *, values: bool) -> Changes:
        tasks = tuple(
            TaskInfo(number, state, outcome=self.outcomes[number] if values and state in ENDED else None)
            for number, state in enumerate(self.states)
            if self.changed[number] > since or not since
        )
        counts = Counter(self.states)
        info = JobInfo(
            JOB, "job", job_state(counts, complete=True), self.version, 0, {key.value: count for key, count in counts.items()}, TASKS
        )
        return Changes(info, self.version, tasks)

    @invariant()
    def the_replicas_are_sound(self) -> None:
        self.submitter.check()
        self.stranger.check()
        ended = {number for number in range(TASKS) if self.submitter.state_of(number) in ENDED}
        assert self.ended_before <= ended, "what has ended stays so"
        self.ended_before = ended
        version = self.submitter.info.version if self.submitter.info else 0
        assert version >= self.newest, "the newest word of the ledger counts"
        self.newest = version
        assert all(count == 1 for count in self.reported.values()), "an ending is reported once"

    @invariant()
    def plugins_are_told_once_and_in_order(self) -> None:
        check_order(self.told.moments)
        self.watch.order.check()
        ended = {number for (_, number), told in by_task(self.told.moments).items() if told[-1].hook in ENDINGS}
        assert ended == {number for number in range(TASKS) if self.submitter.state_of(number) in ENDED}
        assert any(moment.hook == "on_complete" for moment in self.told.moments) == (len(ended) == TASKS)

    @invariant()
    def replies_alone_tell_of_outcomes(self) -> None:
        waiting = {item.task for reply in self.replies for item in reply.items}
        for number, state in enumerate(self.states):
            if state in {TaskState.succeeded, TaskState.failed} and number not in waiting | self.doubtful:
                assert self.submitter.state_of(number) is state

    def teardown(self) -> None:
        """At last all tasks have ended, and the ledger tells all."""
        for number, state in enumerate(self.states):
            if state not in ENDED:
                self._item(number, Started(number, self.attempts[number], "last", 0), TaskState.succeeded, SUCCESS)
        for view in (self.submitter, self.stranger):
            view.changed(self._changes(0, values=True), values=True)
            if view is self.submitter:
                self.watch.told(self._changes(0, values=True))
                self.plugins_are_told_once_and_in_order()
            view.check()
            assert view.state is job_state(Counter(self.states), complete=True)
            assert view.ended
            for number, state in enumerate(self.states):
                if state in ENDED:
                    ending = view.ending(number)
                    assert ending is not None
                    assert (ending.state, ending.outcome if state is not TaskState.aborted else None) == (
                        state,
                        self.outcomes[number] if state is not TaskState.aborted else None,
                    )


TestJobView = Ledger.TestCase
TestJobView.settings = settings(stateful_step_count=25)

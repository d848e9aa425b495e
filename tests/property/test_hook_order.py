"""Of every task each moment is told once and in order, whatever becomes of the news: late, twice, in another order, lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.states import ENDED, JobState, TaskState
from broker_jobs.hooks.facts import JobNow, Moment, TaskNow
from broker_jobs.hooks.order import COMPLETE, FAILED, KILLED, POLLING, STARTED, SUCCEEDED, Order

TASKS = 4
FIRST = 3
BEGUN = {TaskState.running, TaskState.retrying, TaskState.canceling}
ENDINGS = {TaskState.succeeded: SUCCEEDED, TaskState.failed: FAILED, TaskState.canceled: KILLED, TaskState.aborted: KILLED}


@dataclass
class Life:
    """What becomes of a task, as the news of it in the order in which it happens."""

    number: int
    end: TaskState
    news: list[TaskNow] = field(default_factory=list)

    def add(self, state: TaskState, attempt: int, progress: float | None = None) -> None:
        self.news.append(TaskNow("job", self.number, "", state, attempt, progress=progress))


@st.composite
def lives(draw: st.DrawFn, number: int) -> Life:
    """A task with some attempts, of which the last one ends it, unless it never starts."""
    end = draw(st.sampled_from(sorted(ENDED)))
    life = Life(number, end)
    attempts = draw(st.integers(0 if end in {TaskState.canceled, TaskState.aborted} else 1, 3))
    for attempt in range(1, attempts + 1):
        life.add(TaskState.queued, attempt)
        life.add(TaskState.running, attempt)
        for part in range(draw(st.integers(0, 2))):
            life.add(TaskState.running, attempt, part / 2)
        if attempt < attempts:
            life.add(TaskState.retrying, attempt)
    life.add(end, attempts)
    return life


@st.composite
def mangled(draw: st.DrawFn) -> tuple[list[Life], list[TaskNow]]:
    """Lives, and their news as it may come: some of it lost, some twice, in any order; the end of each task comes at last."""
    everybody = [draw(lives(number)) for number in range(FIRST, FIRST + TASKS)]
    news = [now for life in everybody for now in life.news]
    kept = draw(st.lists(st.sampled_from(news), max_size=2 * len(news)))
    return everybody, [*draw(st.permutations(kept)), *(life.news[-1] for life in everybody)]


def told_of(moments: list[Moment], number: int) -> list[str]:
    return [moment.hook for moment in moments if isinstance(moment.of, TaskNow) and moment.of.number == number]


@given(mangled(), st.integers(0, 30))
def test_once_and_in_order(story: tuple[list[Life], list[TaskNow]], release_at: int) -> None:
    everybody, news = story
    order = Order()
    order.expect(range(FIRST, FIRST + TASKS))
    order.hold()
    moments: list[Moment] = []
    for count, now in enumerate(news):
        if count == release_at:
            moments += order.release()
        moments += order.news(now)
        assert moments == [] or count >= release_at, "nothing comes before it was submitted"
        order.check()
    if release_at >= len(news):
        moments += order.release()
    order.check()
    assert order.open == 0
    for life in everybody:
        told = told_of(moments, life.number)
        assert told[-1] == ENDINGS[life.end]
        assert sum(hook in ENDINGS.values() for hook in told) == 1
        its = [now for now in news if now.number == life.number]
        before = its[: next(place for place, now in enumerate(its) if now.state in ENDED)]
        assert (STARTED in told) == (told[-1] != KILLED or any(now.state in BEGUN for now in before))
        attempts = [moment.of.attempt for moment in moments if isinstance(moment.of, TaskNow) and moment.of.number == life.number]
        assert attempts[:-1] == sorted(attempts[:-1]), "of an attempt that another has followed nothing is told"
        assert STARTED not in told[1:], "the start is the first of all"
        assert set(told[1:-1]) <= {POLLING}
    assert order.job_over(JobNow("job", "", JobState.succeeded)) != []
    assert order.job_over(JobNow("job", "", JobState.succeeded)) == []


@given(st.data())
def test_of_news_in_order_all_is_told_and_nothing_twice(data: st.DataObject) -> None:
    life = data.draw(lives(0))
    order = Order()
    order.expect(range(1))
    moments = [moment for now in life.news for moment in (*order.news(now), *order.news(now))]
    polled = [moment.of for moment in moments if moment.hook == POLLING]
    begun = [now for now in life.news if now.attempt]
    attempts = {now.attempt for now in begun}
    assert {now.attempt for now in polled if isinstance(now, TaskNow)} >= attempts - {1}, "every further attempt is heard of"
    progress = {(now.attempt, now.progress) for now in life.news if now.progress is not None}
    assert {(now.attempt, now.progress) for now in polled if isinstance(now, TaskNow) and now.progress is not None} == progress
    assert len(polled) == len(set(polled))


@given(mangled())
def test_tasks_of_others_are_not_told_of(story: tuple[list[Life], list[TaskNow]]) -> None:
    order = Order()
    order.expect(range(FIRST))
    order.expect(range(FIRST + 1, FIRST + 2))
    order.forget(range(FIRST))
    moments = [moment for now in story[1] for moment in order.news(now)]
    assert {moment.of.number for moment in moments if isinstance(moment.of, TaskNow)} == {FIRST + 1}
    order.check()


def test_a_start_that_was_missed_comes_before_the_news() -> None:
    order = Order()
    order.expect(range(1))
    moments = order.news(TaskNow("job", 0, "", TaskState.retrying, 1, reason="no"))
    assert [(moment.hook, moment.of) for moment in moments] == [
        (STARTED, TaskNow("job", 0, "", TaskState.running, 1)),
        (POLLING, TaskNow("job", 0, "", TaskState.retrying, 1, reason="no")),
    ]


def test_a_ledger_that_is_behind_tells_nothing_new() -> None:
    order = Order()
    order.expect(range(1))
    states = [TaskState.running, TaskState.queued, TaskState.running, TaskState.retrying, TaskState.running]
    moments = [moment for state in states for moment in order.news(TaskNow("job", 0, "", state, 1))]
    moments += order.news(TaskNow("job", 0, "", TaskState.queued, 2))
    told = [(moment.hook, moment.of.state, moment.of.attempt) for moment in moments if isinstance(moment.of, TaskNow)]
    assert told == [(STARTED, "running", 1), (POLLING, "retrying", 1), (POLLING, "queued", 2)]


def test_what_was_told_in_an_earlier_run_is_not_told_again() -> None:
    order = Order()
    order.was(0, TaskState.running, 1)
    order.was(1, TaskState.queued, 2)
    order.was(2, TaskState.succeeded, 1)
    order.was(3, TaskState.queued, 1)
    moments = [moment for number in range(4) for moment in order.news(TaskNow("job", number, "", TaskState.succeeded, 2))]
    assert [(moment.hook, moment.of.number) for moment in moments if isinstance(moment.of, TaskNow)] == [
        (SUCCEEDED, 0),
        (SUCCEEDED, 1),
        (STARTED, 3),
        (SUCCEEDED, 3),
    ]
    assert [moment.hook for moment in order.job_over(JobNow("job", "", JobState.succeeded))] == [COMPLETE]

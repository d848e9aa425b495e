"""Whatever comes in whatever order, from several processes that know old versions: an end is left by a resubmission alone, and only
one process works on the results of a run unless it is told to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.errors import WrongStatus
from broker_jobs.manager import record as records
from broker_jobs.manager.record import JobRecord, News
from broker_jobs.manager.statuses import RESULTS_READY, Code, Status, Statuses

STATUSES = Statuses({"Approved": "terminal"})
NEWS = st.sampled_from([Status(code) for code in Code if code is not Code.OTH] + [Status(Code.OTH, "Approved"), Status(Code.OTH, "x")])
EVENTS = st.tuples(
    st.sampled_from(["execute", "news", "work", "hand", "again", "sent", "failed", "stop", "process", "done"]), NEWS, st.integers(0, 3)
)


def after(record: JobRecord, event: tuple[str, Status, int], claims: list[JobRecord], now: int) -> JobRecord:
    """The record after one event; most are about the present run."""
    kind, status, number = event
    run = record.run if number else record.run - 1
    match kind:
        case "execute":
            return records.executed(record, now)
        case "news":
            return records.heard(record, News(status, run), STATUSES, now)
        case "work":
            return records.heard_of_work(record, News(status, run), STATUSES, now)
        case "hand":
            return records.set_by_hand(record, status, None, STATUSES, now, has_work=bool(number % 2))
        case "again":
            return records.again(record, now)
        case "sent":
            return records.sent(record, run, f"work {number}")
        case "failed":
            return records.failed(record, run, "oops", now)
        case "stop":
            return records.stopped(record, "why", now)
        case "process":
            claimed = records.processing(record, run, once_more=False)
            claims += [claimed] if claimed is not record else []
            return claimed
        case _:
            return records.processed(claims[number % len(claims)], record, "oops" if status.text else None) if claims else record


@given(st.lists(EVENTS, max_size=30), st.booleans())
def test_an_end_stays_and_results_are_claimed_once(events: list[tuple[str, Status, int]], processes: bool) -> None:
    record = JobRecord("0" * 32, "app", "job", "ann", "t", "program", "/w", 0, process_results="a.b" if processes else "")
    claims: list[JobRecord] = []
    for now, event in enumerate(events, 1):
        try:
            new = after(record, event, claims, now)
        except WrongStatus:
            continue
        assert new.ended == STATUSES.terminal(new.status)
        assert (new.completed_ms is not None) == new.ended
        assert new.run == record.run or event[0] in {"execute", "again"}
        if record.ended and event[0] != "again":
            assert new.ended
            assert new.completed_ms == record.completed_ms
            assert new.status == record.status or event[0] in {"process", "done"}
        if event[0] == "again":
            assert record.ended
            assert (new.work, new.processings, new.started_ms, new.run) == ("", 0, None, record.run + 1), "nothing is left of the last run"
        assert new.status != RESULTS_READY or processes or event[0] in {"news", "work", "hand", "process"} or record.status == RESULTS_READY
        record = new
    assert len({claim.run for claim in claims}) == len(claims)

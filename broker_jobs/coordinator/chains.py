"""Quick tasks that follow one another go out together: a worker passes on the value itself, and nobody is asked in between; pure.

A chain goes along with a chunk of one task. In the ledger its tasks wait until the one before has succeeded, so nothing has to be put
right where a worker takes none of them; docs/decisions/0053 says how the two agree.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.window import Draft

LONGEST: Final = 100
"""So many tasks follow one at most: what becomes of them is told together."""
HEADS_PER_SLOT: Final = 4
"""Where more tasks than this are ready for each slot, a message for all of them is cheaper than one for each with what follows it."""


def chained(job: LiveJob, draft: Draft, slots: int) -> Draft:
    """The draft, or its first task alone, with what follows that.

    Args:
        slots: of known workers for such tasks
    """
    worth, heads = job.window.worth(draft.group), len(draft.tasks)
    if job.ordered or draft.group.isolated or worth <= 1 or heads > HEADS_PER_SLOT * max(1, slots):
        return draft
    chain = following(job, draft.tasks[0].number, min(worth - 1, LONGEST))
    if not chain or len(chain) < heads - 1:
        return draft
    return replace(draft, tasks=draft.tasks[:1], chain=chain)


def following(job: LiveJob, number: int, most: int) -> tuple[int, ...]:
    """Tasks of which each waits for the one before alone, with the same options."""
    chain: list[int] = []
    options = job.tasks.seen(number).options
    while len(chain) < most and (record := job.machine.next_of(number)) is not None and not record.outside:
        number = record.number
        if job.tasks.seen(number).options != options:
            break
        chain.append(number)
    return tuple(chain)

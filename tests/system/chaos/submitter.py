"""A submitter: ``python -m tests.system.chaos.submitter FOLDER NUMBER SEED SECONDS TASKS``.

It submits one job after the other, two at a time, reads what comes of each, and writes down what it was told, until somebody makes the
file `STOP` in the folder. Killed and started again, it goes on from what it has written down: what was confirmed it finds by its id,
what was not it submits again where an idempotency key allows that.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs import Client
from broker_jobs.core.states import JOB_ENDED
from broker_jobs.errors import BrokerJobsError, SubmitUnknown
from tests.system.chaos.journal import Journal, What
from tests.system.chaos.plans import Failure, Plan, Shape, plan

if TYPE_CHECKING:
    from broker_jobs import SubmittedJob

STOP: Final = "stop"
AT_ONCE: Final = 2
"""Jobs that are not told of yet."""
TIMEOUT: Final = 15.0
PAUSE: Final = 0.5


class Submitter:
    """One life of a submitter."""

    def __init__(self, folder: Path, number: int, seed: int, seconds: float, tasks: int) -> None:
        self._folder = folder
        self._number = number
        self._seed = seed
        self._seconds = seconds
        self._tasks = tasks
        self._journal = Journal.of(folder, number)
        self._client: Client | None = None
        self._open: dict[str, tuple[Plan, int, SubmittedJob]] = {}

    def run(self) -> None:
        """Submit and read, until told to stop and all is told."""
        self._resume()
        ordinal = 1 + max((line.ordinal for line in self._journal.lines), default=-1)
        asked = sum(len(self._plan(before).parents) for before in range(ordinal))
        while True:
            stopping = (self._folder / STOP).exists() and asked >= self._tasks
            while not stopping and len(self._open) < AT_ONCE:
                asked += len(self._plan(ordinal).parents)
                self._submit(ordinal)
                ordinal += 1
            if not self._open:
                return
            self._read()

    def _plan(self, ordinal: int) -> Plan:
        return plan(self._seed, self._number, ordinal, self._seconds)

    @property
    def client(self) -> Client:
        """Connected, sooner or later."""
        while self._client is None:
            try:
                self._client = Client(timeout=TIMEOUT)
            except BrokerJobsError as error:
                self._journal.say(What.troubled, "", -1, repr(error))
                time.sleep(PAUSE)
        return self._client

    def _resume(self) -> None:
        """Take up what an earlier life has left."""
        confirmed, told, unknown = (self._journal.last(what) for what in (What.confirmed, What.told, What.unknown))
        for key, line in self._journal.last(What.intended).items():
            found = self._plan(line.ordinal)
            if key in told:
                continue
            if key in confirmed:
                self._open[key] = found, line.ordinal, self._find(confirmed[key].text, line.ordinal, key)
            elif found.keyed:
                self._submit(line.ordinal)
            elif key not in unknown:
                self._journal.say(What.unknown, key, line.ordinal, "killed while it was submitted")

    def _find(self, job: str, ordinal: int, key: str) -> SubmittedJob:
        while True:
            try:
                return self.client.job(job)
            except (BrokerJobsError, TimeoutError) as error:
                self._journal.say(What.troubled, key, ordinal, repr(error))
                time.sleep(PAUSE)

    def _submit(self, ordinal: int) -> None:
        """Submit a job until it is known whether it is."""
        found = self._plan(ordinal)
        job = found.job(str(self._folder))
        self._journal.say(What.intended, found.key, ordinal)
        while True:
            try:
                submitted = self.client.submit(job, idempotency_key=found.key if found.keyed else None, timeout=TIMEOUT)
            except SubmitUnknown as error:
                if not found.keyed:
                    self._journal.say(What.unknown, found.key, ordinal, repr(error))
                    return
                self._journal.say(What.troubled, found.key, ordinal, repr(error))
            except (BrokerJobsError, TimeoutError) as error:
                self._journal.say(What.refused, found.key, ordinal, repr(error))
            else:
                self._journal.say(What.confirmed, found.key, ordinal, submitted.id)
                self._open[found.key] = found, ordinal, submitted
                return
            time.sleep(PAUSE)

    def _read(self) -> None:
        """Wait for the end of one, and write down what has come of it."""
        try:
            self.client.wait_for_any([job for _, _, job in self._open.values()], timeout=2)
        except TimeoutError:
            return
        except BrokerJobsError as error:
            self._journal.say(What.troubled, "", -1, repr(error))
            time.sleep(PAUSE)
            return
        for key, (found, ordinal, job) in list(self._open.items()):
            try:
                if job.state not in JOB_ENDED:
                    continue
                wrong = differences(found, job)
            except (BrokerJobsError, TimeoutError) as error:
                self._journal.say(What.troubled, key, ordinal, repr(error))
                time.sleep(PAUSE)
                continue
            self._journal.say(What.told, key, ordinal, job.id, wrong)
            del self._open[key]


def differences(found: Plan, job: SubmittedJob) -> list[str]:
    """What a job has come to that it should not have.

    Raises:
        BrokerJobsError, TimeoutError: nobody can say now
    """
    expected = found.expected()
    values, errors = job.results(timeout=TIMEOUT), job.errors()
    state = "failed" if found.shape is Shape.failing else "succeeded"
    wrong = [] if job.state.value == state else [f"{found.key} is {job.state.value}, not {state}"]
    for number, wanted in expected.items():
        error = errors.get(number)
        if (number in values) == (error is not None):
            wrong.append(f"task {number} of {found.key} has {'two outcomes' if error else 'no outcome'}")
        elif isinstance(wanted, Failure):
            if error is None or wanted.text not in error.message:
                wrong.append(f"task {number} of {found.key} should have failed by itself: {error}")
        elif error is not None:
            wrong.append(f"task {number} of {found.key} failed: {error.cause}: {error.message}")
        elif values[number] != wanted:
            wrong.append(f"task {number} of {found.key} returned {values[number]!r:.80}, not {wanted!r:.80}")
    wrong += [f"{found.key} has a task {number}" for number in sorted({*values, *errors} - set(expected))]
    return wrong


if __name__ == "__main__":
    Submitter(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])).run()

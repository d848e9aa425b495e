"""What a job has left, and what follows for its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs_worker.executors.batch.folders import dropped, remove
from broker_jobs_worker.executors.batch.script import ERROR
from broker_jobs_worker.executors.verdicts import OutputUp, condemned, with_last_line
from broker_jobs_worker.runners.program import in_own_words

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.wire.messages import Output
    from broker_jobs_worker.executors.batch.folders import Folders
    from broker_jobs_worker.executors.batch.running import Running


def gather(running: Running, folder: Path, folders: Folders, outcome: Outcome) -> tuple[Outcome, Output, Output]:
    """The outcome in the program's own words where it has some, and its output; the folder goes."""
    options, run = running.execution.options, running.run()
    running.seen = folders.look(folder, run)
    problem = folders.problem(folder)
    if problem is not None and running.sentence is None:
        outcome = Failed(Cause.error, problem)
    ending = in_own_words(outcome, str(folder / ERROR))
    outcome = ending.outcome
    stdout, stderr = folders.output(folder, run)
    limit = options.output_limit
    if limit is not None and isinstance(outcome, Succeeded) and stdout.size + stderr.size > limit:
        outcome = condemned(OutputUp(limit, stdout.size + stderr.size), None)
    if not ending.explained:
        outcome = with_last_line(outcome, stderr.tail)
    stdout, stderr = dropped(outcome, options.keep_stdout, stdout), dropped(outcome, options.keep_stderr, stderr)
    remove(folder)
    return outcome, stdout, stderr

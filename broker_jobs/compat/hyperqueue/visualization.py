"""The graph of a job as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs.compat.hyperqueue.job import Job
    from broker_jobs.compat.hyperqueue.output import GenericPath


def visualize_job(job: Job, path: GenericPath) -> None:
    """Write the graph of a job in the DOT format; no further package is needed.

    Args:
        path: the file, for example for ``dot -Tsvg``
    """
    lines = ["digraph job {"]
    lines += [f"{task.task_id} [label={json.dumps(task.label, ensure_ascii=False)}];" for task in job.tasks]
    lines += [f"{dep.task_id} -> {task.task_id};" for task in job.tasks for dep in task.dependencies]
    Path(path).write_text("\n".join([*lines, "}", ""]), encoding="utf-8")

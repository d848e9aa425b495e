"""The graph of the demo: four tasks a file, one reduction a group of files, three programs, one report.

::

    parse(file) ─┬─► size(file) ───────┐
                 ├─► functions(file) ──┼─► summarize(group) ──────────────────────┬─► total
                 ├─► complexity(file) ─┘                                          │
                 └─► write_names(all) ──► sort | uniq -c (programs) ──► gzip ─────┘
"""

from __future__ import annotations

import sysconfig
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.demo import analysis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker_jobs import Job, Task

FILES: Final = 320
"""Source files that are looked at: with four tasks each, more than a thousand tasks."""

_FOREIGN: Final = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib"}


def standard_library(most: int = FILES) -> tuple[Path, list[str]]:
    """The folder of the standard library, and up to `most` of its source files, spread over it."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.py") if not _FOREIGN & set(path.relative_to(root).parts))
    step = max(1.0, len(files) / most)
    return root, [files[int(index * step)] for index in range(min(most, len(files)))]


def build(job: Job, root: Path, files: Sequence[str], folder: Path) -> Task:
    """Fill a job; the task whose result is the report.

    Args:
        job: an empty job
        root: folder that the files are in
        files: paths below `root`
        folder: for the files that the programs read and write
    """
    outlines = {file: job.function(analysis.parse, args=(str(root), file), name=f"parse {file}") for file in files}
    groups: dict[str, list[tuple[Task, Task, Task, Task]]] = defaultdict(list)
    for file, outline in outlines.items():
        measured = [
            job.function(function, args=(outline.output,), name=f"{function.__name__} {file}")
            for function in (analysis.size, analysis.functions, analysis.complexity)
        ]
        groups[_group(file)].append((outline, measured[0], measured[1], measured[2]))
    summaries = {
        name: job.function(analysis.summarize, args=_columns(rows), name=f"summarize {name}") for name, rows in sorted(groups.items())
    }
    names = job.function(analysis.write_names, args=([outline.output for outline in outlines.values()], str(folder)), name="write names")
    # Programs hand on files, in a folder that they share.
    ordered = job.program(["sort", "names.txt"], cwd=folder, stdout="sorted.txt", env={"LC_ALL": "C"}, deps=[names], name="sort")
    counted = job.program(["uniq", "-c", "sorted.txt"], cwd=folder, stdout="counted.txt", deps=[ordered], name="uniq")
    packed = job.program(["gzip", "--keep", "--force", "names.txt"], cwd=folder, deps=[names], name="gzip")
    outputs = {name: task.output for name, task in summaries.items()}
    return job.function(analysis.total, args=(outputs, str(folder)), deps=[counted, packed], name="total")


def _group(file: str) -> str:
    """The top package that a file belongs to."""
    return file.split("/", 1)[0] if "/" in file else "modules"


def _columns(rows: Iterable[tuple[Task, ...]]) -> tuple[list[object], ...]:
    """The results of the same kind side by side: four lists."""
    return tuple([task.output for task in column] for column in zip(*rows, strict=True))

"""One side of a case, in a process of its own: ``python -m benchmarks.side MODULE:FUNCTION SETTING``; prints what it has measured as JSON.

It runs in the environment of broker-jobs or in that of the peers, so it imports nothing but what the function's module does.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys

from benchmarks.measure import Setting


def main() -> None:
    """Measure once. What the systems print goes to standard error, so that standard output has the answer alone."""
    answer = os.dup(1)
    os.dup2(2, 1)
    module, _, function = sys.argv[1].partition(":")
    measure = getattr(importlib.import_module(module), function)(Setting(**json.loads(sys.argv[2])))
    os.write(answer, json.dumps(dataclasses.asdict(measure)).encode() + b"\n")


if __name__ == "__main__":
    main()

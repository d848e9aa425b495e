"""A daemon whose time of day can be another: ``python -m tests.system.chaos.stepped ARGUMENTS`` is ``broker-jobs ARGUMENTS``.

libfaketime is loaded into this process, and into none that it starts: `time.sleep` of Python fails with it.
"""

from __future__ import annotations

import os
import runpy

for name in ("LD_PRELOAD", "PYTHONPATH"):
    os.environ.pop(name, None)
runpy.run_module("broker_jobs", run_name="__main__")

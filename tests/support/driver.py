"""A worker to be killed: ``python -m tests.support.driver SPOOL FOLDER``.

It runs programs and functions that leave daemons in FOLDER, prints ``ready`` when all are there, and waits for its end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.support import stubborn
from tests.support.executions import bench, call, program


def leave(folder: str, mode: str) -> None:
    """Leave a daemon and stay."""
    if os.fork() == 0:
        stubborn.main(folder, mode)
        os._exit(0)
    time.sleep(stubborn.LIFE)


async def main(spool: Path, folder: Path) -> None:
    """Run them all."""
    async with bench(spool) as b:
        for number, mode in enumerate(("plain", "daemon", "hop")):
            places = [folder / f"{kind}-{number}" for kind in ("program", "function", "left")]
            for place in places:
                place.mkdir(parents=True)
            b.executor.start(program("sh", "-c", f"{sys.executable} {stubborn.__file__} {places[0]} {mode}; sleep 100"))
            b.executor.start(call(leave, str(places[1]), mode))
            await b.run_one(program("true"))
            places[2].rmdir()
        while not all(list(place.iterdir()) for place in folder.iterdir()):
            await asyncio.sleep(0.01)
        print("ready", *b.executor.processes, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))

"""Start one of our modules under any interpreter: ``python launch.py MODULE LIBRARY [ROOT…]``.

Our own two packages are taken from where this file lies, whatever version the interpreter has installed; everything else comes from
the interpreter's own path, and from the roots only what is missing there. Run as a file, never imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def adopt(name: str, folder: Path) -> None:
    """Import a package from a folder that need not be on the import path."""
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Run the ``main`` of the module."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file alone is run by any interpreter)
        sys.exit(f"Python {sys.version.split()[0]} is too old to run functions of broker-jobs: 3.11 or newer is needed")
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file
    module, library, *roots = sys.argv[1:]
    sys.path.extend(root for root in roots if root not in sys.path)
    adopt("broker_jobs", Path(library))
    adopt("broker_jobs_worker", Path(__file__).resolve().parents[1])
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()

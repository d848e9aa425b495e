"""Workspaces: folders of an application, of each of its users, and of each job, all below one root.

::

    ROOT/<app>/app            of the application
    ROOT/<app>/users/<user>   of a user
    ROOT/<app>/jobs/<id>      of a job, made and removed with it
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from broker_jobs.errors import WorkspaceError

if TYPE_CHECKING:
    import os

_LONGEST: Final = 200


class Workspaces:
    """The workspaces of one application.

    Args:
        root: of all applications
        app: the application
    """

    def __init__(self, root: str | os.PathLike[str], app: str) -> None:
        self._top = Path(root).absolute() / folder_name(app)

    def app(self) -> Path:
        """The folder of the application, made where it is missing."""
        return _made(self._top / "app")

    def user(self, user: str) -> Path:
        """The folder of a user, made where it is missing."""
        return _made(self._top / "users" / folder_name(user))

    def job(self, job_id: str) -> Path:
        """The folder of a job, which need not be there."""
        return self._top / "jobs" / folder_name(job_id)

    def make(self, job_id: str) -> None:
        """Make the folder of a job."""
        _made(self.job(job_id))

    def remove(self, job_id: str) -> None:
        """Remove the folder of a job with all that is in it; of a link in it, or in its place, the link alone. Again does nothing.

        Raises:
            WorkspaceError: something of it is left
        """
        folder = self.job(job_id)
        try:
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                shutil.rmtree(folder)  # follows no links
        except OSError as error:
            raise WorkspaceError(f"the workspace {folder} cannot be removed: {error.strerror or error}") from error


def folder_name(text: str) -> str:
    """A name for a folder that stands for this text alone, and leads nowhere else."""
    name = quote(text, safe=" @+=,")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 65]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"the workspace {folder} cannot be made: {error.strerror or error}") from error
    return folder

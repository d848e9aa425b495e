"""From the format of any released version to that of this one: Alembic's revisions, each named by the number of the version it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def config(connection: Connection | None = None) -> Config:
    """What Alembic needs to know: where the revisions are, and the database."""
    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest version, in the transaction of the caller. Tables that Alembic has not seen are version 1."""
    command.upgrade(config(connection), "head")

"""From version 1 (released with 0.1.0) to version 2 (not released yet: columns may still be added here)."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "2"
down_revision = None


def upgrade() -> None:
    """New columns are nullable or have a `server_default`: rows of version 1 have no value for them."""
    op.add_column("jobs", Column("pause_reason", Text))

"""Data of users, as pinexQ names it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Self

from broker_jobs.compat.pinexq.exceptions import translated
from broker_jobs.compat.pinexq.tags import HIDDEN, labels, link, linked
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from typing import BinaryIO

    import broker_jobs
    from broker_jobs import Client


class WorkData:
    """Data in the store; its attributes are as of the last `refresh`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._native: broker_jobs.WorkData | None = None

    @classmethod
    def of(cls, client: Client, native: broker_jobs.WorkData) -> Self:
        """The face of data."""
        return cls(client)._told(native)  # noqa: SLF001 (of its own class)

    @translated()
    def create(
        self,
        *,
        filename: str,
        mediatype: str = "application/octet-stream",
        json: Any = None,
        file: BinaryIO | None = None,
        binary: str | bytes | None = None,
        tags: list[str] | None = None,
    ) -> Self:
        """Put one of `json`, `file` (open in binary mode) and `binary` into the store."""
        if [json, file, binary].count(None) != 2:  # noqa: PLR2004 (one of three)
            raise ValidationError("give one of json, file and binary")
        content = binary.encode() if isinstance(binary, str) else binary if binary is not None else file
        return self._told(self.client.add_data(content, json=json, name=filename, media_type=mediatype, tags=labels(tags or ())))

    @classmethod
    @translated()
    def from_url(cls, client: Client, work_data_url: str) -> Self:
        """The data that a link names."""
        return cls.of(client, client.data(*linked("data", work_data_url)))

    @property
    def native(self) -> broker_jobs.WorkData:
        """As broker-jobs has it; `ValidationError` where there is none."""
        if self._native is None:
            raise ValidationError("there is no data: create() makes it, and delete() ends it")
        return self._native

    def self_link(self) -> str:
        """The text that finds it again."""
        return link("data", self.native.id)

    @translated()
    def refresh(self) -> Self:
        """Ask the ledger again."""
        return self._told(self.client.data(self.native.id))

    @translated()
    def set_tags(self, tags: list[str]) -> Self:
        """Give it these tags, in place of those that it had."""
        return self._told(self.native.set_tags([*labels(tags), *([HIDDEN] if self.hidden else [])]))

    @translated()
    def hide(self) -> Self:
        """Keep it out of queries that do not ask for what is hidden."""
        return self._told(self.native.set_tags([*self.tags, HIDDEN]))

    @translated()
    def unhide(self) -> Self:
        """Show it again."""
        return self._told(self.native.set_tags(self.tags))

    def allow_deletion(self) -> Self:
        """Nothing: what no job takes may always be deleted."""
        return self

    @translated()
    def download(self) -> bytes:
        """All of it."""
        return self.native.read()

    @translated()
    def delete(self) -> Self:
        """Drop it for good; `NotAvailableException` where a job takes it."""
        self.native.delete()
        self._native = None
        return self

    @property
    def work_data_hco(self) -> Self:
        """Itself: what pinexQ's has as fields are attributes here."""
        return self

    @property
    def is_used_as_job_input(self) -> bool:
        """Whether a job takes it; asks the ledger."""
        return bool(self.native.used_by())

    def _told(self, native: broker_jobs.WorkData) -> Self:
        self._native, info = native, native.info
        self.name, self.media_type, self.size_in_bytes = native.name, native.media_type, native.size
        self.tags, self.hidden = [tag for tag in native.tags if tag != HIDDEN], HIDDEN in native.tags
        self.created_at = datetime.datetime.fromtimestamp(info.created_ms / 1000, datetime.UTC)
        self.producer_job_link = link("job", info.job) if info.job else None
        self.producer_processing_step_link = link("step", *info.step.split()) if info.step else None
        return self

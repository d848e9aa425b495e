"""Data of users, and tags as pinexQ writes them: ``key`` or ``key=value``, in one form for each value."""

from __future__ import annotations

import datetime
import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import broker_jobs
from broker_jobs import ValidationError
from broker_jobs.compat.pinexq.exceptions import ApiException, Translating

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from broker_jobs import Client


def labels(tags: Iterable[str]) -> list[str]:
    """Tags in their one form, each once; `ValidationError` where they are no list of texts."""
    return list(dict.fromkeys(map(normalised, broker_jobs.Job(tags=tags).tags)))


def normalised(tag: str) -> str:
    """A tag in its one form: numbers, truth values, times and timestamps in one way; `ValidationError` of a timestamp without a zone."""
    key, equals, value = (part.strip() for part in tag.partition("="))
    return f"{key}={_value(value)}" if equals else key


def _value(text: str) -> str:
    if text.lower() in {"true", "false"}:
        return text.lower()
    if number := re.fullmatch(r"([+-]?)(?=\.?\d)(\d*)\.(\d*)", text, re.ASCII):
        return f"{number[1]}{number[2] or '0'}.{number[3] or '0'}"
    if re.fullmatch(r"\d\d:\d\d:\d\d", text, re.ASCII):
        return f"{text}:00"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", text, re.ASCII):
        return text
    try:
        stamp = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(f"{text!r} is no timestamp: write it as '2026-01-31T10:00:00Z'") from None
    if stamp.tzinfo is None:
        raise ValidationError(f"the timestamp {text!r} needs a zone: write it as '{text}Z', or with an offset such as +01:00")
    return stamp.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def tag_list_update(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Old tags, with the new ones in place of those of the same key: ``['a=1', 'b']`` and ``['a=2']`` give ``['a=2', 'b']``."""
    return list({tag.partition("=")[0]: tag for tag in [*old, *new]}.values())


class WorkData(Translating):
    """Data in the store; `native` is the same as broker-jobs has it: size, media type, what it comes from, who takes it."""

    def __init__(self, client: Client, native: broker_jobs.WorkData | None = None) -> None:
        self.client = client
        self._native = native

    @classmethod
    def from_url(cls, client: Client, work_data_url: str) -> Self:
        """The data that a link names."""
        return cls(client, client.data(work_data_url))

    def create(
        self,
        *,
        filename: str,
        mediatype: str = "application/octet-stream",
        json: Any = None,
        file: BinaryIO | None = None,
        binary: str | bytes | None = None,
        tags: Iterable[str] | None = None,
    ) -> Self:
        """Put one of `json`, `file` (open in binary mode) and `binary` into the store."""
        if [json, file, binary].count(None) != 2:  # noqa: PLR2004 (one of three)
            raise ValidationError("give one of json, file and binary")
        content = binary.encode() if isinstance(binary, str) else binary if binary is not None else file
        self._native = self.client.add_data(content, json=json, name=filename, media_type=mediatype, tags=labels(tags or ()))
        return self

    @property
    def native(self) -> broker_jobs.WorkData:
        """As broker-jobs has it; `ApiException` where there is none."""
        if self._native is None:
            raise ApiException("there is no data: create() makes it, and delete() ends it")
        return self._native

    name = property(attrgetter("native.name"))
    tags = property(lambda self: list(self.native.tags))

    def self_link(self) -> str:
        """The text that finds it again: its id."""
        return self.native.id

    def set_tags(self, tags: Iterable[str]) -> Self:
        """Give it these tags, in place of those that it had."""
        self.native.set_tags(labels(tags))
        return self

    def download(self) -> bytes:
        """All of it."""
        return self.native.read()

    def delete(self) -> Self:
        """Drop it for good; `NotAvailableException` where a job takes it."""
        self.native.delete()
        self._native = None
        return self

"""Data of users: put into the store, found again, read, followed to where it came from, and deleted."""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from broker_jobs.client.calls import user
from broker_jobs.client.results import loaded
from broker_jobs.core.data import OCTETS, DataRef, check_media_type, check_name, check_tags
from broker_jobs.core.plain import plain
from broker_jobs.data.files import BLOCK, Files, checked, copy_to
from broker_jobs.errors import ValidationError, ValueStoreError
from broker_jobs.ids import short
from broker_jobs.wire.messages import (
    DataDeleted,
    DataInfo,
    DataList,
    DeleteData,
    FindData,
    GetWork,
    ListData,
    ListLog,
    ListUses,
    Log,
    LogEntry,
    Program,
    StepCall,
    TagData,
    UseList,
    WorkInfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.client.client import Client
    from broker_jobs.client.core import Core
    from broker_jobs.core.plain import Plain

JSON: Final = "application/json"
TEXT: Final = "text/plain"
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where data comes from.

    Attributes:
        data: that was made
        job: id of the job that has made it; None where a user has added it
        task: its number there
        step: name and version; empty for a program or a user
        parameters: plain data, as they were given to the step; of a program its arguments, as ``argv``
        inputs: where what it took comes from, by slot or path
    """

    data: WorkData
    job: str | None = None
    task: int = 0
    step: str = ""
    parameters: dict[str, Plain] | None = None
    inputs: tuple[tuple[str, Lineage], ...] = ()


class WorkData:
    """A piece of data: a file with a name, a media type and tags, in the store, known to the ledger.

    Attributes:
        info: as the ledger knew it when it was asked
    """

    def __init__(self, client: Client, info: DataInfo) -> None:
        self._client = client
        self.info = info

    @property
    def id(self) -> str:
        """The whole id, 32 hexadecimal digits; the last 8 are enough to find it again."""
        return self.info.data.id

    @property
    def name(self) -> str:
        """As of a file."""
        return self.info.data.name

    @property
    def media_type(self) -> str:
        """Such as ``text/csv``."""
        return self.info.data.media_type

    @property
    def size(self) -> int:
        """Bytes."""
        return self.info.data.size

    @property
    def sha256(self) -> str:
        """Digest of the bytes, as hexadecimal text."""
        return self.info.data.sha256.hex()

    @property
    def tags(self) -> tuple[str, ...]:
        """Texts to find it by."""
        return self.info.tags

    @property
    def job(self) -> str | None:
        """Id of the job that has made it; None where a user has added it."""
        return self.info.job

    def open(self) -> BinaryIO:
        """A stream over its bytes, once they were found to be what was written; nothing is held in memory.

        Raises:
            ValueStoreError: it cannot be read here, or is not what was written
        """
        return checked(self.info.data)

    def read(self) -> bytes:
        """All of it; as `open`."""
        with self.open() as file:
            return file.read()

    def text(self, encoding: str = "utf-8") -> str:
        """All of it, as a text."""
        return self.read().decode(encoding)

    def json(self) -> Any:
        """All of it, read as JSON."""
        return json.loads(self.read())

    def download(self, path: str | Path) -> Path:
        """Write it into a file, or into a folder under its name; where.

        Raises:
            ValueStoreError: it cannot be read here, or is not what was written
            OSError: it cannot be written
        """
        target = Path(path)
        target = target / self.name if target.is_dir() else target
        copy_to(self.info.data, target)
        return target

    def set_tags(self, tags: Iterable[str]) -> WorkData:
        """Give it these tags, in place of those that it had."""
        wanted = _tags(tags)
        self.info = self._client.runtime.run(lambda core: core.ask(TagData(self.id, wanted), DataInfo))
        return self

    def used_by(self) -> list[str]:
        """Ids of the jobs that take it."""
        found = self._client.runtime.run(lambda core: core.ask(ListUses(self.id), UseList))
        return list(dict.fromkeys(use.job for use in found.uses))

    def lineage(self) -> Lineage:
        """What made it, from what, with which version of a step and which parameters; and so on for what that took."""
        infos, works = self._client.runtime.run(lambda core: _ancestry(core, self.info))
        return self._lineage(self.info, infos, works, frozenset())

    def delete(self) -> None:
        """Drop it, with its bytes.

        Raises:
            InUse: a job takes it; the text and `InUse.objects` say which
            DataNotFound: it is gone
        """
        self._client.runtime.run(lambda core: core.ask(DeleteData(self.id), DataDeleted))

    def __repr__(self) -> str:
        return f"<WorkData {short(self.id)} {self.name!r}, {self.media_type}, {self.size} bytes>"

    def _lineage(
        self, info: DataInfo, infos: dict[str, DataInfo], works: dict[tuple[str, int], WorkInfo], above: frozenset[str]
    ) -> Lineage:
        data = WorkData(self._client, info)
        work = works.get((info.job or "", info.task))
        if info.job is None or work is None or info.data.id in above:
            return Lineage(data, info.job, info.task, info.step)
        inside = above | {info.data.id}
        inputs = tuple((slot, self._lineage(infos[one], infos, works, inside)) for slot, one in _taken(work) if one in infos)
        return Lineage(data, info.job, info.task, info.step, parameters_of(work), inputs)


@dataclass(frozen=True, slots=True)
class PartialData:
    """Data that a step is making: what it has written so far.

    Attributes:
        slot: of the step
        key: where it lies in the store
    """

    slot: str
    store: str
    key: str

    def open(self) -> BinaryIO:
        """A stream over what was written so far."""
        return Files(self.store).read(self.key)

    def read(self) -> bytes:
        """What was written so far."""
        with self.open() as file:
            return file.read()


def upload(
    store: str | None, content: bytes | os.PathLike[str] | BinaryIO, name: str | None, media_type: str | None, tags: Iterable[str]
) -> DataInfo:
    """Write content into the store; what the ledger is to know of it.

    Raises:
        ValidationError: something of it cannot be; nothing was written
        ValueStoreError: there is no store, or it cannot be written
    """
    if store is None:
        raise ValueStoreError(
            "there is no store for data: name a folder that all hosts see, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE"
        )
    if isinstance(content, str) or not (isinstance(content, bytes | bytearray | os.PathLike) or hasattr(content, "read")):
        raise ValidationError(
            f"data is given as bytes, as a path (pathlib.Path), or as a stream that is open for reading, not as {content!r:.100}"
        )
    if isinstance(content, io.TextIOBase):
        raise ValidationError("the stream gives texts: open it in binary mode")
    named = name or _name_of(content)
    if named is None:
        raise ValidationError("data needs a name, as of a file: give name=")
    kind = media_type or mimetypes.guess_type(named)[0] or OCTETS
    check_name(named)
    check_media_type(kind)
    labels = _tags(tags)
    data_id = uuid.uuid4().hex
    files, key = Files(store), f"data/uploads/{data_id[-2:]}/{data_id}"
    try:
        size, digest = _copy(content, files, key)
    except BaseException:
        files.remove(key)
        raise
    return DataInfo(DataRef(data_id, named, kind, size, digest, store, key), labels, user())


def as_json(value: object) -> bytes:
    """Plain data as JSON; `ValidationError` that says where it is none."""
    return json.dumps(plain(value), ensure_ascii=False).encode()


async def select(core: Core, wanted: ListData, limit: int | None) -> list[DataInfo]:
    """Data that fits, the newest first; None is all of it."""
    found: list[DataInfo] = []
    more = True
    while more and (limit is None or len(found) < limit):
        page = _PAGE if limit is None else min(_PAGE, limit - len(found))
        question = replace(wanted, limit=page, skip=len(found))
        answer = await core.ask(question, DataList)
        found += answer.data
        more = answer.more
    return found


async def entries(core: Core, subject: str | None, limit: int | None) -> list[LogEntry]:
    """The log, the latest first."""
    found: list[LogEntry] = []
    more = True
    while more and (limit is None or len(found) < limit):
        page = _PAGE if limit is None else min(_PAGE, limit - len(found))
        answer = await core.ask(ListLog(subject, found[-1].number if found else None, page), Log)
        found += answer.entries
        more = answer.more
    return found


async def find(core: Core, text: str) -> DataInfo:
    """The data of this id, or ending of an id."""
    return await core.ask(FindData(text), DataInfo)


async def _ancestry(core: Core, info: DataInfo) -> tuple[dict[str, DataInfo], dict[tuple[str, int], WorkInfo]]:
    """All data that this comes from, and what made it."""
    infos, works = {info.data.id: info}, dict[tuple[str, int], WorkInfo]()
    left = [info]
    while left:
        one = left.pop()
        if one.job is None or (one.job, one.task) in works:
            continue
        work = works[one.job, one.task] = await core.ask(GetWork(one.job, one.task), WorkInfo)
        for _, data in _taken(work):
            if data not in infos:
                infos[data] = await find(core, data)
                left.append(infos[data])
    return infos, works


def _taken(info: WorkInfo) -> list[tuple[str, str]]:
    """Slots or paths, and the ids of the data in them."""
    match info.work:
        case StepCall(slots=slots):
            return [(name, data.id) for name, held in slots for data in held]
        case Program(files=files):
            return [(path, data.id) for path, data in files]
        case _:
            return []


def parameters_of(info: WorkInfo) -> dict[str, Plain] | None:
    """What a step was given, or the arguments of a program; None for what is neither."""
    match info.work:
        case StepCall(parameters=parameters):
            given: Any = loaded(parameters)
            return dict(given)
        case Program(argv=argv):
            return {"argv": [os.fsdecode(part) for part in argv]}
        case _:
            return None


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise ValidationError(f"tags must be a list of texts, not {tags!r}")
    labels = tuple(tags)
    if not all(isinstance(tag, str) for tag in labels):
        raise ValidationError(f"tags must be a list of texts, not {labels!r}")
    check_tags(labels)
    return labels


def _name_of(content: object) -> str | None:
    if isinstance(content, os.PathLike):
        return Path(os.fspath(content)).name
    name = getattr(content, "name", None)
    return Path(name).name if isinstance(name, str) else None


def _copy(content: bytes | os.PathLike[str] | BinaryIO, files: Files, key: str) -> tuple[int, bytes]:
    """Write content; how much it was, and its digest."""
    if isinstance(content, os.PathLike):
        with Path(content).open("rb") as source:
            return _copy(source, files, key)
    digest, size = hashlib.sha256(), 0
    with files.write(key) as target:
        while block := content if isinstance(content, bytes | bytearray) else content.read(BLOCK):
            target.write(block)
            digest.update(block)
            size += len(block)
            if block is content:
                break
    return size, digest.digest()

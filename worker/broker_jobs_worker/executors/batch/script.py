"""The script that is a job of a batch system: it runs one program, and leaves its exit code.

It needs a shell, the tools of POSIX and the folder of the job, nothing of ours. All that a user has given stands in single quotes, in which
a shell changes no byte; variables go through ``env``, since a shell drops those whose name it does not like.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.core.placeholders import CWD
from broker_jobs.core.spec import Keep
from broker_jobs_worker.runners.surroundings import filled_in, variables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.wire.messages import Program
    from broker_jobs_worker.runners.protocol import Run

EXIT: Final = "exit"
"""File with the exit code, in decimal; it appears whole."""
STARTED: Final = "started"
"""File with the seconds since 1970 at which it began, and the host on which."""
PLACE: Final = "place"
"""File with the folder in which the program runs."""
PROBLEM: Final = "problem"
"""File that says why the program could not be started."""
ERROR: Final = "error"
"""What the program may write itself about its failure."""
STREAMS: Final = ("stdout", "stderr")
STRAY: Final = 75
"""Exit code of the script where there is nothing for it to do: its folder is gone, or another job runs the program (EX_TEMPFAIL)."""

_PLACE: Final = f"%{{{CWD}}}"
_HEAD: Final = rb"""#!/bin/sh
# Written by broker-jobs, to be run once.
# Without the folder, or a second time, nothing is run: whoever submitted this has given it up.
[ -f ./%(stdin)s ] || cd %(folder)s 2>/dev/null || exit %(stray)d
[ -f ./%(stdin)s ] && mkdir ./begun 2>/dev/null || exit %(stray)d
here=$(pwd)
exec </dev/null >/dev/null 2>./script.log
put() { printf '%%s\n' "$2" >"$here/$1.new" && mv -f "$here/$1.new" "$here/$1"; }
finish() { put exit "$1"; exit "$1"; }
fail() { put problem "$1 on $(uname -n)"; finish 1; }
put started "$(date +%%s) $(uname -n)"
"""
_RUN: Final = rb"""
child='' again=1 code=''
stop() { again=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null; }
trap stop TERM USR2 # Grid Engine warns by USR2 where it is asked to
trap 'again=1' USR1 XCPU
# What a shell starts beside it ignores SIGINT and SIGQUIT, which a program may need.
if env --default-signal=INT,QUIT true 2>/dev/null; then set -- --default-signal=INT,QUIT; else set --; fi
env "$@" -- %(words)s <"$here"/%(stdin)s >%(stdout)s 2>%(stderr)s &
child=$!
while [ -n "$again" ]; do
  again=''
  wait "$child"
  status=$?
  # A signal may have come after the end, which some shells tell only once.
  [ "$status" = 127 ] && [ -n "$code" ] || code=$status
done
finish "$code"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job runs.

    Attributes:
        folder: of the job, absolute
        stdin: name of the file with its standard input, by which the script knows its folder
    """

    folder: str
    stdin: str


def quoted(text: bytes) -> bytes:
    """One word for a shell that stands for exactly these bytes."""
    return b"'" + text.replace(b"'", b"'\\''") + b"'"


def script(run: Run, program: Program, place: Place) -> bytes:
    """The script for a program.

    Args:
        run: its surroundings; `Run.folder` is not used
        program: what to run
        place: where
    """
    head = _HEAD % {
        b"stdin": quoted(os.fsencode(place.stdin)),
        b"folder": quoted(os.fsencode(place.folder)),
        b"stray": STRAY,
    }
    streams = [_stream(run, index) for index in (0, 1)]
    made = b"".join(before for before, _ in streams)
    words = b" ".join(_words(run, program))
    end = _RUN % {b"words": words, b"stdin": quoted(os.fsencode(place.stdin)), b"stdout": streams[0][1], b"stderr": streams[1][1]}
    return head + _enter(run, program, place) + made + end


def _enter(run: Run, program: Program, place: Place) -> bytes:
    """Go where the program is to run: as on any worker, but that a host without the job's folder runs it where its files are."""
    own = b"own=$here/work; [ . -ef %s ] || own=$here\n" % quoted(os.fsencode(place.folder))
    if program.task_dir:
        own = b"own=$here/work\n"
    home, wanted = run.options.home, run.options.cwd
    at_home = b"" if home is None else b"[ -d %(home)s ] && base=%(home)s || " % {b"home": quoted(os.fsencode(home))}
    if wanted is None and program.task_dir:
        choice = b"dir=$own\n"
    elif wanted is None:
        choice = at_home + b"base=$own; dir=$base\n"
    else:
        text = filled_in(wanted, run, {})
        beside = b"" if text.startswith("/") else b'"$base"/'
        choice = at_home + b"base=$own; dir=" + beside + quoted(os.fsencode(text)) + b"\n"
    entered = b'mkdir -p "$own" "$dir" && cd "$dir" || fail "the task cannot run in $dir"\nput place "$(pwd)"\n'
    return own + choice + entered


def _stream(run: Run, index: int) -> tuple[bytes, bytes]:
    """What to do before a stream can be opened, and where it goes."""
    options = run.options
    name, keep = ((options.stdout, options.keep_stdout), (options.stderr, options.keep_stderr))[index]
    if name is None:
        return b"", b"/dev/null" if keep is Keep.never else b'"$here"/' + STREAMS[index].encode()
    path = filled_in(name, run, {})
    word, folder = _path(path), os.path.dirname(path)  # noqa: PTH120 (a text with a placeholder)
    made = b"mkdir -p -- %s || fail 'the folder of the output cannot be made'\n" % _path(folder) if folder else b""
    # Emptied once, then appended to, so that both streams may go to one file.
    return made + b"true >%s || fail 'the output cannot be written'\n" % word, b">" + word


def _path(text: str) -> bytes:
    """A path as a word, with the folder of the task in it where the user wants that."""
    return b'"$PWD"'.join(quoted(os.fsencode(part)) for part in text.split(_PLACE))


def _words(run: Run, program: Program) -> Iterable[bytes]:
    """What ``env`` is given."""
    yield b'BROKER_JOBS_ERROR_FILE="$here"/' + ERROR.encode()
    if program.task_dir:
        yield b'BROKER_JOBS_TASK_DIR="$own"'
    for name, value in {**variables(run), **dict(program.env)}.items():
        yield quoted(os.fsencode(f"{name}={value}"))
    if b"=" in program.argv[0]:
        # It would be a variable for `env`; `nice` changes nothing here, and takes any name.
        yield from (b"nice", b"-n", b"0", b"--")
    yield from map(quoted, program.argv)

"""Arrays and directives of ``broker-jobs submit``, as far as they are decided before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from broker_jobs.cli.app import app
from broker_jobs.cli.directives import Directives, found_in, interpreted
from broker_jobs.cli.entries import array_of, lines
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from pathlib import Path


def _file(folder: Path, text: str) -> Path:
    path = folder / "file"
    path.write_bytes(text.encode())
    return path


# --- entries ---


@pytest.mark.parametrize(
    ("text", "found"), [("a\nb\n", ["a", "b"]), ("a\nb", ["a", "b"]), ("a\n\n b\n", ["a", "", " b"]), ("a\r\nb\r\n", ["a", "b"])]
)
def test_a_line_is_an_entry_with_or_without_a_newline_at_the_end(tmp_path: Path, text: str, found: list[str]) -> None:
    assert lines(_file(tmp_path, text)) == found


def test_items_of_json_are_compact(tmp_path: Path) -> None:
    array = array_of(None, None, _file(tmp_path, '[ {"a": [1, 2], "b": "é"}, "x y", 3 ]'))
    assert array is not None
    assert (array.ids, array.entries) == (range(3), ['{"a":[1,2],"b":"é"}', '"x y"', "3"])


def test_an_array_picks_entries_and_names_those_that_are_not_there(tmp_path: Path) -> None:
    file = _file(tmp_path, "a\nb\nc\n")
    array = array_of("0-2:2", file, None)
    assert array is not None
    assert (list(array.ids), array.entries) == ([0, 2], ["a", "c"])
    with pytest.raises(ValidationError, match=r"entries 0-2, and --array selects 3-4,9 too"):
        array_of("2-4,9", file, None)


@pytest.mark.parametrize(("text", "said"), [("{}", "must hold a JSON list"), ("[1,", "is no JSON"), ("[]", "has no entries")])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        array_of(None, None, _file(tmp_path, text))


def test_two_sources_of_entries_and_missing_files_are_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, "[1]")
    with pytest.raises(ValidationError, match="cannot be given together"):
        array_of(None, file, file)
    with pytest.raises(ValidationError, match="cannot be read"):
        array_of(None, tmp_path / "absent", None)


# --- directives ---


def test_directives_stand_before_the_first_code() -> None:
    text = "#!/bin/sh\n#BJ --cpus 4\n\n# something else\n  #BJ --env 'A=b c'\n#BJX --no\necho\n#BJ --cpus 8\n"
    assert found_in(text, "s.sh") == ["--cpus", "4", "--env", "A=b c"]


def test_an_open_quotation_is_named_with_its_line() -> None:
    with pytest.raises(typer.BadParameter, match=r"s.sh, line 2: No closing quotation"):
        found_in("#!/bin/sh\n#BJ --name 'a\n", "s.sh")


def test_a_script_runs_under_the_interpreter_of_its_first_line(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/usr/bin/env  bash\n", encoding="utf-8")
    assert interpreted([str(script), "x"], Directives.auto) == ["/usr/bin/env", "bash", str(script), "x"]
    assert interpreted([str(script), "x"], Directives.off) == [str(script), "x"]
    script.write_text("echo\n", encoding="utf-8")
    assert interpreted([str(script)], Directives.file) == [str(script)]
    assert interpreted(["sh", "-c", "true"], Directives.file) == ["sh", "-c", "true"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--nama x", "No such option: --nama"),
        ("--name x y", "'y' is no option"),
        ("--directives off", "can only be given on the command line"),
        ("--name", "requires an argument"),
    ],
)
def test_wrong_directives_are_named(tmp_path: Path, text: str, said: str) -> None:
    script = tmp_path / "work.sh"
    script.write_text(f"#!/bin/sh\n#BJ {text}\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["submit", "--", str(script)], env={"COLUMNS": "1000"})
    assert done.exit_code == 2
    assert "in the directives of" in done.output
    assert said in " ".join(done.output.split())


def test_directives_of_the_standard_input_need_it() -> None:
    done = CliRunner().invoke(app, ["submit", "--directives", "stdin", "--", "sh"], env={"COLUMNS": "1000"})
    assert done.exit_code == 2
    assert "give --stdin too" in " ".join(done.output.split())


def test_a_file_with_directives_must_be_there() -> None:
    done = CliRunner().invoke(app, ["submit", "--directives", "file", "--", "/no/such/file"], env={"COLUMNS": "1000"})
    assert done.exit_code == 2
    assert "cannot be read for its directives" in " ".join(done.output.split())

"""Templates: variables at any depth, templates from code and from a file, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from broker_jobs.errors import UnknownVariable, ValidationError
from broker_jobs.templates import JobTemplate, escaped, load_templates, replaced

if TYPE_CHECKING:
    from typing import Any

FOLDERS = {"APP_WORKSPACE": "/app", "USER_WORKSPACE": "/user"}


class Pair(NamedTuple):
    left: str
    right: int


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$(APP_WORKSPACE)/in", "/app/in"),
        ("$(USER_WORKSPACE):$(APP_WORKSPACE)", "/user:/app"),
        (["$(APP_WORKSPACE)", 1, ["$(USER_WORKSPACE)"]], ["/app", 1, ["/user"]]),
        (("$(APP_WORKSPACE)", {"deep": ("$(USER_WORKSPACE)",)}), ("/app", {"deep": ("/user",)})),
        ({"a": {"b": ["$(APP_WORKSPACE)"]}, "$(APP_WORKSPACE)": 2}, {"a": {"b": ["/app"]}, "$(APP_WORKSPACE)": 2}),
        (Pair("$(APP_WORKSPACE)", 1), Pair("/app", 1)),
        (7, 7),
        (None, None),
        (b"$(APP_WORKSPACE)", b"$(APP_WORKSPACE)"),
        ("", ""),
        ("costs $5 (or $ 6)", "costs $5 (or $ 6)"),
        ("$$(APP_WORKSPACE)", "$(APP_WORKSPACE)"),
        ("$$(date +%s) $(APP_WORKSPACE)", "$(date +%s) /app"),
        ("$$$(APP_WORKSPACE)", "$$(APP_WORKSPACE)"),
    ],
)
def test_variables_are_replaced_in_texts_and_nowhere_else(given: Any, expected: Any) -> None:
    found = replaced(given, FOLDERS)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [r"C:\1\g<0>\n", "$(APP_WORKSPACE)", "&", "$$("])
def test_a_value_is_put_in_as_it_is(value: str) -> None:
    assert replaced("<$(DIR)>", {"DIR": value}) == f"<{value}>"


@pytest.mark.parametrize("text", ["$(NOBODY)", "$(date +%s)", "$()", "$(app_workspace)", "$(APP_WORKSPACE", "$(a $(APP_WORKSPACE))"])
def test_an_unknown_variable_is_an_error_that_lists_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownVariable, match=r"known here: \$\(APP_WORKSPACE\), \$\(USER_WORKSPACE\).*write \$\$\("):
        replaced({"deep": [text]}, FOLDERS)


def test_what_a_job_is_given_replaces_what_the_template_has_as_a_whole() -> None:
    template = JobTemplate("t", parameters={"env": {"A": "1", "B": "2"}, "argv": ["a"]})
    assert template.filled({"env": {"A": "$(APP_WORKSPACE)"}, "stdin": "x"}, FOLDERS) == {"env": {"A": "/app"}, "argv": ["a"], "stdin": "x"}
    assert template.parameters["env"] == {"A": "1", "B": "2"}


def test_variables_of_a_template_may_hold_those_of_the_manager() -> None:
    template = JobTemplate("t", parameters={"argv": ["$(DATA)", "$(COUNT)"]}, variables={"DATA": "$(APP_WORKSPACE)/data", "COUNT": 3})
    assert template.filled({}, FOLDERS) == {"argv": ["/app/data", "3"]}


def test_a_template_stays_what_it_was() -> None:
    parameters = {"argv": ["a"]}
    template = JobTemplate("t", parameters=parameters)
    parameters["argv"].append("b")
    assert template.parameters == {"argv": ["a"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "t", "type": None}, "type"),
        ({"name": "t", "parameters": ["a"]}, "parameters"),
        ({"name": "t", "parameters": {1: "a"}}, "parameters"),
        ({"name": "t", "variables": {"no name": "a"}}, "no name"),
        ({"name": "t", "variables": {"USER_WORKSPACE": "a"}}, "another name"),
        ({"name": "t", "variables": {"A": ["a"]}}, "variable A"),
        ({"name": "t", "variables": {"A": True}}, "variable A"),
    ],
)
def test_a_wrong_template_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        JobTemplate(**given)


def test_a_path_is_a_variable() -> None:
    assert JobTemplate("t", parameters={"a": "$(P)"}, variables={"P": Path("/x")}).filled({}, {}) == {"a": "/x"}


FILE = """
[[template]]
name = "one"

[[template]]
name = "two"
type = "program"
variables = { DATA = "$(APP_WORKSPACE)/data" }

[template.parameters]
argv = ["cat", "$(DATA)"]
"""


def test_templates_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "templates.toml"
    file.write_text(FILE)
    one, two = load_templates(file)
    assert one == JobTemplate("one")
    assert two == JobTemplate("two", "program", {"argv": ["cat", "$(DATA)"]}, {"DATA": "$(APP_WORKSPACE)/data"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[template]", r"is no TOML: .*line 1"),
        ("name = 'x'", r"must hold \[\[template\]\] tables, and not 'name'"),
        ("", r"must hold \[\[template\]\] tables"),
        ("template = 3", r"must hold \[\[template\]\] tables"),
        ("template = [3]", r"template 1: a template is a table"),
        (FILE + "[[template]]\nname = 'one'\n", r"line 12: there is a template 'one' already"),
        ("[[template]]\nname = 'a'\n\n[[template]]\nparametrs = {}", r"line 4: unknown key 'parametrs'; did you mean 'parameters'\?"),
        ("[[template]]\ntype = 'basic'", r"line 1: a template needs a name"),
        ("\n[[template]]\nname = 'a'\nvariables = { 'x y' = 1 }", r"line 2: the template 'a': 'x y' cannot be the name of a variable"),
    ],
)
def test_a_mistake_in_a_file_has_its_place(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "templates.toml"
    file.write_text(text)
    with pytest.raises(ValidationError, match=said) as caught:
        load_templates(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read: No such file"):
        load_templates(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["$(APP_WORKSPACE)", "$$(OpSys)", "$(", "a $(b(c)) $$$(x)", "$(APP_WORKSPACE) $(HOME) $(", "$ ( )"])
def test_what_is_escaped_comes_out_as_it_went_in(text: str) -> None:
    assert replaced(escaped({"a": (text, 3)}), FOLDERS) == {"a": [text, 3]}


def test_variables_that_are_known_are_not_escaped() -> None:
    assert escaped([Path("/a"), "$(APP_WORKSPACE)/$(X)"], {"APP_WORKSPACE"}) == ["/a", "$(APP_WORKSPACE)/$$(X)"]
    assert replaced(escaped("$(APP_WORKSPACE)/$(X)", FOLDERS), FOLDERS) == "/app/$(X)"

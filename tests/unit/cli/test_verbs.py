"""The list of verbs, which is written down, is what the verbs say themselves; and they are imported one at a time."""

from __future__ import annotations

import ast
import gc
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from searchanything import __main__
from searchanything.cli import app, helping, verbs

ROOT: Any = typer.main.get_command(app.app)


@pytest.mark.parametrize("name", verbs.VERBS)
def test_the_list_says_what_the_verb_says(name: str) -> None:
    listed = ROOT.commands[name]
    verb: Any = listed.load()
    assert verb.name == listed.name == name
    assert listed.help == inspect.cleandoc(verb.help).split("\n\n")[0]
    same = ("short_help", "hidden", "deprecated", "epilog")
    assert [getattr(listed, one) for one in same] == [getattr(verb, one) for one in same]
    assert not verb.rich_help_panel
    assert listed.get_short_help_str(60) == verb.get_short_help_str(60)  # of shell completion


def test_no_verb_is_left_out() -> None:
    """Each module of the package that declares a verb, as a function or an application, is in the list."""
    folder = Path(verbs.__file__).parent
    declaring = {
        file.stem
        for file in folder.glob("*.py")
        for node in ast.parse(file.read_text("utf-8")).body
        if _is_verb(node) or _is_application(node)
    } - {"app"}
    parts = {
        "evaluate_compare",
        "evaluate_instances",
        "evaluate_mine",
        "hash_layers",
    }  # verbs of another module's application
    assert declaring - parts == {module for module, _, _ in verbs.VERBS.values()}


def _is_verb(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(one, ast.Name) and one.id == "expanded" for one in node.decorator_list
    )


def _is_application(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("typer.Typer(")


def test_help_is_printed_as_if_all_were_imported(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    shown = []
    for prepared in (True, False):
        for name in [one for one in sys.modules if one in (helping.PRINTER, "rich.markdown", "rich.traceback")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(typer, "rich_utils", raising=False)
        if not prepared:
            monkeypatch.setattr(app, "prepare_help", lambda _: None)
        assert app.run(["query", "--help"]) == 0
        assert ("rich.markdown" in sys.modules) is not prepared
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "--point" in shown[0]


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("arguments", "rarely"),
    [
        *(([], True), (["--help"], True), (["status"], True), (["failed", "list"], True), (["failed"], True)),
        *((["index", "images"], False), (["serve"], False), (["failed", "retry"], False)),
    ],
)
def test_only_what_answers_once_collects_cycles_rarely(
    arguments: list[str], rarely: bool, thresholds: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []
    frozen: list[int] = []
    monkeypatch.setattr(sys, "argv", ["searchanything", *arguments])
    monkeypatch.setattr(app, "run", lambda _: seen.append(gc.get_threshold()) or 0)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(len(seen)))
    monkeypatch.setattr(__main__, "answer_questions_only", lambda: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert (ended.value.code, len(seen)) == (0, 1)
    assert frozen == ([1] if rarely else []), "the last look for garbage is left out once the answer was given"
    assert (seen[0][0] > 10 * thresholds[0], seen[0] == thresholds) == (rarely, not rarely)
    assert set(verbs.VERBS) >= __main__.SHORT


@pytest.mark.parametrize(
    ("arguments", "only"),
    [
        *((["status"], True), (["failed", "list"], True), (["query", "a.jpg", "--no-warm"], True)),
        *((["failed", "retry"], False), (["doctor"], False), (["index", "images"], False), (["--help"], False)),
    ],
)
@pytest.mark.usefixtures("thresholds")
def test_only_what_asks_an_index_leaves_parts_of_libraries_out(
    arguments: list[str], only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYDANTIC")}
    monkeypatch.setattr(sys, "argv", ["searchanything", *arguments])
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(__main__, "answer_questions_only", lambda: said.append("only"))
    monkeypatch.setattr(app, "run", lambda _: said.append("run") or 0)
    with pytest.raises(SystemExit):
        __main__.main()
    assert said == (["only", "run"] if only else ["run"]), "before anything is imported"
    assert ("PYDANTIC_DISABLE_PLUGINS" in environment) is only

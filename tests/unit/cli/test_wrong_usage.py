"""Wrong usage is said plainly: what was typed, what is expected, and which help explains it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from searchanything.cli.app import run
from searchanything.cli.verbs import VERBS, ListedVerb
from searchanything.cli.wrong_usage import _GUESSED, _number, wrong_usage

LIBRARY_WORDS = ("Input should", "Value error", "Invalid value", "unable to parse", "Got unexpected")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query", "q.png", "--limit", "0"], "--limit 0: expected a whole number of 1 or more"),
        (["query", "q.png", "--limit", "ten"], "--limit ten: expected a whole number of 1 or more"),
        (["query", "q.png", "--limit=1.5"], "--limit 1.5: expected a whole number of 1 or more"),
        (["query", "q.png", "--offset", "-1"], "--offset -1: expected a whole number of 0 or more"),
        (["duplicates", "--bits", "99"], "--bits 99: expected a whole number from 0 to 31"),
        (["serve", "--port", "99999"], "--port 99999: expected a whole number from 0 to 65535"),
        (["serve", "--port", "-1"], "--port -1: expected a whole number from 0 to 65535"),
        (["tune", "--recall", "2"], "--recall 2: expected a number from 0.01 to 1"),
        (["tune", "--recall", "most"], "--recall most: expected a number from 0.01 to 1"),
        (["query", "q.png", "--max-false-match", "few"], "--max-false-match few: expected a number"),
        (["status", "--format", "yaml"], "--format yaml: expected text or json"),
        (["query", "q.png", "--size-class", "huge"], "--size-class huge: expected small, medium or large"),
        (["query", "q.png", "--mask", "nowhere.png"], "--mask nowhere.png: no such file or folder"),
        (["query", "q.png", "--mask", "."], "--mask .: this is a folder, expected a file"),
        (["find", "q.png", "--in", "file"], "--in file: this is a file, expected a folder"),
        (["query", "q.png", "--pont", "1,2"], "there is no option --pont; did you mean --point?"),
        (["query", "q.png", "--zzz"], "there is no option --zzz"),
        (["query", "q.png", "--limit"], "--limit: its value is missing"),
        (["query", "q.png", "--group-by-image=3"], "--group-by-image takes no value"),
        (["index", "My", "Pictures"], "one argument too many: Pictures; put a name with spaces in quotes"),
        (
            ["query", "q.png", "--point", "10", "20"],
            "one argument too many: 20; write coordinates without spaces, as 320,240",
        ),
        (["index"], "SOURCE is missing: s3://bucket/prefix, or a folder"),
        (["segment"], "IMAGE is missing: a file, or s3://bucket/key"),
        (["sync"], "expected a command: check, repair"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_typed_and_what_is_expected(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"")
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert f"error: {said}" in lines
    assert f"cure:  searchanything {arguments[0]} --help" in lines


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qery", "query"),
        ("search", "query"),
        ("serach", "query"),
        ("Remove", "delete"),
        ("ui", "serve"),
        ("download", "models fetch"),
        ("help", "--help"),
    ],
)
def test_a_command_that_is_not_there_leads_to_the_one_that_is(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed]) == 2
    assert f"error: there is no command {typed}; did you mean {meant}?\n" in capsys.readouterr().err
    assert run(["zzzz"]) == 2
    assert "error: there is no command zzzz\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["keys", "remove"], "; did you mean revoke?"),
        (["sync", "remove"], ""),
        (["keys", "serach"], ""),
        (["models", "download"], "; did you mean models fetch?"),
    ],
)
def test_no_command_of_all_is_taken_for_one_of_a_group(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert f"error: there is no command {typed[-1]}{meant}\n" in capsys.readouterr().err


def test_what_is_suggested_is_a_command() -> None:
    for meant in set(_GUESSED.values()) - {"--help", "--version"}:
        verb, *below = meant.split()
        loaded = ListedVerb(verb).load()
        assert not below or below[0] in loaded.commands
    assert not set(_GUESSED) & set(VERBS)


def test_the_same_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "q.png", "--limit", "0", "--format", "json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert error["message"] == "--limit 0: expected a whole number of 1 or more"


def numbers() -> list[tuple[list[str], str]]:
    """Every option of every verb that takes a number."""
    found: list[tuple[list[str], str]] = []
    for verb in VERBS:
        loaded = ListedVerb(verb).load()
        below = getattr(loaded, "commands", None)
        for path, command in [([verb, name], one) for name, one in below.items()] if below else [([verb], loaded)]:
            for param in command.params:
                kind = str(param.type_descriptor.annotation)
                if ("int" in kind or "float" in kind) and param.opts[0].startswith("-"):
                    found.append((path, max(param.opts, key=len)))
    return found


@pytest.mark.parametrize(
    ("path", "option"), numbers(), ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_no_number_is_refused_in_a_library_s_words(
    path: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, option, "many"]) == 2
    said = capsys.readouterr().err
    assert f"error: {option} many: expected a" in said
    assert [words for words in LIBRARY_WORDS if words in said] == []


def test_what_is_not_known_is_said_as_it_comes() -> None:
    assert wrong_usage(typer.BadParameter("no such thing")) == "no such thing"
    assert wrong_usage(typer.TyperException("odd")) == "odd"


def test_every_kind_of_bounds_has_words() -> None:
    described = {}
    probe = typer.Typer()

    @probe.command()
    def verb(
        low: int = typer.Option(1, min=1),
        high: int = typer.Option(1, max=9),
        both: float = typer.Option(1, min=0.5, max=2),
        none: float = typer.Option(1),
    ) -> None: ...

    for param in typer.main.get_command(probe).params:
        if param.name in ("low", "high", "both", "none"):
            described[param.name] = _number(param)
    assert described == {
        "low": "a whole number of 1 or more",
        "high": "a whole number of 9 or less",
        "both": "a number from 0.5 to 2",
        "none": "a number",
    }

"""Marks, conditions, several parts and duplicates as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect

RED, BLUE = (4, 4, 40, 60), (50, 8, 90, 40)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a command line against a small index; returns exit code, stdout and stderr."""
    Machine().install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name, parts in {"a": {"red": RED, "blue": BLUE}, "b": {"red": RED}, "c": {"blue": BLUE}}.items():
        Image.fromarray(drawn(64, 96, **parts)).save(tmp_path / f"{name}.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)

    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments), connect=lambda _uri, _preset: Kept(client))
        written = capsys.readouterr()
        return code, written.out, written.err

    return typed


class Kept(Client):
    """The same client at each call."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__


QUERY = ("query", "b.png", "--point", "20,30")


def test_marks_by_number_and_by_name(shell, tmp_path: Path) -> None:
    code, out, _ = shell(*QUERY, "--right", "1", "--wrong", "a.png#1", "--save-probe", "p.json", "--format", "json")
    assert code == 0
    assert json.loads(out)["probe"] == {"right": 1, "wrong": 1, "precision": None}, "hit 1 is the query's own region"
    assert json.loads((tmp_path / "p.json").read_text())["bits"] == 256
    code, out, _ = shell(*QUERY, "--probe", "p.json")
    assert code == 0
    assert "refined by 1 right (the query's own region is one) and 1 wrong" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--right", "9"], "expected a number from 1 to 4"),
        (["--right", "0"], "expected a number from 1 to 4"),
        (["--right", "2", "--wrong", "2"], "right and wrong"),
        (["--wrong", "a.png"], "IMAGE#REGION"),
        (["--right", "²"], "IMAGE#REGION"),
        (["--right", "٣"], "IMAGE#REGION"),
        (["--right", "9" * 5000], "IMAGE#REGION"),
        (["--wrong", "a.png#" + "9" * 5000], "IMAGE#REGION"),
        (["--like", "a.png#²"], "IMAGE#REGION"),
        (["--wrong", "a.png#77"], "not in the index"),
        (["--save-probe", "p.json"], "give --right, --wrong or --probe"),
        (["--right", "1", "--save-probe", "p.txt"], ".json"),
        (["--right", "1", "--receipt", "r.json"], "without marks"),
        (["--right", "1", "--max-false-match", "1e-3"], "at least 200 committed codes"),
        (["--max-false-match", "0"], "false-match rate above 0"),
        (["--max-false-match", "1e-3"], "at least 200 committed codes"),
        (["--where", "year"], "expected one of NAME=VALUE"),
        (["--probe", "b.png"], "no probe"),
    ],
)
def test_what_cannot_be_done(shell, arguments: list[str], complaint: str) -> None:
    code, _, err = shell(*QUERY, *arguments)
    assert code in (1, 2)
    assert complaint in " ".join(err.split())


def test_conditions_on_metadata(shell) -> None:
    code, out, _ = shell(*QUERY, "--where", "year>=2020", "--format", "json")
    assert (code, json.loads(out)["hits"]) == (0, [])
    code, out, _ = shell(*QUERY, "--where", "year!=2020", "--where", "city not in A,B", "--format", "json")
    assert (code, len(json.loads(out)["hits"])) == (0, 4)


def test_several_things(shell) -> None:
    parts = ("--all", "b.png@20,30", "--all", "c.png@45,4,95,44", "--save", "sheet.png")
    code, out, _ = shell("combine", *parts, "--limit", "1", "--format", "json")
    assert code == 0
    (hit,) = json.loads(out)["hits"]
    assert hit["key"] == "a.png"
    assert [one["distance_bits"] for one in hit["parts"]] == [0, 0]
    code, out, _ = shell("combine", "--any", "a.png#0", "--limit", "2")
    assert code == 0
    assert "any 1: region" in out
    for wrong in (["--all", "b.png"], ["--all", "b.png@1,2,3"], ["--all", "@1,2"], []):
        assert shell("combine", *wrong)[0] == 2, wrong


def test_why_an_image_does_not_hold_them(shell, tmp_path: Path) -> None:
    parts = ("combine", "--all", "b.png@20,30", "--all", "c.png@45,4,95,44", "--limit", "1", "--expect", "c.png")
    code, out, _ = shell(*parts, "--format", "json", "--save", "why.png")
    document = json.loads(out)
    assert (code, document["verdict"], document["prompt"]["kind"]) == (0, "paging", "parts")
    assert [step["name"] for step in document["steps"]] == ["indexed", "all 1", "all 2", "near", "page"]
    stands = document["steps"][2]["figures"]["stands"]
    assert (stands["distance_bits"], document["steps"][1]["figures"]["stands"]) == (0, None), "one region, two parts"
    assert document["steps"][-1]["figures"]["last_shown"]["key"] == "a.png"
    assert (tmp_path / "why.png").exists()
    code, out, _ = shell(*parts)
    assert code == 0
    assert out.rstrip().endswith("verdict: paging")


def test_whatever_query_asks_is_explained(shell) -> None:
    region = ("b.png#0", "--limit", "1")
    for question, verdict, steps in (
        (("b.png", "--point", "20,30"), "hit", "prompt"),
        (region, "paging", "prompt"),
        (("b.png#0", "--like", "a.png#0", "--limit", "1"), "paging", "indexed"),
        ((*region, "--right", "1"), "paging", "indexed"),
        ((*region, "--right", "1", "--wrong", "c.png#0"), "paging", "indexed"),
    ):
        code, out, err = shell("explain", *question, "--expect", "c.png", "--format", "json")
        assert code == 0, err
        document = json.loads(out)
        assert (document["verdict"], document["steps"][0]["name"]) == (verdict, steps), question
    code, _, err = shell("explain", "--expect", "c.png")
    assert code == 2
    assert "--text T alone" in " ".join(err.split())
    assert shell("explain", "--text", "red", "--expect", "c.png")[0] == 2, "there are no words codes"


def test_duplicates(shell) -> None:
    code, out, _ = shell("duplicates", "--format", "json", "--save", "sheet.png")
    assert code == 0
    assert sorted(len(group) for group in json.loads(out)["groups"]) == [2, 2]
    code, out, _ = shell("duplicates", "--images")
    assert code == 0
    assert out.startswith("3 images compared, 0 groups within 8 bits")
    assert shell("duplicates", "--bits", "40")[0] == 2


def test_indexed_regions_are_questions(shell) -> None:
    code, out, _ = shell("query", "b.png#0", "--format", "json", "--limit", "2")
    document = json.loads(out)
    assert (code, document["selection"]["rule"], document["prompt"]) == (0, "stored", {"kind": "region"})
    assert {hit["key"] for hit in document["hits"]} == {"a.png", "b.png"}
    several = shell("query", "b.png#0", "--like", "a.png#0", "--like", "a.png#1", "--format", "json")
    assert (several[0], json.loads(several[1])["prompt"]) == (0, {"kind": "regions"})
    alone = shell("query", "--like", "b.png#0", "--like", "a.png#0", "--format", "json")
    assert (alone[0], json.loads(alone[1])["prompt"]) == (0, {"kind": "regions"})
    for arguments, complaint in (
        (["b.png", "--like", "a.png#0"], "expected IMAGE#REGION"),
        (["b.png#0", "--point", "20,30"], "says by itself"),
        (["b.png#7"], "from 0 to 0, got 7"),
        (["--like", "a.png"], "expected IMAGE#REGION"),
    ):
        code, _, complained = shell("query", *arguments)
        assert code == 2 or code == 1
        assert complaint in complained


def test_a_file_whose_name_ends_like_a_region_is_an_image(shell, tmp_path: Path) -> None:
    (tmp_path / "b.png").rename(tmp_path / "b.png#0")
    code, out, _ = shell("query", "b.png#0", "--point", "20,30", "--format", "json")
    assert (code, json.loads(out)["prompt"]["kind"]) == (0, "point")

"""`query-many`: a list of questions in, a file of answers out, across errors and kills."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.answers.question_lists import AnswerFile, read_questions
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import IndexUnavailableError, PromptError, UsageError
from searchanything.core.settings import Settings
from searchanything.prompts.prompt import Points

RED, BLUE = (4, 4, 40, 60), (50, 8, 90, 40)
Typed = Callable[..., tuple[int, str, str]]
LIST = """id,image,point,box,text
red,a.png,"20,30",,
,a.png#0,,,
both,a.png,"20,30;60,20",,
box,a.png,,"50,8,90,40",
gone,none.png,,,
bad,a.png,"1,x",,
named,a.png,,,red
,,,,blue
nothing,,,,
"""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name, parts in {"a": {"red": RED, "blue": BLUE}, "b": {"red": RED}, "c": {"blue": BLUE}}.items():
        Image.fromarray(drawn(64, 96, **parts)).save(tmp_path / f"{name}.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path, add_words=True)
    Path("list.csv").write_text(LIST)
    return client


@pytest.fixture
def shell(client: Client, capsys: pytest.CaptureFixture[str]) -> Typed:
    class Kept(Client):
        def __init__(self) -> None:
            self.__dict__ = client.__dict__

    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(["query-many", *arguments], connect=lambda _uri, _preset: Kept())
        written = capsys.readouterr()
        return code, written.out, written.err

    return typed


def answered(name: str) -> dict[str, Any]:
    return {"id": name, "image": "", "answer": {"hits": []}, "error": None}


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_answers_are_those_of_query_and_errors_have_their_place(shell: Typed, client: Client) -> None:
    code, out, _ = shell("list.csv", "--out", "a.jsonl", "--limit", "2", "--format", "json")
    assert (code, json.loads(out)) == (3, {"file": "a.jsonl", "questions": 9, "failed": 3})
    found = lines_of("a.jsonl")
    assert [one["id"] for one in found] == ["red", "2", "both", "box", "gone", "bad", "named", "8", "nothing"]
    errors = {one["id"]: one["error"]["type"] for one in found if one["error"]}
    assert errors == {"gone": "ImageError", "bad": "PromptError", "nothing": "UsageError"}
    assert [one["answer"] is None for one in found] == [one["error"] is not None for one in found]
    single = client.query("a.png", (20, 30), limit=2).to_dict()
    same = ("prompt", "selection", "hits", "fingerprint", "collection", "exact", "matching")
    assert {name: found[0]["answer"][name] for name in same} == {name: single[name] for name in same}
    kinds = [one["answer"]["prompt"]["kind"] for one in found if one["answer"]]
    assert kinds == ["point", "region", "points", "box", "text", "words"]
    assert [one.name for one in Path().glob("*a.jsonl*")] == ["a.jsonl"]


def test_a_row_for_each_hit(shell: Typed) -> None:
    assert shell("list.csv", "--out", "a.csv", "--limit", "2", "--group-by-image", "--key-prefix", "b")[0] == 3
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert [(row["id"], row["rank"], row["key"], row["error"].partition(":")[0]) for row in rows] == [
        ("red", "1", "b.png", ""), ("2", "1", "b.png", ""), ("both", "1", "b.png", ""), ("box", "1", "b.png", ""),
        ("gone", "", "", "ImageError"), ("bad", "", "", "PromptError"), ("named", "1", "b.png", ""),
        ("8", "1", "b.png", ""), ("nothing", "", "", "UsageError"),
    ]  # fmt: skip
    assert [float(rows[0][name]) for name in ("bits", "x1", "y1", "x2", "y2")] == [0, *RED]
    assert {row["bucket"] for row in rows if row["rank"]} == {str(Path.cwd())}
    header = "id,image,rank,match,bits,similarity,false_match,bucket,key,region,x1,y1,x2,y2,error"
    assert list(rows[0]) == header.split(",")
    assert shell("list.csv", "--out", "none.csv", "--key-prefix", "z")[0] == 3
    lines = Path("none.csv").read_text().splitlines()
    assert [one.split(",")[0] for one in lines[1:]] == [row["id"] for row in rows], "a row where nothing is found, too"
    assert lines[1] == "red,a.png" + "," * 13


def test_lines_of_json_say_the_same(shell: Typed) -> None:
    rows = [
        {"id": "red", "image": "a.png", "point": [20, 30]}, {"image": "a.png#0"},
        {"id": "both", "image": "a.png", "point": [[20, 30], [60, 20]]},
        {"id": "box", "image": "a.png", "box": [50, 8, 90, 40]}, {"id": "gone", "image": "none.png"},
        {"id": "bad", "image": "a.png", "point": "1,x"}, {"id": "named", "image": "a.png", "text": "red"},
        {"text": "blue"}, {"id": "nothing"},
    ]  # fmt: skip
    Path("list.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    for name in ("list.csv", "list.jsonl"):
        assert shell(name, "--out", f"{name}.jsonl")[0] == 3
    one, other = lines_of("list.csv.jsonl"), lines_of("list.jsonl.jsonl")
    for answers in (one, other):
        for answer in answers:
            (answer["answer"] or {}).pop("timings_ms", None)
            (answer["answer"] or {}).pop("stages", None)
    assert one == other


@pytest.mark.parametrize("end", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("after", range(9))
def test_who_was_stopped_goes_on_with_what_is_not_answered(
    shell: Typed, monkeypatch: pytest.MonkeyPatch, end: str, after: int
) -> None:
    assert shell("list.csv", "--out", f"whole-{end}")[0] == 3
    add = AnswerFile.add

    def stopped(answers: AnswerFile, document: dict[str, Any]) -> None:
        if answers.done == after:
            answers._file.write(b'{"id": "torn", "ans')  # a process that is killed here leaves half a line
            raise IndexUnavailableError("away")
        add(answers, document)

    monkeypatch.setattr(AnswerFile, "add", stopped)
    code, _, err = shell("list.csv", "--out", end)
    assert (code, "away" in err, Path(end).exists()) == (1, True, False)
    monkeypatch.setattr(AnswerFile, "add", add)
    asked: list[Any] = []
    query_many = Client.query_many

    def counted(self: Client, questions: Iterator[Any], **page: Any) -> Any:
        return query_many(self, (asked.append(one) or one for one in questions), **page)  # type: ignore[func-returns-value]

    monkeypatch.setattr(Client, "query_many", counted)
    code, out, err = shell("list.csv", "--out", end)
    assert (code, "9 questions, 3 without an answer" in out) == (3, True)
    assert (f"going on after {after} answer" in err) == (after > 0)
    assert len(asked) == 7 - sum(one < after for one in (0, 1, 2, 3, 4, 6, 7)), "two are wrong in themselves"
    drop = ("timings_ms", "stages")
    if end.endswith("jsonl"):
        for one, other in zip(lines_of(end), lines_of(f"whole-{end}"), strict=True):
            assert {k: v for k, v in (one["answer"] or {}).items() if k not in drop} == {
                k: v for k, v in (other["answer"] or {}).items() if k not in drop
            }
    else:
        assert Path(end).read_text() == Path(f"whole-{end}").read_text()
    assert list(Path().glob(".*.part")) == []


def test_another_page_or_list_goes_on_with_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.jsonl"
    first = AnswerFile.open(target, [], {"limit": 1}, ["1"])
    first.add(answered("1"))
    with pytest.raises(UsageError, match="another process"):
        AnswerFile.open(target, [], {"limit": 1}, ["1"])
    first.close()
    other = AnswerFile.open(target, [], {"limit": 2}, ["1"])
    again = AnswerFile.open(target, [], {"limit": 1}, ["1"])
    assert (other.done, again.done, again.failed) == (0, 1, 0)
    for one in (other, again):
        one.close()


@pytest.mark.parametrize(
    ("damage", "left", "line"),
    [
        (lambda lines: [*lines[:3], lines[3][:20] + b"\0" * 30 + b"\n", *lines[4:]], 3, 4),
        (lambda lines: [*lines[:3], b"[1]\n", *lines[4:]], 3, 4),
        (lambda lines: [b"\n", *lines], 0, 1),
        (lambda lines: [*lines[:2], b"\xff\xfe\n", *lines[2:]], 2, 3),
        (lambda lines: [*lines[:2], *lines[3:]], 2, 3),  # one is lost: what follows would be another question's
        (lambda lines: [*lines[:2], b'{"id": "3", "image": "", "answer": null, "error": null}\n', *lines[3:]], 2, 3),
        (lambda lines: [*lines[:5], b"[" * 200_000 + b"\n"], 5, 6),
        (lambda lines: [*lines, *lines], 6, None),
    ],
)
def test_answers_behind_a_damaged_line_are_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[list[bytes]], list[bytes]], left: int, line: Any
) -> None:
    names = [str(number) for number in range(1, 7)]
    answers = AnswerFile.open(tmp_path / "a.jsonl", [], {}, names)
    for name in names:
        answers.add(answered(name))
    answers.close()
    answers.part.write_bytes(b"".join(damage(answers.part.read_bytes().splitlines(keepends=True))))
    again = AnswerFile.open(tmp_path / "a.jsonl", [], {}, names)
    assert again.done == left
    assert [f"is damaged at line {line}:" in record.message for record in caplog.records] == [True] * (line is not None)
    for name in names[left:]:
        again.add(answered(name))
    again.finish()
    again.close()
    assert lines_of(str(tmp_path / "a.jsonl")) == [answered(name) for name in names]


def test_who_comes_as_another_finishes_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has opened the file that the other one then gives its last name."""
    first = AnswerFile.open(tmp_path / "a.jsonl", [], {}, ["1"])
    first.add(answered("1"))
    lock = fcntl.flock

    def late(file: Any, how: int) -> None:
        if not first._file.closed:
            first.finish()
            first.close()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second = AnswerFile.open(tmp_path / "a.jsonl", [], {}, ["1"])
    assert (second.done, second.part.exists()) == (0, True)
    second.add(answered("1"))
    second.finish()
    second.close()
    assert lines_of(str(tmp_path / "a.jsonl")) == [answered("1")]


def test_a_place_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_file: Any, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(UsageError, match="cannot be locked: No locks available"):
        AnswerFile.open(tmp_path / "a.jsonl", [], {}, [])


def test_a_place_for_answers_that_cannot_be_opened_is_an_error_of_ours(tmp_path: Path) -> None:
    """As another user's in a shared folder, or a name that is too long only with what is added to it."""
    with pytest.raises(UsageError, match="cannot be written: File name too long"):
        AnswerFile.open(tmp_path / f"{'x' * 232}.jsonl", [], {}, ["1"])


@pytest.mark.parametrize("noticed_by", ["an answer", "a region that is gone"])
def test_a_list_is_answered_by_one_index(
    shell: Typed, client: Client, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    """Other models find other regions, and their distances are others: half a list of each compares nothing."""
    monkeypatch.setenv("SEARCHANYTHING_INGEST__REGIONS", "1")
    other = Client(Settings(), indexes=client._indexes)
    name = "a.png#0" if noticed_by == "an answer" else "a.png#1"
    Path("many.csv").write_text("image\n" + f"{name}\n" * 200)
    add: Any = AnswerFile.add
    old = client.manifest.fingerprint

    def switching(answers: AnswerFile, document: Any) -> None:
        add(answers, document)
        if answers.done == 20 and client.manifest.fingerprint == old:
            other.models.apply("pico")

    monkeypatch.setattr(AnswerFile, "add", switching)
    code, _, err = shell("many.csv", "--out", "a.jsonl")
    assert client.manifest.fingerprint != old
    assert "all are asked again" in err
    found = lines_of("a.jsonl")
    assert len(found) == 200
    if noticed_by == "an answer":
        assert code == 0
        assert {one["answer"]["fingerprint"] for one in found} == {client.manifest.fingerprint}
    else:
        assert code == 3
        assert {one["error"]["type"] for one in found} == {"ObjectNotFoundError"}
    assert list(Path().glob(".*.part")) == []


def test_ctrl_c_ends_it_at_once_and_what_is_answered_stays(shell: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    add: Any = AnswerFile.add

    def interrupted(answers: AnswerFile, document: Any) -> None:
        add(answers, document)
        if answers.done == 4:
            raise KeyboardInterrupt

    class EndedError(Exception):
        """In the place of the end of this process."""

    ends: list[int] = []

    def ended(code: int) -> None:
        ends.append(code)
        raise EndedError

    monkeypatch.setattr(AnswerFile, "add", interrupted)
    monkeypatch.setattr(os, "_exit", ended)
    _, _, err = shell("list.csv", "--out", "a.jsonl")
    assert (ends, "run the same command again" in err) == ([130], True)
    (part,) = Path().glob(".a.jsonl.*.part")
    assert len(part.read_text().splitlines()) == 4
    monkeypatch.setattr(AnswerFile, "add", add)
    assert "going on after 4 answers" in shell("list.csv", "--out", "a.jsonl")[2]


def test_a_list_that_is_read_is_not_written_over(shell: Typed) -> None:
    for name in ("list.csv", "./list.csv"):
        code, _, err = shell("list.csv", "--out", name)
        assert (code, "would be written over" in err) == (2, True)
    assert Path("list.csv").read_text() == LIST


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("q.txt", b"", "ends in .csv or .jsonl"),
        ("none.csv", None, "No such file"),
        ("q.csv", b"image,colour\na.png,red\n", "'colour' is none of id, image"),
        ("q.csv", b"image,point\na.png\n", "more or fewer columns"),
        ("q.csv", b"image\na.png,b.png\n", "more or fewer columns"),
        ("q.csv", b'image\n"a.png\n', "cannot be read as a list"),
        ("q.csv", b'image,point,point\na.png,"1,2","3,4"\n', "two columns are called 'point'"),
        ("q.csv", b"image\n\xff\n", "cannot be read as a list"),
        ("q.jsonl", b'{"image": "a.png"}\n[1]\n', "an object on each line"),
        ("q.jsonl", b'{"image": "a.png"\n', "cannot be read as a list"),
        ("q.jsonl", b'{"pont": [1, 2]}\n', "question 1: 'pont' is none of"),
        ("q.jsonl", b"[" * 100_000, "cannot be read as a list"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, data: bytes | None, match: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=match):
        read_questions(tmp_path / name)


def test_rows_are_read_with_their_own_errors(tmp_path: Path) -> None:
    rows = [
        {"point": [1]}, {"point": "1,2,3"}, {"box": [1, 2, 3]}, {"point": {"x": 1}}, {"point": [[1, "a"]]},
        {"text": 7}, {"text": 0}, {"background": [1, 2]}, {"point": [1, None]}, {"point": {}}, {"point": {"12": 0}},
        {"point": [[1, 2], "34"]},
    ]  # fmt: skip
    (tmp_path / "q.jsonl").write_text(
        "\n".join(map(json.dumps, [*rows, {"image": 3}, {"image": []}, {"point": "1, 2 ;3,4", "id": 0}]))
    )
    questions, _ = read_questions(tmp_path / "q.jsonl")
    for question in questions[: len(rows)]:
        with pytest.raises(PromptError):
            question.prompt()
    for question in questions[-3:-1]:
        with pytest.raises(UsageError, match="image: expected"):
            question.image  # noqa: B018 - it raises
    assert questions[-1].prompt().foreground == ((1, 2), (3, 4))  # type: ignore[union-attr]
    assert questions[-1].id == "0"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_of_a_table_end_as_any_program_ends_them(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "q.csv").write_bytes(
        b"\xef\xbb\xbf" + end.join([b"id,image,point", b'7,"a\nb.png","1,2"', b",c.png,", b""])
    )
    questions, _ = read_questions(tmp_path / "q.csv")
    assert [(one.id, one.image) for one in questions] == [("7", "a\nb.png"), ("2", "c.png")]
    assert (questions[0].prompt(), questions[1].prompt()) == (Points([(1, 2)], []), None)


def test_lists_may_be_empty_and_hold_empty_lines_and_fields(tmp_path: Path) -> None:
    for name, data in (("q.csv", b""), ("q.csv", b"image,point\n"), ("q.jsonl", b""), ("q.jsonl", b" \r\n\n")):
        (tmp_path / name).write_bytes(data)
        assert read_questions(tmp_path / name)[0] == []
    for empty in ("", None, []):
        row = {"image": "a.png", "point": empty, "background": empty, "box": empty, "text": empty or None}
        (tmp_path / "q.jsonl").write_text(f" \r\n{json.dumps(row)}\r\n\t\r\n")
        [question] = read_questions(tmp_path / "q.jsonl")[0]
        assert (question.id, question.prompt()) == ("1", None)


def test_a_full_disk_is_said_and_not_said_again_by_closing(tmp_path: Path) -> None:
    answers = AnswerFile.open(tmp_path / "a.jsonl", [], {}, [])
    answers._file.close()
    answers._file = Path("/dev/full").open("wb")  # noqa: SIM115 - it is closed below
    with pytest.raises(UsageError, match="cannot be written: No space left"):
        answers.add({"error": None})
    answers.close()
    assert (answers.done, answers._file.closed) == (0, True)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_folder_that_is_gone_when_all_is_answered_is_said(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    answers = AnswerFile.open(folder / name, [], {}, ["1"])
    answers.add(answered("1"))
    shutil.rmtree(folder)
    with pytest.raises(UsageError, match=rf"{name} cannot be written: No such file"):
        answers.finish()
    answers.close()


def test_odd_letters_stay(tmp_path: Path) -> None:
    answers = AnswerFile.open(tmp_path / "a.jsonl", [], {}, [])
    documents = [{"id": "名\u2028\x85", "error": None}, {"id": "\udc80", "error": {"type": "E"}}]
    for document in documents:
        answers.add(document)
    answers.finish()
    answers.close()
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().split(b"\n")[:-1]] == documents


def test_letters_that_utf8_has_not_are_written_as_escapes(tmp_path: Path) -> None:
    """Of an id in JSON, half a surrogate pair: a table of all answers is made of them at the end."""
    answers = AnswerFile.open(tmp_path / "a.csv", [], {}, [])
    answers.add({"id": "\ud800", "image": "a.png", "answer": None, "error": {"type": "E", "message": "m"}})
    answers.finish()
    answers.close()
    assert (tmp_path / "a.csv").read_bytes().splitlines()[1].startswith(b"\\ud800,a.png,")


def test_very_many_columns_are_looked_through_once(tmp_path: Path) -> None:
    """Each beside each other would take hours."""
    (tmp_path / "wide.csv").write_text(",".join(f"a{number}" for number in range(400_000)) + "\n")
    assert read_questions(tmp_path / "wide.csv")[0] == []
    (tmp_path / "twice.csv").write_text("image,text,text\n")
    with pytest.raises(UsageError, match="two columns are called 'text'"):
        read_questions(tmp_path / "twice.csv")

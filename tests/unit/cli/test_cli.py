"""The command line against a hand-written client: arguments in, one answer on stdout, an exit code out."""

import contextlib
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import manifest_of
from fakes.answers import hit as any_hit
from PIL import Image
from rich.console import Console

from searchanything.answers.results import SearchResults, Segments
from searchanything.backup.backup import BackupReport
from searchanything.cli.app import run
from searchanything.cli.query import answer_text
from searchanything.cli.session import say
from searchanything.core.errors import (
    FilterError,
    ImageError,
    IndexNotFoundError,
    PresetError,
    SearchAnythingError,
    WeightsMissingError,
)
from searchanything.core.geometry import encode_rle
from searchanything.core.types import Candidate, Filter, ImageRef, Selection, SizeClass, TextMatch
from searchanything.images.inputs import load_image
from searchanything.ingest.reports import Failure, IndexProgress, IndexReport, IndexStatus
from searchanything.prompts.prompt import Box, Mask, Points, Prompts, Text, WholeImage
from searchanything.stores.folder import FolderStore

ROOT = Path(__file__).parents[3]
PIXELS = np.full((40, 60, 3), 100, dtype=np.uint8)
RLE = encode_rle(np.ones((4, 6), dtype=np.bool_))
SELECTION = Selection("region", (1.0, 2.0, 30.0, 20.0), 500, RLE, 0.9, "points/score", "the surest of 1")
HIT = replace(
    any_hit(17, etag="e"), image=ImageRef("b", "k[red].jpg"), region=3, box_xyxy=(0.0, 0.0, 60.0, 40.0), mask=RLE
)
HIT = replace(HIT, box_xyxy=(0.0, 0.0, 60.0, 40.0), area_px=9, image_width=60, image_height=40)
VERBS = (
    ["index", "src"],
    ["query", "q.png"],
    ["segment", "q.png"],
    ["status"],
    ["delete", "src"],
    ["export", "regions.json"],
    ["backup", "index.tar"],
    ["restore", "index.tar"],
)


class FakeClient:
    """Answers as the real client does, remembers what it was asked, and raises `error` if it is told to."""

    def __init__(self, *, report=None, selection=SELECTION, error: Exception | None = None) -> None:
        self.report = report or IndexReport(indexed=2, regions=5, seconds=0.5)
        self.selection = selection
        self.error = error
        self.calls: list[tuple] = []
        self.connections: list[tuple[str | None, str | None]] = []
        self.closed = 0

    def connect(self, uri: str | None, preset: str | None) -> "FakeClient":
        self.connections.append((uri, preset))
        return self

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1

    uri = "trial.db"

    def _called(self, *call: object) -> None:
        print("a library's chatter")  # noqa: T201 (what libraries do)
        self.calls.append(call)
        if self.error:
            raise self.error

    def index(self, source, *, hash_file, force, prune, add_words, patterns, progress):
        extras = [*([patterns] if patterns else []), *(["prune"] if prune else []), *(["words"] if add_words else [])]
        self._called("index", source, hash_file, force, *extras)
        progress(IndexProgress(done=1, total=None, indexed=1, failed=0, key="a.jpg"))
        return self.report

    def query(self, image, prompt, *, limit, offset, filter, group_by_image, rescore, max_false_match=None, text=None):
        assert max_false_match is None
        asked = (text,) if text is not None else (image, prompt)
        self._called("query", *asked, limit, offset, filter, group_by_image, *([] if rescore is None else [rescore]))
        hits = (HIT,) if self.selection.kind != "none" else ()
        return SearchResults(
            hits, PIXELS, {"kind": "point"}, self.selection, "f" * 8, "c", True, {"search": 1.5}, lambda _: PIXELS
        )

    def segment(self, image):
        self._called("segment", image)
        return Segments(PIXELS, (Candidate((0.0, 0.0, 9.0, 9.0), 81, 0.7, RLE),))

    def delete(self, source, *, progress):
        self._called("delete", source)
        progress(IndexProgress(1, None, 0, 0, "", stage="doing"))
        return 4

    def backup(self, target, *, progress):
        self._called("backup", target)
        progress(IndexProgress(1, None, 0, 0, "", stage="doing"))
        return BackupReport(target, images=12, regions=1200, left_out=2)

    def restore(self, source, *, progress):
        self._called("restore", source)
        progress(IndexProgress(1, None, 0, 0, "", stage="doing"))
        return BackupReport(source, images=12, regions=1200)

    def export(self, destination, *, bucket, key_prefix, progress):
        self._called("export", destination, bucket, key_prefix)
        progress(IndexProgress(1, None, 0, 0, "", stage="doing"))
        return 0 if bucket == "mistyped" else 1200

    def status(self):
        self._called("status")
        return IndexStatus("trial.db", images=3, empty=1, failed=2, regions=1234)


@pytest.fixture(autouse=True)
def _in_a_folder_with_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHANYTHING_DEBUG", raising=False)
    Image.fromarray(PIXELS).save("q.png")


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def call(client: FakeClient, *arguments: str) -> int:
    return run(arguments, connect=client.connect)


def prompt_of(client: FakeClient, *options: str):
    assert call(client, "query", "q.png", *options) == 0
    return client.calls[-1][2]


def filter_of(client: FakeClient, *options: str):
    assert call(client, "query", "q.png", *options) == 0
    return client.calls[-1][5]


def test_status_says_where_nobody_looked_for_leftover_rows(capsys):
    client = FakeClient()
    client.status = lambda: IndexStatus("trial.db", images=30_000, manifest=manifest_of("f" * 64), garbage=None)
    assert call(client, "status") == 0
    assert "not looked for; the other numbers are of all rows" in " ".join(capsys.readouterr().out.split())
    assert call(client, "status", "--format=json") == 0
    assert json.loads(capsys.readouterr().out)["garbage"] is None


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_json_is_one_document_on_stdout_and_chatter_goes_to_stderr(verb, client, capsys):
    assert call(client, *verb, "--format", "json", "--uri", "u.db", "--preset", "pico") == 0
    streams = capsys.readouterr()
    assert isinstance(json.loads(streams.out), dict)
    assert streams.out.count("\n") == 1
    assert "chatter" in streams.err
    assert client.connections == [("u.db", "pico")]
    assert client.closed == 1


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_text_is_for_people(verb, client, capsys):
    assert call(client, *verb) == 0
    streams = capsys.readouterr()
    assert streams.out.strip()
    assert "chatter" not in streams.out
    with pytest.raises(json.JSONDecodeError):
        json.loads(streams.out)


@pytest.mark.parametrize(
    ("error", "code", "type"),
    [
        (PresetError("index was made with pico"), 2, "PresetError"),
        (FilterError("what is this"), 2, "FilterError"),
        (IndexNotFoundError("nothing at\n  u.db"), 1, "IndexNotFoundError"),
        (ImageError("q.png", "is empty"), 1, "ImageError"),
        (SearchAnythingError("no luck"), 1, "SearchAnythingError"),
        (ZeroDivisionError("defect"), 1, "ZeroDivisionError"),
        (PermissionError(13, "Permission denied"), 1, "PermissionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_are_one_document_or_one_line(error, code, type, capsys):
    assert call(FakeClient(error=error), "status", "--format=json") == code
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["type"] == type
    assert call(FakeClient(error=error), "status") == code
    streams = capsys.readouterr()
    assert streams.out == ""
    lines = [line for line in streams.err.splitlines() if line.startswith("error: ")]
    assert lines == [f"error: {document['message']}"]
    assert "Traceback" not in streams.err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_every_verb_reports_errors_and_lets_the_client_go(verb, capsys):
    client = FakeClient(error=PresetError("the index was made with pico"))
    assert call(client, *verb, "--format", "json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": {"type": "PresetError", "message": "the index was made with pico"}
    }
    assert client.closed == 1


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
@pytest.mark.parametrize("error", [None, PresetError("keys like 猫.png")])
def test_stdout_need_not_be_utf_8(encoding, error, client, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    client.report = replace(client.report, failures=(Failure("猫😀.jpg", "ImageError", "no"),))
    client.error = error
    code = call(client, "index", "src", "--format", "json")
    document = json.loads(stdout.buffer.getvalue().decode(encoding))
    assert (code, "猫" in json.dumps(document, ensure_ascii=False)) == (2 if error else 0, True)


def test_text_has_escapes_where_stdout_lacks_a_letter(client, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    client.report = replace(client.report, failures=(Failure("猫é.jpg", "ImageError", "no"),))
    call(client, "index", "src")
    assert "failed: \\u732bé.jpg" in stdout.buffer.getvalue().decode("latin-1")


@pytest.mark.parametrize("switch", ["environment", "--verbose"])
def test_traceback_on_request(switch, capsys, monkeypatch):
    if switch == "environment":
        monkeypatch.setenv("SEARCHANYTHING_DEBUG", "1")
    assert call(FakeClient(error=ZeroDivisionError()), "status", *([switch] if switch[0] == "-" else [])) == 1
    assert "Traceback" in capsys.readouterr().err


def test_cures_are_commands(capsys):
    call(FakeClient(error=IndexNotFoundError("nothing there")), "status")
    assert "cure:  searchanything index SOURCE" in capsys.readouterr().err
    call(FakeClient(error=WeightsMissingError("fetch with: searchanything models fetch small")), "status")
    assert "cure:" not in capsys.readouterr().err  # the message says it


def test_the_cure_for_a_large_image_is_no_other_format(capsys, tmp_path):
    (tmp_path / "a.png").write_bytes(b"longer than a byte")
    reads = {
        "SEARCHANYTHING_INGEST__MAX_PIXELS": lambda: load_image(
            Image.new("RGB", (8, 8)), read_object=lambda _: b"", max_pixels=63
        ),
        "SEARCHANYTHING_STORAGE__MAX_OBJECT_BYTES": lambda: FolderStore(tmp_path, max_object_bytes=1).read("a.png"),
    }
    for variable, read in reads.items():
        with pytest.raises(ImageError) as raised:
            read()
        call(FakeClient(error=raised.value), "status")
        cure = f"cure:  give a smaller image, or raise {variable} if you trust this one\n"
        assert cure in capsys.readouterr().err
    call(FakeClient(error=ImageError("SEARCHANYTHING_X allows.png", "is empty (0 bytes)")), "status")
    assert "cure:  give a JPEG, PNG or WebP file that other programs open\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query"], "IMAGE"),
        (["bogus"], "bogus"),
        (["status", "--format", "yaml"], "yaml"),
        (["--preset", "pico", "index", "src"], "no option --preset here; a command's options follow its name"),
        (["query", "q.png", "--click", "1,2"], "no option --click; did you mean --point?"),
        (["query", "q.png", "--limt", "3"], "no option --limt; did you mean --limit?"),
        (["index", "src", "-k", "3"], "no option -k\n"),
        (["query", "q.png", "--limit", "0"], "--limit"),
        (["query", "q.png", "--offset", "-1"], "--offset"),
        (["query", "nowhere.png"], "nowhere.png: no such file"),
        (["segment", "nowhere.png"], "nowhere.png: no such file"),
        (["query", "x" * 300], "expected an image file or s3://bucket/key: [Errno 36] File name too long"),
        (["query", "q.png", "--text", "x", "--mask", "q.png"], "--mask cannot be combined"),
        (["query", "q.png", "--box", "1,2,3,4", "--mask", "q.png"], "--mask cannot be combined"),
        (["query", "q.png", "--point", "1,2", "--mask", "q.png"], "--mask cannot be combined"),
        (["query", "q.png", "--background", "1,2"], "add a --point, a --box or a --text"),
        (["query", "q.png", "--box", "1,2,3,4", "--granularity", "part"], "--granularity works with points only"),
        (["query", "q.png", "--granularity", "part"], "--granularity works with points only"),
        (["query", "q.png", "--save", "nowhere/x.png"], "there is no folder nowhere"),
        (["query", "q.png", "--save", "q.png"], "q.png would be written over q.png, which is read"),
        (["query", "s3://b/a.png", "--mask", "q.png", "--save", "./q.png"], "q.png would be written over q.png"),
        (["find", "q.png", "--in", ".", "--save", "q.png"], "q.png would be written over"),
        (["explain", "q.png", "--expect", "s3://b/a.png", "--save", "q.png"], "q.png would be written over"),
        (["segment", "q.png", "--save", "q.png"], "q.png would be written over"),
        (["compare", "q.png", "--text", "x", "--save", "q.png"], "q.png would be written over"),
        (["combine", "--all", "m.png@3,4", "--none", "q.png@3,4", "--save", "q.png"], "q.png would be written over"),
        (["query", "q.png#0", "--save", "q.png"], "q.png would be written over q.png, which is read"),
        (["query", "--like", "q.png#0", "--like", "m.png#0", "--save", "q.png"], "q.png would be written over"),
        (["explain", "s3://b/a.png", "--expect", "q.png", "--save", "q.png"], "q.png would be written over"),
        (["combine", "--all", "q.png#0", "--save", "q.png"], "q.png would be written over"),
        (["combine", "--all", "words:a@b", "--expect", "q.png", "--save", "q.png"], "q.png would be written over"),
        (["query", "q.png", "--receipt", "nowhere/x.json"], "there is no folder nowhere"),
        (["segment", "q.png", "--save", "nowhere/x.png"], "there is no folder nowhere"),
        (["compare", "q.png", "--text", "x", "--save", "nowhere/x.html"], "there is no folder nowhere"),
        (["query", "q.png", "--point", "12"], "--point 12: expected X,Y"),
        (["query", "q.png", "--point", "1,2,3"], "expected X,Y"),
        (["query", "q.png", "--point", "a,b"], "expected X,Y"),
        (["query", "q.png", "--point", "1,2", "--background", "x"], "--background x: expected X,Y"),
        (["query", "q.png", "--box", "5,5,1,1"], "x1 < x2"),
        (["query", "q.png", "--text", ""], "blanks"),
        (["query", "q.png", "--mask", "nowhere.png"], "nowhere.png"),
        (["query", "q.png", "--size-class", "huge"], "huge"),
        (["query", "q.png", "--metadata", "year"], "name=text"),
        (["query", "q.png", "--metadata", "=2024"], "name=text"),
        (["query", "q.png", "--metadata", "year:=many"], "number, true or false"),
        (["query", "q.png", "--metadata", f"year:={'9' * 5000}"], "number, true or false"),
        (["query", "q.png", "--metadata", f"year:={'[' * 50_000}"], "number, true or false"),
        (["query", "q.png", "--save", "hits.pdf"], ".png"),
        (["segment", "q.png", "--save", "."], "none"),
        (["index", "src", "--hash", "nowhere"], "nowhere"),
        (["export", "regions.csv"], ".parquet"),
        (["export", ".", "--bucket", "b"], "none"),
        (["models"], "command"),
        (["models", "fetch", "huge"], "huge"),
        (["models", "path", "huge"], "huge"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_2_and_touches_nothing(arguments, said, client, capsys):
    assert call(client, *arguments) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""
    assert client.calls == []
    assert client.connections == []


@pytest.mark.parametrize("written", ["~/q.png", "file://{}/q.png", "file://localhost{}/q.png"])
@pytest.mark.parametrize("verb", [["query"], ["compare", "--text", "x"]])
def test_an_image_is_not_written_over_however_its_name_is_written(client, capsys, monkeypatch, tmp_path, verb, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "q.png").write_bytes(b"mine")
    target = str(tmp_path / "q.png")
    assert call(client, *verb, written.format(tmp_path), "--save", target) == 2
    assert f"{target} would be written over {target}" in capsys.readouterr().err
    assert client.calls == []


def test_wrong_usage_is_a_document_in_json_format(client, capsys):
    assert call(client, "query", "--format", "json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert "IMAGE" in error["message"]
    assert error["cure"] == "searchanything query --help"


def test_index_hands_everything_over_and_failures_are_3(capsys, tmp_path):
    (tmp_path / "h.safetensors").write_bytes(b"")
    failures = tuple(Failure(f"bad{number}.jpg", "ImageError", "is [empty]") for number in range(21))
    client = FakeClient(report=IndexReport(indexed=1, failed=21, failures=failures))
    assert call(client, "index", "s3://b/p", "--hash", "h.safetensors", "--force", "--format", "json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == {"indexed": 1, "unchanged": 0, "empty": 0, "failed": 21, "skipped": 0}
    assert document["failures"][0] == {"key": "bad0.jpg", "error": "ImageError", "message": "is [empty]"}
    assert client.calls == [("index", "s3://b/p", Path("h.safetensors"), True)]
    assert call(client, "index", "s3://b/p") == 3
    text = capsys.readouterr().out
    assert "failed: bad0.jpg: ImageError: is [empty]" in text
    assert "bad20.jpg" not in text
    assert "1 more" in text


def test_prompts(client, tmp_path):
    assert isinstance(prompt_of(client), WholeImage)
    points = prompt_of(client, "--point", "1,2", "--point", "3.5,4", "--background", "9,9", "--granularity", "whole")
    assert points == Points(((1, 2), (3.5, 4)), ((9, 9),), granularity="whole")
    assert prompt_of(client, "--box", "1,2,3,4.5") == Box(1, 2, 3, 4.5)
    assert prompt_of(client, "--text", "a red car") == Text("a red car")
    assert prompt_of(client, "--box", "1,2,3,4", "--box", "5,6,7,8") == Prompts((Box(1, 2, 3, 4), Box(5, 6, 7, 8)))
    mixed = prompt_of(client, "--box", "1,2,9,9", "--point", "3,4", "--background", "5,5", "--text", "car")
    assert mixed == Prompts((Box(1, 2, 9, 9),), ((3, 4),), ((5, 5),), "car")
    assert prompt_of(client, "--text", "car", "--background", "5,5") == Prompts(background=((5, 5),), text="car")
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:20, 5:50] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    given = prompt_of(client, "--mask", "m.png")
    assert isinstance(given, Mask)
    np.testing.assert_array_equal(given.mask, mask.astype(bool))


@pytest.mark.parametrize("form", ["0 and 1", "0 and 255", "16 bit", "black and white", "colour", "transparent"])
def test_masks_of_every_form(form, client, tmp_path):
    inside = np.zeros((40, 60), dtype=np.bool_)
    inside[10:20, 5:50] = True
    grey = inside.astype(np.uint8) * 255
    image = {
        "0 and 1": lambda: Image.fromarray(inside.astype(np.uint8)),
        "0 and 255": lambda: Image.fromarray(grey),
        "16 bit": lambda: Image.fromarray(inside.astype(np.uint16) * 40_000),
        "black and white": lambda: Image.fromarray(inside),
        "colour": lambda: Image.fromarray(np.stack([grey // 2, grey, grey], axis=2)),
        "transparent": lambda: Image.fromarray(np.stack([grey | 255, grey | 255, grey | 255, grey], axis=2)),
    }[form]()
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(prompt_of(client, "--mask", "m.png").mask, inside)


def test_unreadable_and_empty_masks_are_wrong_usage(client, tmp_path, capsys):
    (tmp_path / "m.png").write_bytes(b"no image")
    assert call(client, "query", "q.png", "--mask", "m.png") == 2
    assert "m.png: cannot be read" in capsys.readouterr().err
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "m.png")
    assert call(client, "query", "q.png", "--mask", "m.png") == 2
    assert "empty" in capsys.readouterr().err


def test_export_hands_everything_over_and_says_how_many(client, capsys):
    assert call(client, "export", "r.parquet", "--bucket", "b", "--key-prefix", "2024/") == 0
    assert client.calls == [("export", Path("r.parquet"), "b", "2024/")]
    assert "1,200 regions written to r.parquet" in capsys.readouterr().out
    assert call(client, "export", "r.json", "--format", "json") == 0
    assert client.calls[1] == ("export", Path("r.json"), None, "")
    streams = capsys.readouterr()
    assert json.loads(streams.out) == {"file": "r.json", "regions": 1200}
    assert "no region in the index" not in streams.err
    assert call(client, "export", "r.json", "--bucket", "mistyped") == 0
    assert "no region in the index lies there" in capsys.readouterr().err


def test_backup_and_restore(client, capsys):
    assert call(client, "backup", "s3://b/backups/1", "--format", "json") == 0
    streams = capsys.readouterr()
    expected = {"location": "s3://b/backups/1", "images": 12, "regions": 1200, "left_out": 2}
    assert json.loads(streams.out) == expected
    assert "2 images left out" in streams.err
    assert call(client, "restore", "i.tar") == 0
    assert "12 images and 1,200 regions restored to trial.db" in capsys.readouterr().out
    assert client.calls == [("backup", "s3://b/backups/1"), ("restore", "i.tar")]


def test_filters(client):
    assert filter_of(client) is None
    every = ("--bucket", "b", "--key-prefix", "p/", "--size-class", "small", "--filter", "area > 3")
    metadata = ("--metadata", "album=sea=blue", "--metadata", "year:=2024", "--metadata", "raw:=true")
    assert filter_of(client, *every, *metadata) == Filter(
        bucket="b",
        key_prefix="p/",
        size_class=SizeClass.SMALL,
        metadata={"album": "sea=blue", "year": 2024, "raw": True},
        expression="area > 3",
    )


def test_words_alone_ask_the_whole_index(client, capsys):
    assert call(client, "query", "--text", "a red handbag", "--limit", "3", "--rescore", "0") == 0
    assert client.calls[-1] == ("query", "a red handbag", 3, 0, None, False, 0)
    assert call(client, "index", "src", "--add-words") == 0
    assert client.calls[-1] == ("index", "src", None, False, "words")
    calls = len(client.calls)
    for options in ((), ("--point", "3,4"), ("--text", "a", "--point", "3,4")):
        assert call(client, "query", *options) == 2
        assert "--text T alone" in capsys.readouterr().err
    assert len(client.calls) == calls


def test_page(client):
    call(client, "query", "s3://b/k.jpg", "--limit", "3", "--offset", "20", "--group-by-image")
    _, image, _, limit, offset, _, group_by_image = client.calls[-1]
    assert (image, limit, offset, group_by_image) == ("s3://b/k.jpg", 3, 20, True)


def test_hits_are_listed_with_their_place_and_keys_stay_whole(client, capsys):
    call(client, "query", "q.png", "--offset", "20")
    text = capsys.readouterr().out
    assert "selected: a region of 500 px in 1,2,30,20: the surest of 1" in text
    assert [line.split() for line in text.splitlines() if "k[red].jpg" in line] == [
        ["21", "17", "s3://b/k[red].jpg", "3", "0,0,60,40"]
    ]


def test_how_good_a_hit_is_stands_before_its_figures(client, capsys):
    assert call(client, "query", "q.png", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    [hit] = document["hits"]
    assert hit["confidence"] is None
    hits = [hit | {"confidence": {"word": word}} for word in ("very strong", "none")]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(answer_text(document | {"hits": hits}, first=1))
    _, heading, first, second, _ = console.export_text().splitlines()
    assert re.split(r"\s{2,}", heading.strip())[:3] == ["#", "match", "bits"]
    assert re.split(r"\s{2,}", first.strip())[:3] == ["1", "very strong", "17"]
    assert re.split(r"\s{2,}", second.strip())[:3] == ["2", "none", "17"]


def test_nothing_selected_is_no_error(capsys):
    nothing = Selection("none", (0.0, 0.0, 0.0, 0.0), 0, RLE, 0.0, "points", "no mask lies under the point")
    client = FakeClient(selection=nothing)
    assert call(client, "query", "q.png", "--point", "1,1") == 0
    assert "selected: nothing: no mask lies under the point" in capsys.readouterr().out
    assert call(client, "query", "q.png", "--point", "1,1", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["hits"] == []


@pytest.mark.parametrize("verb", ["query", "segment"])
def test_save_draws_a_file(verb, client, capsys):
    assert call(client, verb, "q.png", "--save", "drawn.png", "--format", "json") == 0
    streams = capsys.readouterr()
    json.loads(streams.out)
    assert "saved drawn.png" in streams.err
    with Image.open("drawn.png") as image:
        assert image.format == "PNG"


def test_keys_that_are_no_unicode_are_printed(client, capsys):
    client.status = lambda: IndexStatus("\udcff.db")
    assert call(client, "status") == 0
    assert capsys.readouterr().out.endswith(
        ".db: there is no index; check --uri, or make one: searchanything index SOURCE\n"
    )
    assert call(client, "status", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["uri"] == "\udcff.db"


def test_interruption_is_130(client, capsys):
    client.error = KeyboardInterrupt()
    assert call(client, "index", "src") == 130
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.endswith("interrupted\n")
    assert client.closed == 1


def test_reader_that_went_away_is_no_error(client, monkeypatch, tmp_path):
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return file.fileno()

    with (tmp_path / "stdout").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Closed())
        assert call(client, "status") == 0


@pytest.mark.parametrize("arguments", [["--help"], ["index", "--help"], ["--version"], ["--show-completion"]], ids=str)
def test_help_whose_reader_went_away_ends_in_silence(arguments):
    """Completion is that of the shell among the processes above, which tests need not have."""
    with closed_pipe() as pipe:
        command = ["bash", "-c", '"$@"; exit', "bash", sys.executable, "-m", "searchanything", *arguments]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", [["delete"], ["failed", "list"]], ids=str)
def test_help_whose_reader_goes_away_at_any_line_ends_in_silence(client, monkeypatch, capsys, verb, tmp_path):
    class Closing(io.StringIO):
        def write(self, text: str) -> int:
            if self.tell() >= until:
                raise BrokenPipeError
            return super().write(text)

        def fileno(self) -> int:
            return file.fileno()

    assert call(client, *verb, "--help") == 0
    whole = len(capsys.readouterr().out)
    with (tmp_path / "stdout").open("w") as file:
        for until in (0, whole // 2, whole - 2, whole - 1):
            monkeypatch.setattr(sys, "stdout", Closing())
            assert (call(client, *verb, "--help"), capsys.readouterr().err) == (0, ""), until


def test_weights_that_are_not_there_are_said_before_the_index_is_opened(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path))
    opened = []
    assert run(["models", "apply", "base"], connect=lambda *names: opened.append(names)) == 1
    assert "fetch it (about" in capsys.readouterr().err
    assert opened == []


def test_exit_code_is_the_same_where_nobody_reads_stderr():
    with closed_pipe() as pipe:
        command = [sys.executable, "-m", "searchanything", "zzzz"]
        assert subprocess.run(command, stdout=pipe, stderr=pipe, check=False).returncode == 2


def test_work_goes_on_where_nobody_reads_stderr(client, monkeypatch):
    with closed_pipe() as pipe, os.fdopen(os.dup(pipe), "w", buffering=1) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        say("first")
        say("second")
        assert call(client, "index", "src", "--format", "json") == 0
    assert client.calls


def test_connection_that_broke_is_an_error_and_no_reader_that_went_away(client, capsys):
    client.error = BrokenPipeError()
    assert call(client, "status") == 1
    assert "was gone while it was written to" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 3, "no device"])
def test_library_that_ends_the_process_is_no_success(client, capsys, code):
    client.error = SystemExit(code)
    assert call(client, "status") == 1
    assert f"a library wanted to end the process: {code}" in capsys.readouterr().err


def test_completions_that_no_shell_understands_are_an_error(capfd):
    environment = os.environ | {"_SEARCHANYTHING_COMPLETE": "nonsense"}
    assert subprocess.run([sys.executable, "-m", "searchanything"], env=environment, check=False).returncode == 1
    assert "Invalid completion instruction" in capfd.readouterr().err


def test_work_goes_on_where_a_log_has_no_room(client, monkeypatch):
    with Path("/dev/full").open("w", buffering=1) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        say("first")
        assert call(client, "index", "src", "--format", "json") == 0
    assert client.calls


def test_work_goes_on_where_the_terminal_was_closed(client, monkeypatch):
    terminal, shown = pty.openpty()
    with os.fdopen(shown, "w", buffering=1) as stderr:
        os.close(terminal)
        monkeypatch.setattr(sys, "stderr", stderr)
        say("first")
        assert call(client, "index", "src", "--format", "json") == 0
    assert client.calls


@contextlib.contextmanager
def closed_pipe():
    """The end of a pipe that is written to, whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def test_bare_command_shows_its_help(client, capsys):
    assert call(client) == 2
    bare = capsys.readouterr().out
    assert call(client, "--help") == 0
    assert bare.startswith(capsys.readouterr().out.rstrip())
    for verb in ("index", "query", "segment", "status", "delete", "models", "demo", "doctor"):
        assert verb in bare
        assert call(client, verb, "--help") == 0
        assert capsys.readouterr().out


def test_bare_command_names_what_to_type_next(client, capsys, monkeypatch, tmp_path):
    index = tmp_path / "index.db"
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__URI", str(index))
    assert call(client) == 2
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if line.startswith("  searchanything")]
    assert [line[1] for line in lines] == ["demo", "index", "query", "models", "index", "serve"]
    index.touch()
    assert call(client) == 2
    assert "searchanything query IMAGE" in capsys.readouterr().out
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__URI", "http://milvus:19530")
    assert call(client) == 2
    assert "searchanything doctor" in capsys.readouterr().out


def test_models_are_listed_with_licence_and_whether_they_are_here(client, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path))
    assert call(client, "models", "list", "--format", "json") == 0
    presets = {one["name"]: one for one in json.loads(capsys.readouterr().out)["presets"]}
    assert {"pico", "small", "paper"} <= presets.keys()
    assert all(not weights["present"] and weights["licence"] for weights in presets["paper"]["weights"])
    assert call(client, "models", "list") == 0
    assert "no: searchanything models fetch paper" in capsys.readouterr().out
    assert call(client, "models", "path", "paper") == 1
    assert "searchanything models fetch paper" in capsys.readouterr().err
    for weights in presets["paper"]["weights"]:
        assert weights["path"] is None


def test_models_path_prints_one_path_a_line(client, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "FastSAM-s.pt").write_bytes(b"")
    (tmp_path / "CLIP-ViT-B-32-256x256-DataComp-s34B-b86K.bin").write_bytes(b"")
    assert call(client, "models", "path", "small") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line).parent for line in lines] == [tmp_path] * 2


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_help_loads_nothing_heavy():
    loaded = "import sys; from searchanything.cli.app import run; run(['query', '--help']); print(*sys.modules)"
    modules = python("-c", loaded).stdout.splitlines()[-1].split()
    assert "typer" in modules
    assert {
        "torch",
        "pymilvus",
        "minio",
        "numpy",
        "cv2",
        "pydantic_settings",
        "searchanything.client.client",
    }.isdisjoint(modules)


def test_exit_code_reaches_the_shell():
    assert python("-m", "searchanything.cli.app", "query").returncode == 2
    assert python("-m", "searchanything.cli.app", "--help").returncode == 0


def test_log_lines_carry_tracebacks_on_request_alone(client, capsys):
    def status() -> None:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logging.getLogger("searchanything.ingest.pipeline").exception("a.jpg cannot be encoded")
        raise KeyboardInterrupt

    client.status = status
    call(client, "status")
    quiet = capsys.readouterr().err
    assert "a.jpg cannot be encoded" in quiet
    assert "Traceback" not in quiet
    call(client, "status", "--verbose")
    assert "Traceback" in capsys.readouterr().err


def test_log_handlers_do_not_pile_up(client):
    package = logging.getLogger("searchanything")
    before = list(package.handlers), package.level
    call(client, "status", "--verbose")
    assert (list(package.handlers), package.level) == before


@pytest.mark.parametrize(
    "verb", ["index", "query", "segment", "status", "delete", "export", "demo", "doctor", "models", "sync", "failed"]
)
def test_reference_names_every_option(verb, client, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    call(client, verb, "--help")
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options or verb in ("models", "sync", "failed")
    assert [option for option in sorted(options) if f"`{option}" not in page] == []
    assert f"searchanything {verb}" in page


@pytest.mark.parametrize(
    ("better", "confidence", "said"),
    [
        (1, "clear", "text match clear, 1 of 102 everyday words names that region better than the text does\n"),
        (5, "unsure", ": it may be something else\n"),
        (40, "weak", "text match weak, 40 of 102"),
    ],
)
def test_a_text_says_how_well_it_fits(better, confidence, said, capsys):
    selection = replace(SELECTION, text_match=TextMatch(0.25, better, 102, confidence))
    assert call(FakeClient(selection=selection), "query", "q.png", "--text", "x") == 0
    assert said in capsys.readouterr().out
    assert call(FakeClient(selection=selection), "query", "q.png", "--text", "x", "--format", "json") == 0
    match = json.loads(capsys.readouterr().out)["selection"]["text_match"]
    assert match == {"cosine": 0.25, "better": better, "words": 102, "confidence": confidence}


def test_without_a_text_nothing_is_said_of_one(client, capsys):
    assert call(client, "query", "q.png", "--point", "1,2") == 0
    assert "text match" not in capsys.readouterr().out


SWALLOWING = """
import os, signal, sys, time
from contextlib import nullcontext
from searchanything.cli.app import run
from searchanything.cli.query import answer_text
from searchanything.cli.session import say

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

class Client:
    def status(self):
        Swallows()  # what its __del__ raises is dropped by the interpreter
        time.sleep(30)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(run(["status"], connect=lambda uri, preset: nullcontext(Client())))
"""


def test_an_interrupt_that_the_interpreter_dropped_still_interrupts():
    done = subprocess.run([sys.executable, "-c", SWALLOWING], capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")

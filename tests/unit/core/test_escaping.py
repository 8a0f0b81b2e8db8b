"""Keys of strangers through every way out: terminal, JSON, logs, errors, HTML, Markdown and pictures."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import unicodedata
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import answers
from fakes.models import drawn
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from searchanything.answers.receipts import compare_runs
from searchanything.answers.results import SearchResults
from searchanything.cli.app import run
from searchanything.cli.failures import report
from searchanything.cli.shown import Shown
from searchanything.core.errors import ImageError, StoreError
from searchanything.core.escaping import (
    OneLineFormatter,
    html_text,
    json_text,
    markdown_text,
    printable,
    printable_lines,
)
from searchanything.core.omissions import Omissions
from searchanything.core.types import ImageRef
from searchanything.drawing.sheets import Tile, contact_sheet
from searchanything.drawing.text import legible
from searchanything.ingest.commit import Failed
from searchanything.ingest.contact_sheet import SheetTile
from searchanything.ingest.reports import FailedImage, Failure, IndexReport, SyncReport
from searchanything.service.reports import WaveReport, sheet_lines, sync_markdown, wave_markdown

HOSTILE = "a\x1b[2J\x1b]8;;http://evil\x07b\x9b31m\r\nc\u202egpj\u2028d\t\x00\ud800|`<script>[x](y)*_\\&\"'.jpg"
STEERING = ("\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2028", "\x00", "\ud800")


def harmless(text: str, *, lines: int | None = None) -> None:
    """Nothing in the text steers what shows it; it has so many lines."""
    assert not [letter for letter in STEERING if letter in text]
    hidden = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert hidden <= {"\n", "\u200c", "\u200d"}
    if lines is not None:
        assert len(text.strip("\n").split("\n")) == lines


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_harmless(text: str) -> None:
    harmless(printable(text), lines=1)
    harmless(printable_lines(text))
    harmless(markdown_text(text), lines=1)
    assert not set(re.sub(r"\\.", "", markdown_text(text))) & set("|`<[]*_~:@\\")
    assert not set(html_text(text)) & set("<>\"'")
    document = json.dumps({text: text}, ensure_ascii=False)
    harmless(json_text(document), lines=1)
    assert json.loads(json_text(document)) == {text: text}
    harmless(legible(text), lines=1)


@pytest.mark.parametrize(
    "text", ["plain name.jpg", "Küste", "日本語\u3000写真", "می\u200cخواهم", "👨‍👩‍👧", "a_b-c (1)"]
)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_escapes_tell_what_was_there() -> None:
    assert printable("a\x1b\n\u202e\ud800") == "a\\x1b\\n\\u202e\\ud800"
    assert html_text("<\x1b>") == "&lt;\\x1b&gt;"
    assert markdown_text("a\n| `x`") == r"a \| \`x\`"


@pytest.mark.parametrize("error", [ImageError(HOSTILE, "is damaged"), StoreError(f"{HOSTILE}: denied")])
@pytest.mark.parametrize("format", ["text", "json"])
def test_errors(error: Exception, format: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report(error, format)
    shown = capsys.readouterr()
    harmless(shown.out + shown.err)
    assert "damaged" in shown.out + shown.err or "denied" in shown.out + shown.err
    assert "error: a" in shown.err or format == "json"


def test_the_reason_of_a_failure_is_not_cut_off_by_its_key() -> None:
    for error in (ImageError("a\nb.jpg", "is damaged"), StoreError("a\nb.jpg: is damaged")):
        assert Failed.of(error).message == "a\\nb.jpg: is damaged"
    assert Failed.of(RuntimeError("first\x1b\nsecond")).message == "first\\x1b"


def test_logs(capsys: pytest.CaptureFixture[str]) -> None:
    class Warns:
        def __enter__(self) -> Warns:
            logging.getLogger("searchanything.x").warning("%s cannot be read: %s", HOSTILE, "denied")
            raise StoreError("enough")

        def __exit__(self, *_: object) -> None: ...

    run(["status"], connect=lambda *_: Warns())  # type: ignore[arg-type,return-value]
    shown = capsys.readouterr().err
    harmless(shown)
    assert shown.split("\n")[0].endswith("cannot be read: denied")


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("a\x1b\nb")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s", (HOSTILE,), sys.exc_info())
    text = OneLineFormatter("%(message)s").format(record)
    harmless(text)
    assert text.split("\n")[1] == "Traceback (most recent call last):"
    assert record.args == (HOSTILE,)


FAILURES = (Failure(HOSTILE, "ImageError", f"{HOSTILE}: is damaged"),)
INDEXED = IndexReport(failed=1, failures=FAILURES, warnings=FAILURES)
SYNCED = SyncReport(
    missing=(HOSTILE,), stale=(HOSTILE,), orphaned=(HOSTILE,), failed=(HOSTILE,), unlisted=FAILURES, skipped=FAILURES,
    repaired=INDEXED,
)  # fmt: skip
LOST = FailedImage(ImageRef("b", HOSTILE), "e", "ImageError", f"{HOSTILE}: is damaged", 1, 0, 0, exhausted=False)


class Answers:
    """A client whose every answer is about the hostile key."""

    def __init__(self, results: SearchResults | None = None) -> None:
        self._results = results

    def index(self, *_: object, **__: object) -> IndexReport:
        return INDEXED

    def sync(self, *_: object, **__: object) -> SyncReport:
        return SYNCED

    def failures(self, *_: object, **__: object) -> list[FailedImage]:
        return [LOST]

    retry_failed = index

    def query(self, *_: object, **__: object) -> SearchResults | None:
        return self._results


def hostile_results() -> SearchResults:
    hit = replace(answers.hit(1), image=ImageRef("b\x1b", HOSTILE))
    found: SearchResults = answers.results(hit)
    return replace(found, selection=replace(found.selection, reason=f"chosen {HOSTILE}"))


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    "verb",
    [
        ["index", "folder"],
        ["sync", "check", "folder"],
        ["sync", "repair", "folder"],
        ["failed", "list"],
        ["failed", "retry"],
        ["query", "q.png"],
    ],
    ids=" ".join,
)
def test_verbs(
    verb: list[str], format: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.png").write_bytes(b"")
    client = Answers(hostile_results())
    code = run([*verb, "--format", format], connect=lambda *_: nullcontext(client))  # type: ignore[arg-type,return-value]
    shown = capsys.readouterr()
    assert code in (0, 3), shown.err
    harmless(shown.out + shown.err)
    if format == "json":
        assert json.loads(shown.out)
        return
    assert "\\x1b[2J" in shown.out
    reasons = [line for line in shown.out.splitlines() if line.startswith(("failed: ", "warning: ", "not listed: "))]
    assert all(line.endswith(("is damaged", ".jpg")) for line in reasons)


def test_a_verb_that_forgets_is_caught_at_the_terminal() -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=500, color_system="truecolor")
    console.print(Shown(Text(HOSTILE.replace("\ud800", ""), style="red")))
    text = buffer.getvalue()
    assert text.startswith("\x1b[31m")  # styles of our own stay
    harmless(text.replace("\x1b[31m", "").replace("\x1b[0m", ""))


def test_results_in_a_notebook_and_a_terminal() -> None:
    results = hostile_results()
    harmless(repr(results), lines=1)
    page = results._repr_html_()
    harmless(page)
    assert "<script>" not in page
    then = hostile_results()
    read_then = answers.read(then)
    told = compare_runs(read_then, replace(results, hits=()))
    harmless(told.to_text())
    assert "hit lost" in told.to_text()
    harmless(compare_runs(replace(read_then, document={**read_then.document, "fingerprint": HOSTILE}), then).to_text())


def test_markdown_of_runs() -> None:
    wave = WaveReport(lost=FAILURES)
    document = {
        "checked": 1,
        "missing": [],
        "stale": [],
        "orphaned": [],
        "failed": [],
        "unlisted": [],
        "lost": 0,
        "held": [HOSTILE],
    }
    texts = [
        wave_markdown(HOSTILE, wave),
        sync_markdown(HOSTILE, document, wave),
        "\n".join(sheet_lines([SheetTile(HOSTILE, "https://s3/x"), SheetTile(HOSTILE, f"/{HOSTILE}")])),
    ]
    for text in texts:
        harmless(text)
        assert "<script>" not in text
        assert "](y)" not in text
    rows = [line for line in texts[0].splitlines() if "ImageError" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4]


def test_pictures() -> None:
    image = drawn(20, 20)
    for text in (HOSTILE, "\u202e" * 40):
        assert contact_sheet([Tile(image, text, text, text)], side_px=120).dtype == np.uint8
        harmless(legible(text), lines=1)


def test_what_a_listing_skips() -> None:
    omissions = Omissions()
    omissions.skip("a\udcff\x1b.jpg", "its name is not UTF-8")
    harmless(printable(omissions.examples[0].key), lines=1)
    assert str(ImageRef("b", HOSTILE)).startswith("s3://b/a\\x1b[2J")

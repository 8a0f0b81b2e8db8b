"""`watch` prints one line for each finished wave: what it says, how it gets from the coordinator to the terminal."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.ingest.reports import Failure, IndexReport
from searchanything.service import wave_lines
from searchanything.service.children import Child
from searchanything.service.reports import BatchReport, WaveReport
from searchanything.service.tree import ServiceTree
from searchanything.service.wave_lines import AddedLines, ShownLines, wave_line, write_lines_to

index_flow = import_module("searchanything_flows.index")


def wave(report: IndexReport, seconds: float) -> WaveReport:
    return WaveReport((BatchReport(report, seconds, "host", 1),), (), seconds)


BAD = tuple(Failure(f"{name}.jpg", "ImageError", "the file is cut off") for name in "abc")


@pytest.mark.parametrize(
    ("images", "report", "expected"),
    [
        (1, IndexReport(indexed=1, regions=1), "1 image in 4.0 s (0.2 a second): 1 indexed, 1 region"),
        (1200, IndexReport(deleted=1200), "1,200 images in 4.0 s (300.0 a second): 1,200 deleted"),
        (2, IndexReport(unchanged=2), "2 images in 4.0 s (0.5 a second): 2 unchanged"),
        (
            5,
            IndexReport(indexed=4, failed=1, regions=9, failures=BAD[:1]),
            "5 images in 4.0 s (1.2 a second): 4 indexed, 1 failed, 9 regions; failed: a.jpg: the file is cut off",
        ),
        (
            3,
            IndexReport(failed=3, failures=BAD),
            "3 images in 4.0 s (0.8 a second): 3 failed; failed: a.jpg: the file is cut off, and 2 more: "
            "`searchanything failed list`",
        ),
        (
            3,
            IndexReport(failed=1, failures=BAD[:1], warnings=BAD[1:]),
            "3 images in 4.0 s (0.8 a second): 1 failed, 2 warnings; failed: a.jpg: the file is cut off; "
            "warning: b.jpg: the file is cut off, and 1 more",
        ),
    ],
)
def test_what_a_line_says(images: int, report: IndexReport, expected: str) -> None:
    assert wave_line(images, wave(report, 4.0)) == expected


def test_a_message_that_names_its_image_names_it_once() -> None:
    failure = Failure("a.jpg", "ImageError", "a.jpg: the file is cut off")
    line = wave_line(1, wave(IndexReport(failed=1, failures=(failure,)), 4.0))
    assert line.endswith("; failed: a.jpg: the file is cut off")


def test_a_wave_that_took_no_time_has_no_rate() -> None:
    assert wave_line(0, WaveReport()) == "0 images in 0.0 s: nothing to do"


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """A file that this process's lines are written to."""
    file = tmp_path / "waves.log"
    logger = logging.getLogger(wave_lines.WAVES_LOGGER)
    before = list(logger.handlers)
    write_lines_to(file)
    yield file
    for handler in [one for one in logger.handlers if one not in before]:
        logger.removeHandler(handler)
        handler.close()


def lines_of(file: Path) -> list[str]:
    with AddedLines(file) as added:
        return list(added.read())


def test_lines_have_the_time_and_stay_on_one_line(logged: Path) -> None:
    logging.getLogger(wave_lines.WAVES_LOGGER).info("%s", "a\nkey\x1b[2J")
    [line] = lines_of(logged)
    time_of_day, _, text = line.partition("  ")
    assert len(time_of_day.split(":")) == 3
    assert text == "a\\nkey\\x1b[2J"


def test_no_line_is_lost_or_repeated_when_the_file_is_replaced(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(wave_lines.WAVES_LOGGER)
    [handler] = [one for one in logger.handlers if getattr(one, "baseFilename", "") == str(logged)]
    monkeypatch.setattr(handler, "maxBytes", 100)
    added, got = AddedLines(logged), []
    with added:
        assert list(added.read()) == []
        for number in range(40):
            logger.info("wave %d", number)
            if number % 3 == 0:  # the file is replaced after every fourth or fifth
                got += list(added.read())
        got += list(added.read())
    assert [line.partition("  ")[2] for line in got] == [f"wave {number}" for number in range(40)]
    assert logged.stat().st_size <= 100


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=8), st.data())
def test_a_line_is_whole_however_it_is_written(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    got: list[str] = []
    with tempfile.TemporaryDirectory() as folder, AddedLines(Path(folder, "waves.log")) as added:
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            with Path(folder, "waves.log").open("a", encoding="utf-8", newline="") as out:
                out.write(text[start:end])
            got += added.read()
    assert got == text.split("\n")[:-1]


def test_the_last_lines_are_shown_before_the_end(tmp_path: Path) -> None:
    shown: list[str] = []
    with ShownLines(tmp_path / "waves.log", shown.append):
        (tmp_path / "waves.log").write_text("one\ntwo\n")
    assert shown == ["one", "two"]


def test_a_reader_that_has_gone_away_ends_nothing(tmp_path: Path) -> None:
    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        raise BrokenPipeError

    with ShownLines(tmp_path / "waves.log", show):
        (tmp_path / "waves.log").write_text("one\n")
    assert shown == ["one"]


def run_index(monkeypatch: pytest.MonkeyPatch, outcome: WaveReport | Exception) -> None:
    """The flow `index` for two keys, without Prefect's server, Dask or a worker."""

    @asynccontextmanager
    async def no_workers(_source: str) -> Any:
        yield None

    async def done(*_: object, **__: object) -> WaveReport:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def published(*_: object) -> None:
        return None

    monkeypatch.setattr(index_flow, "workers", no_workers)
    monkeypatch.setattr(index_flow, "_wave", done)
    monkeypatch.setattr(index_flow, "stop_if_cancelled", lambda work: work)
    monkeypatch.setattr(index_flow, "publish_wave", published)
    asyncio.run(index_flow.index.fn("s3://holiday", ["a", "b"]))


def test_the_flow_writes_a_line_for_its_wave(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_index(monkeypatch, wave(IndexReport(indexed=2, regions=7), 0.5))
    [line] = lines_of(logged)
    assert line.endswith("  2 images in 0.5 s (4.0 a second): 2 indexed, 7 regions")


def test_the_flow_writes_a_line_for_a_wave_that_failed(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailableError):
        run_index(monkeypatch, StoreUnavailableError("the server is away"))
    [line] = lines_of(logged)
    assert line.endswith("  2 images: the wave failed, the next sync tries again: the server is away")


def test_the_tree_shows_what_its_coordinator_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator is told where to write, and what it writes there is shown, up to its end."""
    configured = Settings(_env_file=None)
    configured.service.folder = tmp_path
    shown: list[str] = []
    tree = ServiceTree(
        "s3://holiday", configured, environment={"PREFECT_API_URL": "http://x/api"}, on_wave=shown.append
    )
    (tmp_path / "waves.log").write_text("of the run before\n")

    def start(child: Child) -> None:
        file = Path(child.command[list(child.command).index("--waves") + 1])
        file.write_text("12:00:00  1 image\n")
        (tmp_path / "coordinator.json").write_text('{"pid": 1}')

    monkeypatch.setattr(Child, "start", start)
    tree.start_watching()
    tree.close()
    assert shown == ["12:00:00  1 image"]

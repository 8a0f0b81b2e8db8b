"""The demo end to end, small: killed, run, run again. Real S3 server, real Milvus Lite, the models of preset pico."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from searchanything.demo.questions import KINDS
from searchanything.demo.run import run_demo

SCENES = 24
QUESTIONS = 6
pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Runs:
    """What two runs in one folder said and wrote; before them, a third one was killed while it indexed."""

    out: Path
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    said_first: list[str]
    said_second: list[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    out = tmp_path_factory.mktemp("demo")
    _run_until_killed(out, "indexing")
    said: tuple[list[str], list[str]] = [], []
    first = run_demo(out, scenes=SCENES, questions=QUESTIONS, say=said[0].append)
    second = run_demo(out, scenes=SCENES, questions=QUESTIONS, say=said[1].append)
    return Runs(out, first, second, *said)


def _run_until_killed(out: Path, word: str) -> None:
    """Run the demo in a process of its own, and kill -9 it when it says a word."""
    program = f"""
from pathlib import Path
from searchanything.demo.run import run_demo
run_demo(Path({str(out)!r}), scenes={SCENES}, questions={QUESTIONS}, say=lambda line: print(line, flush=True))
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as victim:
        assert victim.stdout is not None
        assert any(word in line for line in victim.stdout), "the demo ended before it could be killed"
        time.sleep(0.5)
        victim.send_signal(signal.SIGKILL)


def _processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if str(folder) in line:
                found.append(line)
    return found


def test_a_run_after_a_killed_one_completes_it(runs: Runs) -> None:
    images = runs.first["index"]["images"]
    assert images["indexed"] + images["unchanged"] + images["empty"] == SCENES
    assert (images["failed"], images["skipped"]) == (0, 1)  # the bucket's README.txt
    assert any(f"{SCENES + 1} already there" in line for line in runs.said_first), "the killed run's uploads were lost"


def test_the_second_run_does_nothing_twice(runs: Runs) -> None:
    images = runs.second["index"]["images"]
    assert (images["indexed"], images["unchanged"] + images["empty"]) == (0, SCENES)
    assert runs.second["index"]["regions"] == 0
    assert any("0 objects uploaded" in line for line in runs.said_second)


def test_the_answers_of_the_first_run_stand(runs: Runs) -> None:
    assert (runs.first["answers"], runs.second["answers"]) == ("asked in this run", "kept from an earlier run")
    assert runs.first["queries"] == runs.second["queries"]
    assert not any("asking" in line for line in runs.said_second)
    page = (runs.out / "index.html").read_text("utf-8")
    assert page.count("kept from an earlier run") == 1


def test_without_its_page_they_are_asked_anew_and_are_the_same(runs: Runs) -> None:
    (runs.out / "index.html").unlink()
    again = run_demo(runs.out, scenes=SCENES, questions=QUESTIONS)
    assert again["answers"] == "asked in this run"
    assert again["index"]["images"]["indexed"] == 0
    assert [_without_example(one) for one in again["queries"]] == [
        _without_example(one) for one in runs.first["queries"]
    ]


def test_the_report_has_what_scripts_rely_on(runs: Runs) -> None:
    report = json.loads((runs.out / "report.json").read_text("utf-8"))
    assert set(report["index"]) >= {"images", "regions", "failures", "seconds"}
    assert [one["kind"] for one in report["queries"]] == list(KINDS)
    for one in report["queries"]:
        assert one["n"] == QUESTIONS
        assert 0 <= one["hit_at_5"] <= 1
        assert {"image", "prompt", "hits"} <= set(one["example"])
        for hit in one["example"]["hits"]:
            assert hit["key"] != one["example"]["image"]
            assert {"bucket", "key", "region", "box_xyxy", "mask", "distance_bits", "metadata", "right"} <= set(hit)


def test_shuffled_weights_fall_to_chance(runs: Runs) -> None:
    # Given masks need no segmenter: what they find depends on the codes alone.
    asked = {one["kind"]: one for one in runs.second["queries"]}
    regions = [asked[kind] for kind in KINDS if kind != "image"]
    shuffled = sum(one["shuffled_hit_at_5"] for one in regions) / len(regions)
    chance = sum(one["chance"] for one in regions) / len(regions)
    assert asked["mask"]["hit_at_5"] >= 0.5
    assert asked["mask"]["hit_at_5"] > shuffled + 0.2
    assert shuffled < chance + 0.15


def test_the_page_stands_alone(runs: Runs) -> None:
    page = (runs.out / "index.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert sources
    for source in sources:
        assert (runs.out / source).is_file(), source
    assert "<script" not in page
    assert "url(" not in page
    drawn = {path.name for path in (runs.out / "images").iterdir()}
    assert drawn == {Path(source).name for source in sources} - {"report.json"}
    assert {f"images/{name}" for name in drawn} == set(runs.second["drawings"])


def test_no_server_is_left_behind(runs: Runs) -> None:
    deadline = time.monotonic() + 60
    while (left := _processes_of(runs.out)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left


def _without_example(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "example"}

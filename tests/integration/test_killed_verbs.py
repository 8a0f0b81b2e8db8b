"""kill -9 of `failed retry` and of `sync repair`: nothing is lost, nothing is there twice, the next run ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from contracts.index_rows import random_codes, region_row
from fakes.indexing import check_indexed
from fakes.machine import Machine
from fakes.models import drawn
from fakes.serving import png_of
from integration.killed_verbs import opened

from searchanything.core.codes import generation_at
from searchanything.core.types import ImageRef

IMAGES = int(os.environ.get("SEARCHANYTHING_TEST_KILLED_IMAGES", "200"))
AT = (0.1, 0.5, 0.9)  # of the work, one death after the other


def killed(verb: str, uri: str, folder: Path, *, at: int) -> None:
    """Have the verb end by SIGKILL as soon as it says that it has done so many."""
    script, tests = Path(__file__).with_name("killed_verbs.py"), Path(__file__).parents[1]
    victim = subprocess.Popen(
        [sys.executable, str(script), verb, uri, str(folder), str(max(1, IMAGES // 20)), str(at)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
    )
    with victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            if int(line) >= at:
                break
        else:
            pytest.fail(f"it ended before it had done {at}")
        victim.kill()
    assert victim.returncode == -9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    return made


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    Machine().install(monkeypatch)
    return os.environ.get("SEARCHANYTHING_TEST_KILLED_URI", str(tmp_path / "killed.db"))


def save(folder: Path, *, sound: bool) -> None:
    """Images with two regions each, all of them different; or what is none."""
    for number in range(IMAGES):
        red = 20 + number % 20
        image = png_of(drawn(48, 64, red=(4, 4, red, 30 + number // 20 % 15), blue=(42, 8, 60, 40)))
        (folder / f"{number:05}.png").write_bytes(image if sound else b"no image %d" % number)


def test_a_retry_that_is_killed(uri: str, folder: Path) -> None:
    save(folder, sound=False)
    with opened(uri) as client:
        assert client.index(folder).failed == IMAGES
    save(folder, sound=True)
    for share in AT:
        with opened(uri) as client:
            left = len(client.failures())
        killed("retry", uri, folder, at=max(1, int(share * left)))
        with opened(uri) as client:
            failed = {one.image for one in client.failures()}
            known = {row.image for row in client._parts.connection.read_index().iterate_images()}
            assert len(known) == IMAGES, "none is lost"
            assert len(failed) < left
    with opened(uri) as client:
        left = len(client.failures())
        assert client.retry_failed().indexed == left
        assert client.failures() == []
        client.sync(folder, repair=True)
        check_indexed(client, IMAGES)


def test_a_repair_that_is_killed_as_it_deletes(uri: str, folder: Path) -> None:
    save(folder, sound=True)
    old = generation_at(age_s=48 * 3600)
    with opened(uri) as client:
        client.index(folder)
        index = client._parts.connection.read_index()
        codes = random_codes(3 * IMAGES, seed=1)
        rows = [
            region_row(ImageRef(str(folder), f"{number % IMAGES:05}.png"), number, generation=old, code=code.tobytes())
            for number, code in enumerate(codes)
        ]
        for first in range(0, len(rows), 1000):
            index.insert_regions(rows[first : first + 1000])
        garbage = index.count_regions() - 2 * IMAGES
        assert garbage == len(rows)
    for share in AT[:2]:
        killed("repair", uri, folder, at=max(1, int(share * garbage / 3)))
        with opened(uri) as client:
            left = client._parts.connection.read_index().count_regions() - 2 * IMAGES
            assert 0 < left < garbage
            garbage = left
    with opened(uri) as client:
        client.sync(folder, repair=True)
        check_indexed(client, IMAGES)

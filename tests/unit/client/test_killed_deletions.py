"""A deletion that was killed between the image rows and the region rows: the same one again ends it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.client.client import Client
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef


class KilledError(BaseException):
    """Nothing after this runs, as after a SIGKILL."""


@pytest.fixture
def client(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Client:  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "others"):
        Path(folder).mkdir()
        for number in range(3):
            image = drawn(48, 64, red=(4, 4, 30, 40 - number), blue=(40, 8, 60, 30))
            Image.fromarray(image).save(Path(folder, f"{number}.png"))
    client = searchanything.connect("memory://", preset="small")
    client.index("photos", hash_file="untrained")
    client.index("others")
    return client


def index_of(client: Client) -> RegionIndex:
    return client._connection.read_index()


def rows_of(client: Client, folder: str) -> tuple[int, int]:
    """Images and regions."""
    counts = index_of(client).counts(bucket=str(Path(folder).absolute()))
    return counts.images, counts.regions


def killed_deletion(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the image rows alone: region rows are deleted last, in every index."""
    kind = type(index_of(client))

    def half(index: RegionIndex, images: Collection[ImageRef]) -> None:
        regions = list(index.regions_of(images))
        whole(index, images)
        index.insert_regions(regions)
        raise KilledError

    whole = kind.delete_images
    with monkeypatch.context() as patched:
        patched.setattr(kind, "delete_images", half)
        with pytest.raises(KilledError):
            client.delete("photos")
    assert rows_of(client, "photos") == (0, 6)


def test_a_killed_deletion_is_ended_by_the_same_one_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client._connection.settings.ingest.garbage_age_s = 0
    killed_deletion(client, monkeypatch)
    assert client.delete("photos") == 3
    assert rows_of(client, "photos") == (0, 0)
    assert rows_of(client, "others") == (3, 6)
    assert client.status().garbage == 0
    assert client.delete("photos") == 0


def test_regions_that_may_be_a_running_attempts_stay_and_are_named(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed_deletion(client, monkeypatch)
    assert client.delete("photos") == 0
    assert rows_of(client, "photos") == (0, 6)
    assert "6 regions stay, of images that somebody indexes, or whose deletion was interrupted" in caplog.text
    caplog.clear()
    client.delete("others")
    assert "stay" not in caplog.text

"""Rows that a server lost: a comparison counts them, a repair indexes their images again.

And rows that a deletion left which was killed between the image rows and the region rows: the same one again ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.cli.sync import _text
from searchanything.client.client import Client
from searchanything.core.digests import KnownImages
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import ImageRef
from searchanything.ingest import sync
from searchanything.ingest.garbage import count_lost


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
    return client._parts.connection.read_index()


def lose(client: Client, key: str) -> None:
    """All regions of an image but for one."""
    rows = list(index_of(client).regions_of([ImageRef(str(Path("photos").absolute()), key)]))
    index_of(client).delete_regions([row.id for row in rows[1:]])
    assert len(rows) == 2


def test_lost_rows_are_counted_and_repaired(client: Client) -> None:
    assert client.sync("photos").lost == 0
    before = {row.id for row in index_of(client).iterate_regions()}
    lose(client, "0.png")
    lose(client, "2.png")
    found = client.sync("photos")
    assert (found.lost, found.differs, found.missing, found.stale) == (2, True, (), ())
    assert "lost: 2 regions had no row in the index; sync repair" in str(_text(found.to_dict()))
    assert client.sync("others").lost == 0, "of this source alone"
    assert client.status().lost == 2
    repaired = client.sync("photos", repair=True)
    assert repaired.repaired is not None
    assert (repaired.lost, repaired.repaired.indexed) == (2, 2)
    assert "their images were indexed again" in str(_text(repaired.to_dict()))
    assert client.sync("photos").lost == client.status().lost == 0
    assert len(list(index_of(client).iterate_regions())) == len(before)


def test_what_a_repair_adds_does_not_hide_lost_rows(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "WAVE_KEYS", 1)
    monkeypatch.setattr(sync, "LISTED_BATCH", 1)
    lose(client, "2.png")
    Image.fromarray(drawn(48, 64, red=(4, 4, 30, 30), blue=(40, 8, 60, 30))).save(Path("photos", "new.png"))
    repaired = client.sync("photos", repair=True)
    assert (repaired.lost, repaired.missing) == (1, ("new.png",))
    assert client.sync("photos").lost == 0


def test_rows_that_went_with_their_images_meanwhile_are_not_lost(client: Client) -> None:
    index, bucket = index_of(client), str(Path("photos").absolute())
    known = KnownImages(index.iterate_states(bucket=bucket))
    index.delete_images([ImageRef(bucket, "1.png")])
    assert known.regions - index.count_regions(bucket=bucket) == 2
    assert count_lost(index, known, index.count_regions(bucket=bucket), bucket=bucket) == 0
    lose(client, "0.png")
    assert count_lost(index, known, index.count_regions(bucket=bucket), bucket=bucket) == 1


def rows_of(client: Client, folder: str) -> tuple[int, int]:
    """Images and regions."""
    counts = index_of(client).counts(bucket=str(Path(folder).absolute()))
    return counts.images, counts.regions


def killed_deletion(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the image rows alone: region rows are deleted last, in every index."""
    kind = type(index_of(client))

    def half(index: RegionIndex, generations: Mapping[ImageRef, int]) -> None:
        regions = list(index.regions_of(list(generations)))
        whole(index, generations)
        index.insert_regions(regions)
        raise KilledError

    whole = kind.delete_before
    with monkeypatch.context() as patched:
        patched.setattr(kind, "delete_before", half)
        with pytest.raises(KilledError):
            client.delete("photos")
    assert rows_of(client, "photos") == (0, 6)


def test_a_killed_deletion_is_ended_by_the_same_one_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client._parts.connection.settings.ingest.garbage_age_s = 0
    killed_deletion(client, monkeypatch)
    assert client.delete("photos") == 3
    assert rows_of(client, "photos") == (0, 0)
    assert rows_of(client, "others") == (3, 6)
    assert client.status().garbage == 0
    assert client.delete("photos") == 0


def test_a_repair_deletes_what_a_killed_deletion_left_once_it_is_old(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_deletion(client, monkeypatch)
    for image in Path("photos").iterdir():
        image.unlink()
    assert client.sync("photos", repair=True).garbage == 0
    assert rows_of(client, "photos") == (0, 6)
    client._parts.connection.settings.ingest.garbage_age_s = 0
    assert client.sync("photos", repair=True).garbage == 3
    assert rows_of(client, "photos") == (0, 0)


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

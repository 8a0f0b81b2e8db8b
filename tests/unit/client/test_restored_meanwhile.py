"""A backup that is restored into an emptied index, which a client has open: it answers from what was restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.backup import backup
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import RegionIndexError, UsageError, WordsMissingError
from searchanything.core.manifest import IndexCounts, IndexManifest, WordsPart
from searchanything.core.settings import Settings
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex

IMAGES = {
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
    "b/green.png": drawn(64, 96, green=(20, 8, 60, 40), yellow=(70, 8, 90, 40)),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Machine().install(monkeypatch)
    for key, image in IMAGES.items():
        (tmp_path / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / key)
    return tmp_path / "images"


def found(client: Client, folder: Path) -> list[str]:
    return [hit.image.key for hit in client.query(folder / "a" / "red.png", (20, 20)).hits]


def layer_of(client: Client) -> bytes:
    words = client._models.index().words
    assert isinstance(words, WordsPart)
    return words.layer


@pytest.mark.parametrize("uri", ["memory://", "index.db"])
def test_what_was_restored_answers_and_takes_more(folder: Path, tmp_path: Path, uri: str) -> None:
    """The backup has no words codes, the index had some by the time that it was emptied."""
    with connect(uri if uri.startswith("memory") else str(tmp_path / uri), preset="pico") as client:
        client.index(folder)
        client.backup(tmp_path / "backup.tar")
        before = found(client, folder)
        client.index(folder, add_words=True)
        assert client.query(text="red").hits
        client.delete(folder)
        client.restore(tmp_path / "backup.tar")
        assert found(client, folder) == before
        with pytest.raises(WordsMissingError):
            client.query(text="red")
        Image.fromarray(IMAGES["a/red.png"]).save(folder / "new.png")
        assert client.index(folder).indexed == 1
        assert len(found(client, folder)) > len(before)


def test_another_process_has_the_words_of_the_backup(folder: Path, tmp_path: Path) -> None:
    """Words layers differ with the images that they are fitted to; the codes of one are nothing to another."""
    uri, late = str(tmp_path / "index.db"), folder / "b" / "green.png"
    green = late.read_bytes()
    late.unlink()
    with connect(uri, preset="pico") as writer, connect(uri, preset="pico") as standing:
        writer.index(folder)
        writer.backup(tmp_path / "without.tar")
        writer.index(folder, add_words=True)
        first = layer_of(writer)
        writer.backup(tmp_path / "with.tar")
        writer.delete(folder)
        writer.restore(tmp_path / "without.tar")
        late.write_bytes(green)
        writer.index(folder, add_words=True)
        assert standing.query(text="green").hits[0].image.key == "b/green.png"
        assert layer_of(standing) != first
        writer.delete(folder)
        writer.restore(tmp_path / "with.tar")
        assert layer_of(standing) == first
        assert standing.query(text="red").hits[0].image.key == "a/red.png"


@pytest.mark.parametrize("uri", ["memory://", "index.db"])
def test_who_indexes_meanwhile_waits_for_the_restore(
    folder: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same models: it would remove what was restored so far, and make the rest live while it comes."""
    refused: list[str] = []
    indexes = MemoryIndexStore() if uri.startswith("memory") else None

    def opened() -> Client:
        settings = Settings(_env_file=None, milvus={"uri": str(tmp_path / uri)}, models={"preset": "pico"})
        return Client(settings, indexes=indexes)

    def between(members: Iterator[tuple[str, bytes]], *others: Any) -> Iterator[tuple[str, bytes]]:
        for member in undisturbed(members, *others):
            if member[0].startswith("images-"):
                with pytest.raises(RegionIndexError, match="restores a backup") as info:
                    other.index(folder)
                refused.append(str(info.value))
                assert other.status().images == 0
            yield member

    undisturbed = backup._undisturbed
    with opened() as client, opened() as other:
        client.index(folder)
        client.backup(tmp_path / "backup.tar")
        client.delete(folder)
        monkeypatch.setattr(backup, "_undisturbed", between)
        assert client.restore(tmp_path / "backup.tar").images == 3
        assert len(refused) == 1
        assert len(found(other, folder)) == 4
        assert other.index(folder).indexed == 0


def test_an_index_that_became_live_all_the_same_is_not_filled_any_further(folder: Path, tmp_path: Path) -> None:
    indexes = MemoryIndexStore()
    settings = Settings(_env_file=None, milvus={"uri": "memory://"}, models={"preset": "pico"})
    with Client(settings, indexes=indexes) as client:
        client.index(folder)
        client.backup(tmp_path / "backup.tar")
        client.delete(folder)
        name, create = client.manifest.fingerprint, indexes.create

        def faster(manifest: IndexManifest, hash_layer: bytes) -> MemoryRegionIndex:
            made = create(manifest, hash_layer)
            indexes.switch(name)
            return made

        indexes.create = faster  # type: ignore[method-assign]
        with pytest.raises(UsageError, match="another process has made the index of these models live"):
            client.restore(tmp_path / "backup.tar")
        assert indexes.open(name).counts() == IndexCounts(0, 0, 0, 0)

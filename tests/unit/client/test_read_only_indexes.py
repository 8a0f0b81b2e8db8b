"""An index that cannot be written is noticed before any model is loaded; what is up to date needs no writing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from fakes.hash_layers import opened
from fakes.machine import Machine, machine_with_images
from fakes.models import drawn
from PIL import Image

from searchanything.core.errors import IndexReadOnlyError
from searchanything.stores.memory import MemoryIndexStore


class ReadOnlyStore(MemoryIndexStore):
    """Can be read alone while `read_only`."""

    read_only = True

    def check_writable(self) -> None:
        if self.read_only:
            raise IndexReadOnlyError("index.db: the index can be read but not written")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_with_images(monkeypatch, tmp_path)


def test_no_index_is_begun_where_none_can_be_made(tmp_path: Path, machine: Machine) -> None:
    with opened(tmp_path, indexes=ReadOnlyStore()) as client, pytest.raises(IndexReadOnlyError):
        client.index(tmp_path / "images")
    assert machine.loads == []


@pytest.mark.parametrize("verb", ["index", "index with words", "sync", "refresh"])
def test_nothing_is_encoded_for_an_index_that_is_only_read(tmp_path: Path, machine: Machine, verb: str) -> None:
    store, images = ReadOnlyStore(), tmp_path / "images"
    store.read_only = False
    with opened(tmp_path, indexes=store) as client:
        client.index(images)
    Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(images / "new.png")
    store.read_only = True
    machine.segmenter.batch_sizes.clear()
    with opened(tmp_path, indexes=store) as client:
        run: Callable[[], object] = {
            "index": partial(client.index, images),
            "index with words": partial(client.index, images, add_words=True),
            "sync": partial(client.sync, images, repair=True),
            "refresh": partial(client.refresh, images, ["new.png"]),
        }[verb]
        with pytest.raises(IndexReadOnlyError):
            run()
    assert machine.segmenter.batch_sizes == []


def test_an_index_that_is_only_read_and_up_to_date_is_no_error(tmp_path: Path, machine: Machine) -> None:
    store, images = ReadOnlyStore(), tmp_path / "images"
    store.read_only = False
    with opened(tmp_path, indexes=store) as client:
        client.index(images)
    store.read_only = True
    loaded = list(machine.loads)
    with opened(tmp_path, indexes=store) as client:
        assert client.index(images).unchanged == 3
    assert machine.loads == loaded

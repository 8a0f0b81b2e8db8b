"""kill -9 of client and server in the middle of every step: what was committed stays whole, nothing else is seen.

A helper process (`kill_victim.py`) replaces an image, makes a new index and switches to it, and at a given write it
kills the embedded server and itself: while Milvus works on the write, or right after it was acknowledged. A new client
then looks at what is left. The same file goes through all of these deaths.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from contracts.index_rows import BITS, HASH_LAYER, image_row, manifest_of, region_row

from searchanything.core.codes import next_generation
from searchanything.core.errors import IndexNotFoundError
from searchanything.core.protocols import IndexStore
from searchanything.core.settings import MilvusSettings
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.milvus_opening import open_milvus

IMAGE = ImageRef("bucket", "the image.jpg")
REGIONS = 60
ZERO = np.zeros((1, BITS // 8), dtype=np.uint8)
# Writes 0 to 10: insert_regions, insert_images, delete_before (2), create (3 collections, hash layer, manifest), switch
# (2). Each death comes during the write or after it; within `create`, which has a test of its own, one of the two.
CREATE = range(4, 9)
DEATHS = [
    (write, acknowledged)
    for write in range(11)
    for acknowledged in (False, True)
    if write not in CREATE or acknowledged == bool(write % 2)
]


class Victims:
    """Forks one victim after another from a process that has imported everything and connected nowhere."""

    def __init__(self, file: Path) -> None:
        script, tests = Path(__file__).with_name("kill_victim.py"), Path(__file__).parents[1]
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
        )

    def send(self, **orders: object) -> str:
        """Let one victim do its work; return how it ended: `killed` or `done`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture
def victims(file: Path) -> Iterator[Victims]:
    victims = Victims(file)
    yield victims
    victims.close()


def open_index(file: Path) -> IndexStore:
    return open_milvus(MilvusSettings(uri=str(file), lite_idle_s=0.5))


def test_death_in_the_middle_of_every_step(file: Path, victims: Victims) -> None:
    first = next_generation()
    with open_index(file) as store:
        index = store.create(manifest_of("0" * 64), HASH_LAYER)
        index.insert_regions([region_row(IMAGE, number, generation=first) for number in range(REGIONS)])
        index.insert_images([image_row(IMAGE, generation=first, regions=REGIONS)])
        store.switch("0" * 64)
    seen, fingerprints = {first}, ["0" * 64]
    for number, (write, acknowledged) in enumerate(DEATHS):
        generation, fingerprint = next_generation(), f"{number + 1:064d}"[::-1]
        seen.add(generation)
        fingerprints.append(fingerprint)
        ended = victims.send(write=write, acknowledged=acknowledged, generation=generation, fingerprint=fingerprint)
        assert ended == "killed", (write, acknowledged)
        with open_index(file) as store:
            check_what_is_left(store, seen, fingerprints)
            if write >= 1 and acknowledged:
                assert store.open("0" * 64).newest([IMAGE])[IMAGE].generation == generation
    last = next_generation()
    assert victims.send(write=None, acknowledged=True, generation=last, fingerprint="e" * 64) == "done"
    with open_index(file) as store:
        live = store.live()
        assert live is not None
        assert live.fingerprint == "e" * 64
        assert {row.generation for row in store.open("0" * 64).iterate_images()} == {last}
        assert store.open("0" * 64).counts().regions == REGIONS


def check_what_is_left(store: IndexStore, seen: set[int], fingerprints: list[str]) -> None:
    """A live index, every manifest with its whole index, and the image whole in its newest generation."""
    live = store.live()
    assert live is not None
    manifests = [manifest.fingerprint for manifest in store.manifests()]
    assert live.fingerprint in manifests
    assert set(manifests) <= set(fingerprints)
    assert store.hash_layer(manifests[-1]) == HASH_LAYER
    store.open(manifests[-1])
    index = store.open("0" * 64)
    row = index.newest([IMAGE])[IMAGE]
    assert row.generation in seen
    [hits] = index.search(ZERO, limit=16384, filter=Filter(bucket=IMAGE.bucket))
    current = sorted(hit.region for hit in hits if hit.generation == row.generation)
    assert current == list(range(REGIONS)), "the committed image is not whole, or doubled"


def test_an_interrupted_creation_is_invisible_and_can_be_finished(file: Path, victims: Victims) -> None:
    """The writes of `create` alone, on a file that does not exist: collections, hash layer, manifest."""
    for write in range(5):
        assert victims.send(write=write, acknowledged=write % 2 == 0, create="a" * 64) == "killed"
        with open_index(file) as store:
            assert store.live() is None
            if write < 4:
                assert store.manifests() == []
                with pytest.raises(IndexNotFoundError):
                    store.open("a" * 64)
    with open_index(file) as store:
        index = store.create(manifest_of("a" * 64), HASH_LAYER)
        assert store.hash_layer("a" * 64) == HASH_LAYER
        assert [manifest.fingerprint for manifest in store.manifests()] == ["a" * 64]
        index.insert_regions([region_row(IMAGE, generation=1)])
        assert index.counts().regions == 1

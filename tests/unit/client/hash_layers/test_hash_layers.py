"""Another hash layer for an index: of kept features, beside the live one, whatever is killed or written meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.hash_layers import layer_file, live_of, opened
from fakes.indexing import whole, without_garbage
from fakes.machine import Machine
from fakes.models import FakeEmbedder, drawn, poisoned
from PIL import Image

from searchanything.cli.app import run
from searchanything.client import change_lease, lease
from searchanything.client.client import Client
from searchanything.client.hash_layers import HashChange
from searchanything.core.codes import generation_at
from searchanything.core.errors import IndexNotFoundError, ModelError, RegionIndexError, StoreError, UsageError
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import ImageRef, Place, RGBImage
from searchanything.ingest import garbage
from searchanything.ingest.reports import IndexProgress
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer
from searchanything.prompts.prompt import Points
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex


def rows_of(client: Client) -> tuple[dict[tuple[str, int], RegionRow], dict[str, ImageRow]]:
    index = live_of(client)
    newest = {row.image: row for row in index.newest({one.image for one in index.iterate_images()}).values()}
    regions = {
        (one.image.key, one.region): one
        for one in index.iterate_regions()
        if one.generation == newest[one.image].generation
    }
    return regions, {image.key: row for image, row in newest.items()}


def bits_apart(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def save(image: RGBImage, path: Path) -> None:
    Image.fromarray(image).save(path)


def digest_of(path: Path) -> str:
    return HashLayer.from_file(path).digest


def test_codes_are_those_of_an_index_that_was_made_with_the_layer(
    client: Client, machine: Machine, images: Path, layer: Path, tmp_path: Path
) -> None:
    before, seen = rows_of(client), sum(machine.segmenter.batch_sizes)
    replaced = client.manifest
    change = client.hash_layers.apply(layer)
    assert sum(machine.segmenter.batch_sizes) == seen  # no model has run
    assert (change.layer, change.replaced) == (digest_of(layer), replaced.hash_digest)
    assert (change.carried, change.encoded, change.failed, change.forgotten, change.left) == (3, 0, 0, 0, 0)
    assert client.manifest.bits == 128
    with opened(tmp_path / "fresh") as fresh:
        fresh.index(images, hash_file=layer)
        assert fresh.manifest.fingerprint == client.manifest.fingerprint
        (regions, rows), (expected, expected_rows) = rows_of(client), rows_of(fresh)
    assert regions.keys() == expected.keys() == before[0].keys()
    for place, row in regions.items():
        assert bits_apart(row.code, expected[place].code) <= 1  # features are kept as float16
        assert replace(row, code=b"") == replace(before[0][place], code=b"")
    assert rows.keys() == expected_rows.keys()
    for key, image in rows.items():
        assert bits_apart(image.code, expected_rows[key].code) <= 1
        assert replace(image, code=b"") == replace(before[1][key], code=b"")


def test_answers_are_by_the_layer_that_is_live(client: Client, images: Path, layer: Path) -> None:
    [first, *_] = client.query(images / "1.png", Points(((10, 10),))).hits
    assert client.hash_layers.apply(layer).carried == 3
    results = client.query(images / "1.png", Points(((10, 10),)))
    assert (results.hits[0].image, results.hits[0].region, results.hits[0].distance_bits) == (first.image, 0, 0)
    assert results.fingerprint == client.manifest.fingerprint
    assert client.query(first).hits[0].region == 0  # a hit of before names a region that is still there
    assert client.index(images).unchanged == 3


def test_neither_the_images_nor_their_folder_are_needed(client: Client, images: Path, layer: Path) -> None:
    [first, *_] = client.query(images / "1.png", Points(((10, 10),))).hits
    shutil.rmtree(images)
    assert client.hash_layers.apply(layer).carried == 3
    assert client.query(first).hits[0].image == first.image


def test_who_was_connected_before_asks_and_writes_the_new_one(tmp_path: Path, images: Path, layer: Path) -> None:
    store = MemoryIndexStore()
    with opened(tmp_path, indexes=store) as earlier, opened(tmp_path, indexes=store) as another:
        earlier.index(images)
        assert earlier.query(images / "1.png").hits
        another.hash_layers.apply(layer)
        save(drawn(48, 64, green=(4, 4, 30, 40)), images / "new.png")
        assert earlier.index(images).to_dict()["images"]["indexed"] == 1
        assert another.query(images / "new.png", limit=1).hits[0].distance_bits == 0
        assert earlier.query(images / "new.png").fingerprint == another.manifest.fingerprint
        assert another.features.status(images).images == 4


def test_until_all_is_there_questions_go_to_the_old_one(client: Client, images: Path, layer: Path) -> None:
    old, said = client.manifest, []

    def ask(_: object) -> None:
        said.append(client.manifest)
        assert len(client.query(images / "1.png").hits) == 3

    client.hash_layers.apply(layer, progress=ask)
    assert said
    assert set(map(id, said)) == {id(old)} or {one.fingerprint for one in said} == {old.fingerprint}
    assert client.manifest.fingerprint != old.fingerprint


def test_what_happens_meanwhile_is_carried_over(client: Client, images: Path, layer: Path) -> None:
    happened: list[str] = []

    def write(now: IndexProgress) -> None:
        if happened or not now.done:
            return
        happened.append("once")
        save(drawn(48, 64, green=(4, 4, 30, 40)), images / "new.png")
        save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
        (images / "2.png").unlink()
        client.refresh(images, ["new.png", "0.png", "2.png"])

    change = client.hash_layers.apply(layer, progress=write)
    assert happened
    regions, rows = rows_of(client)
    assert sorted(rows) == ["0.png", "1.png", "new.png"]
    assert sorted(regions) == [("0.png", 0), ("1.png", 0), ("1.png", 1), ("new.png", 0)]
    assert (change.carried, change.forgotten, change.left) == (5, 1, 0)  # 0.png twice
    whole(live_of(client))
    assert without_garbage(live_of(client))
    assert client.sync(images).to_dict()["missing"] == []


def test_what_comes_between_the_last_look_and_the_switch_is_carried_over(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = MemoryIndexStore.switch

    def late(store: MemoryIndexStore, fingerprint: str) -> None:
        save(drawn(48, 64, green=(4, 4, 30, 40)), images / "late.png")
        client.refresh(images, ["late.png"])
        switch(store, fingerprint)

    monkeypatch.setattr(MemoryIndexStore, "switch", late)
    assert client.hash_layers.apply(layer).carried == 4
    assert sorted(rows_of(client)[1]) == ["0.png", "1.png", "2.png", "late.png"]


def test_what_is_written_and_deleted_right_after_the_switch_stays_so(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = MemoryIndexStore.switch

    def switched(store: MemoryIndexStore, fingerprint: str) -> None:
        switch(store, fingerprint)
        save(drawn(48, 64, green=(4, 4, 30, 40)), images / "after.png")
        (images / "2.png").unlink()
        client.refresh(images, ["after.png", "2.png"])

    monkeypatch.setattr(MemoryIndexStore, "switch", switched)
    client.hash_layers.apply(layer)
    assert sorted(rows_of(client)[1]) == ["0.png", "1.png", "after.png"]


def test_going_back_is_the_same_call_and_brings_the_old_one_up_to_date(
    client: Client, machine: Machine, images: Path, layer: Path
) -> None:
    old = client.manifest
    client.hash_layers.apply(layer)
    save(drawn(48, 64, green=(4, 4, 30, 40)), images / "new.png")
    save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
    (images / "2.png").unlink()
    client.sync(images, repair=True)
    seen = sum(machine.segmenter.batch_sizes)
    change = client.hash_layers.apply(old.hash_digest[:8])
    assert client.manifest.fingerprint == old.fingerprint
    assert (change.carried, change.forgotten, change.left) == (2, 1, 0)
    assert sum(machine.segmenter.batch_sizes) == seen
    assert sorted(rows_of(client)[1]) == ["0.png", "1.png", "new.png"]
    whole(live_of(client))
    assert without_garbage(live_of(client))
    again = client.hash_layers.apply(old.hash_digest)
    assert (again.replaced, again.carried) == (None, 0)


def test_features_stay_those_of_the_index(client: Client, images: Path, layer: Path) -> None:
    before = client.features.status(images)
    client.hash_layers.apply(layer)
    assert client.features.status(images) == before
    save(drawn(48, 64, green=(4, 4, 30, 40)), images / "new.png")
    client.index(images)
    (images / "2.png").unlink()
    client.sync(images, repair=True)
    assert client.features.compact(images).rows_dropped == 2
    status = client.features.status(images)
    assert (status.images, status.missing, status.rows, status.other_files) == (3, 0, 5, 0)


def test_images_without_features_are_named_and_nothing_changes(
    tmp_path: Path, machine: Machine, images: Path, layer: Path
) -> None:
    store = MemoryIndexStore()
    with opened(tmp_path, indexes=store) as keeping:
        keeping.index(images)
    for name, image in (("bare", drawn(48, 64, green=(4, 4, 30, 40))), ("empty", drawn(20, 20))):
        save(image, images / f"{name}.png")
    with opened(tmp_path, keep=False, indexes=store) as client:
        client.index(images)
        old, seen = client.manifest, sum(machine.segmenter.batch_sizes)
        with pytest.raises(UsageError, match=r"2 images of 5 cannot get codes.*stays as it is.*--encode"):
            client.hash_layers.apply(layer)
        assert client.manifest.fingerprint == old.fingerprint
        [goes_on] = [one.goes_on for one in client.hash_layers.list() if one.goes_on]
        assert goes_on == f"searchanything hash apply {digest_of(layer)[:12]} --encode"
        change = client.hash_layers.apply(layer, encode=True)
        assert (change.carried, change.encoded, change.failed, change.left) == (0, 2, 0, 0)  # three were there
        assert sum(machine.segmenter.batch_sizes) == seen + 2
        assert {key: row.outcome for key, row in rows_of(client)[1].items()} == {
            **dict.fromkeys(("0.png", "1.png", "2.png", "bare.png"), Outcome.INDEXED),
            "empty.png": Outcome.EMPTY,
        }
        whole(live_of(client))


def test_going_back_to_less_than_there_is_is_refused_as_well(tmp_path: Path, images: Path, layer: Path) -> None:
    """The old index is whole for what was there then, so nothing is carried before what lacks is seen."""
    store = MemoryIndexStore()
    with opened(tmp_path, indexes=store) as keeping:
        keeping.index(images)
        old = keeping.manifest
        keeping.hash_layers.apply(layer)
    save(drawn(48, 64, green=(4, 4, 30, 40)), images / "bare.png")
    with opened(tmp_path, keep=False, indexes=store) as client:
        client.index(images)
        with pytest.raises(UsageError, match="1 image of 4 cannot get codes"):
            client.hash_layers.apply(old.hash_digest)
        assert client.manifest.hash_digest == digest_of(layer)


def test_going_back_after_images_were_indexed_again_as_they_are(tmp_path: Path, images: Path, layer: Path) -> None:
    """Their objects have not changed: codes of before are right where the regions are the same, and else are encoded
    although an index that has such objects would leave them as they are."""
    for number in range(12):
        save(drawn(20, 20 + number), images / f"empty{number}.png")
    with opened(tmp_path) as client:
        client.index(images)
        old, first = client.manifest, live_of(client)
        client.hash_layers.apply(layer, encode=True)
        client.index(images, force=True)
        [empty] = first.newest([ImageRef(str(images), "empty0.png")]).values()
        first.delete_images([empty.image])
        first.insert_images([replace(empty, outcome=Outcome.INDEXED, regions=1)])  # as another device saw it
        change = client.hash_layers.apply(old.hash_digest, encode=True)
        assert (change.carried, change.encoded, change.left) == (14, 1, 0)
        assert client.manifest.fingerprint == old.fingerprint
        whole(live_of(client))


def test_going_back_after_all_was_encoded_needs_no_model(
    tmp_path: Path, machine: Machine, images: Path, layer: Path
) -> None:
    """The rows are new ones, of the same content: the codes of before are theirs, and their ids stay."""
    save(drawn(20, 20), images / "empty.png")
    with opened(tmp_path, keep=False) as client:
        client.index(images)
        old, (before, rows_before) = client.manifest, rows_of(client)
        client.hash_layers.apply(layer, encode=True)
        seen, (ours, rows) = sum(machine.segmenter.batch_sizes), rows_of(client)
        change = client.hash_layers.apply(old.hash_digest)
        assert (change.carried, change.encoded, change.left) == (4, 0, 0)
        assert sum(machine.segmenter.batch_sizes) == seen
        (regions, images_now), again = rows_of(client), client.hash_layers.apply(layer)
        assert regions == {place: replace(ours[place], code=row.code) for place, row in before.items()}
        assert images_now == {key: replace(rows[key], code=row.code) for key, row in rows_before.items()}
        assert (again.carried, again.forgotten) == (0, 0)
        assert rows_of(client) == (ours, rows)
        assert without_garbage(live_of(client))


def test_going_back_encodes_what_changed_alone(tmp_path: Path, machine: Machine, images: Path, layer: Path) -> None:
    """Other content, or other regions of the same content: codes of before would be stale."""
    with opened(tmp_path, keep=False) as client:
        client.index(images)
        old, first = client.manifest, live_of(client)
        client.hash_layers.apply(layer, encode=True)
        save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
        client.index(images)
        [moved, *others] = [row for row in first.iterate_regions() if row.image.key == "1.png"]
        first.delete_regions([row.id for row in (moved, *others)])
        first.insert_regions([replace(moved, box_xyxy=(0.0, 0.0, 5.0, 5.0)), *others])
        with pytest.raises(UsageError, match="2 images of 3 cannot get codes"):
            client.hash_layers.apply(old.hash_digest)
        seen = sum(machine.segmenter.batch_sizes)
        change = client.hash_layers.apply(old.hash_digest, encode=True)
        assert (change.encoded, change.left) == (2, 0)
        assert sum(machine.segmenter.batch_sizes) == seen + 2
        with opened(tmp_path / "fresh", keep=False) as fresh:
            fresh.index(images)
            assert fresh.manifest.fingerprint == old.fingerprint
            expected, got = rows_of(fresh)[0], rows_of(client)[0]
            assert {place: row.code for place, row in got.items()} == {p: row.code for p, row in expected.items()}
        assert without_garbage(live_of(client))


def test_a_failure_is_carried_over_as_it_is(tmp_path: Path, images: Path, layer: Path) -> None:
    save(poisoned(drawn(30, 30, red=(4, 4, 20, 20))), images / "bad.png")
    with opened(tmp_path) as client:
        client.index(images)
        before = client.failures()
        assert len(before) == 1
        assert client.hash_layers.apply(layer).carried == 4
        assert client.failures() == before
        assert rows_of(client)[1]["bad.png"].code == bytes(16)


def test_many_images_that_are_gone_are_not_forgotten_by_the_way(tmp_path: Path, images: Path, layer: Path) -> None:
    with opened(tmp_path, keep=False) as client:
        for number in range(12):
            save(drawn(48, 64, green=(4, 4, 20 + number, 40)), images / f"more{number}.png")
        client.index(images)
        old = client.manifest
        for number in range(11):
            (images / f"more{number}.png").unlink()
        with pytest.raises(UsageError, match="11 of 15 images are gone"):
            client.hash_layers.apply(layer, encode=True)
        assert client.manifest.fingerprint == old.fingerprint
        client.sync(images, repair=True, forget=True)
        change = client.hash_layers.apply(layer, encode=True)
        assert (change.left, len(rows_of(client)[1])) == (0, 4)


def test_words_codes_come_along(tmp_path: Path, images: Path, layer: Path) -> None:
    with opened(tmp_path) as client:
        client.index(images)
        words = WordsLayer.from_bytes(words_layer())
        client._indexes.add_words(client.manifest.fingerprint, words.to_bytes(), bits=words.bits)
        client._models.forget(client.manifest.fingerprint)
        client.index(images, force=True)
        before = dict(live_of(client).words_of([ImageRef(str(images), "1.png")]))
        assert len(before) == 2
        client.hash_layers.apply(layer)
        assert dict(live_of(client).words_of([ImageRef(str(images), "1.png")])) == before
        part = live_of(client).words
        assert part is not None
        assert part.layer == words.to_bytes()


def words_layer() -> bytes:
    generator = np.random.default_rng(4)
    columns = FakeEmbedder.dimension
    return WordsLayer.create(
        generator.standard_normal((64, columns)).astype(np.float32),
        np.zeros(columns, dtype=np.float32),
        np.zeros(columns, dtype=np.float32),
        method="rotation",
    ).to_bytes()


WRITES = ("insert_regions", "insert_images", "delete_before", "delete_images")


class Killed(BaseException):
    """Nothing of ours runs after it."""


def test_a_run_that_was_killed_goes_on_where_it_was(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off before and after each of its writes: the live index answers as before, and the next run ends whole."""
    expected = client_rows_after(client, layer)
    old = next(one for one in client._indexes.manifests() if one.bits == 256)
    for name in ("insert_regions", "insert_images"):
        for done in (False, True):
            client.hash_layers.apply(old.hash_digest)
            client.hash_layers.drop(digest_of(layer))
            with monkeypatch.context() as broken:
                broken.setattr(MemoryRegionIndex, name, breaking(getattr(MemoryRegionIndex, name), done=done))
                with pytest.raises(Killed):
                    client.hash_layers.apply(layer)
            assert client.manifest.fingerprint == old.fingerprint
            assert len(client.query(images / "1.png").hits) == 3
            client.hash_layers.apply(layer)
            assert rows_of(client) == expected
            assert len(list(live_of(client).iterate_regions())) == len(expected[0])
            whole(live_of(client))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["insert_regions", "insert_images", "delete_before"])
def test_going_back_that_was_killed_goes_on_however_long_ago(
    tmp_path: Path, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch, name: str, done: bool
) -> None:
    """Codes of before are there until rows that take them are."""
    with opened(tmp_path, keep=False) as client:
        client.index(images)
        old = client.manifest
        client.hash_layers.apply(layer, encode=True)
        before = rows_of(client)
        with monkeypatch.context() as broken:
            broken.setattr(MemoryRegionIndex, name, breaking(getattr(MemoryRegionIndex, name), done=done))
            with pytest.raises(Killed):
                client.hash_layers.apply(old.hash_digest)
        assert rows_of(client) == before
        monkeypatch.setattr(garbage, "generation_at", lambda age_s: generation_at(age_s=age_s - 10 * 86400.0))
        client.hash_layers.apply(old.hash_digest)
        assert client.manifest == old
        regions, rows = rows_of(client)
        assert {place: row.id for place, row in regions.items()} == {place: row.id for place, row in before[0].items()}
        assert {key: row.id for key, row in rows.items()} == {key: row.id for key, row in before[1].items()}
        assert len(list(live_of(client).iterate_regions())) == len(regions)
        assert without_garbage(live_of(client))


def client_rows_after(client: Client, layer: Path) -> Any:
    client.hash_layers.apply(layer)
    return rows_of(client)


def breaking(method: Callable[..., object], *, done: bool) -> Callable[..., None]:
    def broken(*args: object) -> None:
        if done:
            method(*args)
        raise Killed

    return broken


def test_two_do_not_apply_layers_at_once(
    client: Client, layer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = layer_file(tmp_path / "another.safetensors", bits=64, seed=3)
    refused: list[str] = []

    def apply_as_well(_: object) -> None:
        for call in (
            lambda: client.hash_layers.apply(another),
            lambda: client.hash_layers.drop(digest_of(layer)),
        ):
            with pytest.raises((RegionIndexError, UsageError)) as error:
                call()
            refused.append(str(error.value))

    client.hash_layers.apply(layer, progress=apply_as_well)
    assert "another process applies a hash layer" in refused[0]
    assert "is being applied or replaced by another process" in refused[1]
    assert client.hash_layers.apply(another).carried == 3  # the lease ended with the run
    note = {"by": "somebody", "at": time.time(), "of": ["x"], "machine": "elsewhere", "pid": 1}
    for change, refuses in (
        ({}, True),
        ({"at": time.time() - change_lease.APPLYING_S}, False),
        ({"machine": lease.this_machine(), "pid": os.getpid()}, True),
        ({"machine": lease.this_machine(), "pid": ended_process()}, False),
    ):
        client._indexes.remember("hash-apply", json.dumps(note | change).encode())
        with pytest.raises(RegionIndexError, match=r"it is process .* last heard of") if refuses else nullcontext():
            client.hash_layers.apply(layer)
            client.hash_layers.apply(another)
    monkeypatch.setattr(lease, "RENEW_S", -1.0)

    remember = MemoryIndexStore.remember  # another process that looked at the same time writes its note last
    monkeypatch.setattr(
        MemoryIndexStore, "remember", lambda store, name, _: remember(store, name, json.dumps(note).encode())
    )
    with pytest.raises(RegionIndexError, match="this one gives way"):
        client.hash_layers.apply(layer)
    assert client.manifest.hash_digest == digest_of(another)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_layers_are_listed_and_dropped(client: Client, layer: Path, tmp_path: Path) -> None:
    first = client.manifest.hash_digest
    assert [(one.layer, one.live, one.regions) for one in client.hash_layers.list()] == [(first, True, 6)]
    client.hash_layers.apply(layer)
    found = client.hash_layers.list()
    assert [(one.layer, one.bits, one.live) for one in found] == [(digest_of(layer), 128, True), (first, 256, False)]
    assert {one.method for one in found} == {"random-rotation"}
    with pytest.raises(UsageError, match="is live"):
        client.hash_layers.drop(digest_of(layer)[:8])
    for wrong in ("f" * 64, first[:7], "", "nothing.safetensors"):
        with pytest.raises(UsageError, match="8 or more digits of a layer that the index has"):
            client.hash_layers.drop(wrong)
        with pytest.raises(UsageError, match="8 or more digits of a layer that the index has"):
            client.hash_layers.apply(wrong)
    client.hash_layers.drop(first[:8])
    assert [one.layer for one in client.hash_layers.list()] == [digest_of(layer)]
    assert len(client.query(tmp_path / "images" / "1.png").hits) == 3


def test_what_cannot_be_applied_is_refused_before_anything_is_made(
    client: Client, tmp_path: Path, images: Path
) -> None:
    narrow = layer_file(tmp_path / "narrow.safetensors", bits=64, seed=1, columns=FakeEmbedder.dimension - 1)
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    for wrong, said in (
        (narrow, "the index has features of"),
        (tmp_path / "no.safetensors", r"no\.safetensors: this is no hash layer"),
        (tmp_path / "absent.safetensors", r"absent\.safetensors"),
    ):
        with pytest.raises(ModelError, match=said):
            client.hash_layers.apply(wrong)
    assert len(client._indexes.manifests()) == 1
    for call in (
        lambda: client.hash_layers.apply(3),  # type: ignore[arg-type]
        lambda: client.hash_layers.apply(narrow, encode="yes"),  # type: ignore[arg-type]
        lambda: client.within([Place(str(images))]).hash_layers.apply(narrow),
        lambda: client.within([Place(str(images))]).hash_layers.list(),
    ):
        with pytest.raises(UsageError):
            call()
    with opened(tmp_path) as nothing, pytest.raises(IndexNotFoundError):
        nothing.hash_layers.apply(narrow)


def test_damaged_features_leave_everything_as_it_is(client: Client, layer: Path, tmp_path: Path) -> None:
    old = client.manifest
    [file] = (tmp_path / "kept").rglob("*.parquet")
    data = bytearray(file.read_bytes())
    data[200] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"is no file of kept features"):
        client.hash_layers.apply(layer)
    assert client.manifest.fingerprint == old.fingerprint


def test_the_command_line(client: Client, layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = client.manifest.hash_digest

    def call(*verb: str) -> str:
        assert run(["hash", *verb], connect=lambda *_: client) == 0
        return capsys.readouterr().out

    document = json.loads(call("apply", str(layer), "--format", "json"))
    assert document.pop("seconds") >= 0
    expected = HashChange(digest_of(layer), first, carried=3).to_dict()
    assert document == {name: value for name, value in expected.items() if name != "seconds"}
    listed = json.loads(call("layers", "--format", "json"))["layers"]
    assert [(one["layer"], one["live"]) for one in listed] == [(digest_of(layer), True), (first, False)]
    assert digest_of(layer)[:12] in call("layers")
    assert "carried" in call("apply", first[:8])
    assert json.loads(call("drop", digest_of(layer)[:8], "--format", "json")) == {"dropped": digest_of(layer)[:8]}
    assert run(["hash", "drop", first], connect=lambda *_: client) == 2


@pytest.mark.parametrize("encode", [True, False])
def test_without_what_reads_kept_features_nothing_is_begun(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch, encode: bool
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    before = dict(client._indexes._notes)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"need pyarrow: pip install .*\[parquet\]"):
        client.hash_layers.apply(layer, encode=encode)
    assert [one.live for one in client.hash_layers.list()] == [True]
    assert client._indexes._notes == before  # type: ignore[attr-defined]

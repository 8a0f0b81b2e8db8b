"""Other models for an index in use: filled beside the live one, whatever is written, killed or refused meanwhile."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.hash_layers import layer_file, live_of
from fakes.indexing import whole, without_garbage
from fakes.models import CHANNELS, FakeEmbedder, drawn, poisoned
from fakes.two_presets import NEW, OLD, OtherEmbedder, TwoPresets, add, at_the_switch, opened, outcomes, save

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.client import change_lease, lease
from searchanything.client.client import Client
from searchanything.client.model_change import ModelChange
from searchanything.core.errors import PresetError, RegionIndexError, SettingsError, UsageError
from searchanything.core.rows import Outcome
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef, Place, RGBImage
from searchanything.ingest.reports import IndexProgress
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex


def codes_of(client: Client) -> dict[tuple[str, int], bytes]:
    """The codes of what a search finds: regions, and -1 for the whole image."""
    index = live_of(client)
    newest = index.newest({one.image for one in index.iterate_images()})
    codes = {(image.key, -1): row.code for image, row in newest.items()}
    for one in index.iterate_regions():
        if one.image in newest and one.generation == newest[one.image].generation:
            codes[one.image.key, one.region] = one.code
    return codes


def test_codes_are_those_of_an_index_that_was_made_with_the_preset(
    client: Client, machine: TwoPresets, images: Path
) -> None:
    old, before = client.manifest, codes_of(client)
    change = client.models.apply(NEW)
    assert (change.preset, change.replaced, change.layer) == (NEW, OLD, client.manifest.hash_digest)
    assert (change.encoded, change.failed, change.carried, change.forgotten, change.left) == (3, 0, 0, 0, 0)
    assert machine.seen() == (3, 3)
    assert (client.manifest.preset, client.manifest.fingerprint != old.fingerprint) == (NEW, True)
    with opened(MemoryIndexStore(), NEW) as fresh:
        fresh.index(images)
        assert fresh.manifest.fingerprint == client.manifest.fingerprint
        assert codes_of(fresh) == codes_of(client) != before
    assert client.index(images).unchanged == 3
    whole(live_of(client))
    assert without_garbage(live_of(client))


def test_who_was_connected_before_asks_and_writes_the_new_one(client: Client, images: Path) -> None:
    with opened(client._indexes) as earlier:  # type: ignore[arg-type]
        assert earlier.query(images / "1.png").hits[0].distance_bits == 0
        client.models.apply(NEW)
        add(images / "new.png")
        assert earlier.index(images).indexed == 1
        hits = earlier.query(images / "new.png", limit=1)
        assert (hits.fingerprint, hits.hits[0].distance_bits) == (client.manifest.fingerprint, 0)


def test_who_names_the_preset_of_before_follows(
    client: Client, machine: TwoPresets, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a deployment does whose settings name a preset for its first index: nobody has to be restarted."""
    with opened(client._indexes, OLD) as settled:  # type: ignore[arg-type]
        assert settled.models.apply(NEW).replaced == OLD
        client.hash_layers.drop(next(one.index for one in client.hash_layers.list() if not one.live))
        assert settled.query(images / "1.png", limit=1).hits[0].distance_bits == 0
        seen = machine.seen()
        assert settled.segment(images / "0.png").regions
        assert machine.seen() == (seen[0], seen[1] + 1)
        add(images / "new.png")
        assert settled.index(images).indexed == 1
    assert [record.message for record in caplog.records if "which is followed" in record.message] == [
        "the setting models.preset is 'pico', which the index at memory:// had before; it has 'small' now, which is "
        "followed"
    ]
    with (
        opened(client._indexes, "base") as stranger,  # type: ignore[arg-type]
        pytest.raises(PresetError, match="models apply base"),
    ):
        stranger.query(images / "1.png")


def test_until_all_is_there_questions_go_to_the_old_one(client: Client, images: Path) -> None:
    old, said = client.manifest.fingerprint, []

    def ask(_: object) -> None:
        said.append(client.manifest.fingerprint)
        assert len(client.query(images / "1.png").hits) == 3

    client.models.apply(NEW, progress=ask)
    assert set(said) == {old}
    assert client.manifest.fingerprint != old


def test_progress_counts_what_there_is_to_do(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.client.change.WAVE_KEYS", 2)
    (images / "bad.png").write_bytes(b"no image")
    client.index(images)
    steps: list[Any] = []
    client.models.apply(NEW, progress=lambda now: steps.append((now.done, now.total)))
    assert steps[:2] == [(0, None), (0, 4)]
    assert steps[1:] == sorted(steps[1:])
    assert steps[-1] == (4, 4)


def test_what_happens_meanwhile_is_in_the_new_one(client: Client, images: Path) -> None:
    happened: list[str] = []

    def write(now: IndexProgress) -> None:
        assert now.total is None or now.done <= now.total
        if happened or not now.done:
            return
        happened.append("once")
        add(images / "new.png")
        save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
        (images / "2.png").unlink()
        client.refresh(images, ["new.png", "0.png", "2.png"])

    client.models.apply(NEW, progress=write)
    assert happened
    assert sorted(outcomes(client)) == ["0.png", "1.png", "new.png"]
    report = client.sync(images)
    assert (report.missing, report.stale, report.orphaned, report.lost) == ((), (), (), 0)
    whole(live_of(client))
    assert without_garbage(live_of(client))


def test_what_came_while_it_was_filled_is_there_at_once_when_it_is_live(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(now: IndexProgress) -> None:
        if now.done == 1 and not (images / "new.png").exists():
            add(images / "new.png")
            client.refresh(images, ["new.png"])

    found: list[list[str]] = []
    at_the_switch(monkeypatch, lambda: found.append(sorted(outcomes(client))), before=False)
    client._parts.connection.settings.ingest.batch_images = 1
    client.models.apply(NEW, progress=write)
    assert found == [["0.png", "1.png", "2.png", "new.png"]]


def test_what_comes_and_goes_between_the_last_look_and_the_switch(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> None:
        add(images / "late.png")
        (images / "2.png").unlink()
        client.refresh(images, ["late.png", "2.png"])

    at_the_switch(monkeypatch, late, before=True)
    change = client.models.apply(NEW)
    assert sorted(outcomes(client)) == ["0.png", "1.png", "late.png"]
    assert (change.encoded, change.forgotten, change.left) == (4, 1, 0)


def test_what_others_write_and_delete_right_after_the_switch_stays_so(
    client: Client, images: Path, machine: TwoPresets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after() -> None:
        add(images / "after.png")
        (images / "2.png").unlink()
        client.refresh(images, ["after.png", "2.png"])

    at_the_switch(monkeypatch, after, before=False)
    client.models.apply(NEW)
    assert sorted(outcomes(client)) == ["0.png", "1.png", "after.png"]
    assert machine.seen() == (3, 4)


def test_going_back_encodes_what_changed_alone(client: Client, machine: TwoPresets, images: Path) -> None:
    old = client.manifest.fingerprint
    client.models.apply(NEW)
    add(images / "new.png")
    save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
    (images / "2.png").unlink()
    client.sync(images, repair=True)
    client.index(images, force=True)  # newer rows of the same content
    seen = machine.seen()
    change = client.models.apply(OLD)
    assert client.manifest.fingerprint == old
    assert (change.encoded, change.forgotten, change.left, change.replaced) == (2, 1, 0, NEW)
    assert machine.seen() == (seen[0] + 2, seen[1])
    assert sorted(outcomes(client)) == ["0.png", "1.png", "new.png"]
    whole(live_of(client))
    assert client.models.apply(OLD).replaced is None
    with opened(MemoryIndexStore(), OLD) as fresh:
        fresh.index(images)
        assert codes_of(fresh) == codes_of(client)


def test_metadata_that_changed_since_are_in_what_is_gone_back_to(client: Client, images: Path) -> None:
    client._parts.connection.settings.ingest.sidecar_suffix = ".json"
    (images / "1.png.json").write_text('{"city": "Ulm"}')
    client.index(images)
    client.models.apply(NEW)
    (images / "1.png.json").write_text('{"city": "Bonn"}')
    client.index(images)
    assert client.models.apply(OLD).encoded == 1
    assert client.image(ImageRef(str(images), "1.png")).metadata == {"city": "Bonn"}


def test_failures_are_carried_over_and_new_ones_counted(
    client: Client, images: Path, machine: TwoPresets, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "bad.png").write_bytes(b"no image")
    strange = drawn(48, 64, green=(4, 4, 30, 40))
    strange[0, 0] = (1, 2, 3)
    save(strange, images / "new.png")
    client.index(images)
    before = client.failures()
    with monkeypatch.context() as choking:
        segment = machine.other.segmenter.segment

        def choke(found: list[RGBImage]) -> object:
            if any(tuple(one[0, 0]) == (1, 2, 3) for one in found):
                raise RuntimeError("that is too much")
            return segment(found)

        choking.setattr(machine.other.segmenter, "segment", choke)
        change = client.models.apply(NEW)
    assert (change.encoded, change.failed, change.carried) == (3, 1, 1)
    assert [one for one in client.failures() if one.image.key == "bad.png"] == before
    assert outcomes(client)["new.png"] is Outcome.FAILED
    assert client.retry_failed().indexed == 1


def test_what_failed_in_a_refused_run_is_tried_again(client: Client, images: Path) -> None:
    for number in range(12):
        save(drawn(48, 64, green=(4, 4, 20 + number, 40)), images / f"more{number}.png")
    client.index(images)
    old, before = client.manifest.fingerprint, outcomes(client)
    good = {path: path.read_bytes() for path in images.glob("more*.png")}
    for path in good:
        path.write_bytes(b"a disk that is going")
    for _ in range(2):
        with pytest.raises(UsageError, match="12 of 15 images"):
            client.models.apply(NEW)
        assert client.manifest.fingerprint == old
    for path, data in good.items():
        path.write_bytes(data)
    assert client.models.apply(NEW).failed == 0
    assert outcomes(client) == before


def test_many_images_that_are_gone_are_not_forgotten_by_the_way(client: Client, images: Path) -> None:
    for number in range(12):
        add(images / f"more{number}.png")
    client.index(images)
    for number in range(11):
        (images / f"more{number}.png").unlink()
    with pytest.raises(UsageError, match="11 of 15 images are gone"):
        client.models.apply(NEW)
    assert client.manifest.preset == OLD
    client.sync(images, repair=True, forget=True)
    assert (client.models.apply(NEW).left, len(outcomes(client))) == (0, 4)


def test_a_folder_that_is_not_there_is_not_forgotten_by_the_way(client: Client, tmp_path: Path) -> None:
    """As that of a disk that is not mounted, however few of the index's images it has."""
    another = tmp_path / "another"
    another.mkdir()
    for name in ("a", "b"):
        add(another / f"{name}.png")
    client.index(another)
    another.rename(tmp_path / "unmounted")
    with pytest.raises(UsageError, match=r"another: none of 2 images is there.*searchanything delete"):
        client.models.apply(NEW)
    assert (client.manifest.preset, len(outcomes(client))) == (OLD, 5)
    (tmp_path / "unmounted").rename(another)
    assert (client.models.apply(NEW).left, len(outcomes(client))) == (0, 5)


def test_much_of_one_folder_is_much(client: Client, images: Path, tmp_path: Path) -> None:
    another = tmp_path / "another"
    another.mkdir()
    for number in range(12):
        add(another / f"{number}.png")
    for number in range(120):
        shutil.copy(images / "1.png", images / f"more{number}.png")
    client.index(images)
    client.index(another)
    for number in range(11):
        (another / f"{number}.png").unlink()
    with pytest.raises(UsageError, match=r"11 of 12 images are gone.*sync check \S*another"):
        client.models.apply(NEW)
    assert client.manifest.preset == OLD


def test_few_images_that_are_gone_are_left_and_counted(client: Client, images: Path) -> None:
    (images / "2.png").unlink()
    change = client.models.apply(NEW)
    assert (change.encoded, change.left) == (2, 1)
    assert sorted(outcomes(client)) == ["0.png", "1.png"]


def test_all_folders_of_the_index_are_indexed(client: Client, tmp_path: Path) -> None:
    another = tmp_path / "another"
    another.mkdir()
    for name in ("a.png", "empty.png"):
        add(another / name)
    save(drawn(48, 64), another / "empty.png")
    client.index(another)
    add(another / "0.png")  # which nobody indexed
    assert client.models.apply(NEW).encoded == 5
    assert sorted(outcomes(client)) == ["0.png", "1.png", "2.png", "a.png", "empty.png"]
    assert len(list(live_of(client).iterate_images())) == 5


def test_models_of_before_leave_memory(images: Path) -> None:
    """The others may need the room: on a device both may not fit."""
    store = MemoryIndexStore()
    with opened(store, OLD) as settled, opened(store) as other:
        settled.index(images)
        for one in (settled, other):
            one.query(images / "0.png")
            one.segment(images / "0.png")
        held = weakref.ref(settled._parts.connection.open_to_ask()[1].embedder)
        other.models.apply(NEW)
        for one in (settled, other):
            one.query(images / "1.png")
        gc.collect()
        assert held() is None
        assert [name.split()[0] for name in wiring._models] == [NEW]


class Killed(BaseException):
    """Nothing of ours runs after it."""


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["insert_regions", "insert_images"])
def test_a_run_that_was_killed_goes_on_where_it_was(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, done: bool
) -> None:
    client._parts.connection.settings.ingest.batch_images = 1
    method, calls = getattr(MemoryRegionIndex, name), []

    def broken(*args: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            if done:
                method(*args)
            raise Killed
        method(*args)

    with monkeypatch.context() as killing:
        killing.setattr(MemoryRegionIndex, name, broken)
        with pytest.raises(Killed):
            client.models.apply(NEW)
    assert client.manifest.preset == OLD
    assert len(client.query(images / "1.png").hits) == 3
    change = client.models.apply(NEW)
    assert change.encoded <= 2
    with opened(MemoryIndexStore(), NEW) as fresh:
        fresh.index(images)
        assert codes_of(fresh) == codes_of(client)
    client._indexes.open(client.manifest.fingerprint)
    whole(live_of(client))


def test_words_codes_are_made_anew(client: Client, images: Path) -> None:
    with opened(client._indexes, OLD) as before:  # type: ignore[arg-type]
        before.index(images, add_words=True)
        layer = before._models.index().words
    client.models.apply(NEW)
    index = live_of(client)
    assert index.words is not None
    assert layer is not None
    assert len(repr(client.status())) < 2000  # a notebook shows it
    assert index.words.layer != layer.layer
    assert index.count_words() == index.count_regions() == 6


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NEW` has no layer of its own that is trained, as the presets for photographs; 6 regions are enough to train."""
    trained = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=256, seed=5)
    said = {**trained.provenance, "trained": "true"}
    own = HashLayer.create(trained.weight, trained.bias, mask_dimension=CHANNELS, provenance=said)
    monkeypatch.setattr(presets, "load_hash", lambda name: trained if name == NEW else own)


@pytest.mark.usefixtures("untrained")
def test_a_layer_is_trained_on_images_of_the_index_once(images: Path, tmp_path: Path, machine: TwoPresets) -> None:
    another = tmp_path / "another"
    another.mkdir()
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 60, (64, 96, 3)).astype(np.uint8)
        pixels = drawn(64, 96, red=(4, 4, 40, 60 - number), blue=(50, 8, 90, 40))
        save(np.maximum(pixels, noise), (images if number % 2 else another) / f"noisy{number}.png")
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.ingest.hash_least_regions = 20
    store = MemoryIndexStore()
    with opened(store, OLD) as first:
        first.index(images)
        first.index(another)
    (images / "not-indexed.png").write_bytes((images / "1.png").read_bytes())
    with Client(settings, indexes=store) as client:
        change = client.models.apply(NEW)
        assert client.manifest.hash_trained
        assert machine.seen()[1] == 15 + 15  # the sample, from both folders, and then all
        assert isinstance(machine.other.embedder, OtherEmbedder)
        assert sum(machine.other.embedder.crops) == 15 * 3  # two regions and the image, each once
        assert sorted(outcomes(client)).count("not-indexed.png") == 0
        client.models.apply(OLD)
        again = client.models.apply(NEW)
        assert (again.layer, again.encoded) == (change.layer, 0)
        layer = HashLayer.from_bytes(store.hash_layer(client.manifest.fingerprint))
        assert layer.provenance["feature_fingerprint"] == client.manifest.feature_fingerprint
        client.models.apply(OLD)
        client.models.apply(NEW, hash_file="untrained")
        assert not client.manifest.hash_trained, "as it was asked for, although there is one that is trained"


@pytest.mark.usefixtures("untrained")
def test_no_sample_is_no_training(client: Client, images: Path) -> None:
    with opened(client._indexes, OLD) as before:  # type: ignore[arg-type]
        before.index(images, add_words=True)
    client._parts.connection.settings.ingest.hash_sample_images = 0
    assert client.models.apply(NEW).encoded == 3
    assert not client.manifest.hash_trained
    assert live_of(client).count_words() == 6


@pytest.mark.usefixtures("untrained")
def test_a_sample_that_is_too_small_is_of_the_index(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """What an empty index would get is no help for one in use."""
    client.models.apply(NEW)
    said = next(one for one in caplog.messages if "stays untrained" in one)
    assert "a sample of the index has at most 75 regions of 3 images" in said
    assert "hash apply gives it when there are more images" in said


@pytest.mark.usefixtures("untrained")
def test_a_given_layer_is_taken(client: Client, tmp_path: Path) -> None:
    file = layer_file(tmp_path / "other.safetensors", bits=128, seed=9)
    assert client.models.apply(NEW, hash_file=file).layer == HashLayer.from_file(file).digest
    assert client.manifest.bits == 128
    with pytest.raises(UsageError, match="hash apply"):
        client.models.apply(NEW, hash_file="untrained")
    client.models.apply(OLD)
    client.models.apply(NEW, hash_file="untrained")
    assert (client.manifest.bits, client.manifest.hash_trained) == (256, False)


@pytest.mark.usefixtures("untrained")
def test_who_goes_on_without_a_layer_takes_the_newest_that_there_are_codes_of(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an index that is whole but for the switch would be filled anew, with a layer of another sample."""
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, file in enumerate(files, start=1):
        drawn_layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=128, seed=seed)
        said = {**drawn_layer.provenance, "trained": "true"}
        trained = HashLayer.create(drawn_layer.weight, drawn_layer.bias, mask_dimension=CHANNELS, provenance=said)
        file.write_bytes(trained.to_bytes())
    with monkeypatch.context() as killing:
        killing.setattr(MemoryIndexStore, "switch", lambda *_: (_ for _ in ()).throw(Killed))
        for file in files:
            with pytest.raises(Killed):
                client.models.apply(NEW, hash_file=file)
    made = [one.created_at_ms for one in client._indexes.manifests() if one.preset == NEW]
    assert len(set(made)) == 2
    change = client.models.apply(NEW)
    assert (change.layer, change.encoded) == (hashlib.sha256(files[1].read_bytes()).hexdigest(), 0)


def test_other_regions_of_the_same_preset(client: Client, images: Path) -> None:
    with opened(client._indexes) as fewer:  # type: ignore[arg-type]
        fewer._parts.connection.settings.ingest.regions = 1
        with pytest.raises(SettingsError, match="keeps the 25 regions"):
            fewer.index(images)
        assert fewer.models.apply(OLD).replaced == OLD
        assert len(codes_of(fewer)) == 2 * 3
        fewer.models.apply(NEW)
        assert len(codes_of(fewer)) == 2 * 3
    client.models.apply(OLD)
    assert client.manifest.details["regions"]["count"] == 1  # what no setting names stays


def test_two_do_not_change_an_index_at_once(client: Client, tmp_path: Path) -> None:
    refused: list[str] = []
    file = layer_file(tmp_path / "other.safetensors", seed=9)

    def change_as_well(now: IndexProgress) -> None:
        if now.stage:  # the models are being loaded, by whoever asks
            return
        for call in (
            lambda: client.models.apply(NEW),
            lambda: client.hash_layers.apply(file),
            lambda: client.hash_layers.drop(client.manifest.fingerprint[:8]),
        ):
            with pytest.raises((RegionIndexError, UsageError)) as error:
                call()
            refused.append(str(error.value))

    client.models.apply(NEW, progress=change_as_well)
    assert "another process applies a hash layer or models" in refused[0]
    assert "another process applies a hash layer or models" in refused[1]
    assert "is live" in refused[2]


@pytest.mark.parametrize(("moment", "least", "most"), [("begun", 0, 0), ("encoding", 1, 11), ("filled", 15, 15)])
def test_who_lost_the_lease_does_no_more(
    client: Client,
    machine: TwoPresets,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    least: int,
    most: int,
) -> None:
    """Another process thought it dead, and fills the same index."""
    for number in range(12):
        add(images / f"more{number}.png")
    client.index(images)
    (
        client._parts.connection.settings.ingest.batch_images,
        client._parts.connection.settings.ingest.hash_sample_images,
    ) = 1, 0
    create, another = MemoryIndexStore.create, {"by": "another", "at": time.time(), "machine": "elsewhere", "pid": 1}

    def lose() -> None:
        if client._indexes.recall("hash-apply"):
            client._indexes.remember("hash-apply", json.dumps(another | {"of": []}).encode())

    def created(store: MemoryIndexStore, *args: Any) -> MemoryRegionIndex:
        if moment == "begun":
            lose()
        return create(store, *args)

    def said(now: IndexProgress) -> None:
        if now.done == {"encoding": 1, "filled": 15}.get(moment):
            lose()

    monkeypatch.setattr(MemoryIndexStore, "create", created)
    if moment == "encoding":
        monkeypatch.setattr(lease, "RENEW_S", 0.0)
    with pytest.raises(RegionIndexError, match="this one gives way"):
        client.models.apply(NEW, progress=said)
    assert client.manifest.preset == OLD
    assert least <= machine.seen()[1] <= most
    assert json.loads(client._indexes.recall("hash-apply"))["by"] == "another"


def test_a_step_that_takes_longer_than_a_lease_lasts(
    client: Client, machine: TwoPresets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a batch of large models on a CPU: its own note has run out, and nobody took its place."""
    segment = machine.other.segmenter.segment

    def slow(found: list[RGBImage]) -> object:
        note = json.loads(client._indexes.recall("hash-apply"))
        note["at"] -= 2 * change_lease.APPLYING_S
        client._indexes.remember("hash-apply", json.dumps(note).encode())
        return segment(found)

    monkeypatch.setattr(machine.other.segmenter, "segment", slow)
    assert client.models.apply(NEW).encoded == 3
    assert json.loads(client._indexes.recall("hash-apply") or b"{}") == {}


def test_what_cannot_be_applied_is_refused_before_anything_is_made(client: Client, images: Path) -> None:
    calls: tuple[tuple[type[Exception], Callable[[], object]], ...] = (
        (PresetError, lambda: client.models.apply("smal")),
        (UsageError, lambda: client.models.apply(3)),  # type: ignore[arg-type]
        (UsageError, lambda: client.models.apply(NEW, hash_file=3)),  # type: ignore[arg-type]
        (UsageError, lambda: client.within([Place(str(images))]).models.apply(NEW)),
    )
    for error, call in calls:
        with pytest.raises(error):
            call()
    with (
        opened(client._indexes, "base") as neither,  # type: ignore[arg-type]
        pytest.raises(PresetError, match=r"'pico', but 'base' was asked for"),
    ):
        neither.models.apply(NEW)
    assert len(client._indexes.manifests()) == 1
    client.delete(images)
    with pytest.raises(UsageError, match=r"index SOURCE --preset small"):
        client.models.apply(NEW)
    assert len(client._indexes.manifests()) == 1


def test_an_index_of_failures_alone_takes_no_other_models(client: Client, images: Path) -> None:
    for path in images.iterdir():
        save(poisoned(drawn(30, 30, red=(4, 4, 20, 20))), path)
    client.index(images)
    assert set(outcomes(client).values()) == {Outcome.FAILED}
    with pytest.raises(UsageError, match="no image of the index has a region"):
        client.models.apply(NEW)
    assert len(client._indexes.manifests()) == 1


def test_the_indexes_are_listed_and_dropped(client: Client, images: Path) -> None:
    old = client.manifest
    client.models.apply(NEW)
    found = [(one.preset, one.live, one.same_features, one.regions) for one in client.hash_layers.list()]
    assert found == [(NEW, True, True, 6), (OLD, False, False, 6)]
    with pytest.raises(UsageError, match="apart by their index"):  # both have the layer of the hand-written models
        client.hash_layers.drop(old.hash_digest)
    with pytest.raises(UsageError, match=f"models apply {OLD} goes back"):
        client.hash_layers.apply(old.fingerprint[:8])
    client.hash_layers.drop(old.fingerprint[:8])
    assert [one.preset for one in client.hash_layers.list()] == [NEW]
    shutil.rmtree(images)
    assert client.hash_layers.list()[0].regions == 6


def test_the_command_line(client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "describe", lambda *_: None)  # the models are hand-written and have no weights

    def call(*verb: str) -> str:
        assert run([*verb], connect=lambda *_: client) == 0
        return capsys.readouterr().out

    document: dict[str, Any] = json.loads(call("models", "apply", NEW, "--format", "json"))
    assert document.pop("seconds") >= 0
    expected = ModelChange(NEW, client.manifest.hash_digest, OLD, encoded=3).to_dict()
    assert document == {name: value for name, value in expected.items() if name != "seconds"}
    listed = json.loads(call("hash", "layers", "--format", "json"))["layers"]
    assert [(one["preset"], one["live"]) for one in listed] == [(NEW, True), (OLD, False)]
    assert client.manifest.fingerprint[:12] in call("hash", "layers")
    assert "replaced" in call("models", "apply", OLD)
    assert run(["models", "apply", "smal"], connect=lambda *_: client) == 2


def test_without_what_keeps_features_no_model_is_loaded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    client._parts.connection.settings.ingest.keep_features = True
    steps: list[IndexProgress] = []
    with pytest.raises(UsageError, match=r"need pyarrow: pip install .*\[parquet\]"):
        client.models.apply(NEW, progress=steps.append)
    assert not steps

"""Other models for an index whose sources, settings or other processes are not as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.hash_layers import layer_file, live_of
from fakes.indexing import whole
from fakes.models import drawn
from fakes.two_presets import NEW, OLD, TwoPresets, add, at_the_switch, opened, outcomes, save

from searchanything.client import syncing
from searchanything.client.client import Client
from searchanything.client.model_change import LOADING_MODELS
from searchanything.core import codes
from searchanything.core.codes import generation_at
from searchanything.core.errors import (
    IndexUnavailableError,
    PresetError,
    RegionIndexError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from searchanything.core.types import ImageRef, StoredObject
from searchanything.ingest import plan
from searchanything.ingest.reports import IndexProgress
from searchanything.stores.folder import FolderStore
from searchanything.stores.memory import MemoryIndexStore

SAMPLED_OR_NOT = pytest.mark.parametrize("hash_file", [None, "untrained"])  # without a sample another look sees it


@pytest.fixture
def another(client: Client, tmp_path: Path) -> Path:
    """A second folder of the index, of two images; it comes after the first one by its name."""
    folder = tmp_path / "second"
    folder.mkdir()
    for name in ("a", "b"):
        add(folder / f"{name}.png")
    client.index(folder)
    return folder


@SAMPLED_OR_NOT
def test_a_source_that_is_gone_is_seen_before_any_image_is_encoded(
    client: Client, another: Path, machine: TwoPresets, tmp_path: Path, hash_file: str | None
) -> None:
    another.rename(tmp_path / "unmounted")
    with pytest.raises(UsageError, match=r"second: none of 2 images is there"):
        client.models.apply(NEW, hash_file=hash_file)
    assert machine.seen()[1] == 0


@SAMPLED_OR_NOT
def test_a_source_that_may_not_be_read_is_seen_before_any_image_is_encoded(
    client: Client, another: Path, machine: TwoPresets, monkeypatch: pytest.MonkeyPatch, hash_file: str | None
) -> None:
    """However few images it has: as failures they would be missing from every answer."""
    stat = FolderStore.stat

    def denied(store: FolderStore, key: str) -> StoredObject | None:
        if store.bucket == str(another):
            raise StoreError(f"{key}: denied access (AccessDenied)")
        return stat(store, key)

    with monkeypatch.context() as denying:
        denying.setattr(FolderStore, "stat", denied)
        with pytest.raises(UsageError, match=r"second: none of 2 images can be read, so .*AccessDenied"):
            client.models.apply(NEW, hash_file=hash_file)
    assert (client.manifest.preset, machine.seen()[1]) == (OLD, 0)
    assert client.models.apply(NEW, hash_file=hash_file).encoded == 5


def test_a_server_that_is_away_is_no_source_that_may_not_be_read(
    client: Client, another: Path, machine: TwoPresets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that sees it tries again by itself."""
    stat = FolderStore.stat

    def away(store: FolderStore, key: str) -> StoredObject | None:
        if store.bucket == str(another):
            raise StoreUnavailableError(f"{key}: no answer")
        return stat(store, key)

    monkeypatch.setattr(FolderStore, "stat", away)
    with pytest.raises(StoreUnavailableError, match="no answer"):
        client.models.apply(NEW)
    assert (client.manifest.preset, machine.seen()[1]) == (OLD, 0)


def test_what_changed_since_a_machine_whose_clock_was_ahead_indexed_it_is_encoded_once(
    client: Client, machine: TwoPresets, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "_last", 0)  # and put back at the end
    with monkeypatch.context() as ahead:
        ahead.setattr(plan, "next_generation", lambda **_: generation_at(age_s=-3600.0))
        save(drawn(48, 64, green=(4, 4, 30, 40)), images / "0.png")
        client.index(images)
    save(drawn(48, 64, yellow=(2, 2, 30, 40)), images / "0.png")
    change = client.models.apply(NEW)
    assert (change.encoded, change.left, machine.seen()[1]) == (3, 0, 3)


def test_much_of_one_source_that_fails_is_much(client: Client, another: Path, images: Path) -> None:
    for number in range(12):
        add(another / f"more{number}.png")
    for number in range(120):
        add(images / f"more{number}.png")
    client.index(another)
    client.index(images)
    for number in range(11):
        (another / f"more{number}.png").write_bytes(b"a disk that is going")
    with pytest.raises(UsageError, match=r"11 of 14 images .*sync check \S*second"):
        client.models.apply(NEW)
    assert client.manifest.preset == OLD


def test_an_image_that_failed_and_is_lacking_counts_once(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index that is gone back to has an older row of it, which is kept, as nobody knows better."""
    for number in range(20):
        add(images / f"more{number}.png")
    client.index(images)
    client.models.apply(NEW)
    changed = {f"more{number}.png" for number in range(8)}
    for number, name in enumerate(sorted(changed)):
        save(drawn(48, 64, green=(4, 4, 10 + number, 30)), images / name)
    client.index(images)
    stat = FolderStore.stat

    def denied(store: FolderStore, key: str) -> StoredObject | None:
        if key in changed:
            raise StoreError(f"{key}: denied access (AccessDenied)")
        return stat(store, key)

    monkeypatch.setattr(FolderStore, "stat", denied)
    client.models.apply(OLD)
    assert client.manifest.preset == OLD


def test_a_source_all_of_whose_images_fail_is_not_switched_away(client: Client, another: Path) -> None:
    """However few they are: a disk or a policy that lets names be seen and nothing be read."""
    before = client.manifest.fingerprint
    for file in another.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"second: none of 2 images can be read, so the index stays as it is: "):
        client.models.apply(NEW)
    assert client.manifest.fingerprint == before


def test_of_a_source_of_whose_images_a_few_are_gone_the_others_are_encoded(client: Client, another: Path) -> None:
    (another / "a.png").unlink()
    assert (client.models.apply(NEW).encoded, sorted(outcomes(client))) == (4, ["0.png", "1.png", "2.png", "b.png"])


def test_nothing_is_learnt_while_a_source_is_gone(
    client: Client, another: Path, machine: TwoPresets, tmp_path: Path
) -> None:
    """The next run, with all sources there, would take the layer of the images that were there."""
    with opened(client._indexes, OLD) as before:  # type: ignore[arg-type]
        before.index(another, add_words=True)
    seen = machine.seen()
    another.rename(tmp_path / "unmounted")
    with pytest.raises(UsageError, match=r"second: none of 2 images is there"):
        client.models.apply(NEW)
    assert (machine.seen(), len(client._indexes.manifests())) == (seen, 1)


def test_a_sample_may_hold_an_image_that_is_gone(client: Client, another: Path) -> None:
    """Of a small source it has few: that these are gone says nothing of the others."""
    with opened(client._indexes, OLD) as before:  # type: ignore[arg-type]
        before.index(another, add_words=True)
    client._parts.connection.settings.ingest.hash_sample_images = 1  # whichever it is
    for folder, name in ((another, "a.png"), (another.parent / "images", "0.png")):
        (folder / name).unlink()
    assert client.models.apply(NEW).left == 2


def test_who_names_the_preset_of_before_is_said_to_follow_when_it_does(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Not while the index still has that preset, and not after a run that gave up."""

    def interrupted(_: object) -> None:
        if client._indexes.recall("hash-apply"):
            raise KeyboardInterrupt

    with opened(client._indexes, OLD) as settled:  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            settled.models.apply(NEW, progress=interrupted)
        assert settled.operations.presets_before() == set()
        said: list[str] = []
        settled.models.apply(NEW, progress=lambda _: said.extend(caplog.messages))
        assert [one for one in said if "which is followed" in one] == []
        assert settled.operations.presets_before() == {OLD}


def test_segments_are_those_of_the_models_that_a_question_goes_by(
    client: Client, machine: TwoPresets, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(client._indexes, OLD) as settled:  # type: ignore[arg-type]
        assert settled.manifest.preset == OLD
        client.models.apply(NEW)
        seen = machine.seen()
        settled.segment(images / "0.png")
        assert machine.seen() == (seen[0], seen[1] + 1)
        with monkeypatch.context() as away:
            away.setattr(MemoryIndexStore, "live", lambda *_, **__: _raise(IndexUnavailableError("no answer")))
            settled.segment(images / "1.png")
        assert machine.seen() == (seen[0] + 1, seen[1] + 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexUnavailableError], ids=["interrupted", "unanswered"])
@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
def test_a_run_that_ended_right_after_the_switch_is_said_to_have(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
    is_killed: bool,
) -> None:
    """The same command has nothing left to do; what was deleted between its last look and the switch may be there."""
    leases: list[bytes] = []

    def ended() -> None:
        leases.append(client._indexes.recall("hash-apply"))
        raise error("the answer is lost")

    with monkeypatch.context() as patch:
        at_the_switch(patch, ended, before=False)
        with pytest.raises(error):
            client.models.apply(NEW)
    if is_killed:  # then the lease is that of a process that has ended
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        client._indexes.remember("hash-apply", json.dumps(json.loads(leases[0]) | {"pid": process.pid}).encode())
    for _ in range(2):
        assert client.models.apply(NEW).replaced is None
    assert [("sync repair SOURCE" in one, "was ended" in one) for one in caplog.messages if "is live, but" in one] == [
        (True, True)
    ]


def test_an_index_that_became_live_while_the_models_were_loaded_is_not_switched_away(
    client: Client, images: Path, tmp_path: Path
) -> None:
    layer = layer_file(tmp_path / "other.safetensors", bits=64)

    def change_first(now: IndexProgress) -> None:
        if now.stage == LOADING_MODELS:
            client.hash_layers.apply(layer, encode=True)

    with pytest.raises(RegionIndexError, match="another index has just become live; try again"):
        client.models.apply(NEW, progress=change_first)
    assert (client.manifest.preset, client.manifest.bits) == (OLD, 64)
    assert client.operations.presets_before() == set()
    assert client.models.apply(NEW).left == 0
    assert client.operations.presets_before() == {OLD}
    assert len(client.query(images / "1.png").hits) == 3


def test_a_change_that_is_done_is_not_said_to_have_ended_early(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.models.apply(NEW)
    assert client.models.apply(NEW).replaced is None
    assert [one for one in caplog.messages if "was ended" in one] == []


def test_who_names_the_preset_of_before_follows_a_restored_index(client: Client, images: Path, tmp_path: Path) -> None:
    """Its processes are deployed with the settings of the one that was backed up."""
    client.models.apply(NEW)
    client.backup(tmp_path / "b.tar")
    with opened(MemoryIndexStore(), OLD) as other:
        other.restore(tmp_path / "b.tar")
        assert other.query(images / "1.png", limit=1).hits[0].distance_bits == 0
        add(images / "new.png")
        assert other.index(images).indexed == 1
        assert other.operations.presets_before() == {OLD}
        other.backup(tmp_path / "again.tar")
        assert other.models.apply(OLD).replaced == NEW
    with opened(MemoryIndexStore(), "base") as stranger:
        stranger.restore(tmp_path / "again.tar")
        with pytest.raises(PresetError, match="models apply base"):
            stranger.query(images / "1.png")
        assert stranger.operations.presets_before() == {OLD}


def test_going_back_is_to_what_was_live(client: Client, machine: TwoPresets, images: Path, tmp_path: Path) -> None:
    """With the layer that it had been given, not with the one that the preset came with, nor with the newest one."""
    given, tried = (layer_file(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (9, 8))
    client.hash_layers.apply(given, encode=True)
    live = client.manifest
    client.hash_layers.apply(tried, encode=True)
    client.hash_layers.apply(given, encode=True)
    assert client.manifest == live
    client.models.apply(NEW)
    add(images / "new.png")
    client.index(images)
    seen = machine.seen()
    change = client.models.apply(OLD)
    assert (client.manifest, change.layer, change.encoded) == (live, live.hash_digest, 1)
    assert machine.seen() == (seen[0] + 1, seen[1])
    client.models.apply(NEW)
    client.hash_layers.drop(live.fingerprint)
    client.models.apply(OLD)
    assert client.manifest.hash_digest != live.hash_digest


def test_words_codes_that_were_added_meanwhile_are_in_what_is_gone_back_to(
    client: Client, machine: TwoPresets, images: Path
) -> None:
    client.models.apply(NEW)
    client.index(images, add_words=True)
    seen = machine.seen()
    assert client.models.apply(OLD).encoded == 3
    assert live_of(client).count_words() == live_of(client).count_regions() == 6
    assert machine.seen()[0] - seen[0] == 3 + 3  # a sample for the words layer, and all
    assert client.models.apply(NEW).encoded == 0
    assert client.models.apply(OLD).encoded == 0
    whole(live_of(client))


def test_words_codes_that_were_added_meanwhile_are_made_of_kept_features(
    images: Path, machine: TwoPresets, tmp_path: Path
) -> None:
    with opened(MemoryIndexStore(), OLD) as client:
        client._parts.connection.settings.ingest.keep_features = True
        client._parts.connection.settings.ingest.features_dir = tmp_path / "kept"
        client.index(images)
        client.models.apply(NEW)
        client.index(images, add_words=True)
        seen = machine.seen()
        assert client.models.apply(OLD).encoded == 0
        assert live_of(client).count_words() == 6
        assert machine.seen()[0] - seen[0] == 3  # the sample


def test_words_codes_that_were_added_meanwhile_are_those_of_another_layer(images: Path, tmp_path: Path) -> None:
    with opened(MemoryIndexStore(), OLD) as client:
        client._parts.connection.settings.ingest.keep_features = True
        client._parts.connection.settings.ingest.features_dir = tmp_path / "kept"
        client.index(images)
        first = client.manifest.hash_digest
        client.hash_layers.apply(layer_file(tmp_path / "other.safetensors"))
        client.index(images, add_words=True)
        everything = [ImageRef(str(images), f"{number}.png") for number in range(3)]
        words = dict(live_of(client).words_of(everything))
        assert client.hash_layers.apply(first).encoded == 0
        assert dict(live_of(client).words_of(everything)) == words
        assert len(words) == live_of(client).count_words() == 6


def test_words_codes_that_are_added_while_it_is_filled_are_said_to_be_missing(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_the_switch(monkeypatch, lambda: client.index(images, add_words=True), before=True)
    client.models.apply(NEW)
    assert [one for one in caplog.messages if "index of small has none: index SOURCE --add-words" in one]


def _raise(error: Exception) -> None:
    raise error


def test_what_is_deleted_while_the_index_switches_is_deleted_from_both(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source still has it, so no sync would find that it came back."""
    batches, applied = syncing.batches, list[object]()

    def slow(*args: object) -> Iterator[object]:
        with opened(client._indexes) as other:  # type: ignore[arg-type]
            if not applied:
                applied.append(other.models.apply(NEW))
        yield from batches(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(syncing, "batches", slow)
    assert client.delete(images) == 3
    assert (client.manifest.preset, outcomes(client)) == (NEW, {})


def test_a_repair_of_an_index_that_was_replaced_meanwhile_says_so(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As `index` does: the index that is live now may lack what was repaired."""
    sync = syncing.sync_images

    def replaced(*args: object, **options: object) -> object:
        report = sync(*args, **options)  # type: ignore[arg-type]
        with opened(client._indexes) as other:  # type: ignore[arg-type]
            other.models.apply(NEW)
        return report

    monkeypatch.setattr(syncing, "sync_images", replaced)
    client.sync(images, repair=True)
    assert [one for one in caplog.messages if "became live during this run" in one]


@pytest.mark.parametrize("given", [True, False])
def test_a_part_of_an_index_is_listed_with_how_it_was_begun(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    def gone(*_: object) -> None:
        raise IndexUnavailableError("the server is gone")

    layer = layer_file(tmp_path / "a layer.safetensors", bits=64, seed=3) if given else None
    with monkeypatch.context() as broken:
        broken.setattr(MemoryIndexStore, "switch", gone)
        with pytest.raises(IndexUnavailableError):
            client.models.apply(NEW, hash_file=layer)
    assert [(one.preset, one.regions, one.goes_on) for one in client.hash_layers.list()] == [
        (OLD, 6, None),
        (NEW, 6, f"searchanything models apply {NEW}" + (f" --hash '{layer}'" if given else "")),
    ]
    client.models.apply(NEW, hash_file=layer)
    client.models.apply(OLD)
    listed = [(one.preset, one.goes_on) for one in client.hash_layers.list()]
    assert listed == [(OLD, None), (NEW, None)], "what was live since is whole"


def test_another_layer_by_models_that_the_settings_contradict(client: Client, tmp_path: Path) -> None:
    layer = layer_file(tmp_path / "other.safetensors")
    with (
        opened(client._indexes, "base") as stranger,  # type: ignore[arg-type]
        pytest.raises(PresetError, match="'base' was asked for"),
    ):
        stranger.hash_layers.apply(layer, encode=True)
    assert len(client._indexes.manifests()) == 1

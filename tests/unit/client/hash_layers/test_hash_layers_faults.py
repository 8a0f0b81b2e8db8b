"""Another hash layer for an index whose source, features or other processes fail or change in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.hash_layers import layer_file, live_of, opened
from fakes.indexing import whole, without_garbage
from fakes.models import FakeEmbedder, drawn
from PIL import Image

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.client import lease
from searchanything.client.client import Client
from searchanything.client.hash_layers import HashLayers
from searchanything.core import codes
from searchanything.core.codes import generation_at
from searchanything.core.errors import (
    IndexNotFoundError,
    IndexUnavailableError,
    ObjectNotFoundError,
    RegionIndexError,
    SearchAnythingError,
    UsageError,
)
from searchanything.core.manifest import IndexManifest
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import ImageRef
from searchanything.features import liveness
from searchanything.features.contents import CachedFile
from searchanything.ingest import plan
from searchanything.ingest.rehash import Rehash
from searchanything.models.hashing import HashLayer
from searchanything.models.words_layer import WordsLayer
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex


def add(path: Path) -> None:
    """An image of one region."""
    Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(path)


def with_more(client: Client, images: Path) -> None:
    """Twelve more images, indexed."""
    for number in range(12):
        add(images / f"more{number}.png")
    client.index(images)


def outcomes(client: Client) -> dict[str, Outcome]:
    index = live_of(client)
    newest: dict[ImageRef, ImageRow] = index.newest({one.image for one in index.iterate_images()})
    return {image.key: row.outcome for image, row in newest.items()}


def at_the_switch(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], *, before: bool) -> None:
    """Something happens right before or after the index is switched."""
    switch = MemoryIndexStore.switch

    def switched(store: MemoryIndexStore, fingerprint: str) -> None:
        if before:
            happens()
        switch(store, fingerprint)
        if not before:
            happens()

    monkeypatch.setattr(MemoryIndexStore, "switch", switched)


def test_what_failed_in_a_refused_run_is_tried_again(tmp_path: Path, images: Path, layer: Path) -> None:
    """Else the next one would take these failures for what the index has, and switch."""
    for number in range(12):
        add(images / f"more{number}.png")
    with opened(tmp_path, keep=False) as client:
        client.index(images)
        old, before = client.manifest, outcomes(client)
        good = {path: path.read_bytes() for path in images.glob("more*.png")}
        for path in good:
            path.write_bytes(b"a disk that is going")
        for _ in range(2):
            with pytest.raises(UsageError, match="12 of 15 images"):
                client.hash_layers.apply(layer, encode=True)
            assert client.manifest.fingerprint == old.fingerprint
        for path, data in good.items():
            path.write_bytes(data)
        change = client.hash_layers.apply(layer, encode=True)
        assert (change.failed, change.left) == (0, 0)
        assert outcomes(client) == before
        whole(live_of(client))
        assert without_garbage(live_of(client))


def test_an_attempt_of_an_hour_that_ends_before_the_switch_is_carried_over(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> None:
        add(images / "late.png")
        with monkeypatch.context() as slow:
            slow.setattr(plan, "next_generation", lambda **_: generation_at(age_s=3600.0))
            client.refresh(images, ["late.png"])

    at_the_switch(monkeypatch, late, before=True)
    client.hash_layers.apply(layer)
    assert outcomes(client).get("late.png") is Outcome.INDEXED


def test_what_was_indexed_lately_and_is_deleted_after_the_switch_stays_so(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete() -> None:
        (images / "2.png").unlink()
        client.refresh(images, ["2.png"])

    at_the_switch(monkeypatch, delete, before=False)
    client.hash_layers.apply(layer)
    assert sorted(outcomes(client)) == ["0.png", "1.png"]


def test_what_is_deleted_between_the_last_look_and_the_switch_is_gone(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete() -> None:
        (images / "2.png").unlink()
        client.refresh(images, ["2.png"])

    at_the_switch(monkeypatch, delete, before=True)
    client.hash_layers.apply(layer)
    assert sorted(outcomes(client)) == ["0.png", "1.png"]


def test_features_that_are_compacted_meanwhile_are_found(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(images / "new.png")
    client.index(images)
    opening = liveness.open_files
    done: list[int] = []

    def compacted(*args: object, **named: object) -> object:
        if not done:
            done.append(1)
            assert client.features.compact(images).files_after == 1
        return opening(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("searchanything.ingest.rehash.open_files", compacted)
    assert client.hash_layers.apply(layer).carried == 4


def test_of_two_that_begin_at_once_one_gives_way_before_it_writes(
    tmp_path: Path, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made, said = MemoryIndexStore(), list[str](), list[str]()
    recall, remember, create = MemoryIndexStore.recall, MemoryIndexStore.remember, MemoryIndexStore.create
    both_looked, both_noted, seen = threading.Barrier(2), threading.Barrier(2), threading.local()

    def recalled(self: MemoryIndexStore, name: str) -> bytes:
        found = recall(self, name)
        if name == "hash-apply" and not hasattr(seen, "looked"):
            seen.looked = True
            both_looked.wait(10)
        return found

    def remembered(self: MemoryIndexStore, name: str, data: bytes) -> None:
        remember(self, name, data)
        if name == "hash-apply" and not hasattr(seen, "noted"):
            seen.noted = True
            both_noted.wait(10)

    def created(self: MemoryIndexStore, manifest: IndexManifest, hash_layer: bytes) -> MemoryRegionIndex:
        made.append(manifest.fingerprint)
        return create(self, manifest, hash_layer)

    with opened(tmp_path, indexes=store) as client:
        client.index(images)
        monkeypatch.setattr(MemoryIndexStore, "recall", recalled)
        monkeypatch.setattr(MemoryIndexStore, "remember", remembered)
        monkeypatch.setattr(MemoryIndexStore, "create", created)

        def apply() -> None:
            try:
                client.hash_layers.apply(layer)
                said.append("applied")
            except SearchAnythingError as error:
                said.append(str(error))

        threads = [threading.Thread(target=apply) for _ in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        assert sorted("this one gives way" in one for one in said) == [False, True]
        assert "applied" in said
        assert len(made) == 1
        assert live_of(client).counts().regions == 6


def test_long_looks_keep_the_lease(client: Client, layer: Path, images: Path) -> None:
    """Each look at all images, and at all files of features, may take longer than a lease lasts."""
    first = live_of(client)
    client.hash_layers.apply(layer)
    steps: list[int] = []
    run = Rehash(live=live_of(client), other=first, hasher=HashLayer.from_file(layer), progress=steps.append)
    cache = wiring.open_feature_cache(str(images), client.manifest, client._parts.connection.settings)
    for look in (run.compare, lambda: list(run.lacking()), lambda: run.carry_kept(cache), run.forget_gone):
        steps.clear()
        look()
        assert steps == [0]


def test_the_lease_is_renewed_at_each_step(client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[bytes] = []
    remember = MemoryIndexStore.remember

    def remembered(store: MemoryIndexStore, name: str, data: bytes) -> None:
        noted.append(data)
        remember(store, name, data)

    monkeypatch.setattr(lease, "RENEW_S", 0.0)
    monkeypatch.setattr(MemoryIndexStore, "remember", remembered)
    client.hash_layers.apply(layer)
    assert len(noted) > 6
    assert noted[-1] == b""


def test_an_error_is_not_hidden_by_one_of_the_lease(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has gone away: what it was in the middle of is said, not that its note stays."""

    def gone(*_: object) -> None:
        monkeypatch.setattr(MemoryIndexStore, "recall", gone)
        raise IndexUnavailableError("the server is gone")

    monkeypatch.setattr(MemoryRegionIndex, "insert_regions", gone)
    with pytest.raises(IndexUnavailableError) as error:
        client.hash_layers.apply(layer)
    assert error.value.__context__ is None


def test_an_empty_index_gets_a_layer_of_before_without_what_it_held_then(
    client: Client, images: Path, layer: Path, tmp_path: Path
) -> None:
    """The replaced index lies there with all its images when another one of its layer is made."""
    first = tmp_path / "first.safetensors"
    first.write_bytes(client._indexes.hash_layer(client.manifest.fingerprint))
    client.hash_layers.apply(layer)
    client.delete(images)
    for path in images.iterdir():
        path.unlink()
    add(images / "new.png")
    client.index(images, hash_file=first)
    assert sorted(outcomes(client)) == ["new.png"]
    assert client.status().images == 1


def test_a_batch_that_ends_in_the_replaced_index_is_done_again(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for events has them acknowledged, and nothing would bring these images back but a sync."""
    add(images / "event.png")
    insert = MemoryRegionIndex.insert_images
    once: list[int] = []

    def late(index: MemoryRegionIndex, rows: list[ImageRow]) -> None:
        if any(row.image.key == "event.png" for row in rows) and not once:
            once.append(1)
            client.hash_layers.apply(layer)
        insert(index, rows)

    monkeypatch.setattr(MemoryRegionIndex, "insert_images", late)
    assert client.refresh(images, ["event.png"]).indexed == 1
    assert once
    assert "event.png" in outcomes(client)


def test_what_breaks_after_the_switch_says_so(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> None:
        add(images / "late.png")
        client.refresh(images, ["late.png"])

    at_the_switch(monkeypatch, late, before=True)
    insert = MemoryRegionIndex.insert_images

    def broken(index: MemoryRegionIndex, rows: list[ImageRow]) -> None:
        if any(row.image.key == "late.png" for row in rows) and index.manifest.bits == 128:
            raise RegionIndexError("the network is away")
        insert(index, rows)

    monkeypatch.setattr(MemoryRegionIndex, "insert_images", broken)
    with pytest.raises(RegionIndexError, match=r"is live by now.*sync"):
        client.hash_layers.apply(layer)
    assert client.manifest.bits == 128


def test_the_replaced_index_is_not_dropped_while_it_is_read(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, said = client.manifest.hash_digest, []

    def drop() -> None:
        with pytest.raises(UsageError) as error:
            client.hash_layers.drop(first)
        said.append(str(error.value))

    at_the_switch(monkeypatch, drop, before=False)
    client.hash_layers.apply(layer)
    assert "another process" in said[0]
    client.hash_layers.drop(first)


def test_what_a_killed_drop_left_is_listed_dropped_and_filled_again(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.manifest.hash_digest
    client.hash_layers.apply(layer)
    opening = MemoryIndexStore.open

    def half(store: MemoryIndexStore, fingerprint: str) -> MemoryRegionIndex:
        if fingerprint != client.manifest.fingerprint:
            raise IndexNotFoundError("the collection is gone")
        return opening(store, fingerprint)

    with monkeypatch.context() as broken:
        broken.setattr(MemoryIndexStore, "open", half)
        assert [(one.layer, one.regions) for one in client.hash_layers.list()][1:] == [(first, None)]
    client.hash_layers.drop(first)


def listed(client: Client) -> list[tuple[int, bool, bool, str | None]]:
    return [(one.bits, one.live, one.filling, one.goes_on) for one in client.hash_layers.list()]


def test_an_index_that_holds_a_part_is_listed_as_such(
    tmp_path: Path, images: Path, layer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it is filled, and after that was refused or killed, until it has become live; and when it is replaced then,
    it is whole."""
    store, seen = MemoryIndexStore(), list[list[tuple[int, bool, bool, str | None]]]()
    with opened(tmp_path, indexes=store) as keeping:
        keeping.index(images)
    add(images / "bare.png")
    with opened(tmp_path, keep=False, indexes=store) as client:
        client.index(images)
        first = client.manifest.hash_digest
        with pytest.raises(UsageError, match="1 image of 4"):
            client.hash_layers.apply(layer, progress=lambda _: seen.append(listed(client)))
        goes_on = f"searchanything hash apply {HashLayer.from_file(layer).digest[:12]} --encode"
        assert seen[-1] == [(256, True, False, None), (128, False, True, None)]
        assert listed(client) == [(256, True, False, None), (128, False, False, goes_on)]
        assert run(["hash", "layers"], connect=lambda *_: client) == 0
        assert f"{goes_on} goes on" in " ".join(capsys.readouterr().out.split())
        third = layer_file(tmp_path / "third.safetensors", bits=64, seed=3)
        with pytest.raises(UsageError, match="1 image of 4"):
            client.hash_layers.apply(third)
        assert [one[3] is not None for one in listed(client)] == [False, True, True]
        client.hash_layers.apply(layer, encode=True)
        client.hash_layers.apply(first, encode=True)
        assert [(bits, goes_on is not None) for bits, _, _, goes_on in listed(client)] == [
            (256, False),
            (128, False),
            (64, True),
        ]


def test_a_killed_run_is_listed_with_how_it_was_begun(
    tmp_path: Path, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing of ours runs after it."""

    def killed(*_: object) -> None:
        raise Killed

    with opened(tmp_path, keep=False) as client:
        client.index(images)
        with monkeypatch.context() as broken:
            broken.setattr(MemoryRegionIndex, "insert_images", killed)
            with pytest.raises(Killed):
                client.hash_layers.apply(layer, encode=True)
        [command] = [one.goes_on for one in client.hash_layers.list() if one.goes_on]
        assert run([*command.split()[1:]], connect=lambda *_: client) == 0
        assert listed(client) == [(128, True, False, None), (256, False, False, None)]


def test_what_a_replaced_index_has_lost_is_put_in_again(client: Client, layer: Path) -> None:
    """Such as by a server, long ago; its layer may lie nowhere else, so it cannot be dropped and applied anew."""
    old, first, before = client.manifest, live_of(client), rows_of(client)
    client.hash_layers.apply(layer)
    first.delete_regions([row.id for row in first.iterate_regions() if row.image.key == "1.png"])
    change = client.hash_layers.apply(old.hash_digest)
    assert (client.manifest, change.carried, change.left) == (old, 1, 0)
    assert rows_of(client).keys() == before.keys()
    whole(live_of(client))


def test_an_index_that_loses_rows_does_not_become_live(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = MemoryRegionIndex.insert_regions
    with monkeypatch.context() as losing:
        losing.setattr(MemoryRegionIndex, "insert_regions", lambda index, rows: insert(index, rows[:-2]))
        with pytest.raises(RegionIndexError, match=r"lost 2 regions.*`searchanything hash apply \w{12}` puts them in"):
            client.hash_layers.apply(layer)
    assert client.manifest.bits == 256
    assert client.hash_layers.apply(layer).carried == 1
    whole(live_of(client))


def test_images_that_the_live_index_loses_are_not_taken_for_deleted_ones(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server did that was killed: it showed 10 of 40 images, and an index of these became live."""
    with_more(client, images)
    old, carry = client.manifest, HashLayers._carry

    def lose(*asked: Any) -> None:
        live_of(client).delete_images({image for image in live_of(client).newest(named) if image.key != "0.png"})
        carry(*asked)

    named = {state.image for state in live_of(client).iterate_states()}
    with monkeypatch.context() as losing:
        losing.setattr(HashLayers, "_carry", lose)
        with pytest.raises(
            RegionIndexError, match=r"of 15 images 1 are left.*`searchanything hash apply \w{12}` goes on"
        ):
            client.hash_layers.apply(layer)
    assert client.manifest == old
    assert client.hash_layers.apply(layer).left == 0, "they were deleted"
    assert sorted(outcomes(client)) == ["0.png"]


def test_what_was_carried_over_stays_where_the_live_index_loses_images(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have lost them for a moment, and to encode them may have taken hours."""
    with_more(client, images)
    old, carry = client.manifest, HashLayers._carry

    def lose(*asked: Any) -> None:
        carry(*asked)
        live_of(client).delete_images(live_of(client).newest(named))

    named = {state.image for state in live_of(client).iterate_states()}
    with monkeypatch.context() as losing:
        losing.setattr(HashLayers, "_carry", lose)
        with pytest.raises(RegionIndexError, match="of 15 images 0 are left"):
            client.hash_layers.apply(layer)
    indexes = client._parts.connection.indexes
    [other] = [one for one in indexes.manifests() if one != old]
    assert {state.image for state in indexes.open(other.fingerprint).iterate_states()} == named


def test_an_image_that_is_replaced_while_it_is_carried_over_waits_for_the_next_look(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row was read before, its regions after: what was found of them is not all, and is not committed."""
    regions_of, once, live = MemoryRegionIndex.regions_of, list[int](), live_of(client)

    def replaced(index: MemoryRegionIndex, wanted: Collection[ImageRef]) -> Iterator[RegionRow]:
        if index is live and not once:
            once.append(1)
            add(images / "1.png")
            client.refresh(images, ["1.png"])
        return regions_of(index, wanted)

    monkeypatch.setattr(MemoryRegionIndex, "regions_of", replaced)
    change = client.hash_layers.apply(layer)
    assert (change.carried, change.left) == (3, 0)
    assert {row.image.key: row.regions for row in live_of(client).iterate_images()} == {
        "0.png": 2,
        "1.png": 1,
        "2.png": 2,
    }
    whole(live_of(client))
    assert without_garbage(live_of(client))


def test_a_file_of_features_that_goes_while_it_is_read_is_found_merged(
    client: Client, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, once = CachedFile.table, list[int]()

    def gone(file: CachedFile, kept: Sequence[bool]) -> object:
        if once:
            return read(file, kept)
        once.append(1)
        path = next(Path(file._place).rglob(file.stored.name))
        path.rename(path.with_name(file.stored.name.replace(file.stored.name[9:28], "1" * 19)))
        raise ObjectNotFoundError("merged by a compaction")

    monkeypatch.setattr(CachedFile, "table", gone)
    assert client.hash_layers.apply(layer).carried == 3


def test_another_index_that_becomes_live_meanwhile_stays_so(
    client: Client, layer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a restored backup: nobody asked for a layer of what is there by now."""
    client.hash_layers.apply(layer_file(tmp_path / "third.safetensors", seed=3))
    third, forget = client.manifest, Rehash.forget_gone
    client.hash_layers.apply(layer)

    def switched(run: Rehash) -> int:
        client._indexes.switch(third.fingerprint)
        return forget(run)

    monkeypatch.setattr(Rehash, "forget_gone", switched)
    with pytest.raises(RegionIndexError, match="another index became live"):
        client.hash_layers.apply(next(one.layer for one in client.hash_layers.list() if one.bits == 256))
    assert client.manifest == third


def test_few_images_that_are_gone_are_left_and_counted(tmp_path: Path, images: Path, layer: Path) -> None:
    with opened(tmp_path, keep=False) as client:
        client._parts.connection.settings.ingest.forget_images = 0
        client._parts.connection.settings.ingest.forget_share = 0.5
        client.index(images)
        (images / "0.png").unlink()
        change = client.hash_layers.apply(layer, encode=True)
        assert (change.encoded, change.left) == (2, 1)
        assert sorted(outcomes(client)) == ["1.png", "2.png"]


def test_what_is_indexed_again_right_after_the_switch_stays(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deleted from the replaced index, and is there again, newer, while that deletion is being followed."""
    generations, old = MemoryRegionIndex.generations, live_of(client)
    data, switched = (images / "2.png").read_bytes(), list[int]()

    def delete() -> None:
        (images / "2.png").unlink()
        client.refresh(images, ["2.png"])

    def looked_at(index: MemoryRegionIndex, wanted: Collection[ImageRef]) -> dict[ImageRef, int]:
        found = generations(index, wanted)
        if index is old and client.manifest.bits == 128 and not switched:
            switched.append(1)
            (images / "2.png").write_bytes(data)
            client.refresh(images, ["2.png"], force=True)
        return found

    at_the_switch(monkeypatch, delete, before=True)
    monkeypatch.setattr(MemoryRegionIndex, "generations", looked_at)
    client.hash_layers.apply(layer)
    assert switched
    assert sorted(outcomes(client)) == ["0.png", "1.png", "2.png"]


def test_an_index_of_the_layer_whose_features_are_others_is_made_anew(
    client: Client, images: Path, layer: Path, tmp_path: Path
) -> None:
    """It was left by an index that was emptied since: its features have another name than the live one's."""
    client.hash_layers.apply(layer)
    client.delete(images)
    client.index(images, hash_file=layer_file(tmp_path / "third.safetensors", seed=3))
    client.hash_layers.apply(next(one.layer for one in client.hash_layers.list() if one.bits == 256))
    status = client.features.status(images)
    assert (status.images, status.missing) == (3, 0)


def test_images_that_are_embedded_again_get_words_codes(tmp_path: Path, images: Path, layer: Path) -> None:
    columns = FakeEmbedder.dimension
    words = WordsLayer.create(
        np.random.default_rng(4).standard_normal((64, columns)).astype(np.float32),
        np.zeros(columns, dtype=np.float32),
        np.zeros(columns, dtype=np.float32),
        method="rotation",
    )
    with opened(tmp_path, keep=False) as client:
        client.index(images)
        client._indexes.add_words(client.manifest.fingerprint, words.to_bytes(), bits=words.bits)
        client._models.forget(client.manifest.fingerprint)
        client.hash_layers.apply(layer, encode=True)
        assert live_of(client).count_words() == 6


def test_images_of_a_worker_whose_clock_is_ahead_are_embedded_again_after_it(
    tmp_path: Path, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the new rows were older than the replaced ones, and counted as lacking."""
    monkeypatch.setattr(codes, "_last", 0)  # and put back at the end
    with opened(tmp_path, keep=False) as client:
        with monkeypatch.context() as ahead:
            ahead.setattr(plan, "next_generation", lambda **_: generation_at(age_s=0.0) + 3600 * 10**9)
            client.index(images)
        change = client.hash_layers.apply(layer, encode=True)
        assert (change.encoded, change.left) == (3, 0)


def test_a_restored_index_finds_the_features_of_the_one_whose_layer_it_has(
    client: Client, images: Path, layer: Path, tmp_path: Path
) -> None:
    """Also where the index is emptied, and the replaced one of another layer lies beside it."""
    first = client.manifest
    client.hash_layers.apply(layer)
    client.backup(tmp_path / "b.tar")
    kept = rows_of(client)
    client._parts.connection.models.index().delete_images([one.image for one in live_of(client).iterate_states()])
    with opened(tmp_path, indexes=client._indexes) as again:  # type: ignore[arg-type]
        again.restore(tmp_path / "b.tar")
        assert rows_of(again) == kept
        assert again.features.status(images).missing == 0
        change = again.hash_layers.apply(first.hash_digest)
        assert (change.carried, change.left) == (0, 0)
    with opened(tmp_path) as elsewhere:
        elsewhere.restore(tmp_path / "b.tar")
        assert elsewhere.features.status(images).missing == 0
        assert elsewhere.hash_layers.apply(layer_file(tmp_path / "third.safetensors", seed=3)).carried == 3


def rows_of(client: Client) -> dict[str, bytes]:
    return {row.id: row.code for row in live_of(client).iterate_regions()}


def test_a_run_of_index_under_which_the_index_was_switched_says_so(
    client: Client, images: Path, layer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(images / "last.png")
    insert = MemoryRegionIndex.insert_images
    once: list[int] = []

    def late(index: MemoryRegionIndex, rows: list[ImageRow]) -> None:
        if any(row.image.key == "last.png" for row in rows) and not once:
            once.append(1)
            client.hash_layers.apply(layer)
        insert(index, rows)

    monkeypatch.setattr(MemoryRegionIndex, "insert_images", late)
    client.index(images)
    assert "became live during this run" in caplog.text
    caplog.clear()
    assert client.index(images).indexed == 1
    assert "became live" not in caplog.text

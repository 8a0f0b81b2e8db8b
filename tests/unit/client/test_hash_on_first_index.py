"""A preset without a trained hash: a new index trains one on a sample of its source, or says why it does not."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
from fakes.indexing import new_index
from fakes.machine import Machine
from fakes.models import CHANNELS, PALETTE, FakeEmbedder, drawn, fake_encoder, poisoned
from fakes.stores import InMemoryStore
from PIL import Image

import searchanything
from searchanything import wiring
from searchanything.cli.app import run
from searchanything.client import hash_on_first_index
from searchanything.client.hash_on_first_index import LearningOptions, sample_of_index
from searchanything.client.indexing import MAKING, OPENING
from searchanything.core.errors import PresetError
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.settings import ModelSettings, Settings
from searchanything.core.types import FloatArray, ImageRef, RGBImage
from searchanything.encode.encoder import Encoder
from searchanything.ingest.plan import IndexingJob
from searchanything.ingest.reports import IndexProgress
from searchanything.models import presets
from searchanything.models.hashing import HashLayer

IMAGES, REGIONS = 14, 42


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """IMAGES images of three regions each."""
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(1)
    for number in range(IMAGES):
        boxes = [(2, 2, 20 + number, 30), (40, 2, 60, 20 + number), (10, 40, 50, 60)]
        colours = generator.permutation(list(PALETTE))[:3]
        Image.fromarray(drawn(64, 64, **dict(zip(colours, boxes, strict=True)))).save(
            tmp_path / "images" / f"{number}.png"
        )
    return tmp_path / "images"


def settings_of(*, least: int = REGIONS, sample: int = 400) -> Settings:
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.models.preset = "pico"
    settings.ingest.hash_least_regions = least
    settings.ingest.hash_sample_images = sample
    return settings


def connected(settings: Settings | None = None, indexes: IndexStore | None = None) -> searchanything.Client:
    """A client; with `indexes` another process's one on the same index."""
    settings = settings or settings_of()
    return searchanything.Client(settings, indexes=indexes)


def layer_of(client: searchanything.Client) -> HashLayer:
    live = client._indexes.live()
    assert live is not None
    return HashLayer.from_bytes(client._indexes.hash_layer(live.fingerprint))


def codes_in(client: searchanything.Client) -> dict[str, list[bytes]]:
    return {row.image.key: [region.code for region in client.regions(row.image)] for row in client.images()[0]}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == "searchanything.client.hash_on_first_index"]
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("machine")
def test_a_new_index_trains_its_hash_first(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps: list[IndexProgress] = []
    with connected() as client:
        report = client.index(images, progress=steps.append)
        assert (report.indexed, report.regions) == (IMAGES, REGIONS)
        assert client.status().to_dict()["hash"] == "trained"
        layer = layer_of(client)
        assert layer.trained
        facts = {
            "method": "deep",
            "seed": "0",
            "sample_images": "14",
            "rows": "42",
            "created_by": "searchanything index",
        }
        assert facts.items() <= dict(layer.provenance).items()
        live = client.status().manifest
        assert live is not None
        assert layer.provenance["feature_fingerprint"] == live.feature_fingerprint
        hits = client.query(images / "3.png", (10, 10)).hits
        assert ("3.png", 0) in [(hit.image.key, hit.distance_bits) for hit in hits]  # regions of one colour may tie
        again: list[IndexProgress] = []
        client.index(images, progress=again.append)
        assert again[0].stage == OPENING  # no model is loaded where nothing is to be done
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == [MAKING, "sampling", "training the hash", ""]
    assert [step.done for step in steps if step.stage == "sampling"][-1] == IMAGES
    trained = [(step.done, step.total) for step in steps if step.stage == "training the hash"]
    assert trained == sorted(trained)
    assert {total for _, total in trained} == {200}
    [announced] = warnings_in(caplog)
    assert "one is trained first, on 14 images" in announced


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops each call embedded so far."""
    counts: list[int] = []
    embed = FakeEmbedder.embed_crops

    def counting(self: FakeEmbedder, crops: RGBImage) -> FloatArray:
        counts.append(len(crops))
        return embed(self, crops)

    monkeypatch.setattr(FakeEmbedder, "embed_crops", counting)
    return counts


def test_the_sample_is_embedded_once(machine: Machine, images: Path, embedded: list[int]) -> None:
    with connected() as client:
        client.index(images)
        assert sum(embedded) == REGIONS + IMAGES, "each region and each whole image once"
        assert sum(machine.segmenter.batch_sizes) == 2 * IMAGES
        rows = codes_in(client)
        embedded.clear()
        client.index(images, force=True)
        assert sum(embedded) == REGIONS + IMAGES, "nothing is remembered for later"
        assert rows == codes_in(client)


@pytest.mark.usefixtures("machine")
def test_the_sample_of_a_words_layer_is_that_of_the_hash(images: Path, embedded: list[int]) -> None:
    with connected() as client:
        client.index(images, add_words=True)
    assert sum(embedded) == REGIONS + IMAGES, "each region and each whole image once"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("way", ["refresh", "sync"])
def test_every_way_into_an_empty_index_trains(images: Path, way: str) -> None:
    with connected() as client, connected() as other:
        if way == "refresh":
            assert client.refresh(images, ["0.png"]).indexed == 1
        else:
            assert client.sync(images, repair=True).missing
        other.index(images)
        assert layer_of(client).digest == layer_of(other).digest  # by the source, not by the keys


def test_too_few_images_leave_it_untrained_and_say_so(
    machine: Machine, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(settings_of(least=IMAGES * 25 + 1)) as client:
        client.index(images)
        assert client.status().to_dict()["hash"] == "untrained"
    [said] = warnings_in(caplog)
    assert "stays untrained: a sample of the source has at most 350 regions of 14 images" in said
    assert sum(machine.segmenter.batch_sizes) == IMAGES  # for the index alone


@pytest.mark.usefixtures("machine")
def test_too_few_regions_leave_it_untrained_and_say_so(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    with connected(settings_of(least=REGIONS + 1)) as client:
        assert client.index(images).indexed == IMAGES
        assert client.status().to_dict()["hash"] == "untrained"
    assert "has 42 regions of 14 images, and training takes 43 or more" in warnings_in(caplog)[-1]


@pytest.mark.usefixtures("machine")
def test_just_as_many_regions_as_it_takes_are_enough(images: Path) -> None:
    """Three a picture, of which no more than three are kept: neither what there may be nor what there is is less."""
    settings = settings_of(least=REGIONS)
    settings.ingest.regions = 3
    with connected(settings) as client:
        client.index(images)
        assert layer_of(client).provenance["rows"] == str(REGIONS)


@pytest.mark.usefixtures("machine")
def test_regions_that_are_all_alike_leave_it_untrained_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As do the frames of a camera that sees the same thing all day."""
    for number in range(20):
        Image.fromarray(drawn(64, 64, red=(2, 2, 20, 30))).save(tmp_path / f"{number}.png")
    with connected(settings_of(least=20)) as client:
        report = client.index(tmp_path)
        assert (report.indexed, report.failed) == (20, 0)
        assert client.status().to_dict()["hash"] == "untrained"
        assert len(set(map(tuple, codes_in(client).values()))) == 1
    assert "stays untrained: all 20 regions have the same features" in warnings_in(caplog)[-1]


def test_it_can_be_switched_off(machine: Machine, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    with connected() as client:
        client.index(images, hash_file="untrained")
        assert client.status().to_dict()["hash"] == "untrained"
        assert warnings_in(caplog) == []
    with connected(settings_of(sample=0)) as client:
        client.index(images)
        assert client.status().to_dict()["hash"] == "untrained"
    assert "hash_sample_images is 0" in warnings_in(caplog)[0]
    assert sum(machine.segmenter.batch_sizes) == 2 * IMAGES


@pytest.mark.usefixtures("machine")
def test_a_file_is_taken_as_it_is(images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=9)
    (tmp_path / "mine.safetensors").write_bytes(layer.to_bytes())
    with connected() as client:
        client.index(images, hash_file=tmp_path / "mine.safetensors")
        assert layer_of(client).digest == layer.digest
        for choice in ("untrained", None):
            if choice is None:
                assert client.index(images).unchanged == IMAGES
            else:
                with pytest.raises(PresetError, match="already has another hash layer; untrained needs an empty index"):
                    client.index(images, hash_file=choice)
    assert warnings_in(caplog) == []


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("is_own", [False, True])
def test_a_file_for_other_features_is_warned_of(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_own: bool
) -> None:
    with connected() as client:
        client.index(images, hash_file="untrained")
        features = client._models.manifest().feature_fingerprint
    trained_on = features if is_own else "f" * 32
    plain = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=9)
    layer = HashLayer.create(
        plain.weight,
        plain.bias,
        mask_dimension=CHANNELS,
        provenance={"method": "itq", "trained": "true", "feature_fingerprint": trained_on},
    )
    (tmp_path / "mine.safetensors").write_bytes(layer.to_bytes())
    with connected() as client:
        assert client.index(images, hash_file=tmp_path / "mine.safetensors").indexed == IMAGES
        assert client.index(images, hash_file=tmp_path / "mine.safetensors").unchanged == IMAGES
    said = [one for one in caplog.messages if f"trained on features {trained_on}, these are {features}" in one]
    assert len(said) == (0 if is_own else 1), "once, as the index is made"


@pytest.mark.usefixtures("machine")
def test_a_preset_that_ships_a_trained_one_uses_it(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weight = np.random.default_rng(0).standard_normal((64, CHANNELS + FakeEmbedder.dimension)).astype(np.float32)
    facts = {"method": "deep", "trained": "true"}
    shipped = HashLayer.create(weight, np.zeros(64, np.float32), mask_dimension=CHANNELS, provenance=facts)
    monkeypatch.setattr(presets, "load_hash", lambda _: shipped)
    with connected() as client:
        client.index(images)
        assert layer_of(client).digest == shipped.digest
    assert warnings_in(caplog) == []


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("stage", ["sampling", "training the hash"])
def test_an_interrupted_training_makes_nothing(images: Path, stage: str) -> None:
    def interrupt(step: IndexProgress) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    with connected() as client:
        with pytest.raises(KeyboardInterrupt):
            client.index(images, progress=interrupt)
        assert client._indexes.live() is None
        assert client._indexes.manifests() == []
        assert not client.status().exists
        client.index(images)
        assert client.status().to_dict()["hash"] == "trained"


@pytest.mark.usefixtures("machine")
def test_an_index_that_another_process_made_meanwhile_is_taken(images: Path) -> None:
    with connected() as client:
        other = connected(indexes=client._indexes)

        def meanwhile(step: IndexProgress) -> None:
            if step.stage == "training the hash" and client._indexes.live() is None:
                other.index(images, hash_file="untrained")

        assert client.index(images, progress=meanwhile).unchanged == IMAGES
        assert len(client._indexes.manifests()) == 1
        assert client.status().to_dict()["hash"] == "untrained"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("is_emptied", [False, True])
def test_an_index_that_another_process_filled_while_the_models_were_loaded_stays(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_emptied: bool
) -> None:
    layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=9)
    (tmp_path / "mine.safetensors").write_bytes(layer.to_bytes())
    shutil.copytree(images, tmp_path / "others")
    with connected() as client:
        other, settle = connected(indexes=client._indexes), wiring.settle_encoder
        if is_emptied:
            other.index(tmp_path / "others", hash_file="untrained")
            other.delete(tmp_path / "others")

        def meanwhile(encoder: Encoder, settings: Settings) -> Encoder:
            if not client.status().images:
                monkeypatch.setattr(wiring, "settle_encoder", settle)
                other.index(tmp_path / "others", hash_file="untrained")
            return settle(encoder, settings)

        monkeypatch.setattr(wiring, "settle_encoder", meanwhile)
        with pytest.raises(PresetError, match="already has another hash layer"):
            client.index(images, hash_file=tmp_path / "mine.safetensors")
        assert client.status().images == IMAGES
        assert len(client._indexes.manifests()) == 1


@pytest.mark.usefixtures("machine")
def test_an_empty_index_is_not_dropped_once_another_process_wrote_into_it(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a watcher, which has it open."""
    with connected() as watcher:
        watcher.index(images)
        watcher.delete(images)
        emptied, create = watcher._models.manifest().fingerprint, watcher._indexes.create
        client = connected(indexes=watcher._indexes)

        def meanwhile(manifest: IndexManifest, layer: bytes) -> RegionIndex:
            assert watcher.index(images).indexed == IMAGES
            return create(manifest, layer)

        monkeypatch.setattr(watcher._indexes, "create", meanwhile)
        client.index(images, hash_file="untrained")
        assert watcher._indexes.open(emptied).counts().images == IMAGES


@pytest.mark.usefixtures("machine")
def test_processes_that_train_at_the_same_time_take_one_index(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of different sources, so that their layers differ."""
    monkeypatch.setattr("searchanything.client.made_together.SETTLING_S", 0.3)
    sources = [tmp_path / f"source{number}" for number in range(3)]
    for number, source in enumerate(sources):
        shutil.copytree(images, source)
        Image.fromarray(drawn(64, 64, red=(2, 2, 9 + number, 9))).save(source / "more.png")
    first = connected()
    clients = [first, *(connected(indexes=first._indexes) for _ in sources[1:])]
    made, create = threading.Barrier(len(clients)), first._indexes.create

    def create_together(manifest: IndexManifest, layer: bytes) -> RegionIndex:
        index = create(manifest, layer)
        made.wait(timeout=30)
        return index

    monkeypatch.setattr(first._indexes, "create", create_together)
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client, source: client.index(source), clients, sources))
    assert len(first._indexes.manifests()) == 1
    assert first.status().images == len(clients) * (IMAGES + 1)


def test_an_emptied_index_keeps_its_trained_layer(
    machine: Machine, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with connected() as client:
        client.index(images)
        digest = layer_of(client).digest
        client.delete(images)
        (images / "3.png").unlink()
        machine.segmenter.batch_sizes.clear()
        caplog.clear()
        connected(indexes=client._indexes).index(images)
        assert layer_of(client).digest == digest
        assert len(client._indexes.manifests()) == 1
    assert sum(machine.segmenter.batch_sizes) == IMAGES - 1
    assert warnings_in(caplog) == []


@pytest.mark.usefixtures("machine")
def test_an_empty_index_that_is_untrained_is_trained_when_there_are_images(images: Path, tmp_path: Path) -> None:
    (tmp_path / "images").rename(tmp_path / "later")
    images.mkdir()
    with connected() as client:
        client.refresh(images, [])
        assert client.status().to_dict()["hash"] == "untrained"
        images.rmdir()
        (tmp_path / "later").rename(images)
        client.refresh(images, [path.name for path in images.iterdir()])
        assert (client.status().to_dict()["hash"], client.status().images) == ("trained", IMAGES)
        assert len(client._indexes.manifests()) == 1


@pytest.mark.usefixtures("machine")
def test_bad_images_of_the_sample_are_left_out(images: Path) -> None:
    Image.fromarray(poisoned(drawn(30, 30, red=(4, 4, 20, 20)))).save(images / "poisoned.png")
    (images / "broken.png").write_bytes(b"no image")
    (images / "notes.txt").write_text("no image either")
    with connected() as client:
        report = client.index(images)
        assert (report.indexed, report.failed) == (IMAGES, 2)
        assert {one.attempts for one in client.failures()} == {1}  # the sample's attempt is not one of theirs
        assert layer_of(client).provenance["rows"] == str(REGIONS)


@pytest.mark.usefixtures("machine")
def test_the_sample_leaves_no_features_behind(images: Path, tmp_path: Path) -> None:
    settings = settings_of()
    settings.ingest.keep_features = True
    settings.ingest.features_dir = tmp_path / "kept"
    with connected(settings) as client:
        client.index(images)
        status = client.features.status(images)
        assert (status.rows, status.live_rows, status.other_files) == (REGIONS, REGIONS, 0)


def test_the_sample_does_not_depend_on_the_listing() -> None:
    stores = [InMemoryStore(), InMemoryStore()]
    names = [f"{number}.png" for number in range(200)]
    for store, order in zip(stores, (names, names[::-1]), strict=True):
        for name in (*order, "notes.txt", ".searchanything/sheet.png"):
            store.put(name, name.encode())
    encoder = fake_encoder()

    def drawn_from(store: InMemoryStore, seed: int) -> list[str]:
        job = IndexingJob(store, lambda: encoder, new_index())
        options = LearningOptions(images=50, least_regions=20, compute=ModelSettings(), seed=seed)
        return [one.ref.key for one in hash_on_first_index.sample_of_source(job, options)[0][1]]

    first = drawn_from(stores[0], 0)
    assert len(set(first)) == 50
    assert first == drawn_from(stores[1], 0) != drawn_from(stores[0], 1)
    assert set(first) <= set(names)


@pytest.mark.usefixtures("machine")
def test_the_command_line_announces_it_on_stderr(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = connected()
    code = run(["index", str(images), "--format", "json"], connect=lambda *_: client)
    shown = capsys.readouterr()
    assert code == 0
    assert json.loads(shown.out)["images"]["indexed"] == IMAGES
    assert "one is trained first, on 14 images" in shown.err


@pytest.mark.usefixtures("machine")
def test_the_command_line_takes_untrained_and_no_missing_file(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = connected()
    assert run(["index", str(images), "--hash", "untrained"], connect=lambda *_: client) == 0
    assert client.status().to_dict()["hash"] == "untrained"
    capsys.readouterr()
    assert run(["index", str(images), "--hash", "gone.safetensors"], connect=lambda *_: client) == 2
    assert "gone.safetensors: no such file" in capsys.readouterr().err


@pytest.fixture
def small_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The preset `small` of tiny real models with random weights."""
    folder = tiny_models.save_small_preset(tmp_path / "weights", monkeypatch)
    monkeypatch.setattr("searchanything.wiring._models", {})
    settings = settings_of(least=40)
    settings.models.preset = "small"
    settings.models.weights_dir = folder
    return settings


def test_real_models_with_random_weights(small_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.fromarray(tiny_models.scene(96, 128, seed=number)).save(tmp_path / "images" / f"{number}.png")
    with connected(small_settings) as client:
        report = client.index(tmp_path / "images")
        assert report.indexed == 6
        assert report.regions >= 40
        assert client.status().to_dict()["hash"] == "trained"
        assert (layer_of(client).mask_dimension, layer_of(client).image_dimension) == (64, 32)
        found = client.query(tmp_path / "images" / "2.png", limit=3)
        assert (found.hits[0].image.key, found.hits[0].distance_bits) == ("2.png", 0)


def test_each_bucket_of_an_index_gives_its_own_images_to_the_sample() -> None:
    """What cannot be found is none of it."""
    images = [ImageRef(bucket, f"{number}.png") for bucket in ("b", "a") for number in range(4)]
    states = [
        SimpleNamespace(image=one, etag="e", modified_at_ms=None, is_findable=one.key != "3.png") for one in images
    ]
    index = SimpleNamespace(iterate_states=lambda: iter(states))
    options = LearningOptions(images=5, least_regions=1, compute=ModelSettings())
    sample = sample_of_index(index, lambda bucket: bucket, options)  # type: ignore[arg-type, return-value]
    assert [job for job, _ in sample] == ["a", "b"]
    assert all(one.ref.bucket == job for job, chosen in sample for one in chosen)
    drawn = {one.ref for _, chosen in sample for one in chosen}
    assert len(drawn) == sum(len(chosen) for _, chosen in sample) == 5
    assert drawn <= {one for one in images if one.key != "3.png"}

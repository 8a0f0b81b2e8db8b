"""`watch` refuses at once what every sync would fail at; no client of ours takes a proxy to a Milvus on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.indexing import RED
from fakes.models import CHANNELS, FakeEmbedder, FakeSegmenter, lazy_fakes

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.operations import Operations
from searchanything.core.errors import IndexMismatchError, PresetError, SettingsError, WeightsMissingError
from searchanything.core.settings import MilvusSettings, Settings
from searchanything.models import presets, unloaded
from searchanything.models.hashing import HashLayer
from searchanything.service import tree
from searchanything.stores import milvus_connection
from searchanything.stores.memory import MemoryIndexStore

LAZY, DESCRIBE = presets.lazy_models, presets.describe


def _use_models(monkeypatch: pytest.MonkeyPatch, segmenter: FakeSegmenter) -> None:
    """Fakes in place of a preset's models, and of their files."""
    monkeypatch.setattr("searchanything.wiring._models", {})
    monkeypatch.setattr(presets, "lazy_models", lambda *_: lazy_fakes(segmenter, FakeEmbedder()))
    monkeypatch.setattr(unloaded, "describe", lambda *_: (segmenter.description, FakeEmbedder().description))


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, indexed with the preset pico, whose models are fakes."""
    _use_models(monkeypatch, FakeSegmenter())
    layer = HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=5)
    monkeypatch.setattr(presets, "load_hash", lambda _: layer)
    stores: dict[str, MemoryIndexStore] = {}
    shared = lambda milvus: stores.setdefault(milvus.uri, MemoryIndexStore(milvus.uri))  # noqa: E731
    monkeypatch.setattr("searchanything.wiring.open_index_store", shared)
    monkeypatch.setenv("SEARCHANYTHING_INGEST__HASH_SAMPLE_IMAGES", "0")
    (tmp_path / "a.png").write_bytes(RED)
    with opened("pico") as client:
        client.index(tmp_path)
    return tmp_path


def opened(preset: str | None, uri: str = "memory://watchable", **ingest: Any) -> Client:
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = uri, preset
    settings.ingest = settings.ingest.model_copy(update=ingest)
    return connect(settings=settings)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("with_models", [True, False])
def test_settings_that_contradict_the_index_are_refused(with_models: bool) -> None:
    for preset in ("pico", None):
        opened(preset).operations.check_usable(with_models=with_models)
    with pytest.raises(PresetError, match="made with preset 'pico', but 'small' was asked"):
        opened("small").operations.check_usable(with_models=with_models)
    with pytest.raises(SettingsError, match="leave them out"):
        opened("pico", regions=7).operations.check_usable(with_models=with_models)
    with pytest.raises(PresetError, match="no preset chosen"):
        opened(None, "memory://nothing-there").operations.check_usable(with_models=with_models)
    opened("pico", "memory://nothing-there").operations.check_usable(with_models=with_models)


@pytest.mark.usefixtures("images")
def test_models_that_are_not_those_of_the_index_are_refused_where_they_would_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _use_models(monkeypatch, FakeSegmenter(weights="other"))
    with pytest.raises(IndexMismatchError):
        opened("pico").operations.check_usable()
    opened("pico").operations.check_usable(with_models=False)


@pytest.mark.usefixtures("images")
def test_missing_weights_are_told_where_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "lazy_models", LAZY)
    monkeypatch.setattr(unloaded, "describe", DESCRIBE)
    monkeypatch.setenv("SEARCHANYTHING_MODELS__WEIGHTS_DIR", str(tmp_path / "none"))
    with pytest.raises(WeightsMissingError):
        opened("paper", "memory://nothing-there").operations.check_usable()
    opened("paper", "memory://nothing-there").operations.check_usable(with_models=False)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_told(device: str) -> None:
    settings = Settings(_env_file=None, milvus={"uri": "memory://watchable"}, models={"device": device})
    with connect(settings=settings) as client, pytest.raises(SettingsError, match="device"):
        client.operations.check_usable()


def test_neither_an_empty_place_nor_an_index_needs_torch_to_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(RED)
    code = """if True:
    import sys
    from searchanything.client.opening import connect
    from searchanything.core.settings import Settings
    from searchanything.stores.memory import MemoryIndexStore
    from searchanything import wiring

    store = MemoryIndexStore("memory://here")
    wiring.open_index_store = lambda _: store
    settings = Settings(_env_file=None, models={"preset": "pico"}, ingest={"tiles": 256})
    with connect(settings=settings) as client:
        client.operations.check_usable()
        print("torch" in sys.modules)
        client.index(sys.argv[1])
        assert store.live() is not None and "torch" in sys.modules
        client.operations.check_usable()
    """
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "images"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


@pytest.mark.parametrize("scheduler", [None, "tls://10.0.0.5:8786"])
def test_watch_looks_before_it_starts_anything(
    images: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str | None
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Operations, "check_usable", lambda _, with_models: asked.append(with_models))
    monkeypatch.setattr(tree, "connect", lambda settings: opened("pico"))  # noqa: ARG005
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.service.scheduler = "index.db", scheduler
    tree.check_watchable(str(images), settings)
    assert asked == [scheduler is None]


@pytest.mark.parametrize(
    ("uri", "direct"), [("http://127.0.0.1:19530", True), ("http://[::1]:1", True), ("http://milvus:19530", False)]
)
def test_no_proxy_leads_to_a_milvus_on_loopback(monkeypatch: pytest.MonkeyPatch, uri: str, direct: bool) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(milvus_connection, "RowClient", lambda *_, **options: made.append(options))
    milvus_connection.MilvusConnection(MilvusSettings(uri=uri))._connect(None)
    assert made[0]["grpc_options"] == ({"grpc.enable_http_proxy": 0} if direct else {})

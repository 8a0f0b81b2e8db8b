"""A worker whose environment would read images in another way than the coordinator's indexes none of them so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.indexing import RED
from fakes.machine import Machine

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import SettingsError
from searchanything.core.settings import Settings
from searchanything.service import work
from searchanything_flows import index as index_flow
from searchanything_flows import sync as sync_flow

PREFIX = "SEARCHANYTHING_"


class Here:
    """Does in this thread what workers do."""

    stopping = False

    async def run(self, function: Callable[..., Any], parameters: dict[str, Any], **_: Any) -> Any:
        return function(**parameters)


async def without_prefect(task: Any, *given: Any) -> Any:
    return await task.fn(*given)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(RED)
    (tmp_path / "images" / "a.png.json").write_text('{"regions": []}')
    return tmp_path / "images"


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The client of a worker, which has no setting of sidecars."""
    Machine().install(monkeypatch)
    settings = Settings(_env_file=None)
    settings.models.preset, settings.milvus.uri = "pico", f"memory://{tmp_path.name}"
    client = connect(settings=settings)
    monkeypatch.setattr(work, "worker_client", lambda: client)
    monkeypatch.setattr(index_flow, "publish_batch", lambda *_: None)  # to Prefect's server
    monkeypatch.setattr(index_flow, "in_prefect", without_prefect)
    monkeypatch.setattr(sync_flow, "in_prefect", without_prefect)
    return client


def index(source: Path) -> None:
    engine: Any = Here()
    runner = index_flow._BatchRunner(engine, str(source), force=False, urgent=True, said="named")
    wave = asyncio.run(index_flow._wave(runner, ["a.png"]))
    assert wave.total.indexed == 1


@pytest.mark.parametrize(
    ("coordinators", "said"),
    [
        ({"INGEST__SIDECAR_SUFFIX": ".json"}, "SEARCHANYTHING_INGEST__SIDECAR_SUFFIX is '' and not '.json'"),
        (
            {"INGEST__SIDECAR_SUFFIX": ".json", "INGEST__REGIONS_FROM": "sidecar"},
            "SEARCHANYTHING_INGEST__REGIONS_FROM is 'segmenter' and not 'sidecar'",
        ),
        ({"STORAGE__OBJECT_TAGS": "true"}, "SEARCHANYTHING_STORAGE__OBJECT_TAGS is 'false' and not 'true'"),
    ],
)
def test_images_are_not_read_in_another_way_than_they_were_sent_for(
    source: Path, worker: Client, monkeypatch: pytest.MonkeyPatch, coordinators: dict[str, str], said: str
) -> None:
    for name, value in coordinators.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError, match="give watch and its workers the same settings") as refused:
        index(source)
    assert said in str(refused.value)
    engine: Any = Here()
    for step in ("make index", "tidy"):
        with pytest.raises(SettingsError, match="the same settings"):
            asyncio.run(sync_flow._step(engine, str(source), step))
    assert worker.operations._parts.connection.indexes.live() is None


def test_with_the_same_settings_they_are_indexed(source: Path, worker: Client) -> None:
    index(source)
    assert worker.status().images == 1

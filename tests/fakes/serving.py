"""A server over an index of hand-drawn images, asked without a socket."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fakes.machine import Machine
from fakes.models import FakeSegmenter, drawn
from PIL import Image
from starlette.testclient import TestClient

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.remote_names import image_id
from searchanything.core.rows import row_id
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import RGBImage
from searchanything.serve.app import make_app
from searchanything.serve.desk import Desk
from searchanything.serve.keys import KeyRing
from searchanything.serve.run import configured

IMAGES: dict[str, RGBImage] = {
    "a/two.png": drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)),
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
    "b/green.png": drawn(64, 96, green=(20, 8, 60, 40)),
}
_START_S = 60.0
ORIGIN = "http://localhost:8600"


def png_of(image: RGBImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass
class Served:
    """One server's application, the folder of its images, and short ways to ask."""

    folder: Path
    machine: Machine
    client: Client
    desk: Desk
    http: TestClient
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        keys: bool = False,
        settings: ServeSettings | None = None,
        images: Mapping[str, RGBImage] = IMAGES,
        segmenter: FakeSegmenter | None = None,
        words: bool = False,
    ) -> Served:
        machine = Machine()
        machine.segmenter = segmenter or machine.segmenter
        machine.install(monkeypatch)
        bucket = folder / "images"
        for name, image in images.items():
            (bucket / name).parent.mkdir(parents=True, exist_ok=True)
            (bucket / name).write_bytes(png_of(image))
        client = connect("memory://", preset="pico")
        client.index(bucket, add_words=words)
        machine.segmenter.batch_sizes.clear()
        machine.loads.clear()
        chosen = settings or ServeSettings(preload=False)
        ring = KeyRing(folder / "serve") if keys else None
        desk = Desk(client, chosen, folder=folder / "serve", ring=ring)
        return cls(bucket, machine, client, desk, TestClient(make_app(desk), base_url=ORIGIN))

    @property
    def bucket(self) -> str:
        return str(self.folder)

    def name(self, key: str, **more: Any) -> dict[str, Any]:
        return {"bucket": self.bucket, "key": key, **more}

    def id(self, key: str) -> str:
        return image_id(next(row.image for row in self.client.images()[0] if row.image.key == key))

    def region(self, key: str, x: float) -> int:
        """The number of the region of an image at this column."""
        image = next(row.image for row in self.client.images()[0] if row.image.key == key)
        rows = self.client.regions(image)
        return next(row.region for row in rows if row.box_xyxy[0] <= x < row.box_xyxy[2])

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(path, headers=self.headers, **options)

    def post(self, path: str, document: Mapping[str, Any] | None = None, **options: Any) -> Any:
        headers = self.headers | options.pop("headers", {})
        return self.http.post(path, json=document, headers=headers, **options)

    def ask(self, **document: Any) -> dict[str, Any]:
        response = self.post("/v1/query", document)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def refine(self, **document: Any) -> dict[str, Any]:
        response = self.post("/v1/refine", document)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def upload(self, image: RGBImage) -> str:
        response = self.http.post("/v1/uploads", content=png_of(image), headers=self.headers)
        assert response.status_code == 201, response.text
        return str(response.json()["upload"])


def crowd(served: Served, *, regions: int) -> None:
    """Give one image so many further regions, whose codes are alike to nothing."""
    index = served.client._parts.connection.read_index()
    template = next(row for row in index.iterate_regions() if row.image.key == "b/green.png")
    codes = np.random.default_rng(5).integers(0, 256, (regions, len(template.code)), dtype=np.uint8)
    rows = [(row_id(template.image, template.generation, n), n, codes[n - 1].tobytes()) for n in range(1, regions + 1)]
    index.insert_regions([replace(template, id=name, region=n, code=code) for name, n, code in rows])


@contextmanager
def listening(served: Served) -> Iterator[str]:
    """The same application on a port of this machine; its address."""
    settings = served.desk.settings.model_copy(update={"port": 0})
    server = uvicorn.Server(configured(served.http.app, settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(_START_S)

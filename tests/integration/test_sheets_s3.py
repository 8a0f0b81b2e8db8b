"""Tiles of contact sheets in a real bucket: fetched by their links, and gone with their images."""

from __future__ import annotations

import io

import pytest
from fakes.indexing import GREEN_BLUE, RED
from fakes.machine import Machine
from PIL import Image
from urllib3 import PoolManager

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.settings import Settings
from searchanything.demo.local_s3 import LocalS3
from searchanything.stores.s3 import S3Store

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]
OWN = ".searchanything/tiles/"


@pytest.fixture
def client(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Client:
    Machine().install(monkeypatch)
    settings = Settings(_env_file=None)
    settings.storage, settings.models.preset = s3_server.settings(), "pico"
    settings.milvus.uri, settings.service.sheet_images = "memory://sheets", 4
    return connect(settings=settings)


def kept(store: S3Store) -> list[str]:
    return [found.ref.key for found in store.list(OWN)]


def test_tiles_are_seen_by_their_links_until_their_images_go(client: Client, s3_store: S3Store) -> None:
    source, http = f"s3://{s3_store.bucket}", PoolManager(retries=False)
    for name in ("a", "b", "c"):
        s3_store.upload(f"{name}.png", RED)
    _, tiles = client.operations.refresh_with_sheet(source, ["a.png", "b.png", "c.png"], tiles=4)
    links = {tile.key: tile.address for tile in tiles}
    assert sorted(links) == ["a.png", "b.png", "c.png"]
    answer = http.request("GET", links["a.png"])
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.data)).format == "JPEG"
    assert len(kept(s3_store)) == 3
    assert client.sync(source, repair=True).checked == 3  # tiles are no images of the bucket

    s3_store.upload("a.png", GREEN_BLUE)
    _, [again] = client.operations.refresh_with_sheet(source, ["a.png"], tiles=4)
    assert http.request("GET", links["a.png"]).status == 404
    assert http.request("GET", again.address).status == 200
    assert len(kept(s3_store)) == 3

    s3_store.delete("b.png")
    client.operations.refresh_with_sheet(source, ["b.png"], tiles=4)
    assert http.request("GET", links["b.png"]).status == 404
    s3_store.delete("c.png")
    assert client.sync(source, repair=True).orphaned == ("c.png",)
    assert http.request("GET", links["c.png"]).status == 404
    assert len(kept(s3_store)) == 1

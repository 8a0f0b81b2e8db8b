"""A client whose index has enough regions for standing queries, and a webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from contracts.index_rows import fresh_generation, image_row, random_codes, region_row
from fakes.hash_layers import live_of
from fakes.http_servers import Asked, WebServer, web_server
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.search import few_matches, new_matches
from searchanything.stores.memory import MemoryIndexStore

NOISE = "noise"
RED = (10.0, 20.0)  # lies in the red thing of every image


def opened(store: MemoryIndexStore, **changes: Any) -> Client:
    settings = Settings(_env_file=None, milvus={"uri": "memory://"}, standing=changes)
    settings.models.preset = "pico"
    settings.ingest.words = True
    return Client(settings, indexes=store)


def add_noise(client: Client, bucket: str = NOISE, key_prefix: str = "", *, seed: int = 3) -> None:
    """300 regions there that are like nothing, for rates to go by."""
    index, codes = live_of(client), random_codes(300, seed=seed)
    bits = 8 * len(next(index.words_of([one.image for one in index.iterate_states()]))[1])
    words = random_codes(300, seed=seed + 1, bits=bits)
    regions, images = [], []
    for number, (code, said) in enumerate(zip(codes, words, strict=True)):
        image, age = ImageRef(bucket, f"{key_prefix}{number}.png"), fresh_generation()
        regions.append(region_row(image, generation=age, code=code.tobytes(), words_code=said.tobytes()))
        images.append(image_row(image, generation=age, code=code.tobytes(), regions=1, etag=regions[-1].etag))
    index.insert_regions(regions)
    index.insert_images(images)


def forget_noise(client: Client) -> None:
    live_of(client).delete_images([ImageRef(NOISE, f"{number}.png") for number in range(300)])


def draw(path: Path, *, red: int = 33) -> None:
    Image.fromarray(drawn(48, 64, red=(4, 4, red, 40), blue=(40, 8, 60, 40))).save(path)


def fetched(client: Client) -> dict[str, list[str]]:
    """The new matches' keys by query; nothing may have failed."""
    with client.standing.new_matches() as found:
        assert not found.failed
        return {one.query.name: sorted(match.hit.image.key for match in one.matches) for one in found.matches}


class Hook:
    """A webhook that answers with `status`."""

    def __init__(self) -> None:
        self.status = 200

    def answer(self, _asked: Asked) -> tuple[int, dict[str, str], bytes]:
        return self.status, {}, b"no room" if self.status >= 300 else b""


@contextmanager
def hooked(path: str) -> Iterator[tuple[Hook, WebServer, str]]:
    """A webhook, and its address, which ends with this path."""
    one = Hook()
    with web_server(one.answer) as server:
        yield one, server, f"http://{server.endpoint}/{path}"


def keys_of(body: bytes) -> list[str]:
    return sorted(one["key"] for one in json.loads(body)["data"]["matches"])


def in_stretches(monkeypatch: pytest.MonkeyPatch, matches: int) -> None:
    """Have even a few matches looked for in stretches of time, each of fewer than so many."""
    monkeypatch.setattr(few_matches, "ROWS", (1,))
    monkeypatch.setattr(new_matches, "MATCHES_OF_A_SEARCH", matches)

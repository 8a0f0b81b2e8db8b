"""The whole service on loopback for tests: SeaweedFS that posts its events to our webhook, Prefect, Dask, Milvus Lite.

Its workers have fake models (`fakes.worker_preload`), so that starting one takes seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from distributed import Client as DaskClient
from distributed.security import Security
from fakes.models import DEADLY, drawn
from fakes.storage import storage_variables
from juicefs_gateway import held_port
from PIL import Image
from pydantic import SecretStr
from urllib3 import PoolManager, make_headers

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow
from searchanything.core.settings import ServiceSettings, Settings
from searchanything.core.types import ImageRef
from searchanything.demo.local_s3 import LocalS3
from searchanything.service.cluster import cluster_security
from searchanything.service.tree import ServiceTree
from searchanything.stores.s3 import S3Store

TESTS = Path(__file__).parents[1]
BUCKET = "images"
SOURCE = f"s3://{BUCKET}/watched/"
TOKEN = "a token of the tests"
HEAL_S = 120.0  # the target is 60 s on a quiet machine
NOTIFICATION = """
[notification.webhook]
enabled = true
endpoint = "http://127.0.0.1:{port}/events"
bearer_token = "{token}"
"""


@dataclass
class Bench:
    """What a test works with."""

    folder: Path
    settings: Settings
    store: S3Store
    tree: ServiceTree
    client: Client
    waves: list[str]  # a line for each that has finished
    http: PoolManager = field(default_factory=lambda: PoolManager(retries=False, timeout=30.0))

    @property
    def index(self) -> RegionIndex:
        """The index itself, as another process sees it."""
        return self.client._parts.connection.read_index()

    def row(self, key: str) -> ImageRow | None:
        """What the index knows of an object."""
        ref = ImageRef(BUCKET, key)
        return self.index.newest([ref]).get(ref)

    def regions(self, key: str) -> int:
        """How many region rows an object has, of all generations."""
        return sum(1 for _ in self.index.iterate_regions(bucket=BUCKET, key_prefix=key))

    def until_indexed(self, etags: dict[str, str], *, timeout_s: float = HEAL_S) -> float:
        """Wait until these objects are indexed as they are; how long that took, in seconds."""
        refs = [ImageRef(BUCKET, key) for key in etags]

        def all_there() -> bool:
            rows = self.index.newest(refs)
            return all(ref in rows and rows[ref].etag == etags[ref.key] for ref in refs)

        return until(all_there, f"{len(etags)} objects are indexed", timeout_s=timeout_s)

    def prefect(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer of Prefect's REST API."""
        headers = make_headers(basic_auth=self.tree.password)
        return self.http.request("POST", f"{self.tree.api_url}/{path}", json=body or {}, headers=headers).json()

    @property
    def security(self) -> Security:
        """The cluster's key."""
        file = Path(self.tree.environment["SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE"])
        return cluster_security(ServiceSettings(cluster_key_file=file))

    def workers(self) -> dict[str, int]:
        """The processes of the workers that are there now, by their addresses."""
        return worker_pids(self.tree.notes["scheduler"], self.security)

    @property
    def sick(self) -> Path:
        """A file that makes the device of one worker sick, and is gone then."""
        return self.folder / "sick"

    def loads(self) -> list[int]:
        """The processes that loaded models, a line per load."""
        return [int(line) for line in (self.folder / "loads").read_text().split()]


def worker_pids(address: str, security: Security) -> dict[str, int]:
    """The process number of each worker of a scheduler that is there now, by its address."""
    with DaskClient(address, security=security, set_as_default=False, timeout=30) as client:  # type: ignore[no-untyped-call]
        return dict(client.run(os.getpid))


def png(*, deadly: bool = False, **boxes_xyxy: tuple[int, int, int, int]) -> bytes:
    """An image of coloured rectangles; a deadly one kills the worker that segments it."""
    image = drawn(64, 64, **boxes_xyxy)
    if deadly:
        image[0, 0] = DEADLY
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = HEAL_S) -> float:
    """Wait for a condition; how long that took, in seconds."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - start


@contextmanager
def service_bench(folder: Path, monkeypatch: Any) -> Iterator[Bench]:
    """A watched bucket, for the length of a block."""
    with ExitStack() as stack:
        port = stack.enter_context(held_port())
        (folder / "s3").mkdir()
        (folder / "s3" / "notification.toml").write_text(NOTIFICATION.format(port=port, token=TOKEN))
        server = stack.enter_context(LocalS3(folder / "s3"))
        storage = server.settings()
        settings = Settings(storage=storage, _env_file=None)
        settings.milvus.uri = str(folder / "index.db")
        settings.milvus.lite_idle_s = 1.0
        settings.models.preset = "pico"
        settings.service.webhook_port, settings.service.webhook_token = port, SecretStr(TOKEN)
        for name, value in _environment(settings, folder).items():
            monkeypatch.setenv(name, value)
        store = S3Store(storage, BUCKET)
        store.make_bucket()
        waves: list[str] = []
        with ServiceTree(SOURCE, settings, on_wave=waves.append) as tree:
            tree.start_watching()
            with connect(settings=settings) as client:
                until(lambda: client.status().manifest is not None, "the first sync has made the index")
                yield Bench(folder, settings, store, tree, client, waves)


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    paths = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "FAKE_LOADS": str(folder / "loads"),
        "FAKE_SICK": str(folder / "sick"),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "['fakes.worker_preload']",
        **storage_variables(settings.storage),
        "SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1",
        "SEARCHANYTHING_SERVICE__WEBHOOK_PORT": str(settings.service.webhook_port),
        "SEARCHANYTHING_SERVICE__WEBHOOK_TOKEN": TOKEN,
        "SEARCHANYTHING_SERVICE__BATCH_KEYS": "8",
        "SEARCHANYTHING_SERVICE__WAVE_KEYS": "32",
        "SEARCHANYTHING_SERVICE__SHEET_IMAGES": "3",
        "SEARCHANYTHING_STANDING__EVERY_S": "1",
    }

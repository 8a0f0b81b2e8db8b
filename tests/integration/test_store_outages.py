"""A real S3 server in the midst of an `index`: it is killed and comes back, or its keys are exchanged."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from fakes.indexing import check_indexed
from fakes.machine import Machine
from fakes.models import drawn
from fakes.serving import png_of
from integration.lite_processes import wait_until_ended
from pydantic import SecretStr

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import StorageSettings, load_settings
from searchanything.demo import local_s3
from searchanything.demo.local_s3 import LocalS3
from searchanything.ingest.reports import IndexProgress, OnProgress
from searchanything.stores import s3_access, s3_alone
from searchanything.stores.s3 import S3Store

pytestmark = pytest.mark.server

IMAGES, BATCH = 150, 10
BUCKET: Final = "holiday"
DOWN_S: Final = 3.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalS3]:
    with LocalS3(tmp_path / "s3") as server:
        store = S3Store(server.settings(), BUCKET)
        store.make_bucket()
        for number in range(IMAGES):
            image = drawn(48, 64, red=(4, 4, 20 + number % 15, 30 + number // 15), blue=(42, 8, 60, 40))
            store.upload(f"{number:03}.png", png_of(image))
        yield server


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[StorageSettings], Client]]:
    Machine().install(monkeypatch)
    file = tmp_path / "index.db"

    def open_client(storage: StorageSettings) -> Client:
        settings = load_settings()
        settings.storage, settings.ingest.batch_images, settings.ingest.transfer_threads = storage, BATCH, 2
        settings.milvus.lite_idle_s = 1.0
        return connect(str(file), settings=settings, preset="pico")

    yield open_client
    wait_until_ended(file)


def once_begun(deed: Callable[[], object]) -> OnProgress:
    """Does something when the first images are indexed, and the last not yet read."""
    deeds = [deed]

    def progress(now: IndexProgress) -> None:
        if now.done >= BATCH and deeds:
            deeds.pop()()

    return progress


def test_a_server_that_is_started_again_ends_nothing(
    server: LocalS3, opened: Callable[[StorageSettings], Client]
) -> None:
    starting: list[threading.Thread] = []

    def kill() -> None:
        server.kill()
        starting.append(threading.Timer(DOWN_S, server.start, kwargs={"same_address": True}))
        starting[0].start()

    with opened(server.settings()) as client:
        report = client.index(f"s3://{BUCKET}", hash_file="untrained", progress=once_begun(kill))
        starting[0].join()
        assert (report.indexed, report.failed) == (IMAGES, 0)
        check_indexed(client, IMAGES)


def test_keys_that_are_exchanged_end_the_run_and_the_next_goes_on(
    server: LocalS3, opened: Callable[[StorageSettings], Client]
) -> None:
    old, new = (
        server.settings().model_copy(update={"access_key": SecretStr(name), "secret_key": SecretStr(f"{name}-secret")})
        for name in ("OLDKEY", "NEWKEY")
    )

    def exchange() -> None:
        configure(server, "-access_key OLDKEY -delete")
        configure(server, "-access_key NEWKEY -secret_key NEWKEY-secret")

    configure(server, "-access_key OLDKEY -secret_key OLDKEY-secret -actions Read,List")
    with opened(old) as client:
        with pytest.raises(StoreUnavailableError, match=r"denied access.*check SEARCHANYTHING_STORAGE__ACCESS_KEY"):
            client.index(f"s3://{BUCKET}", hash_file="untrained", progress=once_begun(exchange))
        before = client.status().images
        assert 0 < before < IMAGES
        assert client.failures() == [], "no image is to blame"
    with opened(new) as client:
        report = client.index(f"s3://{BUCKET}")
        assert (report.indexed, report.unchanged, report.failed) == (IMAGES - before, before, 0)
        check_indexed(client, IMAGES)


def test_an_object_on_a_damaged_disk_stops_nothing(
    server: LocalS3, opened: Callable[[StorageSettings], Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers for it, for ever, as for an internal error of its own."""
    monkeypatch.setattr(s3_access, "RETRIES", 0)  # it takes a quarter of a minute for each of these answers
    monkeypatch.setattr(s3_alone, "ALONE_S", 0.0)
    bad = f"{IMAGES // 2:03}.png"
    damage(tmp_path / "s3", S3Store(server.settings(), BUCKET).read(bad)[1])
    with opened(server.settings()) as client:
        report = client.index(f"s3://{BUCKET}", hash_file="untrained")
        assert (report.indexed, report.failed) == (IMAGES - 1, 1)
        [failure] = client.failures()
        assert (failure.image.key, failure.error) == (bad, "ObjectNotSentError")
        assert "sends other objects, but not this one" in failure.message


def damage(folder: Path, data: bytes) -> None:
    """Change some bytes where a server keeps these."""
    for volume in folder.rglob("*.dat"):
        if (first := volume.read_bytes().find(data)) >= 0:
            with volume.open("r+b") as file:
                file.seek(first + len(data) // 2)
                file.write(b"damaged")
            return
    pytest.fail("it is nowhere")


def configure(server: LocalS3, change: str) -> None:
    """Have the server's own shell change the keys of a user, at once for everyone."""
    ports, offset = server._ports, local_s3._GRPC_OFFSET
    master, filer = (f"127.0.0.1:{ports[one]}.{ports[one] + offset}" for one in ("master", "filer"))
    command = [str(server._binary), "shell", f"-master={master}", f"-filer={filer}"]
    line = f"s3.configure -user indexing {change} -apply\n"
    subprocess.run(command, input=line, text=True, stdout=subprocess.DEVNULL, timeout=60, check=True)

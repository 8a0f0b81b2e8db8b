"""Random histories of a folder whose disks come and go: an embedded index, a process that syncs, kill -9 of both.

While a disk is away, or the folder is empty, nothing of it is forgotten; when all is back, folder and index agree.
Another device is told by a file, because mounting takes a superuser. Seeds: as in `test_chaos`.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.histories import picture
from chaos.parts import MortalLite, of_python
from chaos.test_chaos import AGREEMENT_S, SHORT_SEEDS, say, seeds

from deploy.agreement import compare, read_index
from deploy.processes import Program

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

_STEPS = 14
_SYNCING = """
import sys, time
from pathlib import Path
from threading import Lock
import searchanything
from fakes.models import CHANNELS, FakeEmbedder, FakeSegmenter, lazy_fakes
from searchanything.core.errors import SearchAnythingError
from searchanything.models import presets
from searchanything.models.hashing import HashLayer
from searchanything.stores.folder import FolderStore
presets.lazy_models = lambda *_: lazy_fakes(FakeSegmenter(), FakeEmbedder())
presets.load_hash = lambda _: HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=64, seed=5)
device, away = FolderStore._device, Path("away")
FolderStore._device = lambda store, folder: (
    7_000_000 if folder == "disk/" and not away.exists() else device(store, folder)
)
read, images, pull, store, reading = FolderStore.read, Path(sys.argv[1]), Path("pull"), Path("store"), Lock()

def read_of_what_goes(folder, key):
    with reading:
        if pull.exists():
            images.rename(store)
            images.mkdir()
            pull.unlink()
    return read(folder, key)

FolderStore.read = read_of_what_goes
with searchanything.connect() as client:
    while True:
        began = time.time_ns()
        try:
            client.sync(sys.argv[1], repair=True)
            Path("synced").write_text(str(began))
        except SearchAnythingError as error:
            print(error, flush=True)
        time.sleep(0.2)
"""


class Machine:
    """A folder of images with a disk in it, its index, and the process that syncs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.disk = self.images / "disk"
        self.disk.mkdir(parents=True)
        self.lite = MortalLite(folder / "index.db")
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            **of_python(),
            "SEARCHANYTHING_MILVUS__URI": self.lite.uri,
            "SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1",
            "SEARCHANYTHING_INGEST__GARBAGE_AGE_S": "15",
            "SEARCHANYTHING_MODELS__PRESET": "pico",
        }
        command = [sys.executable, "-c", _SYNCING, str(self.images)]
        self.program = Program("syncing", command, environment, folder, (folder / "synced").exists, grace_s=1.0)
        self.version = 0

    def stop(self) -> None:
        self.program.stop()
        self.lite.stop()

    def write(self, path: Path) -> None:
        """A new version of an image, in place or beside: it appears whole."""
        self.version += 1
        path.write_bytes(picture(self.version))

    def listing(self) -> dict[str, str]:
        """Key → etag of all images, by our own reading."""
        files = sorted(self.images.rglob("*.png"))
        return {
            str(file.relative_to(self.images)): hashlib.sha256(file.read_bytes()).hexdigest()[:32] for file in files
        }

    def known(self) -> set[str]:
        return {row["key"] for row in read_index(self.lite.uri, str(self.images)).images}

    def wait_for(self, right: Callable[[], bool], what: str) -> None:
        """Wait until it is so; a server that was killed may refuse in any way for a while."""
        deadline, last = time.monotonic() + AGREEMENT_S, ""
        while time.monotonic() < deadline:
            try:
                if right():
                    return
            except Exception as error:  # noqa: BLE001
                last = f"{type(error).__name__}: {error}"
            time.sleep(0.3)
        raise AssertionError(f"not within {AGREEMENT_S:.0f} s: {what} {last}\n{self.program.last_words()}")

    def agrees(self) -> bool:
        return compare(self.listing(), read_index(self.lite.uri, str(self.images))) == []

    def sync_twice(self) -> None:
        """Wait until two syncs that begin from now on have ended."""
        for _ in range(2):
            now = time.time_ns()
            self.wait_for(lambda: int((self.folder / "synced").read_text()) > now, "no sync ended")  # noqa: B023


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("disks"))
    machine.program.start()
    yield machine
    machine.stop()


class History:
    """What happens to a machine, by a seed."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.rng = random.Random(seed)  # noqa: S311  repeatable on purpose
        self.names = [f"{seed}-{number}.png" for number in range(6)]

    def step(self) -> str:
        choices = [self.write, self.write, self.delete, self.disk_away, self.folder_empty, self.kill]
        choices.append(self.emptied_while_read)
        chosen = self.rng.choice(choices)
        chosen()
        return chosen.__name__

    def write(self) -> None:
        self.machine.write(self.rng.choice([self.machine.images, self.machine.disk]) / self.rng.choice(self.names))

    def delete(self) -> None:
        files = sorted(self.machine.images.rglob("*.png"))
        if len(files) > 1:  # all that is there would be held back
            self.rng.choice(files).unlink()

    def kill(self) -> None:
        if self.rng.random() < 0.5:
            self.machine.program.kill()
            self.machine.program.start()
        else:
            self.machine.lite.kill()

    def disk_away(self) -> None:
        """It goes, syncs and perhaps a kill pass, and it comes back. A mount point stays behind, or nothing."""
        machine, store = self.machine, self.machine.folder / "store"
        self.settle()
        (machine.folder / "away").touch()
        machine.disk.rename(store)
        if self.rng.random() < 0.5:
            machine.disk.mkdir()
        self.syncs_forget_nothing()
        shutil.rmtree(machine.disk, ignore_errors=True)
        store.rename(machine.disk)
        (machine.folder / "away").unlink()

    def folder_empty(self) -> None:
        """All that was in it is gone for a while."""
        machine, store = self.machine, self.machine.folder / "store"
        self.settle()
        machine.images.rename(store)
        machine.images.mkdir()
        if self.rng.random() < 0.5:  # the disk stays, and holds nothing
            (machine.images / "disk").mkdir()
        self.syncs_forget_nothing()
        shutil.rmtree(machine.images)
        store.rename(machine.images)

    def emptied_while_read(self) -> None:
        """What a sync found to have changed is away when it is read. None of it is on the disk, which would tell."""
        machine, store = self.machine, self.machine.folder / "store"
        machine.write(machine.images / self.names[0])
        self.settle()
        machine.images.rename(store)  # no sync shall see half of the changes, nor read before all is set up
        machine.images.mkdir()
        for file in sorted(store.glob("*.png")):
            machine.write(file)
        (machine.folder / "pull").touch()
        machine.images.rmdir()
        store.rename(machine.images)
        machine.wait_for(lambda: not (machine.folder / "pull").exists(), "a sync reads what has changed")
        self.syncs_forget_nothing()
        shutil.rmtree(machine.images)
        store.rename(machine.images)

    def settle(self) -> None:
        self.machine.wait_for(self.machine.agrees, "folder and index agree before a disk goes")
        self.before = self.machine.known()

    def syncs_forget_nothing(self) -> None:
        if self.rng.random() < 0.3:
            self.kill()
        self.machine.sync_twice()
        self.machine.wait_for(lambda: self.machine.known() == self.before, f"{self.before} are known")


@pytest.mark.parametrize("seed", seeds(SHORT_SEEDS[:1]))
def test_disks_that_come_and_go(machine: Machine, seed: int) -> None:
    start, history = time.monotonic(), History(machine, seed)
    say(f"\nhistory {seed} of disks: {_STEPS} steps")
    for name in history.names[:3]:
        machine.write(machine.images / name)
        machine.write(machine.disk / name)
    machine.wait_for(machine.agrees, "the first images are indexed")
    begin, end = (history.disk_away, history.emptied_while_read), history.folder_empty
    for steps in (history.step, history.step, *begin, *[history.step] * (_STEPS - 5), end):
        say(f"  {steps() or steps.__name__}")
    machine.wait_for(machine.agrees, "folder and index agree in the end")
    say(f"history {seed}: {time.monotonic() - start:.1f} s")

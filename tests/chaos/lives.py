"""Random lives of an index: everything that its owners do to it, killed at any write, others at work meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.processes_in_memory import Fate, KilledError, Processes
from fakes.hash_layers import layer_file
from fakes.indexing import whole
from fakes.models import drawn, poisoned
from fakes.standing import add_noise
from fakes.two_presets import NEW, OLD, TwoPresets, save

from searchanything.client.client import Client
from searchanything.core.errors import SearchAnythingError
from searchanything.core.rows import Outcome
from searchanything.core.settings import Settings
from searchanything.stores.memory import MemoryIndexStore

KEYS = (*(f"{number}.png" for number in range(6)), "sub/6.png", "sub/7.png")
RED = drawn(48, 64, red=(4, 4, 30, 40))
IN_RED = (10, 20)
CONTENTS = {
    "red": (RED, Outcome.INDEXED, 1),
    "red and blue": (drawn(48, 64, red=(4, 4, 33, 40), blue=(40, 8, 60, 40)), Outcome.INDEXED, 2),
    "green": (drawn(48, 64, green=(4, 4, 30, 40)), Outcome.INDEXED, 1),
    "nothing": (drawn(20, 20), Outcome.EMPTY, 0),
    "poison": (poisoned(drawn(30, 30, red=(4, 4, 20, 20))), Outcome.FAILED, 0),
    "no image": (None, Outcome.FAILED, 0),
}
NOISE = "noise"
OFTEN = {"files": 6, "index": 5, "sync": 3, "refresh": 2, "query": 2}  # of the rest: 1
OWNERS = ("backup", "restore", "delete", "models", "models", "hash_layer", "hash_layer", "drop_layer")
WATCHERS = ("add", "add", "remove", "fetch", "fetch", "fetch", "backup")


class Life:
    """An index of a folder, and what is known of both. `standing`: queries are kept, and the codes stay as they are."""

    def __init__(self, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch, *, standing: bool) -> None:
        TwoPresets().install(monkeypatch)
        self._random, self._folder, self._standing = random.Random(seed), folder, standing  # noqa: S311
        self._store, self._processes, self.said = MemoryIndexStore(), Processes(monkeypatch), list[str]()
        self._files: dict[str, tuple[str, int]] = {}  # what each is of, and a number that no other content has
        self._contents = 0
        self._asked: dict[str, dict[str, tuple[str, int]]] = {}  # the files as they were when a query was added
        self._found: dict[str, set[str]] = {}
        self._layers = [layer_file(folder / f"{seed}.safetensors", seed=seed) for seed in range(2)]
        (self._images / "sub").mkdir(parents=True)
        for key in KEYS[:2]:
            self._write(key, "red")
        with self._client() as client:
            client.index(self._images)
            if standing:
                add_noise(client, NOISE)

    @property
    def _images(self) -> Path:
        return self._folder / "images"

    def step(self) -> None:
        """One thing that is done, of which any write may be the last; perhaps another is done meanwhile."""
        chance = self._random
        name, fate = self._chosen(), Fate()
        if chance.random() < 0.5:
            fate.dies_at, fate.is_written = chance.choice((1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22)), chance.random() < 0.5
        if chance.random() < 0.4:
            other = self._chosen()
            fate.meanwhile_at, fate.meanwhile = chance.choice((1, 2, 3, 4, 5, 7, 9, 12, 16)), lambda: self._try(other)
        self.said.append(f"{name}: {fate}")
        try:
            self._processes.run(lambda: self._try(name), fate)
        except KilledError:
            self.said.append(f"{name} was killed")
        live = self._store.live()
        if live is not None:
            whole(self._store.open(live.fingerprint))

    def check(self) -> None:
        """One run of `index` and one repair later, all is as if nothing had ever happened."""
        self._processes.skip(24 * 3600)  # no lease of a dead process is left
        self._processes.run(self._repair)
        self._processes.run(self._agrees)

    def _repair(self) -> None:
        with self._client() as client:
            client.index(self._images)
            client.sync(self._images, repair=True, forget=True)

    def _agrees(self) -> None:
        with self._client() as client:
            left = client.sync(self._images)
            assert (left.missing, left.stale, left.orphaned) == ((), (), ())
            known = {row.image: row for row in self._store.open(client.manifest.fingerprint).iterate_images()}
            rows = {image.key: row for image, row in known.items() if image.bucket != NOISE}
            assert rows.keys() == self._files.keys()
            for key, (content, _) in self._files.items():
                assert (rows[key].outcome, rows[key].regions) == CONTENTS[content][1:], key
            red = {key for key, (content, _) in self._files.items() if content.startswith("red")}
            if red:
                hits = client.query(self._images / min(red), IN_RED, limit=len(KEYS)).hits
                assert hits[0].distance_bits == 0
                assert red <= {hit.image.key for hit in hits}
            if self._standing:
                self._fetch(client)
        for query, before in self._asked.items():
            new = {key for key in red if before.get(key) != self._files[key]}
            assert new <= self._found[query], f"standing query {query} was asked of less"

    def _client(self) -> Client:
        """Of the models that the index has."""
        preset = None if self._store.live() else OLD
        settings = Settings(_env_file=None, milvus={"uri": "memory://"}, models={"preset": preset})
        settings.ingest.keep_features, settings.ingest.features_dir = True, self._folder / "kept"
        settings.ingest.words = True
        return Client(settings, indexes=self._store)

    def _chosen(self) -> str:
        names = [*OFTEN, "retry", "drop_failed", *(WATCHERS if self._standing else OWNERS)]
        return self._random.choices(names, [OFTEN.get(name, 1) for name in names])[0]

    def _try(self, name: str) -> None:
        try:
            with self._client() as client:
                self.said.append(f"  {name}: {self._deeds[name](client)}"[:200])
        except SearchAnythingError as error:  # as where nothing is indexed, or another process works
            self.said.append(f"  {name}: {type(error).__name__}: {error}"[:200])

    @property
    def _deeds(self) -> dict[str, Callable[[Client], object]]:
        images, chance = self._images, self._random
        return {
            "files": lambda _: self._change_files(),
            "index": lambda client: client.index(images),
            "sync": lambda client: client.sync(images, repair=True, forget=chance.random() < 0.7),
            "refresh": lambda client: client.refresh(images, chance.sample(KEYS, 3)),
            "query": lambda client: client.query(RED, IN_RED),
            "retry": lambda client: client.retry_failed(),
            "drop_failed": lambda client: client.drop_failed(),
            "delete": lambda client: client.delete(images),
            "backup": lambda client: client.backup(self._folder / f"{len(self._backups())}.tar"),
            "restore": self._restore,
            "models": lambda client: client.models.apply(NEW if client.manifest.preset == OLD else OLD),
            "hash_layer": lambda client: client.hash_layers.apply(chance.choice(self._layers)),
            "drop_layer": self._drop_layers,
            "add": self._add,
            "remove": self._remove,
            "fetch": self._fetch,
        }

    def _change_files(self) -> None:
        for key in self._random.sample(KEYS, self._random.randint(1, 4)):
            if self._random.random() < 0.25:
                (self._images / key).unlink(missing_ok=True)
                self._files.pop(key, None)
            else:
                self._write(key, self._random.choice(list(CONTENTS)))

    def _write(self, key: str, content: str) -> None:
        self._contents += 1
        image, path = CONTENTS[content][0], self._images / key
        if image is None:
            path.write_bytes(b"no image %d" % self._contents)
        else:
            marked = image.copy()
            marked[-1, -1] = (0, 0, self._contents % 30)  # other bytes, and the same regions
            save(marked, path)
        os.utime(path, ns=(10**18 + self._contents * 10**9,) * 2)
        self._files[key] = (content, self._contents)

    def _backups(self) -> list[Path]:
        return sorted(self._folder.glob("*.tar"))

    def _restore(self, client: Client) -> object:
        client.delete(self._images)
        self._drop_layers(client)
        return client.restore(self._random.choice(self._backups())) if self._backups() else None

    def _drop_layers(self, client: Client) -> None:
        for one in client.hash_layers.list():
            if not one.live:
                client.hash_layers.drop(one.index)

    def _add(self, client: Client) -> None:
        before = dict(self._files)
        query = client.standing.add(f"{len(self.said)}", RED, IN_RED, max_false_match=0.02)
        self._asked[query.id], self._found[query.id] = before, set()

    def _remove(self, client: Client) -> None:
        for one in client.standing.list()[:1]:
            self._asked.pop(one.query.id, None)  # also if this is killed midway
            client.standing.remove(one.query.id)

    def _fetch(self, client: Client) -> None:
        with client.standing.new_matches() as found:
            assert not found.failed
            for one in found.matches:
                self._found.setdefault(one.query.id, set()).update(match.hit.image.key for match in one.matches)

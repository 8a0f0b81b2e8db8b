"""A library's index beside a plain account of what it must hold: `Library.do` does one thing and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.library_acts import ACTS, MAY_RAISE, READS_FOLDER, Asked
from chaos.library_effects import EFFECTS, FORGET_IMAGES, Act, Effects
from chaos.library_files import KEYS, SUFFIX, Entry, LibraryFiles
from chaos.library_views import check_views
from chaos.processes_in_memory import Fate, KilledError, Processes

from searchanything.client.client import Client
from searchanything.core.errors import SearchAnythingError, StoreError
from searchanything.core.protocols import IndexStore
from searchanything.core.rows import Outcome
from searchanything.core.settings import Settings

OLD, NEW = "pico", "small"
FILES = ("write", "remove", "rename", "touch", "label", "mount")
Held = Mapping[str, Entry]
Seen = tuple[str, Outcome, int, dict[str, Any]]  # etag, outcome, number of regions, metadata


class Library:
    """Files, the index of them, and what is known of both."""

    def __init__(self, folder: Path, unlike: Path, open_store: Callable[[], IndexStore], processes: Processes) -> None:
        self.folder, self.unlike = folder, unlike
        self.files = LibraryFiles(folder / "images")
        self.open_store, self.processes = open_store, processes
        self.held: dict[str, Entry] = {}  # what the index holds
        self.asked: dict[str, Asked] = {}
        self.backups: list[tuple[Path, dict[str, set[Entry | None]]]] = []
        self.layers: list[Path] = []
        self.said: list[str] = []
        self.steps = 0
        self.is_whole = True  # no restore was killed or met, so that what is like nothing is there
        self.is_clean = True  # nothing was killed or met so far
        self.is_exact = True  # in this step
        self.is_first_layer = True  # of the models that were there first
        self.earlier = self.client()  # of a process that goes on all the time

    @property
    def bucket(self) -> str:
        return str(self.files.folder)

    def client(self, **changes: Any) -> Client:
        """As another process would open it."""
        settings = Settings(_env_file=None, milvus={"uri": "memory://"}, models={"preset": OLD})
        ingest = settings.ingest
        ingest.batch_images, ingest.transfer_threads, ingest.max_attempts = 2, 2, 2
        ingest.sidecar_suffix, ingest.forget_images = SUFFIX, FORGET_IMAGES
        ingest.keep_features, ingest.features_dir = True, self.folder / "kept"
        ingest.digests_dir, ingest.hash_sample_images = self.folder / "digests", 0
        for name, value in changes.items():
            setattr(ingest, name, value)
        return Client(settings, indexes=self.open_store())

    def do(self, act: Act, fate: Fate, meanwhile: Act | None = None) -> None:
        """One thing is done, perhaps killed, perhaps met by another; the index must hold what one of them explains."""
        if act.name in FILES:
            self._change_files(act)
            return
        self.said.append(f"{act} {'' if fate.dies_at is None else fate} {meanwhile or ''}")
        fate.meanwhile = None if meanwhile is None else (lambda: self._alone(meanwhile))
        acts = [act] if meanwhile is None else [act, meanwhile]
        self.is_exact = fate.dies_at is None and meanwhile is None
        self.is_clean &= self.is_exact
        self.is_whole &= self.is_exact or "restore" not in {one.name for one in acts}
        self.is_first_layer &= not {one.name for one in acts} & {"models", "hash_layer"}
        before = dict(self.held)
        allowed, must = [self._effects(one) for one in acts], self._exact_effects(act)
        try:
            self.processes.run(lambda: self._alone(act), fate)
            was_killed = False
        except KilledError:
            was_killed = True
            self.said.append("  killed")
        self.is_exact = self.is_exact or (not was_killed and meanwhile is None)
        allowed = [must] if self.is_exact else allowed + [self._effects(one) for one in acts]
        self.processes.run(lambda: self._compare(before, allowed))

    def _change_files(self, act: Act) -> None:
        self.said.append(f"{act}")
        getattr(self.files, act.name)(*act.arguments)

    def _effects(self, act: Act) -> Effects:
        return EFFECTS[act.name](self, act) if act.name in EFFECTS else {}

    def _exact_effects(self, act: Act) -> Effects:
        """What it does if nothing comes between."""
        was_exact, self.is_exact = self.is_exact, True
        effects = self._effects(act)
        self.is_exact = was_exact
        return effects

    def _alone(self, act: Act) -> None:
        if act.name in FILES:
            self._change_files(act)
            return
        with self.client() as client:
            try:
                result = ACTS[act.name](self, client, *act.arguments)
                self.said.append(f"  {act.name}: {result}"[:300])
            except SearchAnythingError as error:
                self.said.append(f"  {act.name}: {type(error).__name__}: {error}"[:300])
                if self.is_exact and (self.is_whole or act.name != "add") and not self._may_raise(act, error):
                    raise AssertionError(f"{act}: {type(error).__name__}: {error}") from error

    def _may_raise(self, act: Act, error: SearchAnythingError) -> bool:
        if self.files.is_away and isinstance(error, StoreError):
            return act.name in READS_FOLDER
        return type(error).__name__ in MAY_RAISE.get(act.name, ())

    def _compare(self, before: Held, allowed: list[Effects]) -> None:
        """The rows are what was there before, or what was allowed; and every way to look says the same."""
        with self.client() as client:
            if not client.status().exists:  # a killed restore had withdrawn what was emptied
                assert not self.is_whole
                self.held.clear()
                return
            seen = self.seen(client)
            for key in KEYS:
                shown, may_be = seen.get(key), set[Entry | None]()
                touched = [effects[key] for effects in allowed if key in effects]
                may_be.update(*touched)
                if not touched or not self.is_exact:
                    may_be.add(before.get(key))
                found = next((one for one in may_be if shown == told_of(one)), False)
                assert found is not False, f"{key}: {shown}, expected one of {may_be}"
                if found is None:
                    self.held.pop(key, None)
                else:
                    self.held[key] = found
            check_views(client, self)
        self.steps += 1
        if self.steps % 3 == 0:
            check_views(self.earlier, self)

    def seen(self, client: Client) -> dict[str, Seen]:
        """What the index says of each image, by key."""
        found, is_all = client.images(bucket=self.bucket)
        failed = client.failures(self.files.folder)
        assert is_all
        assert len({one.image.key for one in (*found, *failed)}) == len(found) + len(failed)
        seen = {row.image.key: (row.etag, row.outcome, row.regions, dict(row.metadata)) for row in found}
        return seen | {one.image.key: (one.etag, Outcome.FAILED, 0, {}) for one in failed}

    def settled(self) -> None:
        """After one repair the index holds what is there, and the next one finds nothing to do."""
        self.said.append("settled")
        self.files.mount("back")
        self.processes.skip(24 * 3600)
        self.is_exact = True
        with self.client(garbage_age_s=1) as client:
            self.processes.run(lambda: client.sync(self.files.folder, repair=True, forget=True))
            self.processes.run(lambda: self._compare(self.held, [EFFECTS["repair"](self, Act("repair", (True,)))]))
            if not client.status().exists:  # and there is no image to make one of
                return
            again = client.sync(self.files.folder)
            failed = {key for key, one in self.files.there.items() if one.picture.outcome is Outcome.FAILED}
            assert (again.missing, again.stale, again.orphaned, again.held, again.lost) == ((), (), (), (), 0)
            assert (set(again.failed), again.checked) == (failed, len(self.files.there))
            quiet = client.sync(self.files.folder, repair=True).repaired
            assert quiet is not None
            assert (quiet.indexed, quiet.empty, quiet.deleted, quiet.gone) == (0, 0, 0, 0)
            self.processes.run(lambda: ACTS["fetch"](self, client))


def told_of(entry: Entry | None) -> Seen | None:
    """What an index tells of an image; of a failed one no metadata."""
    if entry is None:
        return None
    one, has_failed = entry.picture, entry.picture.outcome is Outcome.FAILED
    return one.etag, one.outcome, len(one.boxes), {} if has_failed else entry.metadata


@contextmanager
def explained(library: Library) -> Iterator[None]:
    """What was done so far is shown where something is wrong."""
    try:
        yield
    except BaseException:
        print("------\n" + "\n".join(library.said))  # noqa: T201  pytest shows it for a failed test
        raise

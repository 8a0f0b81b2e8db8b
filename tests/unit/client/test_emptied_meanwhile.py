"""A folder that is emptied between the listing, or an event, and the reading keeps its rows, whatever reads it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from fakes.indexing import GREEN_BLUE, RED
from fakes.machine import Machine

from searchanything.client.client import Client
from searchanything.client.connection import Connection
from searchanything.client.opening import connect
from searchanything.core.codes import next_generation
from searchanything.core.errors import StoreUnavailableError
from searchanything.core.settings import Settings
from searchanything.core.types import ImageRef
from searchanything.images.scopes import Patterns
from searchanything.ingest.forget import recalled
from searchanything.ingest.reports import IndexReport, SyncReport
from searchanything.stores.folder import FolderStore

Do = Callable[[Client, Path], object]
NAMES = [f"{'sub/' if number >= 20 else ''}{number:03}.png" for number in range(40)]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    Machine().install(monkeypatch)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://emptied", "pico"
    return settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with connect(settings=settings) as client:
        yield client


@pytest.fixture
def images(tmp_path: Path, client: Client) -> Path:
    """Indexed images, half of them in a subfolder."""
    images = tmp_path / "images"
    fill(images, NAMES)
    client.index(images)
    return images


def fill(images: Path, names: list[str], data: bytes = RED) -> None:
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(data)


def connection_of(client: Client) -> Connection:
    return client._parts.ingestion.connection


def known(client: Client) -> set[str]:
    return {row.image.key for row in connection_of(client).read_index().iterate_images()}


def at_call(monkeypatch: pytest.MonkeyPatch, method: str, number: int, action: Callable[[], object]) -> None:
    """Do something at the so manyth call of a method of the store; other threads wait until it is done."""
    real, left, lock = getattr(FolderStore, method), [action], Lock()
    calls = 0

    def called(store: FolderStore, key: str) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            if calls >= number and left:
                left.pop()()
        return real(store, key)

    monkeypatch.setattr(FolderStore, method, called)


def empty(images: Path) -> None:
    """All that is in it is elsewhere; the folder stays, as that of a disk that is away."""
    away = images.with_name("away")
    away.mkdir()
    for one in list(images.iterdir()):
        one.rename(away / one.name)


def fill_again(images: Path) -> None:
    for one in list(images.with_name("away").iterdir()):
        one.rename(images / one.name)


def index_again(client: Client, images: Path) -> object:
    return client.index(images, force=True)


def sync_changed(client: Client, images: Path) -> object:
    fill(images, NAMES, GREEN_BLUE)
    return client.sync(images, repair=True)


def refresh_some(client: Client, images: Path) -> object:
    return client.refresh(images, NAMES[::2], force=True)


def retry_failed(client: Client, images: Path) -> object:
    for name in NAMES:
        client.operations.record_failure(images, name, error="WorkerLostError", message="died", begun=next_generation())
    return client.retry_failed(images)


def record_failure(client: Client, images: Path) -> object:
    return client.operations.record_failure(
        images, NAMES[0], error="WorkerLostError", message="died", begun=next_generation()
    )


@pytest.mark.parametrize(
    ("do", "method", "number"),
    [
        (index_again, "read", 5),
        (index_again, "stat", 30),  # of a commit: its bytes were read
        (sync_changed, "read", 5),
        (refresh_some, "stat", 1),
        (refresh_some, "read", 5),
        (retry_failed, "read", 5),
        (record_failure, "stat", 2),
    ],
)
def test_an_emptied_folder_keeps_all_rows(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, do: Do, method: str, number: int
) -> None:
    at_call(monkeypatch, method, number, lambda: empty(images))
    with pytest.raises(StoreUnavailableError, match="no image is left"):
        do(client, images)
    assert known(client) == set(NAMES)
    assert client.sync(images, repair=True).held == tuple(NAMES)
    fill_again(images)
    do(client, images)
    assert known(client) == set(NAMES)


@pytest.mark.parametrize("do", [index_again, sync_changed])
@pytest.mark.parametrize("method", ["read", "stat"])
def test_a_subfolder_that_is_moved_away_keeps_its_rows_until_a_listing_lacks_it(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, do: Do, method: str
) -> None:
    at_call(monkeypatch, method, 5, lambda: (images / "sub").rename(images.with_name("away")))
    report = do(client, images)
    done = report.repaired if isinstance(report, SyncReport) else report
    assert isinstance(done, IndexReport)
    assert (done.indexed + done.gone, done.deleted, done.failed) == (40, 0, 0)
    assert done.gone >= 10
    assert known(client) == set(NAMES)
    assert client.sync(images, repair=True).held == tuple(NAMES[20:])


@pytest.mark.parametrize(("do", "deleted"), [(index_again, False), (sync_changed, False), (refresh_some, True)])
def test_a_few_that_a_user_deletes_meanwhile_go_by_the_next_sync_or_if_they_were_named(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, do: Do, deleted: bool
) -> None:
    gone = NAMES[-6::2]
    at_call(monkeypatch, "read", 5, lambda: [(images / name).unlink() for name in gone])
    do(client, images)
    assert known(client) == set(NAMES) - (set(gone) if deleted else set())
    client.sync(images, repair=True)
    assert known(client) == set(NAMES) - set(gone)


def test_any_number_is_forgotten_that_is_named_while_images_are_left(client: Client, images: Path) -> None:
    for name in NAMES[1:]:
        (images / name).unlink()
    assert client.refresh(images, NAMES[1:]).deleted == 39
    (images / NAMES[0]).unlink()
    with pytest.raises(StoreUnavailableError, match="sync repair"):
        client.refresh(images, NAMES)
    assert known(client) == {NAMES[0]}
    assert client.sync(images, repair=True, forget=True).held == ()
    assert known(client) == set()


def test_the_disks_of_earlier_listings_count_for_what_is_named(client: Client, images: Path) -> None:
    connection = connection_of(client)
    memory = recalled(connection.indexes, ImageRef(str(images), ""), connection.forget_limits())
    memory.keep(replace(memory.memory, devices={"": (1,)}))
    (images / NAMES[0]).unlink()
    with pytest.raises(StoreUnavailableError, match="another disk"):
        client.refresh(images, NAMES[:1])
    assert known(client) == set(NAMES)


def test_any_number_of_failures_may_be_gone_while_images_are_left(client: Client, images: Path) -> None:
    for name in NAMES[1:]:
        client.operations.record_failure(images, name, error="WorkerLostError", message="died", begun=next_generation())
        (images / name).unlink()
    assert client.retry_failed(images).deleted == 39
    assert known(client) == {NAMES[0]}


@pytest.mark.parametrize("prune", [True, False])
def test_what_a_listing_lacks_is_not_held_a_second_time(client: Client, tmp_path: Path, prune: bool) -> None:
    """Twelve are few of what is listed, but all of what is then looked at."""
    images, names = tmp_path / "many", [f"{number:03}.png" for number in range(130)]
    fill(images, names)
    client.index(images)
    for name in names[:12]:
        (images / name).unlink()
    client.index(images, prune=True) if prune else client.sync(images, repair=True)
    assert known(client) == set(names[12:])


def test_what_two_listings_lack_goes_although_nothing_is_left(client: Client, images: Path) -> None:
    connection_of(client).settings.ingest.forget_after_s = 0
    empty(images)
    assert client.sync(images, repair=True).held == tuple(NAMES)
    assert client.sync(images, repair=True).held == ()
    assert known(client) == set()


def test_what_waited_long_enough_does_not_wait_again_where_a_repair_fails(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES[:15]:
        (images / name).unlink()
    assert client.sync(images, repair=True).held == tuple(NAMES[:15])
    connection_of(client).settings.ingest.forget_after_s = 0
    fill(images, NAMES[15:], GREEN_BLUE)
    with monkeypatch.context() as patched:
        at_call(patched, "read", 1, lambda: empty(images))
        with pytest.raises(StoreUnavailableError):
            client.sync(images, repair=True)
    fill_again(images)
    assert client.sync(images, repair=True).held == ()
    assert known(client) == set(NAMES[15:])


def test_a_sync_that_is_to_forget_takes_nothing_else_along(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`forget` is about what the listing lacks, and not about what goes afterwards."""
    for name in NAMES[:15]:
        (images / name).unlink()
    fill(images, NAMES[15:], GREEN_BLUE)
    at_call(monkeypatch, "read", 1, lambda: empty(images))
    with pytest.raises(StoreUnavailableError):
        client.sync(images, repair=True, forget=True)
    assert set(NAMES[15:]) <= known(client)


def cut_off(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave rows of attempts that ended, as the folder was away; they count as old, so a repair indexes again."""
    connection_of(client).settings.ingest.garbage_age_s = 0
    with monkeypatch.context() as patched:
        at_call(patched, "stat", 5, lambda: empty(images))
        with pytest.raises(StoreUnavailableError):
            client.index(images, force=True)


def test_what_lost_rows_does_not_end_a_repair_of_a_folder_that_is_away(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(client, images, monkeypatch)
    assert client.status().garbage > 0
    report = client.sync(images, repair=True)
    assert report.held == tuple(NAMES)
    assert report.repaired is not None
    assert report.repaired.gone == 0  # they are held: none of them went since the listing
    assert known(client) == set(NAMES)
    fill_again(images)
    client.sync(images, repair=True)
    assert client.status().garbage == 0


def test_what_lost_rows_and_is_excluded_is_held_like_others(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(client, images, monkeypatch)
    fill_again(images)
    assert client.sync(images, repair=True, patterns=Patterns(include=("sub/*",))).held == tuple(NAMES[:20])
    assert known(client) == set(NAMES)


def test_the_filling_in_of_words_counts_and_forgets_nothing_of_what_is_gone(client: Client, images: Path) -> None:
    for name in NAMES[:3]:
        (images / name).unlink()
    report = client.index(images, add_words=True)
    assert (report.gone, report.deleted, report.indexed) == (3, 0, 37)
    assert known(client) == set(NAMES)


def test_the_filling_in_of_words_with_patterns_leaves_the_others(client: Client, images: Path) -> None:
    report = client.index(images, add_words=True, patterns=Patterns(include=("sub/*",)))
    assert (report.deleted, report.indexed) == (0, 20)
    assert known(client) == set(NAMES)


def test_an_image_that_cannot_be_opened_stays_though_its_name_says_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, real = tmp_path / "other", Path.open
    fill(images, ["photo"])
    client.index(images)

    def broken(path: Path, *mode: Any, **options: Any) -> Any:
        if path.name == "photo":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *mode, **options)

    (images / "photo").touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", broken)
        report = client.sync(images, repair=True)
    assert report.repaired is not None
    assert (report.repaired.deleted, report.repaired.failed) == (0, 1)
    assert known(client) == {"photo"}

"""What every image store must do: the folder, S3 (on a real server), and the fake that other tests use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from fakes.stores import InMemoryStore

from searchanything.core.errors import ImageError, ObjectNotFoundError, StoreError
from searchanything.core.protocols import ImageStore
from searchanything.core.types import ImageRef
from searchanything.stores.folder import FolderStore
from searchanything.stores.s3 import S3Store

MAX_BYTES = 300_000

ODD_KEYS = [
    "plain.jpg",
    "with space/and  two.jpg",
    "plus+and%percent%20%2F.jpg",
    "hash#and?question&ampersand=1.jpg",
    "quotes'\"`.jpg",
    "brackets[1]{2}(3)<4>.jpg",
    "comma,semi;colon:at@dollar$bang!star*pipe|caret^tilde~.jpg",
    "Größe/ñandú/写真/🦊.jpg",
    "zusammengesetzt-u\u0308.jpg",
    "/".join(["0123456789" * 9] * 11)[:996] + ".jpg",
    "a/b/c/d/e/f/g.jpg",
    "no-suffix",
    "trailing-dot.",
    "-dash.jpg",
]


@dataclass(frozen=True)
class Setup:
    """A store under test and the ways to change what it holds, independent of the store."""

    store: ImageStore
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    elsewhere: ImageStore  # a store over a bucket that does not exist


def memory_setup(_: pytest.FixtureRequest) -> Setup:
    store, elsewhere = InMemoryStore(max_object_bytes=MAX_BYTES), InMemoryStore("gone")
    elsewhere.exists = False
    return Setup(store, store.put, store.delete, elsewhere)


def folder_setup(request: pytest.FixtureRequest) -> Setup:
    root: Path = request.getfixturevalue("tmp_path") / "images"
    root.mkdir()

    def put(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = root / f".{uuid4().hex}"
        draft.write_bytes(data)
        draft.replace(path)  # a reader sees the old file or the new one

    store = FolderStore(root, max_object_bytes=MAX_BYTES)
    return Setup(store, put, lambda key: (root / key).unlink(missing_ok=True), FolderStore(root / "gone"))


def s3_setup(request: pytest.FixtureRequest) -> Setup:
    writer: S3Store = request.getfixturevalue("s3_store")
    settings = request.getfixturevalue("s3_server").settings()
    store = S3Store(settings.model_copy(update={"max_object_bytes": MAX_BYTES}), writer.bucket)
    return Setup(store, writer.upload, writer.delete, S3Store(settings, f"gone-{uuid4().hex}"))


SETUPS = {"memory": memory_setup, "folder": folder_setup, "s3": s3_setup}


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.server)])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    return SETUPS[request.param](request)


def keys(store: ImageStore, prefix: str = "") -> list[str]:
    return sorted(found.ref.key for found in store.list(prefix))


def test_an_empty_store_lists_nothing(setup: Setup) -> None:
    assert keys(setup.store) == []


def test_everything_is_listed_once_images_or_not(setup: Setup) -> None:
    put = ["a.jpg", "b/c.png", "b/d/e.webp", "readme.txt"]
    for key in put:
        setup.put(key, key.encode())
    assert keys(setup.store) == put


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a", ["a.jpg", "a/b.jpg", "ab/c.jpg"]),
        ("a/", ["a/b.jpg"]),
        ("a/b.jpg", ["a/b.jpg"]),
        ("ab/c", ["ab/c.jpg"]),
        ("c", []),
        ("/", []),
        ("A", []),
    ],
)
def test_a_prefix_is_the_beginning_of_a_key(setup: Setup, prefix: str, found: list[str]) -> None:
    for key in ("a.jpg", "a/b.jpg", "ab/c.jpg", "b/a.jpg"):
        setup.put(key, b"x")
    assert keys(setup.store, prefix) == found


def test_listing_stat_and_read_agree(setup: Setup) -> None:
    data = bytes(range(256)) * 40
    setup.put("a/b.jpg", data)
    [listed] = setup.store.list()
    known = setup.store.stat("a/b.jpg")
    read, body = setup.store.read("a/b.jpg")
    assert body == data
    assert known == read
    assert (listed.ref, listed.etag, listed.size_bytes, listed.modified_at_ms) == (
        ImageRef(setup.store.bucket, "a/b.jpg"),
        read.etag,
        len(data),
        read.modified_at_ms,
    )
    assert read.etag
    assert '"' not in read.etag


def test_files_that_are_no_images_agree_too(setup: Setup) -> None:
    setup.put("notes.txt", b"text")
    [listed] = setup.store.list()
    read, body = setup.store.read("notes.txt")
    assert (body, listed.etag, setup.store.stat("notes.txt")) == (b"text", read.etag, read)


def test_an_empty_object(setup: Setup) -> None:
    setup.put("empty.jpg", b"")
    read, body = setup.store.read("empty.jpg")
    assert (body, read.size_bytes) == (b"", 0)


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
def test_odd_keys_survive(setup: Setup, key: str) -> None:
    setup.put(key, key.encode())
    assert [found.ref.key for found in setup.store.list()] == [key]
    assert [found.ref.key for found in setup.store.list(key[: len(key) // 2])] == [key]
    read, body = setup.store.read(key)
    assert (body, read.ref.key) == (key.encode(), key)
    assert setup.store.stat(key) == read


def test_the_etag_is_that_of_the_content(setup: Setup) -> None:
    setup.put("a.jpg", b"one")
    setup.put("b.jpg", b"one")
    before = setup.store.stat("a.jpg")
    setup.put("a.jpg", b"two")
    after = setup.store.stat("a.jpg")
    twin = setup.store.stat("b.jpg")
    assert before is not None
    assert after is not None
    assert twin is not None
    assert before.etag == twin.etag != after.etag


def test_a_missing_object(setup: Setup) -> None:
    setup.put("a.jpg", b"x")
    setup.delete("a.jpg")
    assert keys(setup.store) == []
    for key in ("a.jpg", "b/never.jpg"):
        assert setup.store.stat(key) is None
        with pytest.raises(ObjectNotFoundError, match=key):
            setup.store.read(key)


def test_a_missing_bucket(setup: Setup) -> None:
    with pytest.raises(ObjectNotFoundError):
        list(setup.elsewhere.list())
    with pytest.raises(ObjectNotFoundError):
        setup.elsewhere.read("a.jpg")
    assert setup.elsewhere.stat("a.jpg") is None


@pytest.mark.parametrize("key", ["", "../a.jpg", "a/../../b.jpg", "a/./b.jpg"])
def test_keys_that_climb_are_refused(setup: Setup, key: str) -> None:
    setup.put("a/b.jpg", b"x")
    with pytest.raises(StoreError):
        setup.store.read(key)


def test_too_large_objects_are_listed_and_not_read(setup: Setup) -> None:
    setup.put("large.jpg", bytes(MAX_BYTES + 1))
    setup.put("fits.jpg", bytes(MAX_BYTES))
    assert keys(setup.store) == ["fits.jpg", "large.jpg"]
    assert len(setup.store.read("fits.jpg")[1]) == MAX_BYTES
    with pytest.raises(ImageError, match=r"large\.jpg: has 300001 bytes"):
        setup.store.read("large.jpg")


def test_threads_get_their_own_bytes(setup: Setup) -> None:
    bodies = {f"{number}.jpg": os.urandom(1000 + number) for number in range(40)}
    for key, body in bodies.items():
        setup.put(key, body)
    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(bodies, (body for _, body in pool.map(setup.store.read, bodies)), strict=True)) == bodies


def test_bytes_and_etag_belong_together_while_the_object_is_overwritten(setup: Setup) -> None:
    contents = [bytes([number]) * 200_000 for number in range(2)]
    etags = {}
    for content in contents:
        setup.put("a.jpg", content)
        found = setup.store.stat("a.jpg")
        assert found is not None
        etags[content] = found.etag
    stop = Event()

    def overwrite() -> None:
        while not stop.is_set():
            for content in contents:
                setup.put("a.jpg", content)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(overwrite)
        try:
            for _ in range(40):
                found, body = setup.store.read("a.jpg")
                assert etags[body] == found.etag
        finally:
            stop.set()
        writer.result()

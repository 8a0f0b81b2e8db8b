"""Backups of somebody else, whole and with sound checksums, that hold what no backup of ours does."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from fakes.serving import Served

from searchanything.answers.standing_answers import StandingQuery
from searchanything.backup.files import Sealed, packed
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.standing_memory import Kept, StandingMemory
from searchanything.core.errors import BackupError, SearchAnythingError
from searchanything.core.types import MaskRLE
from searchanything.stores.memory import MemoryIndexStore

ID: Final = "0123456789abcdef"
QUERY: Final = StandingQuery(ID, "red", "words", 1e-4, 1, {"kind": "words", "text": "red"})
BOMB_BYTES: Final = 64 * 2**20


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch)


def forged(
    served: Served,
    *,
    head: Mapping[str, Any] | None = None,
    layers: Mapping[str, bytes] | None = None,
    rows: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Mapping[str, bytes] | None = None,
) -> Path:
    """A backup of the server's index with other values in all rows of a kind, and with further notes."""
    file = served.folder.parent / "forged.tar"
    served.client.backup(honest := served.folder.parent / "honest.tar")
    parts = dict[str, bytes]()
    sealed = Sealed(parts.__setitem__)
    with tarfile.open(honest) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    end = json.loads(members.pop("end.json"))
    start = json.loads(members.pop("manifest.json"))
    sealed.write("manifest.json", json.dumps(start | {"manifest": start["manifest"] | (head or {})}).encode())
    for name, data in ({"hash.safetensors": members.pop("hash.safetensors")} | (layers or {}) | members).items():
        change = (rows or {}).get(name.partition("-")[0], {})
        lines = gzip.decompress(data).splitlines() if change else []
        sealed.write(name, packed([json.loads(line) | change for line in lines]) if change else data)
    for name, data in (notes or {}).items():
        sealed.write(f"note-{name}", data)
    sealed.close({"images": end["images"], "regions": end["regions"]})
    with tarfile.open(file, "w") as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def refused(file: Path) -> str:
    client = connect("memory://", preset="pico")
    with pytest.raises(BackupError) as caught:
        client.restore(file)
    assert client.status().manifest is None
    return str(caught.value)


def note_of(**values: object) -> dict[str, bytes]:
    return {f"standing-query-{ID}": json.dumps({"format": 1, "query": QUERY.to_json() | values}).encode()}


def archive(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        *({"feature_fingerprint": one} for one in ("../../escape", "/etc", "..", "", None)),
        *({"fingerprint": one} for one in ("../x", 5)),
        *({"preset": one} for one in ("\x1b[2J", 5, ["a"], "pico\n")),
        *({"bits": one} for one in ("x", -8, 0, 7, 2**40, True)),
        *({"details": one} for one in (5, {"a": 1})),
        *({"created_at_ms": one} for one in ("x", 10**30, -1)),
        *({"hash_trained": "x"}, {"hash_digest": 5}, {"more": 1}),
    ],
)
def test_manifests_of_no_index(served: Served, head: dict[str, Any]) -> None:
    assert "does not hold what it should" in refused(forged(served, head=head))


def safetensors(head: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(head) if length is None else length) + head + bytes(4)


@pytest.mark.parametrize("name", ["hash.safetensors", "words.safetensors"])
@pytest.mark.parametrize(
    "layer",
    [
        *(b"", b"garbage", b"\x80\x04K\x01.", safetensors(b"[]"), safetensors(b"[" * 100_000)),
        *(safetensors(b'{"__metadata__":{"bits":"%s"}}' % one) for one in (b"256", b"99999999999", b"-8", b"1e999")),
        *(safetensors(b'{"__metadata__":{"bits":1e999}}'), safetensors(b"{}", 2**62)),
        safetensors(b'{"w":{"dtype":"F32","shape":[100000000000,100],"data_offsets":[0,4]}}'),
    ],
)
def test_layers_that_make_no_codes(served: Served, name: str, layer: bytes) -> None:
    assert f"{name} does not hold" in refused(forged(served, layers={name: layer}))


@pytest.mark.parametrize(
    "change",
    [
        {"mask": [100_000, 100_000, "0"]},
        {"mask": [160, 160, "zz"]},
        {"mask": [160.5, 160, "0"]},
        {"mask": [0, 0, ""]},
        {"box_xyxy": [1, 2]},
        {"box_xyxy": [-1e300, 0, 1e300, 1]},
        {"box_xyxy": [0, 0, float("nan"), 1]},
        {"image_width": 0},
        {"image_width": "7"},
        {"indexed_at_ms": 1.5},
        {"metadata": [1]},
        {"etag": 5},
        {"score": 10**400},
    ],
)
def test_regions_that_could_not_be_drawn_or_asked_with(served: Served, change: dict[str, Any]) -> None:
    assert "regions-00000000.jsonl.gz does not hold" in refused(forged(served, rows={"regions": change}))


@pytest.mark.parametrize("change", [{"message": 5}, {"sidecar_etag": []}, {"metadata": "x"}, {"attempts": True}])
def test_images_whose_values_are_of_other_kinds(served: Served, change: dict[str, Any]) -> None:
    assert "images-00000000.jsonl.gz does not hold" in refused(forged(served, rows={"images": change}))


@pytest.mark.parametrize(
    "values",
    [
        *({"webhook": one} for one in ("file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@localhost/", 5)),
        *({"id": one} for one in (5, "../x", "query-1", "delivered")),
        *({"name": one} for one in ("a\x1b]0;x\x07", "a\nb", 7, ["x"], "x" * 101)),
        *({"prompt": one} for one in (5, {}, {"kind": "words", "text": 5})),
        *({"created_at_ms": one} for one in ("x", 1.5, -1, 2**63)),
        *({"max_false_match": one} for one in ("x", -1, 0, float("nan"))),
        *({"known": one} for one in (5, {"x": "y"})),
        *({"places": one} for one in (5, [["a"]])),
        *({"kind": "images", "prompt": one} for one in (5, {}, {"kind": 5})),
        *({"kind": "other"}, {"kind": "regions"}, {"image": 5}, {"added_by": {}}, {"filter": {}}, {"more": 1}),
        {"kind": "regions", "mask": {"size": [100_000, 100_000], "counts": "0"}},
    ],
)
def test_standing_queries_that_nobody_could_have_added(served: Served, values: dict[str, Any]) -> None:
    assert "note-standing does not hold" in refused(forged(served, notes=note_of(**values)))


@pytest.mark.parametrize(
    "notes",
    [
        {"standing-lease": b"forever"},
        {"standing-delivered-lease": b"forever"},
        {f"standing-{ID}": b"of no query"},
        note_of() | {f"standing-{ID}": b"no archive"},
        note_of() | {f"standing-{ID}": archive(picture=np.zeros(BOMB_BYTES, dtype=np.uint8))},
        {"standing-query-fedcba9876543210": note_of()[f"standing-query-{ID}"]},
    ],
)
def test_notes_that_belong_to_no_query(served: Served, notes: dict[str, bytes]) -> None:
    assert "note-standing does not hold" in refused(forged(served, notes=notes))


def test_nothing_of_a_query_that_is_removed_meanwhile_is_in_a_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own note went just before it was read, and what it was made of is about to."""
    indexes = MemoryIndexStore()
    memory = StandingMemory(indexes)
    for query in (QUERY, replace(QUERY, id="b" * 16)):
        memory.keep(query, Kept(b"a picture", {}))
        memory.keep_query(query)
    recall = indexes.recall
    monkeypatch.setattr(indexes, "recall", lambda name: b"" if name == f"standing-query-{ID}" else recall(name))
    notes = memory.notes()
    assert [*notes] == [f"standing-query-{'b' * 16}", f"standing-{'b' * 16}"]
    memory.check_notes(notes)


def test_looks_that_are_none_are_looked_at_again(served: Served) -> None:
    looked = json.dumps({ID: {"until_ms": "x", "seen": {"y": None}}}).encode()
    client = restored(forged(served, notes=note_of() | {"standing-fetched": looked, "standing-delivered": looked}))
    assert [one.looked_until_ms for one in client.standing.list()] == [QUERY.created_at_ms]
    assert list(client.standing.fetch().failed) == ["red"], "what it was made of is not there"


def test_moments_that_no_calendar_has_are_shown_as_numbers(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    end = 2**62
    images = {"outcome": "failed", "first_at_ms": end, "last_at_ms": end}
    client = restored(
        forged(served, head={"created_at_ms": end}, rows={"images": images}, notes=note_of(created_at_ms=end))
    )
    for verb in (["standing", "list"], ["hash", "layers"], ["failed", "list"]):
        assert run(verb, connect=lambda *_: client) == 0, verb
        assert str(end) in capsys.readouterr().out, verb


def test_a_region_of_an_image_that_is_too_large_for_a_mask_is_a_usage_error(served: Served) -> None:
    huge = {"image_width": 2**31 - 1, "image_height": 2**31 - 1}
    client = restored(forged(served, rows={"regions": huge, "images": huge}))
    with pytest.raises(SearchAnythingError, match="at most 268,435,456 cells"):
        client.export(served.folder.parent / "coco.json")


def restored(file: Path) -> Client:
    client = connect("memory://", preset="pico")
    client.restore(file)
    return client


def test_an_honest_one_is_restored(served: Served) -> None:
    assert restored(forged(served, notes=note_of())).standing.queries() == [QUERY]
    assert all(isinstance(one.mask, MaskRLE) for one in served.client.regions(served.client.images()[0][0].image))

"""`sync` and `failed` on the real thing: an S3 server, an embedded index and the pico models, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fakes.storage import storage_variables
from PIL import Image

from searchanything.cli.app import run
from searchanything.core.settings import MilvusSettings
from searchanything.demo.local_s3 import LocalS3
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.stores.milvus_opening import open_milvus
from searchanything.stores.s3 import S3Store

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
HEADINGS = ("missing", "stale", "orphaned", "failed")
Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def command(
    s3_server: LocalS3,
    s3_store: S3Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a verb on this test's bucket and index; returns the exit code and the one document on stdout."""
    for name, value in {
        **storage_variables(s3_server.settings()),
        "SEARCHANYTHING_MILVUS__URI": str(tmp_path / "index.db"),
        "SEARCHANYTHING_MILVUS__LITE_IDLE_S": "1",
        "SEARCHANYTHING_MODELS__PRESET": "pico",
        "SEARCHANYTHING_INGEST__EXCLUDE": "in/draft*",
        "SEARCHANYTHING_INGEST__SIDECAR_SUFFIX": ".json",
    }.items():
        monkeypatch.setenv(name, value)
    source = f"s3://{s3_store.bucket}/in/"

    def call(*verb: str) -> tuple[int, dict[str, Any]]:
        code = run([*verb, source, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def jpegs(count: int) -> list[bytes]:
    images = []
    for _, scene in generate_demo_scenes(count, seed=9):
        buffer = BytesIO()
        Image.fromarray(scene.image).resize((320, 240)).save(buffer, "JPEG", quality=90)
        images.append(buffer.getvalue())
    return images


def differing(document: dict[str, Any]) -> dict[str, list[str]]:
    return {heading: document[heading] for heading in HEADINGS if document[heading]}


def indexed(file: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Key, etag and metadata of every image row, read from Milvus directly."""
    with open_milvus(MilvusSettings(uri=str(file), lite_idle_s=1)) as store:
        live = store.live()
        assert live is not None
        rows = list(store.open(live.fingerprint).iterate_images())
        assert len({row.image for row in rows}) == len(rows)
        return {row.image.key: (row.etag, dict(row.metadata)) for row in rows}


def test_a_bucket_and_its_index_are_brought_to_agree(command: Command, s3_store: S3Store, tmp_path: Path) -> None:
    first, second, third, fourth = jpegs(4)
    for key, data in {"a.jpg": first, "b.jpg": second, "c.jpg": third, "draft.jpg": fourth, "bad.jpg": b"x"}.items():
        s3_store.upload(f"in/{key}", data, metadata={"shelf": key[0]})
    s3_store.upload("out/a.jpg", first)
    s3_store.upload("in/notes.txt", b"text")

    code, document = command("sync", "repair")
    images = ["in/a.jpg", "in/b.jpg", "in/bad.jpg", "in/c.jpg"]
    assert (code, differing(document), document["checked"]) == (3, {"missing": images}, 4)
    code, document = command("sync", "check")
    assert (code, differing(document), document["checked"]) == (3, {"failed": ["in/bad.jpg"]}, 4)

    s3_store.upload("in/a.jpg", fourth)
    s3_store.upload("in/b.jpg.json", b'{"shelf": "top", "exif": {"iso": 100}}')
    s3_store.delete("in/c.jpg")
    s3_store.upload("in/new.jpg", second)
    s3_store.upload(".searchanything/sheet.jpg", second)
    expected = {"missing": ["in/new.jpg"], "stale": ["in/a.jpg", "in/b.jpg"], "orphaned": ["in/c.jpg"]}
    for verb in ("check", "repair"):
        code, document = command("sync", verb)
        assert (code, differing(document)) == (3, expected | {"failed": ["in/bad.jpg"]}), verb
    assert (document["repaired"]["deleted"], document["garbage"]) == (1, 0)
    assert differing(command("sync", "check")[1]) == {"failed": ["in/bad.jpg"]}
    listed = {found.ref.key: found.etag for found in s3_store.list("in/")}
    wanted = {"in/a.jpg": {}, "in/b.jpg": {"shelf": "top", "exif.iso": 100}, "in/bad.jpg": {"shelf": "b"}}
    assert indexed(tmp_path / "index.db") == {
        key: (listed[key], metadata) for key, metadata in {**wanted, "in/new.jpg": {}}.items()
    }

    code, document = command("failed", "list")
    assert [(one["key"], one["error"], one["attempts"], one["exhausted"]) for one in document["failed"]] == [
        ("in/bad.jpg", "ImageError", 2, False)
    ]
    assert command("failed", "retry")[0] == 3
    code, document = command("sync", "repair")
    assert (code, document["repaired"]["exhausted"], document["repaired"]["images"]["failed"]) == (3, 1, 0)
    assert command("failed", "retry")[1]["images"]["failed"] == 1
    [failed] = command("failed", "list")[1]["failed"]
    assert (failed["attempts"], failed["exhausted"]) == (4, True)
    assert failed["first_at_ms"] < failed["last_at_ms"]
    assert command("failed", "drop")[1]["dropped"] == 1
    s3_store.upload("in/bad.jpg", first)
    assert differing(command("sync", "repair")[1]) == {"missing": ["in/bad.jpg"]}
    assert command("sync", "check")[0] == 0

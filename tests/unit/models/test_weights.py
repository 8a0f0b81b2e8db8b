"""Weights: fetched whole and checked, or not at all; never hashed twice without need."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fakes.http_servers import Asked, web_server

from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.models import weights
from searchanything.models.downloads import part_of
from searchanything.models.weights import WeightsRecord, digest_of, fetch_weights, locate, recorded_digest

BODY = bytes(range(256)) * 20_000  # 5 MB: several pieces
SHA256 = hashlib.sha256(BODY).hexdigest()


class Publisher(BaseHTTPRequestHandler):
    """Serves BODY whole, cut short, without a length, or slowly without end."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unknown-length":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path == "/slow":
            self.wfile.write(BODY[: len(BODY) // 2])
            self.wfile.flush()
            time.sleep(30)
            return
        self.wfile.write(BODY[:1000] if self.path == "/short" else BODY)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def publisher() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def record(address: str | None, *, sha256: str | None = None) -> WeightsRecord:
    return WeightsRecord(
        name="tiny",
        preset="small",
        address=address,
        sha256=sha256,
        licence="MIT",
        approximate_bytes=5_000_000,
        file_name="tiny.pt",
    )


def test_a_fetch_gives_the_file_its_record_and_progress(publisher: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch_weights(record(f"{publisher}/good"), tmp_path / "deep", progress=lambda *part: seen.append(part))
    assert path.read_bytes() == BODY
    recorded = (tmp_path / "deep" / "tiny.pt.sha256").read_text()
    assert recorded == f"{SHA256}  tiny.pt\n# {len(BODY)} bytes\n"  # sha256sum's own format, and a comment
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["tiny.pt", "tiny.pt.sha256"]
    assert locate(record(publisher), tmp_path / "deep") == path


def test_a_server_need_not_tell_the_length(publisher: str, tmp_path: Path) -> None:
    seen: list[int | None] = []
    fetch_weights(
        record(f"{publisher}/unknown-length", sha256=SHA256), tmp_path, progress=lambda _, total: seen.append(total)
    )
    assert set(seen) == {None}


def test_a_second_fetch_asks_nobody(publisher: str, tmp_path: Path) -> None:
    fetch_weights(record(f"{publisher}/good"), tmp_path)
    assert fetch_weights(record("http://127.0.0.1:1/nobody"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("/short", "1000 of 5120000 bytes"),
        ("/gone", "404"),
    ],
)
def test_failed_fetches_leave_nothing_that_looks_like_weights(
    where: str, message: str, publisher: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        fetch_weights(record(publisher + where), tmp_path)
    assert publisher + where in str(caught.value)
    assert str(tmp_path / "tiny.pt") in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # this server does not say which content it is, so nothing can be continued


def test_a_wrong_checksum_leaves_nothing(publisher: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"expected sha256 {'0' * 64}, got {SHA256}"):
        fetch_weights(record(f"{publisher}/good", sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/nobody", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_unreachable_and_unusable_addresses(address: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=address):
        fetch_weights(record(address), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_first_fetch_binds_later_ones(publisher: str, tmp_path: Path) -> None:
    """Trust on first use: where the publisher states no checksum, the recorded one must come again."""
    path = fetch_weights(record(f"{publisher}/good"), tmp_path)
    path.unlink()
    sidecar = tmp_path / "tiny.pt.sha256"
    sidecar.write_text(f"{'1' * 64}  tiny.pt\n")
    with pytest.raises(ModelError, match=f"expected sha256 {'1' * 64}"):
        fetch_weights(record(f"{publisher}/good"), tmp_path)
    assert not path.exists()


def test_a_killed_fetch_leaves_nothing_that_looks_like_weights(publisher: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from searchanything.models.weights import WeightsRecord, fetch_weights\n"
        "one = WeightsRecord('tiny', 'small', sys.argv[1], None, 'MIT', 1, 'tiny.pt')\n"
        "fetch_weights(one, Path(sys.argv[2]), progress=lambda done, total: print(done, flush=True))\n"
    )
    command = [sys.executable, "-c", code, f"{publisher}/slow", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.send_signal(signal.SIGKILL)
    left = [entry.name for entry in tmp_path.iterdir()]
    assert all(name.endswith(".part") and name.startswith(".") for name in left)
    with pytest.raises(WeightsMissingError):
        locate(record(publisher), tmp_path)
    fetch_weights(record(f"{publisher}/good"), tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny.pt", "tiny.pt.sha256"]


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="searchanything models fetch small") as caught:
        locate(record("https://example.org/tiny.pt"), tmp_path)
    assert str(tmp_path / "tiny.pt") in str(caught.value)
    with pytest.raises(WeightsMissingError, match="belongs into the package"):
        locate(record(None), tmp_path)


def test_packaged_weights_are_located_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGED_WEIGHTS", tmp_path)
    (tmp_path / "tiny.pt").write_bytes(BODY)
    assert fetch_weights(record(None), tmp_path / "elsewhere") == tmp_path / "tiny.pt"


def test_an_unchanged_file_is_not_read_again(publisher: str, tmp_path: Path) -> None:
    path = fetch_weights(record(f"{publisher}/good"), tmp_path)
    modified = path.stat().st_mtime_ns
    path.write_bytes(b"x" * len(BODY))
    os.utime(path, ns=(modified, modified))  # all that shows without reading it is unchanged
    assert digest_of(path) == SHA256


def test_a_changed_file_is_noticed(publisher: str, tmp_path: Path) -> None:
    path = fetch_weights(record(f"{publisher}/good"), tmp_path)
    path.write_bytes(b"changed")
    with pytest.raises(ModelError, match="delete both files"):
        digest_of(path)
    with pytest.raises(ModelError, match="delete both files"):
        fetch_weights(record(f"{publisher}/good"), tmp_path)


def test_a_touched_file_is_read_once(publisher: str, tmp_path: Path) -> None:
    path = fetch_weights(record(f"{publisher}/good"), tmp_path)
    os.utime(path)
    assert digest_of(path) == SHA256
    assert (tmp_path / "tiny.pt.sha256").stat().st_mtime_ns == path.stat().st_mtime_ns


def test_digests_without_records(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    path.write_bytes(BODY)
    assert digest_of(path) == SHA256
    assert recorded_digest(path) is None
    with pytest.raises(WeightsMissingError):
        digest_of(tmp_path / "missing.pt")


def test_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "own.pt").write_bytes(BODY)
    (tmp_path / "own.pt.sha256").write_text("no checksum\n")
    with pytest.raises(ModelError, match="holds no checksum"):
        digest_of(tmp_path / "own.pt")


def test_the_digest_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(b"1")
    (tmp_path / "merges.txt").write_bytes(b"2")
    before = digest_of(tmp_path)
    assert before == digest_of(tmp_path)
    (tmp_path / "vocab.json").write_bytes(b"3")
    assert digest_of(tmp_path) != before
    (tmp_path / "vocab.json").write_bytes(b"1")
    (tmp_path / "merges.txt").rename(tmp_path / "vocab.txt")
    assert digest_of(tmp_path) != before


def test_a_published_checksum_beats_the_recorded_one(publisher: str, tmp_path: Path) -> None:
    fetch_weights(record(f"{publisher}/good"), tmp_path)
    published = replace(record(f"{publisher}/good"), sha256="2" * 64)
    with pytest.raises(ModelError, match=f"expected sha256 {'2' * 64}"):
        fetch_weights(published, tmp_path)


class Ranged:
    """A server of BODY that can send the rest of it, and cuts the first answers short."""

    def __init__(self, *, cut: tuple[int, ...] = (), tag: str = '"one"', ranges: bool = True) -> None:
        self.body, self.tag, self.ranges = BODY, tag, ranges
        self.cuts = list(cut)
        self.asked: list[str | None] = []

    def answer(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        wanted = asked.headers.get("range")
        self.asked.append(wanted)
        whole, start = self.body, 0
        if wanted and self.ranges and asked.headers.get("if-range") == self.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(whole):
                return 416, {"Content-Range": f"bytes */{len(whole)}"}, b""
        headers = {"ETag": self.tag, "Content-Length": str(len(whole) - start), "Connection": "close"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        end = self.cuts.pop(0) if self.cuts else len(whole)
        return 206 if start else 200, headers, whole[start:end]


def tried(server: Ranged, folder: Path, *, times: int, sha256: str | None = SHA256) -> Path | None:
    with web_server(server.answer) as web:
        one = record(f"http://{web.endpoint}/tiny.pt", sha256=sha256)
        for _ in range(times):
            with suppress(ModelError):
                return fetch_weights(one, folder)
    return None


def test_a_fetch_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    server = Ranged(cut=(1_000_000, 3_000_000))
    path = tried(server, tmp_path, times=3)
    assert path is not None
    assert path.read_bytes() == BODY
    assert server.asked == [None, "bytes=1000000-", "bytes=3000000-"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny.pt", "tiny.pt.sha256"]
    assert (tmp_path / "tiny.pt.sha256").read_text().startswith(f"{SHA256}  tiny.pt\n")


@pytest.mark.parametrize("change", ["content", "no ranges", "weak tag"])
def test_other_content_is_never_joined_to_what_had_arrived(change: str, tmp_path: Path) -> None:
    server = Ranged(cut=(1_000_000,), tag='W/"one"' if change == "weak tag" else '"one"', ranges=change != "no ranges")
    with web_server(server.answer) as web:
        one = record(f"http://{web.endpoint}/tiny.pt")
        with pytest.raises(ModelError, match="1000000 of 5120000"):
            fetch_weights(one, tmp_path)
        if change == "content":
            server.body, server.tag = BODY[::-1], '"two"'
        assert fetch_weights(one, tmp_path).read_bytes() == server.body
    assert server.asked[-1] == (None if change == "weak tag" else "bytes=1000000-")


def test_another_address_begins_anew(tmp_path: Path) -> None:
    first, second = Ranged(cut=(1_000_000,)), Ranged()
    assert tried(first, tmp_path, times=1) is None
    assert tried(second, tmp_path, times=1) is not None
    assert second.asked == [None]


def test_a_part_that_is_whole_already_is_fetched_again(tmp_path: Path) -> None:
    """The process died between the last byte and the renaming: the server has no byte after it."""
    server = Ranged(cut=(1_000_000,))
    with web_server(server.answer) as web:
        one = record(f"http://{web.endpoint}/tiny.pt")
        with pytest.raises(ModelError):
            fetch_weights(one, tmp_path)
        (tmp_path / ".tiny.pt.part").write_bytes(BODY)
        assert fetch_weights(one, tmp_path).read_bytes() == BODY
    assert server.asked == [None, f"bytes={len(BODY)}-", None]


def test_two_processes_do_not_write_into_one_part(tmp_path: Path) -> None:
    with (
        part_of(tmp_path / "tiny.pt"),
        web_server(Ranged().answer) as web,
        pytest.raises(ModelError, match="another process is fetching"),
    ):
        fetch_weights(record(f"http://{web.endpoint}/tiny.pt"), tmp_path)


def test_a_folder_or_a_mirror_stands_in_for_the_publisher(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "tiny.pt").write_bytes(BODY)
    one = record("https://publisher.invalid/some/other-name.bin", sha256=SHA256)
    assert fetch_weights(one, tmp_path / "a", source=str(tmp_path / "stick")).read_bytes() == BODY
    server = Ranged()
    with web_server(lambda asked: server.answer(asked) if asked.target == "/m/tiny.pt" else (404, {}, b"")) as web:
        assert fetch_weights(one, tmp_path / "b", source=f"http://{web.endpoint}/m/").read_bytes() == BODY
        with pytest.raises(ModelError, match=f"http://{web.endpoint}/n/tiny.pt"):
            fetch_weights(one, tmp_path / "c", source=f"http://{web.endpoint}/n")
    with pytest.raises(ModelError, match="nowhere"):
        fetch_weights(one, tmp_path / "d", source=str(tmp_path / "nowhere"))
    (tmp_path / "stick" / "tiny.pt").write_bytes(b"not it")
    with pytest.raises(ModelError, match=f"expected sha256 {SHA256}"):
        fetch_weights(one, tmp_path / "e", source=str(tmp_path / "stick"))
    assert not list((tmp_path / "e").iterdir())

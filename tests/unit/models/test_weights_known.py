"""Which weights are the right ones: files put by hand, folders, mirrors without encryption, and what a hub states."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.http_servers import Asked, web_server

from searchanything.core.errors import ModelError
from searchanything.models import downloads, weights
from searchanything.models.presets import PICO
from searchanything.models.weights import WeightsRecord, digest_of, fetch_weights, locate, recorded_digest

BODY = bytes(range(256)) * 4
SHA256 = hashlib.sha256(BODY).hexdigest()
PUBLISHER = "https://publisher.invalid/tiny.pt"


def record(address: str = PUBLISHER, *, sha256: str | None = None) -> WeightsRecord:
    return WeightsRecord("tiny", "small", address, sha256, "MIT", len(BODY), "tiny.pt")


def put_by_hand(folder: Path, body: bytes = BODY) -> Path:
    path = folder / "tiny.pt"
    path.write_bytes(body)
    return path


def test_the_digest_of_a_folder_is_that_of_what_an_encoder_is_made_of(tmp_path: Path) -> None:
    """The value is that of the shipped encoder, computed apart: an index made with it is still searched with it."""
    shipped = "e26b149083b19fa562a00e785d5169d5fcb277dabbeff7f481afe1e4845a6f18"
    folder = tmp_path / "encoder"
    shutil.copytree(locate(PICO.encoder, Path()), folder)
    assert digest_of(folder) == shipped
    for stray in (
        ".DS_Store",
        "Thumbs.db",
        "open_clip_config.json~",
        "README.md",
        "open_clip_model.safetensors.sha256",
    ):
        (folder / stray).write_bytes(b"stray")
    (folder / ".cache").mkdir()
    assert digest_of(folder) == shipped
    (folder / "tokenizer.json").write_bytes(b"{}")  # what some encoders read
    assert digest_of(folder) != shipped


@pytest.mark.parametrize("take", [fetch_weights, locate])
def test_files_put_by_hand_are_recorded_and_read_once(
    take: Callable[[WeightsRecord, Path], Path], tmp_path: Path
) -> None:
    path = put_by_hand(tmp_path)
    assert take(record(), tmp_path) == path
    assert recorded_digest(path) == SHA256
    modified = path.stat().st_mtime_ns
    path.write_bytes(b"x" * len(BODY))
    os.utime(path, ns=(modified, modified))
    assert digest_of(path) == SHA256  # all that shows without reading is unchanged
    os.utime(path)
    with pytest.raises(ModelError, match=r"recorded in tiny\.pt\.sha256 when it was fetched or first used"):
        locate(record(), tmp_path)


def test_another_size_shows_where_the_time_is_the_same(tmp_path: Path) -> None:
    """Archives that can be built again give all files one time."""
    path = put_by_hand(tmp_path)
    locate(record(), tmp_path)
    modified = path.stat().st_mtime_ns
    path.write_bytes(BODY[1:])
    os.utime(path, ns=(modified, modified))
    with pytest.raises(ModelError, match="delete both files"):
        digest_of(path)


@pytest.mark.parametrize("take", [fetch_weights, locate])
def test_a_stated_checksum_is_checked_of_files_put_by_hand(
    take: Callable[[WeightsRecord, Path], Path], tmp_path: Path
) -> None:
    one = record(sha256=SHA256)
    put_by_hand(tmp_path, b"another model")
    with pytest.raises(ModelError, match=f"expected sha256 {SHA256}, got"):
        take(one, tmp_path)
    assert not (tmp_path / "tiny.pt.sha256").exists()
    path = put_by_hand(tmp_path)
    assert take(one, tmp_path) == path


def test_a_file_that_changes_while_it_is_read_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = put_by_hand(tmp_path), weights._hash_file

    def growing(asked: Path) -> str:
        digest = read(asked)
        os.utime(path, ns=(1, 1))
        return digest

    monkeypatch.setattr(weights, "_hash_file", growing)
    locate(record(), tmp_path)
    assert recorded_digest(path) is None


@pytest.mark.parametrize("host", ["mirror.invalid", "10.0.0.7:8000", "[2001:db8::1]", "localhost.invalid"])
def test_plain_http_from_another_machine_needs_a_known_checksum(host: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no known sha256, and http://.* is another machine over plain HTTP"):
        fetch_weights(record(), tmp_path, source=f"http://{host}/weights")
    with pytest.raises(ModelError, match="over plain HTTP"):
        fetch_weights(record(f"http://{host}/tiny.pt"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_redirect_over_plain_http_needs_a_known_checksum(
    sha256: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` stands for another machine."""
    monkeypatch.setattr(downloads, "is_loopback", lambda host: host == "127.0.0.1")

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        port = asked.headers["host"].rpartition(":")[2]
        moved = {"Location": f"http://localhost:{port}/stored"}
        return (200, {}, BODY) if asked.target == "/stored" else (302, moved, b"")

    with web_server(answer) as web:
        one = record(f"http://{web.endpoint}/tiny.pt", sha256=sha256)
        if sha256 is not None:
            assert fetch_weights(one, tmp_path).read_bytes() == BODY
            return
        with pytest.raises(ModelError, match="redirected to the unencrypted http://localhost"):
            fetch_weights(one, tmp_path)
        assert [asked.target for asked in web.asked] == ["/tiny.pt"]
    assert list(tmp_path.iterdir()) == []


def hub(stated: str, *, moved: bool) -> Callable[[Asked], tuple[int, dict[str, str], bytes]]:
    """As the model hub answers: what it states comes with the redirect to its storage."""

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        headers = {"X-Linked-ETag": stated, "ETag": '"of the storage"'}
        if moved and asked.target != "/storage":
            return 302, {**headers, "Location": "/storage"}, b"elsewhere"
        return 200, {"ETag": headers["ETag"]} if moved else headers, BODY

    return answer


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("stated", [f'"{SHA256}"', SHA256.upper(), f'"{"1" * 40}"', "W/nothing"])
def test_what_a_hub_states_is_what_came(stated: str, moved: bool, tmp_path: Path) -> None:
    with web_server(hub(stated, moved=moved)) as web:
        assert fetch_weights(record(f"http://{web.endpoint}/tiny.pt"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("moved", [True, False])
def test_what_a_hub_states_otherwise_is_refused(moved: bool, tmp_path: Path) -> None:
    with (
        web_server(hub(f'"{"a" * 64}"', moved=moved)) as web,
        pytest.raises(ModelError, match=f"the server states sha256 {'a' * 64}, what came has {SHA256}"),
    ):
        fetch_weights(record(f"http://{web.endpoint}/tiny.pt"), tmp_path)
    assert list(tmp_path.iterdir()) == []

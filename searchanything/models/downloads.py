"""One file over HTTP onto a disk, continued where an earlier try was cut off.

What has arrived lies in a part beside the file, with a note of where it came from and which content it is (an ETag or a
time of change). A server that has the same content sends the rest; from any other the file is begun anew. What comes is
checked against the sha256 that the server states, as the model hub does on the way to its storage.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias

from searchanything.core.addresses import host_of, is_loopback

OnBytes: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_AGENT: Final = {"User-Agent": "searchanything"}
_NO_SUCH_RANGE: Final = 416
_STATED: Final = "X-Linked-ETag"  # of a file in large storage: its sha256; of a small one something shorter


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """The part of a file that is being fetched, for one process at a time; removed where nothing has arrived.

    Raises: OSError where another process is fetching the file.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another process is fetching {path.name}") from None
        try:
            yield part
        finally:
            with contextlib.suppress(FileNotFoundError):
                if not part.stat().st_size or _note(part) is None:
                    discard(part)


def discard(part: Path) -> None:
    """Remove a part and its note."""
    for file in (part, _note_of(part)):
        file.unlink(missing_ok=True)


def finish(part: Path, path: Path) -> None:
    """Give a whole part its name."""
    _note_of(part).unlink(missing_ok=True)
    part.replace(path)


def is_unprotected(address: str) -> bool:
    """Whether an address is another machine's over plain HTTP, where others on the way could change what comes.

    Raises: ValueError for a malformed address.
    """
    return address.lower().startswith("http://") and not is_loopback(host_of(address))


def download(address: str, part: Path, progress: OnBytes, *, known: bool) -> str:
    """Fetch an address into a part, after what is there of the same content; the sha256 of the whole.

    `known` says that the sha256 is known and will be compared; if not, no redirect may lead over plain HTTP to another
    machine. Raises: OSError, http.client.HTTPException, ValueError for an address or an answer that is of no use.
    """
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"expected an http(s) address, got {address}")
    note = _note(part) or {}
    there = part.stat().st_size if note.get("address") == address else 0
    headers = {"Range": f"bytes={there}-", "If-Range": str(note["content"])} if there else {}
    way = _Way(known=known)
    try:
        digest = _fetched(way, address, part, headers, progress)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code != _NO_SUCH_RANGE:
            raise
        digest = _fetched(way, address, part, {}, progress)  # all of it had arrived, or the content is shorter now
    if way.stated is not None and digest != way.stated:
        discard(part)
        raise ValueError(f"the server states sha256 {way.stated}, what came has {digest}")
    return digest


class _Way(urllib.request.HTTPRedirectHandler):
    """Follows redirects that lead over protected ways, and keeps the sha256 that a server states on one of them."""

    def __init__(self, *, known: bool) -> None:
        self.stated: str | None = None
        self._known = known

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.read(headers)
        left = req.full_url.lower().startswith("https://") and not newurl.lower().startswith("https://")
        if left or (not self._known and is_unprotected(newurl)):
            fp.close()
            raise ValueError(f"the server redirected to the unencrypted {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def read(self, headers: http.client.HTTPMessage) -> None:
        """Take what an answer states, if none did before."""
        stated = re.fullmatch(r'"?([0-9a-fA-F]{64})"?', headers.get(_STATED, ""))
        if stated is not None and self.stated is None:
            self.stated = stated.group(1).lower()


def copy(source: Path, part: Path, progress: OnBytes) -> str:
    """Copy a file into a part; its sha256. Raises: OSError."""
    with source.open("rb") as file, part.open("wb") as copied:
        return _streamed(file, copied, hashlib.sha256(), progress, (0, source.stat().st_size))


def _fetched(way: _Way, address: str, part: Path, headers: dict[str, str], progress: OnBytes) -> str:
    request = urllib.request.Request(address, headers={**_AGENT, **headers})  # noqa: S310 - the scheme was checked
    with urllib.request.build_opener(way).open(request, timeout=_TIMEOUT_S) as response:
        way.read(response.headers)
        length = response.headers.get("Content-Length")
        start = part.stat().st_size if response.status == http.client.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ValueError(f"expected the bytes from {start} on, got {response.headers.get('Content-Range')}")
        total = None if length is None else start + int(length)
        with part.open("r+b") as file:
            file.truncate(start)
            digest = hashlib.file_digest(file, "sha256")
            _write_note(part, address, response.headers)
            return _streamed(response, file, digest, progress, (start, total))


def _streamed(
    source: IO[bytes], target: IO[bytes], digest: hashlib._Hash, progress: OnBytes, counts: tuple[int, int | None]
) -> str:
    """Write a source to the end of a file; the whole file's sha256. Raises: ValueError where the source ends early."""
    done, total = counts
    try:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    finally:
        target.flush()
        os.fsync(target.fileno())
    # http.client does not complain when a connection ends early and it was read piece by piece.
    if total is not None and done != total:
        raise ValueError(f"the connection ended after {done} of {total} bytes")
    return digest.hexdigest()


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path) -> dict[str, object] | None:
    """Where a part came from and which content it is; None where that is not known."""
    try:
        note = json.loads(_note_of(part).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and note.get("content") and note.get("address") else None


def _write_note(part: Path, address: str, headers: http.client.HTTPMessage) -> None:
    """Which content it is: a strong ETag (RFC 9110, 13.1.5), else the time of its last change, else nothing."""
    tag = headers.get("ETag", "")
    content = tag if tag.startswith('"') else headers.get("Last-Modified")
    if content is None:
        _note_of(part).unlink(missing_ok=True)
    else:
        _note_of(part).write_text(json.dumps({"address": address, "content": content}), "utf-8")

"""Weights as data: where they come from, where they lie, and that they are the right ones.

Weights are fetched by `fetch_weights` alone, which only the command line calls. Beside each file lies `FILE.sha256`, as
`sha256sum` writes it: recorded at the first fetch where the publisher states no checksum, and binding from then on.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from searchanything.core.errors import ModelError, WeightsMissingError

logger = logging.getLogger(__name__)

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"
OnBytes: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_STALE_PART_S = 24 * 3600.0
_AGENT = {"User-Agent": "searchanything"}


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """One file of weights, or one folder of them in the package.

    `address` is the publisher's, None for weights that are part of this package. `sha256` is what the publisher states,
    None where nothing is stated. `approximate_bytes` is for people; the server's own length is what is checked.
    """

    name: str
    preset: str
    address: str | None
    sha256: str | None
    licence: str
    approximate_bytes: int
    file_name: str

    def path_in(self, directory: Path) -> Path:
        """Where the weights lie, or will: in the package, or in the directory of fetched weights."""
        return (PACKAGED_WEIGHTS if self.address is None else directory) / self.file_name


def locate(record: WeightsRecord, directory: Path) -> Path:
    """The absolute path of weights that are there. Raises: WeightsMissingError, which says how to get them."""
    path = record.path_in(directory).absolute()
    if path.exists():
        return path
    if record.address is None:
        raise WeightsMissingError(f"{record.name} belongs into the package and is not at {path}; install it again")
    raise WeightsMissingError(
        f"{record.name} is not at {path}; fetch it (about {record.approximate_bytes / 1e6:.0f} MB, {record.licence}) "
        f"with: searchanything models fetch {record.preset}"
    )


def digest_of(path: Path) -> str:
    """sha256 of a file, or of all files of a folder with their names; 64 hex digits.

    A file that has not changed since its checksum was written beside it is not read again.
    Raises: WeightsMissingError, or ModelError if the file is not the one that was recorded.
    """
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
        listing = "".join(f"{_hash_file(entry)}  {entry.name}\n" for entry in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    if not path.is_file():
        raise WeightsMissingError(f"expected weights at {path}, there is no such file")
    recorded = recorded_digest(path)
    if recorded is None:
        return _hash_file(path)
    sidecar = _sidecar(path)
    # The record carries the file's own time, so that a change of the file shows without reading gigabytes.
    if sidecar.stat().st_mtime_ns == path.stat().st_mtime_ns:
        return recorded
    digest = _hash_file(path)
    if digest != recorded:
        raise ModelError(
            f"{path} has sha256 {digest}, and {recorded} was recorded in {sidecar.name} when it was fetched; "
            "delete both files and fetch it again"
        )
    with suppress(OSError):  # a read-only folder only costs the next reading
        _record_digest(path, digest)
    return digest


def recorded_digest(path: Path) -> str | None:
    """The sha256 recorded beside a file; None where there is no record. Raises: ModelError if it cannot be read."""
    sidecar = _sidecar(path)
    if not sidecar.is_file():
        return None
    match = re.match(r"([0-9a-f]{64})\s", sidecar.read_text(encoding="utf-8", errors="replace"))
    if match is None:
        raise ModelError(f"{sidecar} holds no checksum; delete it and fetch {path.name} again")
    return match.group(1)


def fetch_weights(record: WeightsRecord, directory: Path, *, progress: OnBytes | None = None) -> Path:
    """Fetch weights unless they are there already, check them, and return their path.

    The file appears under its name complete and checked or not at all, even if the process is killed.
    Raises: ModelError, with the address and what to do.
    """
    path = record.path_in(directory).absolute()
    if record.address is None:
        return locate(record, directory)
    if path.is_file():
        _check(record, path, digest_of(path))
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(path)
        with _part_of(path) as part:
            digest = _download(record.address, part, progress or _ignore)
            _check(record, path, digest)
            Path(part.name).replace(path)
        _record_digest(path, digest)
        _sync_folder(path.parent)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise ModelError(
            f"{record.name} could not be fetched from {record.address}: {type(error).__name__}: {error}; "
            f"try again, or fetch it by other means and put it at {path}"
        ) from error
    logger.info("fetched %s to %s, sha256 %s", record.name, path, digest)
    return path


def _download(address: str, part: IO[bytes], progress: OnBytes) -> str:
    """Stream an address to an open file, on disk on return; the sha256 of what was written."""
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"expected an http(s) address, got {address}")
    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(address, headers=_AGENT)  # noqa: S310 - the scheme was checked
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        if address.startswith("https://") and not response.url.startswith("https://"):
            raise ValueError(f"the server redirected to the unencrypted {response.url}")
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length)
        while chunk := response.read(_CHUNK_BYTES):
            part.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    # http.client does not complain when a connection ends early and it was read piece by piece.
    if total is not None and done != total:
        raise ValueError(f"the connection ended after {done} of {total} bytes")
    part.flush()
    os.fsync(part.fileno())
    return digest.hexdigest()


def _check(record: WeightsRecord, path: Path, digest: str) -> None:
    """Raises: ModelError unless the digest is what the publisher, or else the first fetch, says."""
    expected = record.sha256 or recorded_digest(path)
    if expected is not None and digest != expected:
        raise ModelError(
            f"{record.name} from {record.address}: expected sha256 {expected}, got {digest}; "
            f"delete {path} and {_sidecar(path).name} if they are there and fetch it again"
        )


@contextmanager
def _part_of(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path`, for writing; removed afterwards unless it was renamed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as part:
        try:
            yield part
        finally:
            Path(part.name).unlink(missing_ok=True)


def _remove_stale_parts(path: Path) -> None:
    """Remove what killed fetches left behind; a day's grace keeps those that run beside this one."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE_PART_S:
                part.unlink()


def _record_digest(path: Path, digest: str) -> None:
    sidecar = _sidecar(path)
    with _part_of(sidecar) as part:
        part.write(f"{digest}  {path.name}\n".encode())
        part.flush()
        os.fsync(part.fileno())
        modified = path.stat().st_mtime_ns
        os.utime(part.name, ns=(modified, modified))
        Path(part.name).replace(sidecar)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ignore(_done: int, _total: int | None) -> None:
    """The progress that nobody watches."""

"""Weights as data: where they come from, where they lie, and that they are the right ones.

Weights are fetched by `fetch_weights` alone, which only the command line calls. Beside each file lies `FILE.sha256`, as
`sha256sum` writes it: recorded at the first fetch where the publisher states no checksum, and binding from then on.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import pickle
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from searchanything.core.errors import ModelError, UsageError, WeightsMissingError
from searchanything.core.files import write_whole
from searchanything.models.downloads import OnBytes, copy, discard, download, finish, part_of

logger = logging.getLogger(__name__)

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"
# Whatever a damaged or foreign file can provoke where it is read and a network is built of it.
LOADING_ERRORS = (
    AttributeError,
    EOFError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """One file of weights, or one folder of them in the package.

    `address` is the publisher's, None for weights that are part of this package. `sha256` is what the publisher states,
    None where nothing is stated. `approximate_bytes` is for people; the server's own length is what is checked.
    `revision` is the commit that the address names, None where it names none.
    """

    name: str
    preset: str
    address: str | None
    sha256: str | None
    licence: str
    approximate_bytes: int
    file_name: str
    revision: str | None = None

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
    with suppress(OSError, UsageError):  # a read-only folder only costs the next reading
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


def fetch_weights(
    record: WeightsRecord, directory: Path, *, source: str | None = None, progress: OnBytes | None = None
) -> Path:
    """Fetch weights unless they are there already, check them, and return their path.

    `source` is a folder or an http(s) address that has the file under its own name, in place of the publisher's.
    The file appears under its name complete and checked or not at all, even if the process is killed; what had arrived
    of it is kept for the next try.
    Raises: ModelError, with the address and what to do.
    """
    path = record.path_in(directory).absolute()
    if record.address is None:
        return locate(record, directory)
    if path.is_file():
        _check(record, path, digest_of(path))
        return path
    asked = _address(record, source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_of(path) as part:
            digest = _arrived(asked, part, progress or _ignore)
            try:
                _check(record, path, digest)
            except ModelError:
                discard(part)
                raise
            finish(part, path)
        _record_digest(path, digest)
        _sync_folder(path.parent)
    except (OSError, http.client.HTTPException, ValueError, UsageError) as error:
        raise ModelError(
            f"{record.name} could not be fetched from {asked}: {type(error).__name__}: {error}; "
            f"try again, or fetch it by other means and put it at {path}"
        ) from error
    logger.info("fetched %s to %s, sha256 %s", record.name, path, digest)
    return path


def _address(record: WeightsRecord, source: str | None) -> str:
    """Where a file is taken from: an address, or a path."""
    if source is None:
        return str(record.address)
    if "://" in source:
        return f"{source.rstrip('/')}/{record.file_name}"
    return str(Path(source).expanduser() / record.file_name)


def _arrived(asked: str, part: Path, progress: OnBytes) -> str:
    """The sha256 of what lies in the part now."""
    return download(asked, part, progress) if "://" in asked else copy(Path(asked), part, progress)


def _check(record: WeightsRecord, path: Path, digest: str) -> None:
    """Raises: ModelError unless the digest is what the publisher, or else the first fetch, says."""
    expected = record.sha256 or recorded_digest(path)
    if expected is not None and digest != expected:
        raise ModelError(
            f"{record.name} from {record.address}: expected sha256 {expected}, got {digest}; "
            f"delete {path} and {_sidecar(path).name} if they are there and fetch it again"
        )


def _record_digest(path: Path, digest: str) -> None:
    sidecar = _sidecar(path)
    modified = path.stat().st_mtime_ns

    def write(file: BinaryIO) -> None:
        file.write(f"{digest}  {path.name}\n".encode())
        file.flush()
        os.utime(file.name, ns=(modified, modified))

    write_whole(sidecar, write)


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

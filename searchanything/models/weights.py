"""Weights as data: where they come from, where they lie, and that they are the right ones.

Weights are fetched by `fetch_weights` alone, which only the command line calls. Beside each file lies `FILE.sha256`, as
`sha256sum -c` reads it: recorded at the first fetch or use where the publisher states no checksum, and binding from
then on, also for files that were put there by hand.
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
from typing import BinaryIO, Final

from searchanything.core.errors import ModelError, UsageError, WeightsMissingError
from searchanything.core.files import write_whole
from searchanything.core.reading import kind_at
from searchanything.models.downloads import OnBytes, copy, discard, download, finish, is_unprotected, part_of

logger = logging.getLogger(__name__)

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"
CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_model.safetensors"
BPE_FILE: Final = "bpe_merges.txt.gz"  # the merges of a tokenizer with its own, smaller vocabulary
# What an encoder's folder may hold that embeddings depend on: the last ones are those of `transformers`' tokenizers.
_FOLDER_FILES: Final = frozenset(
    {CONFIG_FILE, WEIGHTS_FILE, BPE_FILE, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"}
)
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
    """The absolute path of weights that are there and are the ones that were stated or recorded.

    Files that nobody has recorded, as those put there by hand, are read once, and recorded.
    Raises: WeightsMissingError, which says how to get them; ModelError if they are others.
    """
    path = record.path_in(directory).absolute()
    if kind_at(path, record.name, raised=ModelError):
        _check_there(record, path)
        return path
    if record.address is None:
        raise WeightsMissingError(f"{record.name} belongs into the package and is not at {path}; install it again")
    raise WeightsMissingError(
        f"{record.name} is not at {path}; fetch it (about {record.approximate_bytes / 1e6:.0f} MB, {record.licence}) "
        f"with: searchanything models fetch {record.preset}"
    )


def digest_of(path: Path) -> str:
    """sha256 of a file, or of the files of an encoder's folder with their names; 64 hex digits.

    A file that has not changed since its checksum was written beside it is not read again. Of a folder only the files
    that an encoder is made of count: what else lies there, as `.DS_Store`, changes nothing.
    Raises: WeightsMissingError, or ModelError if the file is not the one that was recorded.
    """
    kind = kind_at(path, "weights", raised=ModelError)
    if kind == "folder":
        files = sorted(entry for entry in path.iterdir() if entry.name in _FOLDER_FILES and entry.is_file())
        listing = "".join(f"{_hash_file(entry)}  {entry.name}\n" for entry in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    if kind != "file":
        raise WeightsMissingError(f"expected weights at {path}, there is no such file")
    recorded = recorded_digest(path)
    if recorded is None:
        return _hash_file(path)
    if _as_recorded(path):
        return recorded
    digest = _hash_file(path)
    if digest != recorded:
        sidecar = _sidecar(path).name
        raise ModelError(
            f"{path} has sha256 {digest}, and {recorded} was recorded in {sidecar} when it was fetched or first used; "
            f"delete both files and fetch it again, or {sidecar} alone if the change is yours"
        )
    with suppress(OSError, UsageError):  # a read-only folder only costs the next reading
        _record_digest(path, digest)
    return digest


def recorded_digest(path: Path) -> str | None:
    """The sha256 recorded beside a file; None where there is no record. Raises: ModelError if it cannot be read."""
    sidecar = _sidecar(path)
    if kind_at(sidecar, "a checksum", raised=ModelError) != "file":
        return None
    match = re.match(r"([0-9a-f]{64})\s", _text_of(sidecar))
    if match is None:
        raise ModelError(f"{sidecar} holds no checksum; delete it and fetch {path.name} again")
    return match.group(1)


def fetch_weights(
    record: WeightsRecord, directory: Path, *, source: str | None = None, progress: OnBytes | None = None
) -> Path:
    """Fetch weights unless they are there already, check them, record their checksum, and return their path.

    Without a checksum that was stated or recorded, nothing is fetched over plain HTTP from another machine: nothing
    would show what happened on the way. `source` is a folder or an http(s) address that has the file under its own
    name, in place of the publisher's.
    The file appears under its name complete and checked or not at all, even if the process is killed; what had arrived
    of it is kept for the next try.
    Raises: ModelError, with the address and what to do.
    """
    path = record.path_in(directory).absolute()
    if record.address is None:
        return locate(record, directory)
    if kind_at(path, record.name, raised=ModelError) == "file":
        _check_there(record, path)
        return path
    asked = _address(record, source)
    known = (record.sha256 or recorded_digest(path)) is not None
    try:
        if not known and is_unprotected(asked):
            raise ModelError(
                f"{record.name} has no known sha256, and {asked} is another machine over plain HTTP, so nothing would "
                f"show a change on the way; use https, a folder, or put the sha256 into {_sidecar(path)}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_of(path) as part:
            if "://" in asked:
                digest = download(asked, part, progress or _ignore, known=known)
            else:
                digest = copy(Path(asked), part, progress or _ignore)
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


def _check_there(record: WeightsRecord, path: Path) -> None:
    """Check a file that is there, and record its checksum where it has no record. Raises: ModelError."""
    if record.address is None:  # the package's own files are its installer's to check
        return
    recorded = recorded_digest(path) is not None
    if not recorded and record.sha256 is None and not os.access(path.parent, os.W_OK):
        return  # there is nothing to compare with and no place to keep it
    before = path.stat()
    digest = digest_of(path)
    _check(record, path, digest)
    if not recorded and path.stat().st_mtime_ns == before.st_mtime_ns:  # else it is still being written
        with suppress(OSError, UsageError):
            _record_digest(path, digest)


def _check(record: WeightsRecord, path: Path, digest: str) -> None:
    """Raises: ModelError unless the digest is what the publisher, or else the first fetch, says."""
    expected = record.sha256 or recorded_digest(path)
    if expected is not None and digest != expected:
        raise ModelError(
            f"{record.name} from {record.address}: expected sha256 {expected}, got {digest}; "
            f"delete {path} and {_sidecar(path).name} if they are there and fetch it again"
        )


def _record_digest(path: Path, digest: str) -> None:
    """The record carries the file's size and own time, so that a change shows without reading gigabytes."""
    sidecar = _sidecar(path)
    there = path.stat()

    def write(file: BinaryIO) -> None:
        file.write(f"{digest}  {path.name}\n# {there.st_size} bytes\n".encode())
        file.flush()
        os.utime(file.name, ns=(there.st_mtime_ns, there.st_mtime_ns))

    write_whole(sidecar, write)


def _as_recorded(path: Path) -> bool:
    """Whether a file has the size and time that its record carries."""
    sidecar, there = _sidecar(path), path.stat()
    same_size = f"# {there.st_size} bytes" in _text_of(sidecar).splitlines()
    return same_size and sidecar.stat().st_mtime_ns == there.st_mtime_ns


def _text_of(sidecar: Path) -> str:
    return sidecar.read_text(encoding="utf-8", errors="replace")


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

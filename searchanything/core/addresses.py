"""Network addresses as settings hold them, and names of objects as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef


def is_loopback(host: str) -> bool:
    """True for a name or number of this very machine. Names are not looked up: a resolver may say anything."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def host_of(address: str) -> str:
    """The host of `host:port` or of a URI, without credentials; "" where there is none.

    Raises: ValueError for a malformed address.
    """
    return urlsplit(address if "://" in address else f"//{address}").hostname or ""


def shown_address(address: str) -> str:
    """An address for messages, without what may be secret: user and password, and what follows a question mark."""
    before, mark, rest = address.rpartition("://")
    rest = "…" if "@" in rest.partition("?")[2] else rest.rpartition("@")[2].partition("?")[0]
    return f"{before}{mark}{rest}"


def shown_index(uri: str) -> str:
    """The same of an index, which may be a file of any name."""
    return shown_address(uri) if "://" in uri else uri


def split_s3(text: str) -> tuple[str, str] | None:
    """Bucket and key (or prefix) of `s3://bucket/key`, neither checked nor decoded; None for any other text."""
    if text[:5].lower() != "s3://":
        return None
    bucket, _, key = text[5:].partition("/")
    return bucket, key


def unmarked(text: str) -> ImageRef | None:
    """`bucket/key`, an object's name that lacks its `s3://`; None for a path that can be nothing else."""
    bucket, _, key = text.partition("/")
    return ImageRef(bucket, key) if key and ":" not in bucket and bucket not in ("", ".", "..", "~") else None


def check_image_name(name: object) -> None:
    """Raises: UsageError for what cannot name an image: anything but a path or a text of more than blanks."""
    what = "the name of an image: an ImageRef, s3://bucket/key, a path that was indexed, or a key"
    if not isinstance(name, str | Path) or not str(name).strip():
        raise UsageError(f"image: expected {what}, got {name!r}")


def check_no_file(words: str) -> None:
    """Raises: UsageError for words that are the path of a file."""
    try:
        is_file = bool(Path(words).suffix) and Path(words).is_file()
    except OSError:  # no name is so long
        return
    if is_file:
        raise UsageError(f"{words} is a file: give ({words!r}, prompt), with a point or box of the thing in it")


def names_of(path: Path) -> list[ImageRef]:
    """The names that a file has by the folder it was indexed with, nearest folder first."""
    folder = path.expanduser().parent.resolve()  # the file itself may be a link, whose own name is its key
    return [ImageRef(str(one), (folder / path.name).relative_to(one).as_posix()) for one in (folder, *folder.parents)]


def check_one_bucket(key: str, found: Sequence[ImageRef]) -> None:
    """Raises: UsageError for several images with one key, of several buckets."""
    if len(found) > 1:
        names = ", ".join(image.bucket for image in found)
        raise UsageError(
            f"{key}: images of {len(found)} buckets have this key ({names}); say s3://bucket/key or a path"
        )

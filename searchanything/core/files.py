"""Files that answers are saved under, written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from searchanything.core.arguments import check_kind
from searchanything.core.errors import UsageError
from searchanything.core.reading import kind_at

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def privately(name: str, flags: int) -> int:
    """An opener of files that other users of the machine cannot read."""
    return os.open(name, flags, 0o600)


def check_save_path(
    path: str | Path, suffixes: tuple[str, ...] = tuple(FORMATS), *, inputs: Iterable[str | Path] = ()
) -> Path:
    """The path, if its suffix is one of these, it is no folder, its folder is there, and it is none of the inputs.

    Raises: UsageError.
    """
    check_kind(path, str | Path, "path", "the name of a file")
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise UsageError(f"{target}: expected a name that ends in {', '.join(suffixes)}, got {target.suffix or 'none'}")
    if kind_at(target, "the name of a file") == "folder":
        raise UsageError(f"{target}: expected the name of a file, this is a folder")
    if kind_at(target.parent, "a folder") != "folder":
        raise UsageError(f"{target}: there is no folder {target.parent}; make it, or name another place")
    for given in inputs:
        if _is_same_file(target, Path(given)):
            raise UsageError(f"{target} would be written over {given}, which is read; name another place")
    return target


def check_writable(target: Path) -> None:
    """Try to write beside the target, as `whole_file` will. Raises: UsageError for a place that cannot be written."""
    with contextlib.suppress(_NotKeptError), whole_file(target):
        raise _NotKeptError


class _NotKeptError(Exception):
    """Ends a trial: what was begun is removed, and the target stays as it was."""


def _is_same_file(one: Path, other: Path) -> bool:
    """Whether both names are of one file on this machine, by whatever links. A location in a bucket is none."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or is no path
        return False


def save_image(draw: Callable[[], Image.Image], path: str | Path) -> None:
    """Draw, and write what was drawn in the format that the suffix names.

    Raises: UsageError for what `check_save_path` refuses, before anything is drawn, and for a place that cannot be
    written.
    """
    target = check_save_path(path)
    image = draw()
    write_whole(target, lambda file: image.save(file, format=FORMATS[target.suffix.lower()]))


def save_text(text: str, path: str | Path, *, suffixes: tuple[str, ...]) -> None:
    """Write a text as UTF-8. Raises: UsageError as `save_image`."""
    data = text.encode("utf-8", "backslashreplace")  # keys may hold bytes that are no UTF-8, as lone surrogates
    write_whole(check_save_path(path, suffixes), lambda file: file.write(data))


def save_json(document: Mapping[str, Any], path: str | Path) -> None:
    """Write a document as JSON. Raises: UsageError as `save_image`, and for another suffix than .json."""
    save_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", path, suffixes=(".json",))


def png_bytes(image: Image.Image) -> bytes:
    """A PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def jpeg_bytes(image: Image.Image) -> bytes:
    """A JPEG file's bytes, small enough for a page of many."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def write_whole(target: Path, write: Callable[[BinaryIO], Result]) -> Result:
    """Write beside the target and rename, so that nobody ever reads half a file.

    Returns what `write` returns. Raises: UsageError for a place that cannot be written.
    """
    with whole_file(target) as file:
        return write(file)


@contextlib.contextmanager
def whole_file(target: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends, and not at all if the block raises.

    A `private` one can be read by its owner alone.

    Raises: UsageError for a place that cannot be written.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with open(part, "xb", opener=privately if private else None) as file:
                yield file
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}") from error

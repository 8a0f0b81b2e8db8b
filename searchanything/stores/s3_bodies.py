"""Bodies of S3 objects: read within limits, compared with their checksums, and unpacked where they were packed.

The etag is that of the stored bytes, packed or not, and so are the checksums: they are compared first.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import ProtocolError

from searchanything.core.errors import ImageError
from searchanything.core.settings import ENV_PREFIX
from searchanything.images.decoding import format_of
from searchanything.stores.crc import CRC32C, CRC64NVME, crc_base64

_CHUNK_BYTES: Final = 1 << 18
_SLOWEST_BYTES_PER_S: Final = 1 << 14  # a body that arrives more slowly than this is abandoned
ASK_CHECKSUMS: Final = {"x-amz-checksum-mode": "ENABLED"}
_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")
_PLAIN: Final = frozenset(("", "identity", "aws-chunked"))  # the last says how an upload travelled, and is often kept
_UPLOAD_FRAME: Final = re.compile(rb"[0-9a-fA-F]{1,16}(;chunk-signature=[0-9a-f]{64})?\r\n")
_MOST_MEMBERS: Final = 1000
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"


class DamagedTransferError(ProtocolError):
    """What arrived is not what was sent: as other broken transfers, it is asked for again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a body is taken, and how long that may take."""

    most_bytes: int
    timeout_s: float


def read_body(key: str, response: BaseHTTPResponse, limits: Limits) -> bytes:
    """The stored bytes as they are.

    Raises: ImageError if they are too many; TimeoutError, HTTPError and OSError for a transfer that broke.
    """
    declared = response.headers.get("content-length")
    _check_size(key, int(declared or 0), limits)
    started = time.monotonic()
    body = bytearray()
    # read1 returns with what has come, so that a trickling sender is noticed.
    while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
        body += chunk
        _check_size(key, len(body), limits)
        if time.monotonic() - started > limits.timeout_s + len(body) / _SLOWEST_BYTES_PER_S:
            raise TimeoutError(f"only {len(body)} bytes came in {time.monotonic() - started:.0f} s")
    if declared is not None and len(body) != int(declared):
        raise DamagedTransferError(f"{len(body)} bytes came of {declared}")
    return bytes(body)


def check_body(headers: Mapping[str, str], body: bytes) -> None:
    """Compare a whole body with what its headers say of it. Raises: DamagedTransferError."""
    known = {name.lower(): value for name, value in headers.items()}
    for name, digest in _CHECKSUMS.items():
        declared = known.get(f"x-amz-checksum-{name}", "").strip()
        whole = known.get("x-amz-checksum-type", "").upper() != "COMPOSITE" and "-" not in declared
        if declared and whole:  # one of a multipart upload's parts' checksums tells nothing of the bytes
            _compare(name.upper(), declared, digest(body))
            return
    if declared := known.get("content-md5", "").strip():
        _compare("Content-MD5", declared, _base64_of("md5")(body))
    elif etag := _plain_md5(known):
        _compare("MD5", etag, hashlib.md5(body, usedforsecurity=False).hexdigest())


def unpacked(key: str, headers: Mapping[str, str], body: bytes, limits: Limits) -> bytes:
    """The bytes without their Content-Encoding (gzip, deflate); as they are where they turn out not to be encoded.

    Raises: ImageError for another encoding, a damaged one, or one that unpacks to more than allowed.
    """
    known = {name.lower(): value for name, value in headers.items()}
    encodings = [one.strip().lower() for one in known.get("content-encoding", "").split(",")]
    for encoding in reversed(encodings):
        if encoding in _PLAIN or format_of(body) is not None:
            continue  # a server or a proxy may have unpacked it on the way, or the header was never true
        if encoding in ("gzip", "x-gzip"):
            body = _gunzipped(key, body, limits)
        elif encoding == "deflate":
            body = _inflated(key, body, limits)
        else:
            raise ImageError(
                key,
                f"is stored with Content-Encoding {encoding[:40]!r}, and gzip and deflate alone are unpacked; "
                "upload it again without one",
            )
    if "aws-chunked" in encodings and format_of(body) is None and _UPLOAD_FRAME.match(body):
        raise ImageError(
            key,
            "was stored with the frames of its upload (aws-chunked) by a server that does not know them; upload it "
            "again with another client",
        )
    return body


def _base64_of(name: str) -> Callable[[bytes], str]:
    return lambda data: base64.b64encode(hashlib.new(name, data, usedforsecurity=False).digest()).decode()


_CHECKSUMS: Final[Mapping[str, Callable[[bytes], str]]] = {  # the fastest first
    "crc32": lambda data: base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode(),
    "sha256": _base64_of("sha256"),
    "sha1": _base64_of("sha1"),
    "crc64nvme": lambda data: crc_base64(data, CRC64NVME),
    "crc32c": lambda data: crc_base64(data, CRC32C),
}


def _plain_md5(known: Mapping[str, str]) -> str | None:
    """The etag where it is the MD5 of the stored bytes.

    It is not for multipart uploads (a hyphen), with keys of KMS or the customer, in directory buckets, and where a
    weak etag or Google's own header tells that the body was changed on its way.
    """
    etag = known.get("etag", "").strip()
    encrypted = known.get("x-amz-server-side-encryption", "AES256").upper() != "AES256"
    by_customer = "x-amz-server-side-encryption-customer-algorithm" in known
    express = known.get("x-amz-storage-class", "").upper() == "EXPRESS_ONEZONE"
    stored_as = known.get("x-goog-stored-content-encoding", "identity")
    changed = etag.startswith("W/") or (stored_as != "identity" and "content-encoding" not in known)
    bare = etag.strip('"')
    if encrypted or by_customer or express or changed or not _MD5.fullmatch(bare):
        return None
    return bare.lower()


def _compare(name: str, declared: str, found: str) -> None:
    if declared != found:
        raise DamagedTransferError(f"its {name} is {declared[:64]}, what came has {found}")


def _check_size(key: str, size_bytes: int, limits: Limits) -> None:
    if size_bytes > limits.most_bytes:
        raise ImageError(
            key,
            f"has {size_bytes} bytes or more, and {ENV_PREFIX}STORAGE__MAX_OBJECT_BYTES allows {limits.most_bytes}",
        )


def _gunzipped(key: str, body: bytes, limits: Limits) -> bytes:
    """One gzip member behind the other; zeros and other things behind the last are no part of it."""
    unpacked = bytearray()
    for _ in range(_MOST_MEMBERS):  # each copies what follows it
        if not body.startswith(_GZIP_MAGIC):
            break
        member, body = _inflate(key, body, limits, window=31, before=len(unpacked))
        unpacked += member
    return bytes(unpacked) or body


def _inflated(key: str, body: bytes, limits: Limits) -> bytes:
    """`deflate` is a zlib stream by the standard, and a bare one by many programs."""
    is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate(key, body, limits, window=15 if is_zlib else -15, before=0)[0]


def _inflate(key: str, body: bytes, limits: Limits, *, window: int, before: int) -> tuple[bytes, bytes]:
    """A stream unpacked, and what follows it."""
    stream = zlib.decompressobj(window)
    try:
        data = stream.decompress(body, limits.most_bytes - before + 1)
    except zlib.error as error:
        raise ImageError(key, f"is stored compressed (Content-Encoding) and damaged: {error}") from None
    _check_size(key, before + len(data), limits)
    if not stream.eof:
        raise ImageError(key, "is stored compressed (Content-Encoding) and cut off")
    return data, stream.unused_data

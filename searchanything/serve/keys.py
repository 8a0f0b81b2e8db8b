"""API keys: named, revocable, scoped, and kept as digests alone.

A key is `sa_ID_SECRET`. The secret is 256 random bits, so one round of SHA-256 keeps it: there is nothing to guess.
The file is read again when it changes, so a key that was revoked is refused by every server that shares the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from searchanything.core.errors import AccessError, ServeError, UsageError
from searchanything.core.files import whole_file
from searchanything.core.settings_files import ENV_PREFIX
from searchanything.core.types import Place

logger = logging.getLogger(__name__)

Right: TypeAlias = Literal["read", "refine", "standing"]
RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
USUAL_RIGHTS: Final[tuple[Right, ...]] = ("read", "refine")  # what a key has that names none: nothing is kept by them
FILE: Final = "keys.json"
SHORTEST: Final = 32  # of a key that was made elsewhere
_OWN_FORM: Final = re.compile(r"sa_(?P<id>[0-9a-f]{8})_")
_FORMAT: Final = "searchanything-keys/1"
_UNKNOWN: Final = "the key is not valid (any more)"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. No `places`: it may see everything. `digest` is of the whole key."""

    id: str
    name: str
    digest: str
    places: tuple[Place, ...]
    rights: tuple[Right, ...]
    created_at_ms: int
    revoked_at_ms: int | None = None

    def demand(self, right: Right) -> None:
        """Raises: AccessError if the key does not give this right."""
        if right not in self.rights:
            raise AccessError(f"the key {self.name!r} does not give the right {right!r}", known=True)


class KeyRing:
    """The keys in a folder. Thread-safe, and safe between processes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._lock = threading.Lock()
        self._read: tuple[object, tuple[ApiKey, ...]] = (None, ())

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, revoked ones included, as the file has them now. Raises: ServeError."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return ()
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        with self._lock:
            if self._read[0] != state:
                self._read = state, _parsed(self._file)
            return self._read[1]

    def find(self, token: str) -> ApiKey:
        """The valid key that a request shows. Raises: AccessError; ServeError, whose text names no file."""
        digest = _digest(token)
        try:
            keys = self.all()
        except ServeError as error:
            logger.warning("%s", error)
            raise ServeError("the server's keys cannot be read; no request is taken until they can") from error
        # All are compared, in constant time each, so that the time taken says nothing.
        found = [key for key in keys if hmac.compare_digest(key.digest, digest)]
        if not found or found[0].revoked_at_ms is not None:
            raise AccessError(_UNKNOWN)
        return found[0]

    def add(
        self, name: str, *, places: Sequence[Place] = (), rights: Collection[Right] = USUAL_RIGHTS
    ) -> tuple[str, ApiKey]:
        """Make a key: what to show, which is kept nowhere, and what is kept. Raises: UsageError."""
        token = f"sa_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
        key = _new_key(name, token, places, rights)
        with self._changing() as keys:
            if any(one.name == name and one.revoked_at_ms is None for one in keys):
                raise UsageError(f"there is a key {name!r} already: revoke it first, or choose another name")
            keys.append(key)
        return token, key

    def take(
        self, name: str, token: str, *, places: Sequence[Place] = (), rights: Collection[Right] = USUAL_RIGHTS
    ) -> ApiKey:
        """Keep a key that was made elsewhere, as by a container's secrets; an older one of that name is revoked.

        Taking the same again changes no more than its places and rights. Raises: UsageError, also for one that was
        revoked.
        """
        if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError(
                f"expected a key of at least {SHORTEST} random letters and digits, got {len(token)}: "
                f"openssl rand -hex 32 makes one"
            )
        wanted = _new_key(name, token, places, rights)
        with self._changing() as keys:
            if any(key.digest == wanted.digest and key.revoked_at_ms is not None for key in keys):
                raise UsageError(f"this key of {name!r} was revoked or replaced, and stays so: make another")
            valid = {key.name: number for number, key in enumerate(keys) if key.revoked_at_ms is None}
            if name not in valid:
                keys.append(wanted)
            elif keys[valid[name]].digest == wanted.digest:
                wanted = replace(wanted, created_at_ms=keys[valid[name]].created_at_ms)
                keys[valid[name]] = wanted
            else:
                keys[valid[name]] = replace(keys[valid[name]], revoked_at_ms=wanted.created_at_ms)
                keys.append(wanted)
        return wanted

    def revoke(self, name: str) -> ApiKey:
        """Refuse a key from now on, by its name or id. Raises: UsageError."""
        with self._changing() as keys:
            for number, key in enumerate(keys):
                if name in (key.name, key.id) and key.revoked_at_ms is None:
                    keys[number] = replace(key, revoked_at_ms=time.time_ns() // 10**6)
                    return keys[number]
        raise UsageError(f"expected the name or id of a valid key, got {name!r}; see searchanything keys list")

    @contextmanager
    def _changing(self) -> Iterator[list[ApiKey]]:
        """The keys, written again afterwards; one process at a time."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            guard = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServeError(
                f"{self._file.parent}, where keys are kept, cannot be written: {error.strerror or error}; set "
                f"{ENV_PREFIX}SERVE__FOLDER to a place that can"
            ) from error
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            keys = list(self.all())
            before = list(keys)
            yield keys
            if keys != before:
                document = {"format": _FORMAT, "keys": [asdict(key) for key in keys]}
                with whole_file(self._file, private=True) as file:
                    file.write(json.dumps(document, indent=1).encode())
        finally:
            os.close(guard)


def _new_key(name: str, token: str, places: Sequence[Place], rights: Collection[Right]) -> ApiKey:
    """What is kept of a key. Raises: UsageError."""
    if not name.strip() or not name.isprintable():
        raise UsageError(f"expected a name of printable letters, got {name!r}")
    if not rights or set(rights) - set(RIGHTS):
        raise UsageError(f"expected rights among {', '.join(RIGHTS)}, got {', '.join(rights) or 'none'}")
    made = _OWN_FORM.match(token)
    digest = _digest(token)
    kept = tuple(right for right in RIGHTS if right in rights)
    identity = made["id"] if made else digest[:8]
    return ApiKey(identity, name, digest, tuple(places), kept, time.time_ns() // 10**6)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _parsed(file: Path) -> tuple[ApiKey, ...]:
    try:
        document: Any = json.loads(file.read_text("utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, got {document['format']!r}")
        return tuple(_key_of(one) for one in document["keys"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ServeError(f"{file}: the keys cannot be read ({error}); no request is taken until they can") from error


def _key_of(document: dict[str, Any]) -> ApiKey:
    places = tuple((str(bucket), str(key_prefix)) for bucket, key_prefix in document["places"])
    return ApiKey(**{**document, "places": places, "rights": tuple(document["rights"])})

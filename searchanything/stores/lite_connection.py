"""A connection to an embedded index that takes nothing on trust.

Milvus Lite keeps all rows in memory. It acknowledges rows that SQLite refused to write (a file that cannot be written,
a full disk, a database that another program has locked) and shows them until it ends, as it does those that it refuses
because another program reads the file; it drops without a word what it cannot read of a damaged file; and any process
may end the server that all share. So

- after each write the file's own change counter is looked at: where it stands still, nothing was written, the server is
  replaced by one that knows only what is in the file, and the write is tried again or refused with the reason;
- what makes or drops a collection is looked for in the file, as the server acknowledges that at the second attempt;
- of each collection that is loaded, the server must find as many rows as the file holds;
- what a server did not survive is tried again with the next one; of rows to insert, those that are not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from searchanything.core.counting import counted
from searchanything.core.errors import (
    IndexNotFoundError,
    IndexUnavailableError,
    RegionIndexError,
)
from searchanything.core.settings import MilvusSettings
from searchanything.stores.lite_file import (
    WHOLE_COLLECTION,
    check_place,
    check_room,
    count_rows,
    damaged,
    parts_of_collection,
    wait_for_readers,
)
from searchanything.stores.lite_host import LiteHost, server_at
from searchanything.stores.lite_supervisor import change_counter
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_connection import LOADING, SEARCHING, MilvusConnection
from searchanything.stores.milvus_errors import CollectionReleasedError, TooLateError
from searchanything.stores.milvus_library import MilvusException, grpc
from searchanything.stores.milvus_schema import CollectionSpec, entity_bytes

_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # between tries: a new server answers after 0.1 s
_CODE_INTERNAL: Final = 5  # what no request of ours brings about on a sound file
_CODE_SEGCORE: Final = 2000  # loading brings it about on a damaged file alone, an expression elsewhere
_LOADED_BYTES_S: Final = 4e6  # of a collection: on two cores that others used as well less than 6e6 were loaded
_LOOKS, _LOOK_S = 5, 0.05  # at the numbers of rows: somebody may be writing
Result = TypeVar("Result")


class LiteConnection(MilvusConnection):
    """A `MilvusConnection` to the server of a file on this machine."""

    # Over 200 lines: what is tried again and what is checked go by one memory of servers, files and collections.

    def __init__(self, settings: MilvusSettings, host: LiteHost) -> None:
        super().__init__(settings, host)
        self._lite = host
        self._opened_file: str | None = None  # which file the client's server has open
        self._written: str | None = None  # which file this process wrote to
        self._checked: tuple[object, ...] | None = None  # which server
        self._loaded: set[str] = set()

    @property
    def _timeout_s(self) -> float:
        """Longer by the size of the file: the server loads all of a collection before its first answer from it, looks
        at all rows for each one, and does one thing at a time, so others may have to wait for that as well.
        """
        try:
            return self._settings.timeout_s + self._lite.file.stat().st_size / _LOADED_BYTES_S
        except OSError:
            return self._settings.timeout_s

    # What is tried again

    def _create(self, client: RowClient, spec: CollectionSpec, timeout_s: float) -> None:
        super()._create(client, spec, timeout_s)
        self._expect_parts(spec.name, WHOLE_COLLECTION)

    def _drop_collection(self, name: str, made: int | None) -> None:
        super()._drop_collection(name, made)
        self._expect_parts(name, 0)

    def _add(self, name: str, entities: list[dict[str, Any]]) -> None:
        check_room(self._lite.file, sum(map(entity_bytes, entities)))
        super()._add(name, entities)

    def load(self, name: str) -> None:
        """Raises: IndexDamagedError if there are fewer rows than the file has."""
        super().load(name)
        self._again(lambda: self._check_loaded(name))
        self._loaded.add(name)

    def begin(self) -> None:
        """Whatever file is there now may be written to."""
        self._written = None

    def check_writable(self) -> None:
        if self.absent:
            check_place(self._lite.file)
            return
        self._lite.look_writable()

    def rows_state(self) -> Hashable:
        """Which server it is, and the file's change counter.

        The server does one thing at a time. Within an insertion the counter moves after the rows can be read, within a
        deletion before they are gone: who looks at the counter, and then asks, reads what it stands for or newer. What
        a server shows though the file refused it is gone with that server.
        """
        try:
            return None if self._made_for is None else (self._made_for, change_counter(self._lite.file))
        except OSError:
            return None

    def _again(self, action: Callable[[], Result]) -> Result:
        """The result of an action that may be repeated: what a server did not survive, the next one may."""
        for pause_s in _PAUSES_S:
            server = self._made_for
            try:
                return action()
            except TooLateError:
                raise
            except IndexUnavailableError:
                if server is not None and server == server_at(self._lite.acquire()):
                    self._lite.retire()  # what it was asked may still be under way
                time.sleep(pause_s)
        return action()

    # What is checked

    def _read(self, doing: str, call: Callable[[RowClient, float], Result]) -> Result:
        if self.absent:
            raise IndexNotFoundError(f"nothing is indexed at {self.uri}: there is no such file")
        read = partial(super()._read, doing, call)
        if doing == SEARCHING:  # it carries what people wrote, which may be what ends the server: once is enough
            return read()
        try:
            return self._again(read)
        except RegionIndexError as error:
            codes = (_CODE_INTERNAL, _CODE_SEGCORE) if doing == LOADING else (_CODE_INTERNAL,)
            if isinstance(error.__cause__, MilvusException) and error.__cause__.code in codes:
                raise damaged(self._lite.file, f"its server could not {doing} ({error})") from error
            raise

    def _write(self, doing: str, call: Callable[[RowClient, float], object]) -> None:
        def checked(client: RowClient, timeout_s: float) -> None:
            before = change_counter(self._lite.file)
            try:
                done = call(client, timeout_s)
            except (grpc.RpcError, MilvusException) as error:
                if not _is_refusal(error):
                    raise
                self._forget_refused(timeout_s)
                raise IndexUnavailableError(f"{self.uri}: could not {doing}: its file refused that") from error
            if _has_rows(done) and change_counter(self._lite.file) == before:
                self._lite.retire()
                raise IndexUnavailableError(
                    f"{self.uri}: could not {doing}: the server acknowledged them, but nothing was written to its "
                    f"file; is another program using the file?"
                )

        self._once("connect", self._surely_connected)
        self._lite.check_writable()
        self._once("connect", self._surely_connected)
        self._check_same_file()
        try:
            super()._write(doing, checked)
        except (IndexNotFoundError, IndexUnavailableError, CollectionReleasedError):
            raise
        except RegionIndexError:
            self._lite.retire()  # it shows rows that it could not write
            check_room(self._lite.file)
            raise

    def _forget_refused(self, timeout_s: float) -> None:
        """End a server that shows what its file refused; return when it would not refuse them any more.

        Raises: TooLateError, IndexDamagedError.
        """
        self._lite.retire()
        try:
            wait_for_readers(self._lite.file, timeout_s)
        except IndexUnavailableError as error:
            raise TooLateError(f"{error}; which program reads it?") from error

    def _check_same_file(self) -> None:
        """Raises: RegionIndexError, once, if the file that this process wrote to was replaced by another."""
        before, self._written = self._written, self._opened_file
        if before not in (None, self._opened_file):
            raise RegionIndexError(
                f"{self.uri}: the file was removed or replaced while this process was writing to it; what it wrote "
                f"before went with the old file: run the same again"
            )

    def _connected(self) -> RowClient:
        with self._lock:
            if self._lite.identity != self._opened_file:
                return self._surely_connected()
            return super()._connected()

    def _surely_connected(self) -> RowClient:
        with self._lock:
            client = super()._surely_connected()
            self._opened_file = self._lite.identity
            if self._made_for != self._checked:
                self._check_server(client)
                self._checked = self._made_for
            return client

    def _look_at_made(self, name: str) -> None:
        self._expect_parts(name, WHOLE_COLLECTION - 1)

    def _expect_parts(self, name: str, parts: int) -> None:
        """Raises: IndexUnavailableError where the file refused what its server acknowledged, which is ended."""
        for _ in range(_LOOKS):
            found = parts_of_collection(self._lite.file, name)
            if found == parts:
                return
            if found is not None:
                self._forget_refused(self._settings.timeout_s)
                raise IndexUnavailableError(f"{self.uri}: its file refused to have {name} made or dropped")
            time.sleep(_LOOK_S)

    def _check_server(self, client: RowClient) -> None:
        """Raises: IndexDamagedError."""
        present = self._sound("list its collections", lambda: client.list_collections(timeout=self._timeout_s))
        for name in self._loaded & set(present):
            self._load_and_check(client, name)

    def _check_loaded(self, name: str) -> None:
        client = self._connected()
        try:
            self._check_rows(client, name)
        except CollectionReleasedError:  # a new server has taken the place of the one that was just asked
            self._load_and_check(client, name)

    def _load_and_check(self, client: RowClient, name: str) -> None:
        self._sound(f"load {name}", lambda: client.load_collection(name, timeout=self._timeout_s))
        self._check_rows(client, name)

    def _check_rows(self, client: RowClient, name: str) -> None:
        """Raises: IndexDamagedError if the server finds fewer rows of a collection than the file holds.

        Where others delete meanwhile it does, too: only while nobody writes do the two numbers say anything.
        """
        timeout_s = self._timeout_s
        there, found, is_still = None, 0, False
        for _ in range(_LOOKS):
            state = self.rows_state()
            there = count_rows(self._lite.file, name)
            rows = self._sound(
                f"count {name}", lambda: client.query(name, filter="", output_fields=["count(*)"], timeout=timeout_s)
            )
            found = int(rows[0]["count(*)"])
            if there is not None and found >= there:
                return
            is_still = state == self.rows_state()
            time.sleep(_LOOK_S)
        if there is not None and is_still:
            raise damaged(self._lite.file, f"{name} has {counted(there, 'row')}, of which {found} can be read")

    def _sound(self, doing: str, call: Callable[[], Result]) -> Result:
        """What an undamaged file lets a server do."""
        try:
            return self._once(doing, call)
        except (IndexNotFoundError, IndexUnavailableError, CollectionReleasedError):
            raise
        except RegionIndexError as error:
            if not isinstance(error.__cause__, MilvusException):
                raise
            raise damaged(self._lite.file, f"its server could not {doing} ({error})") from error


def _is_refusal(error: Exception) -> bool:
    """Whether a server says that its file could not be written: without a word, or as an error of its own."""
    if isinstance(error, MilvusException):
        return bool(error.code == _CODE_INTERNAL)
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNKNOWN


def _has_rows(answer: object) -> bool:
    """Whether rows were inserted or deleted: the answer is or has their number; what makes collections has none."""
    if isinstance(answer, Mapping):
        return any(answer.get(count) for count in ("insert_count", "delete_count"))
    return bool(answer)

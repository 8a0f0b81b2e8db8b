"""The one place that speaks pymilvus: connecting, reconnecting, timeouts and errors.

`MilvusConnection` hides which server answers (an embedded one through `LiteHost`, or one at an address). Everything
foreign that can be raised is mapped by `index_error`. pymilvus retries for ever without a timeout, and its logger
prints a traceback per failed call: neither happens here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from searchanything.core.addresses import shown_address
from searchanything.core.batching import batches
from searchanything.core.errors import IndexNotFoundError, IndexUnavailableError, RegionIndexError, SearchAnythingError
from searchanything.core.patience import patiently
from searchanything.core.settings import MilvusSettings, check_token
from searchanything.stores.lite_client import LiteClient
from searchanything.stores.lite_host import LiteHost, server_at
from searchanything.stores.milvus_address import connection_arguments
from searchanything.stores.milvus_client import RowClient
from searchanything.stores.milvus_consistency import levels_of
from searchanything.stores.milvus_errors import (
    CollectionReleasedError,
    NotAllowedError,
    NotNowError,
    TooLateError,
    index_error,
)
from searchanything.stores.milvus_filters import one_of
from searchanything.stores.milvus_library import LoadState, MilvusException, grpc
from searchanything.stores.milvus_making import CollectionMaker
from searchanything.stores.milvus_questions import FoundRows, RowPage, RowSearch
from searchanything.stores.milvus_schema import CollectionSpec, Entity, LivePointer, fields_of
from searchanything.stores.row_pages import PAGE_ROWS, RowPages

logger = logging.getLogger(__name__)
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

LOADING: Final = "load a collection"
SEARCHING: Final = "search"
MAX_EF: Final = 32768  # Milvus' own
MAX_NPROBE: Final = 65536  # Milvus' own; more lists than there are means all
Result = TypeVar("Result")


class MilvusConnection:
    """One process's connection. Thread-safe; after a fork the child connects anew. Connects at the first call.

    Reads are tried twice: an alias that is being switched, or a server that was restarted, fails once. Writes are tried
    once, but in `long_work`, and then of rows those alone that are not there: none may be written twice.
    """

    # Over 200 lines: every call to Milvus goes through here, so that each has its retry, deadline and error mapping.

    def __init__(self, settings: MilvusSettings, host: LiteHost | None = None) -> None:
        """Raises: SettingsError."""
        check_token(settings)
        self._settings = settings
        self._host = host
        self._lock = threading.RLock()
        self._client: RowClient | None = None
        self._made_by = os.getpid()
        self._made_for: tuple[object, ...] | None = None  # which embedded server
        self._levels = levels_of(settings.uri, settings.database)
        self._uri = shown_address(settings.uri) if self._host is None else str(self._host.file)

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def embedded(self) -> bool:
        """True on Milvus Lite: no aliases, no scalar indexes."""
        return self._host is not None

    @property
    def absent(self) -> bool:
        """True if this is an embedded index whose file nobody has made yet."""
        return self._host is not None and not self._host.file.exists()

    def begin(self) -> None:
        """A run begins, which looks up by itself what it is to write to."""

    def check_writable(self) -> None:
        """As `IndexStore`'s: of a server nobody knows before it is given something to write."""

    def rows_state(self) -> Hashable:
        """What differs after every write by anybody; None where that is not known, as of a server."""
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off the other writers of an embedded index. Not to be nested."""
        with contextlib.nullcontext() if self._host is None else self._host.writing():
            yield

    def close(self) -> None:
        """Free the connection; another call would connect again."""
        with self._lock:
            self._drop_client()
            if self._host is not None:
                self._host.release()

    def has_collection(self, name: str) -> bool:
        return self._read("look for a collection", lambda client, t: bool(client.has_collection(name, timeout=t)))

    def create_collection(self, spec: CollectionSpec) -> None:
        """Make a collection, or what an interrupted attempt left to be made, and begin to load it (see `load`)."""
        self._again(partial(self._write, "create a collection", lambda client, t: self._create(client, spec, t)))

    def load(self, name: str) -> None:
        """Have a collection in memory, ready to be searched. Who may not load may use what is loaded."""
        try:
            self._load(name)
        except NotAllowedError as error:
            logger.debug("taken for loaded: %s", error)

    def _load(self, name: str) -> None:
        self._read(LOADING, lambda client, t: client.load_collection(name, timeout=t))

    def is_loaded(self, name: str) -> bool:
        """Whether a collection is in memory, or being loaded; False for one that is not there."""
        found = self._read("ask for a load state", lambda client, t: client.get_load_state(name, timeout=t))
        return found["state"] in (LoadState.Loaded, LoadState.Loading)

    def release(self, name: str) -> None:
        """Take a collection out of memory. Whoever reads it later has it loaded again."""
        self._again(
            partial(self._write, "release a collection", lambda one, t: one.release_collection(name, timeout=t))
        )

    def drop_collection(self, name: str) -> None:
        """Remove a collection, if there is one; never one that another process made anew after a server's end."""
        self._again(partial(self._drop_collection, name, self._made(name)))

    def _drop_collection(self, name: str, made: int | None) -> None:
        if made is not None and self._made(name) == made:
            self._write("drop a collection", lambda client, t: client.drop_collection(name, timeout=t))

    def _made(self, name: str) -> int | None:
        """The number of a collection, which no other ever has on a server; None for one that is not there."""
        try:
            found = self._read("describe a collection", lambda one, t: one.describe_collection(name, timeout=t))
        except IndexNotFoundError:
            return None
        return int(found.get("collection_id", 0))

    def fields(self, name: str) -> dict[str, int | None]:
        """Names of a collection's fields; for a vector also its bits. Raises: IndexNotFoundError."""
        return fields_of(self._read("describe a collection", lambda one, t: one.describe_collection(name, timeout=t)))

    def vector_index_type(self, name: str) -> str:
        """`BIN_FLAT`, `BIN_IVF_FLAT` or `HNSW`."""
        described = self._read("describe an index", lambda client, t: client.describe_index(name, "code", timeout=t))
        return str(described["index_type"])

    def alias_target(self, alias: str) -> LivePointer | None:
        """The collection that an alias points to; None if there is no such alias in this database.

        A collection is asked for by the alias: 2.3 looks for aliases themselves in the database `default`, whichever is
        named. Only of a collection of that very name the alias is asked for.
        """
        try:
            described = self._read("resolve an alias", lambda client, t: client.describe_collection(alias, timeout=t))
            made = int(described.get("collection_id", 0))
            if described["collection_name"] == alias:
                described = self._read("resolve an alias", lambda client, t: client.describe_alias(alias, timeout=t))
        except IndexNotFoundError:
            return None
        return LivePointer(str(described["collection_name"]), made)

    def point_alias(self, alias: str, name: str) -> None:
        """Make an alias point to a collection, at once for everyone."""
        self._again(lambda: self._point_alias(alias, name))

    def _point_alias(self, alias: str, name: str) -> None:
        if self.alias_target(alias) is None:
            self._write("create an alias", lambda client, t: client.create_alias(name, alias, timeout=t))
        else:
            self._write("switch an alias", lambda client, t: client.alter_alias(name, alias, timeout=t))

    def drop_alias(self, alias: str) -> None:
        """Remove an alias, if there is one; its collection stays."""
        if self.alias_target(alias) is not None:
            self._write("drop an alias", lambda client, t: client.drop_alias(alias, timeout=t))

    def insert(self, name: str, entities: list[dict[str, Any]]) -> None:
        """Add rows whose ids are new. Those that are there after a server's end are not written twice."""
        missing, first = entities, True

        def insert_missing() -> None:
            nonlocal missing, first
            missing, first = missing if first else self._absent(name, missing), False
            if missing:
                self._add(name, missing)

        self._again(insert_missing)
        self._levels.inserted(name)

    def _add(self, name: str, entities: list[dict[str, Any]]) -> None:
        self._write("insert rows", lambda client, t: client.add(name, entities, t))

    def _absent(self, name: str, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows whose ids are not there."""
        present: set[str] = set()
        for ids in batches((row["id"] for row in entities), PAGE_ROWS):
            present.update(row["id"] for row in self.query(name, one_of("id", ids), ["id"], strong=True))
        if present and not self.embedded:
            self._levels.deleted(name)  # pymilvus does not know when these came: the next read waits for all
        return [row for row in entities if row["id"] not in present]

    def delete(self, name: str, expression: str) -> None:
        """Delete rows. This process's next reads do not see them."""
        delete = partial(self._write, "delete rows", lambda one, t: one.delete(name, filter=expression, timeout=t))
        self._again(lambda: self._in_memory(name, delete))
        if not self.embedded:
            self._levels.deleted(name)

    def now(self) -> int:
        """The time by which reads show what anybody wrote before."""
        return self._read("ask for the time", lambda client, timeout_s: client.now(timeout_s))

    def query(
        self, name: str, expression: str, fields: list[str], *, strong: bool = False, as_of: int | None = None
    ) -> list[Entity]:
        """Up to `MAX_LIMIT` rows: all that anybody wrote (`strong`) or had by `as_of`; else this process's, at least.

        A strong read waits some tenths of a second for the server's clock; of those `as_of` one time only the first.
        """
        usual = "Strong" if strong else self._read_consistency if as_of is None else "Bounded"
        with self._levels.reading(name, usual) as level:
            until = None if level == "Strong" else as_of  # this process has deleted rows, perhaps since then

            def call(client: RowClient, timeout_s: float) -> list[Entity]:
                return client.rows(name, expression, fields, level=level, as_of=until, timeout_s=timeout_s)

            return self._rows(name, "query rows", call)

    def count(self, name: str, expression: str) -> int:
        with self._levels.reading(name, self._read_consistency) as level:

            def call(client: RowClient, timeout_s: float) -> int:
                asked = {"filter": expression, "output_fields": ["count(*)"], "consistency_level": level}
                return int(client.query(name, timeout=timeout_s, **asked)[0]["count(*)"])

            return self._rows(name, "count rows", call)

    def iterate(
        self, name: str, expression: str, fields: list[str], *, page_rows: int | None = None
    ) -> Iterator[Entity]:
        """Stream rows in the order of their ids, with all that anybody wrote before. Memory holds a page (`RowPages`).

        `page_rows` are asked for first.
        """

        def ask(after: str, rows: int) -> list[Entity]:
            asked = RowPage(name, expression, fields, after, rows, as_of)
            return self._rows(name, "stream rows", lambda client, timeout_s: client.page(asked, timeout_s))

        pages = RowPages(ask, first=page_rows or PAGE_ROWS)
        with self._levels.reading(name, "Strong"):  # the time makes it so, which shows deletions as well
            as_of = self.now()
            rows = pages.page("")
        yield from pages.rest(rows)

    def search(
        self,
        name: str,
        queries: list[bytes],
        expression: str,
        fields: list[str],
        *,
        limit: int,
        effort: Mapping[str, int],
        doing: str = SEARCHING,
    ) -> list[FoundRows]:
        """For each query rows (distance in bits, value of each field), ordered by (distance, id). `id` comes first."""
        with self._levels.reading(name, self._settings.consistency) as level:
            asked = RowSearch(name, queries, expression, fields, limit, effort, level)
            return self._rows(name, doing, lambda client, timeout_s: client.nearest(asked, timeout_s))

    def effort(self, kind: str, *, limit: int, everywhere: bool = False) -> dict[str, int]:
        """How hard an index of this kind looks for so many rows, by the settings, whatever they say about new ones.

        `everywhere`: as hard as it can, for the few rows that a narrow expression keeps. BIN_FLAT ignores it.
        """
        if self.embedded:
            return {}
        if kind == "HNSW":
            return {"ef": MAX_EF if everywhere else max(limit, self._settings.ef)}
        return {"nprobe": MAX_NPROBE if everywhere else self._settings.nprobe}

    @property
    def _timeout_s(self) -> float:
        return self._settings.timeout_s

    @property
    def _read_consistency(self) -> str:
        """The state of images decides what is indexed: never weaker than this process's own writes."""
        return "Strong" if self._settings.consistency == "Strong" else "Session"

    def _rows(self, name: str, doing: str, call: Callable[[RowClient, float], Result]) -> Result:
        return self._patiently(lambda: self._in_memory(name, lambda: self._read(doing, call)))

    def _in_memory(self, name: str, call: Callable[[], Result]) -> Result:
        """What needs a collection in memory, which somebody may have released meanwhile. Nothing was done then."""
        try:
            return call()
        except CollectionReleasedError as error:
            logger.info("%s is loaded again: %s", name, error)
            self.load(name)
            try:
                return call()
            except CollectionReleasedError as still:
                self._load(name)  # the reason why it could not be
                raise NotNowError(str(still)) from still  # such as a server that has just started

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """An embedded server that is away is started by who asks: there is nobody to wait for."""
        return ask() if self.embedded else patiently(ask, f"the index at {self._uri}")

    def _again(self, action: Callable[[], Result]) -> Result:
        """The result of an action that may be repeated."""
        return self._patiently(action)

    def _read(self, doing: str, call: Callable[[RowClient, float], Result]) -> Result:
        return self._patiently(lambda: self._read_now(doing, call))

    def _read_now(self, doing: str, call: Callable[[RowClient, float], Result]) -> Result:
        try:
            return self._call(doing, call, self._connected)
        except (IndexNotFoundError, CollectionReleasedError, NotAllowedError, TooLateError):
            raise
        except RegionIndexError as error:
            logger.debug("once more after: %s", error)
            return self._call(doing, call, self._surely_connected)

    def _write(self, doing: str, call: Callable[[RowClient, float], object]) -> None:
        self._call(doing, call, self._surely_connected)

    def _call(self, doing: str, call: Callable[[RowClient, float], Result], connect: Callable[[], RowClient]) -> Result:
        client = self._once("connect", connect)
        try:
            return self._once(doing, lambda: call(client, self._timeout_s))
        except (TooLateError, NotNowError):
            raise  # other threads' calls may be well under way
        except IndexUnavailableError:
            with self._lock:
                if self._client is client:
                    self._drop_client()
            raise

    def _once(self, doing: str, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except SearchAnythingError:
            raise
        except (MilvusException, grpc.RpcError, OSError, ValueError) as error:  # gRPC: ValueError on a closed channel
            raise index_error(error, doing, self._uri) from error

    def _connected(self) -> RowClient:
        """The client that was made before, or a new one; an embedded server is not asked whether it still lives."""
        with self._lock:
            if self._client is None or self._made_by != os.getpid():
                return self._surely_connected()
            return self._client

    def _surely_connected(self) -> RowClient:
        """The client; a new one where this process was forked or the embedded server was replaced meanwhile."""
        with self._lock:
            address = None if self._host is None else self._host.acquire()
            server = None if address is None else server_at(address)
            if self._client is None or self._made_by != os.getpid() or self._made_for != server:
                self._drop_client()
                self._client = self._connect(address)
                self._made_by, self._made_for = os.getpid(), server
            return self._client

    def _connect(self, socket_path: str | None) -> RowClient:
        if socket_path is not None:
            return LiteClient(socket_path, self._timeout_s)
        return RowClient(self._settings.uri, **connection_arguments(self._settings))

    def _drop_client(self) -> None:
        if self._client is not None and self._made_by == os.getpid():  # a forked one belongs to the parent
            with contextlib.suppress(MilvusException, grpc.RpcError):
                self._client.close()
        self._client = None

    def _create(self, client: RowClient, spec: CollectionSpec, timeout_s: float) -> None:
        CollectionMaker(self._settings, self._uri, self.embedded, self._look_at_made).make(client, spec, timeout_s)

    def _look_at_made(self, name: str) -> None:
        """Before a new collection has an index: what a server acknowledges is there."""

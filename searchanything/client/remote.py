"""The light client: the same questions, asked of `searchanything serve` over REST.

It needs the standard library alone. What is asked and how answers are read is in `calls`; here it is sent, once in this
thread and once, for programs that await, in another.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, overload
from urllib.parse import urlsplit

from searchanything.client.calls import (
    Call,
    candidate_of,
    document,
    error_of,
    filter_document,
    hit_of,
    image_bytes,
    image_document,
    prompt_document,
    selection_of,
)
from searchanything.core.errors import ServerUnreachableError, UsageError
from searchanything.core.types import BoxXYXY, Candidate, Filter, Hit, ImageRef, Selection

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")
_PROBE_S: Final = 2.0
_KNOWN_UPLOADS: Final = 100
_UPLOAD_MARGIN_MS: Final = 60_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RemoteResults(Sequence[Hit]):
    """The hits of a query, nearest first, with what was selected. `document` is the server's whole answer.

    `good_match` is False where even the nearest hit is hardly nearer than by chance.
    """

    hits: tuple[Hit, ...]
    selection: Selection
    document: Mapping[str, Any]
    asked: Mapping[str, Any] = field(default_factory=dict)
    send: Callable[[Call[Any]], Any] | None = None

    @property
    def good_match(self) -> bool:
        return bool(self.document["good_match"])

    @property
    def exact(self) -> bool:
        return bool(self.document["exact"])

    @property
    def fingerprint(self) -> str:
        return str(self.document["fingerprint"])

    @property
    def timings_ms(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self.document["timings_ms"]
        return found

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        match = "" if self.good_match else ", no good match"
        nearest = f", nearest {self.hits[0].image} at {self.hits[0].distance_bits} bits" if self.hits else ""
        return f"<RemoteResults: {len(self)} hits ({self.selection.reason}){nearest}{match}>"

    def to_dict(self) -> dict[str, Any]:
        """The server's document without the receipt: plain types only."""
        return {name: value for name, value in self.document.items() if name != "receipt"}

    def receipt(self) -> dict[str, Any]:
        """All that is needed to repeat this query: see `searchanything replay`."""
        return dict(self.document["receipt"])

    def explain(self, image: ImageRef, box_xyxy: BoxXYXY | None = None) -> dict[str, Any]:
        """Why this image is not among the hits, or where it is: the document of `searchanything explain`."""
        expected = {"expect": {"bucket": image.bucket, "key": image.key}}
        body = {**self.asked, **expected, "expect_box_xyxy": None if box_xyxy is None else list(box_xyxy)}
        found: dict[str, Any] = self._sender()(Call("POST", "/v1/explain", document, body))
        return found

    def plot(self) -> Image.Image:
        """The contact sheet, drawn by the server. Raises: UsageError without Pillow."""
        try:
            from io import BytesIO

            from PIL import Image
        except ImportError as error:
            raise UsageError("plot needs Pillow: pip install pillow; save() does without") from error
        return Image.open(BytesIO(self._repr_png_()))

    def save(self, path: str | Path) -> None:
        """Write the contact sheet as PNG. Raises: UsageError for another suffix."""
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: expected a name that ends in .png")
        Path(path).write_bytes(self._repr_png_())

    def _repr_png_(self) -> bytes:
        return bytes(self._sender()(Call("POST", "/v1/sheet", bytes, self.asked)))

    def _sender(self) -> Callable[[Call[Any]], Any]:
        if self.send is None:
            raise UsageError("these results are not from a server, so nothing can be asked about them")
        return self.send


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RemoteSegments(Sequence[Candidate]):
    """All regions that the server's segmenter finds in an image, and the image's size in pixels."""

    regions: tuple[Candidate, ...]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.regions)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...

    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self.regions[index]

    def __repr__(self) -> str:
        return f"<RemoteSegments: {len(self)} regions in an image of {self.width} × {self.height} px>"


class RemoteClient:
    """A client of `searchanything serve`. Thread-safe; it writes nothing. `retries` are of answers 429 and 503."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 2) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected a server's address, http(s)://host:port, got {url!r}")
        self.url = url.rstrip("/")
        self._parts, self._prefix = parts, parts.path.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._timeout_s, self._retries = timeout_s, retries
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._uploads: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RemoteClient of {self.url}>"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a `Client` has
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"{name} is not offered by a server: run it where the index is, with searchanything.connect(URI)"
        )

    def query(
        self,
        image: object,
        prompt: object = None,
        *,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
    ) -> RemoteResults:
        """As `Client.query`: `image` may be a `Hit`, a `RegionRef`, an indexed `ImageRef`, a path, bytes, an image.

        Raises: as `Client.query`; AccessError, BusyError, TooLargeError, ServerUnreachableError.
        """
        asked = {
            "image": self._image(image),
            "prompt": prompt_document(prompt),
            "limit": limit,
            "offset": offset,
            "filter": filter_document(filter),
            "group_by_image": group_by_image,
        }
        found = self.send(Call("POST", "/v1/query", document, asked))
        hits = tuple(hit_of(one) for one in found["hits"])
        return RemoteResults(hits, selection_of(found["selection"]), found, asked, self.send)

    def segment(self, image: object) -> RemoteSegments:
        """All regions of an image. Raises: as `query`."""
        found = self.send(Call("POST", "/v1/segment", document, {"image": self._image(image)}))
        regions = tuple(candidate_of(one) for one in found["regions"])
        return RemoteSegments(regions, found["image"]["width"], found["image"]["height"])

    def status(self) -> dict[str, Any]:
        """The server, its index and what this key may do. Raises: AccessError, ServerUnreachableError."""
        return self.send(Call("GET", "/v1/status", document))

    def send(self, call: Call[Result]) -> Result:
        """Send one request and read its answer. Raises: as the other methods."""
        headers, body = call.encoded()
        for attempt in range(self._retries + 1):
            status, data, retry_after = self._exchange(call, headers, body)
            if status < 400:
                return call.read(data)
            if status not in (429, 503) or attempt == self._retries:
                break
            time.sleep(min(float(retry_after or 1), self._timeout_s))
        raise error_of(status, data, retry_after)

    def close(self) -> None:
        """Close the connections that nobody uses now; the client can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _image(self, image: object) -> dict[str, Any]:
        """The image as the server names it; what is not indexed is uploaded, once while the upload lasts."""
        named = image_document(image)
        if named is not None:
            return named
        data = image_bytes(image)
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            known = self._uploads.get(digest)
        if known is None or known[1] - _UPLOAD_MARGIN_MS < time.time() * 1000:
            kept = self.send(Call("POST", "/v1/uploads", document, data=data))
            known = str(kept["upload"]), int(kept["expires_at_ms"])
            with self._lock:
                self._uploads[digest] = known
                while len(self._uploads) > _KNOWN_UPLOADS:
                    self._uploads.popitem(last=False)
        return {"upload": known[0]}

    def _exchange(self, call: Call[Any], headers: dict[str, str], body: bytes | None) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After. A kept connection that the server has closed meanwhile is opened again."""
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            connection = kept or self._connect()
            try:
                connection.request(call.method, self._prefix + call.path, body, {**self._headers, **headers})
                response = connection.getresponse()
                answer = response.status, response.read(), response.getheader("Retry-After")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if kept is not None and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    continue
                raise ServerUnreachableError(f"{self.url}: {type(error).__name__}: {error}") from error
            with self._lock:
                self._idle.append(connection)
            return answer

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout_s)


class AsyncRemoteClient:
    """The same for programs that await: each question is asked in a thread. Answers are those of `RemoteClient`."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 2) -> None:
        self._client = RemoteClient(url, key=key, timeout_s=timeout_s, retries=retries)

    async def query(
        self,
        image: object,
        prompt: object = None,
        *,
        limit: int = 10,
        offset: int = 0,
        filter: Filter | None = None,
        group_by_image: bool = False,
    ) -> RemoteResults:
        """As `RemoteClient.query`."""
        page = {"limit": limit, "offset": offset, "group_by_image": group_by_image}
        return await asyncio.to_thread(self._client.query, image, prompt, filter=filter, **page)  # type: ignore[arg-type]

    async def segment(self, image: object) -> RemoteSegments:
        """As `RemoteClient.segment`."""
        return await asyncio.to_thread(self._client.segment, image)

    async def status(self) -> dict[str, Any]:
        """As `RemoteClient.status`."""
        return await asyncio.to_thread(self._client.status)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def is_server(url: str) -> bool:
    """Whether `searchanything serve` answers there: it is asked for its name, which needs no key."""
    client = RemoteClient(url, timeout_s=_PROBE_S, retries=0)
    try:
        status, data, _ = client._exchange(Call("GET", "/v1/server", document), {}, None)  # noqa: SLF001
    except ServerUnreachableError:
        return False
    finally:
        client.close()
    try:
        return status == 200 and json.loads(data).get("server") == "searchanything"
    except (ValueError, AttributeError):
        return False

"""An image in a notebook, to point at: the stage of the web page, and a client that answers in the kernel."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

import anywidget
import traitlets

from searchanything.client.calls import Call, sender
from searchanything.client.remote import RemoteClient
from searchanything.client.remote_names import image_id
from searchanything.client.remote_results import RemoteResults
from searchanything.client.remote_segments import RemoteSegments
from searchanything.core.documents import mask_document
from searchanything.core.errors import SearchAnythingError, UsageError
from searchanything.core.types import Filter, ImageRef, Selection

if TYPE_CHECKING:  # they need numpy, which a program that asks a server does without
    from searchanything.answers.results import SearchResults, Segments
    from searchanything.client.client import Client

Answer: TypeAlias = Union["SearchResults", RemoteResults]
_SIDE_PX: Final = 1280  # of the picture, as on the page
_OFFERED: Final = 3  # regions that are shown where a prompt meets none
# A widget is one module: what the page's modules import from each other stands above it, so nothing has to be imported.
_MODULES: Final = ("serve/page/masks.js", "serve/page/stage.js", "notebook/picker.js")
_IMPORT_OR_EXPORT: Final = re.compile(r"^import .*;\n|^export (?!default)", re.MULTILINE)


def _source(*names: str) -> str:
    package = files("searchanything")
    return "\n".join(_IMPORT_OR_EXPORT.sub("", package.joinpath(name).read_text("utf-8")) for name in names)


class Picker(anywidget.AnyWidget):
    """An image in a notebook, on which a thing is pointed at as on the web page; the answers are below it.

        from searchanything.notebook import Picker

        picker = Picker(client, "street.jpg", limit=12)
        picker           # the last line of a cell shows it
        picker.results   # in the next cell: the answer to the last question
        picker.prompt    # … and what was pointed at, as `client.query` takes it

    `client`: a `Client` or a `RemoteClient`; `image`: whatever its `query` takes as one image; the other arguments are
    those of `query`. `results` is a trait, which can be observed. A kernel with subshells answers in another thread,
    beside a running cell.

    Raises: as `client.segment`; UsageError for anything else as the client.
    """

    _esm = _source(*_MODULES)
    _css = _source("notebook/picker.css")

    picture = traitlets.Bytes().tag(sync=True)
    segments = traitlets.Dict().tag(sync=True)
    # Of the images shown: a question on its way is not asked of the next.
    image_number = traitlets.Int(0).tag(sync=True)
    question = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    results: Answer | None = traitlets.Any(None)  # type: ignore[assignment]  # a trait is what it holds

    def __init__(
        self,
        client: Client | RemoteClient,
        image: object,
        *,
        limit: int = 10,
        filter: Filter | None = None,
        group_by_image: bool = False,
        max_false_match: float | None = None,
        rescore: int | None = None,
    ) -> None:
        if not _is_client(client):
            raise UsageError(f"expected a Client or a RemoteClient, got {type(client).__name__}")
        self._client, self._image = client, image
        self._lock = threading.RLock()  # an answer comes whole, and not after another image is shown
        self._page = {
            "limit": limit,
            "filter": filter,
            "group_by_image": group_by_image,
            "max_false_match": max_false_match,
            "rescore": rescore,
        }
        super().__init__(**self._opened(image))
        self.observe(lambda change: self._ask(change["new"]), names="question")

    @property
    def image(self) -> Any:  # noqa: ANN401 - whatever the client takes
        """The image that is shown, as it was given."""
        return self._image

    @property
    def prompt(self) -> dict[str, Any] | None:
        """What was pointed at: a prompt as `client.query` takes it. None is the whole image, or nothing yet."""
        return _prompt_of(self.question)

    def show(self, image: object) -> None:
        """Show another image in this widget; the answer before it is gone. Raises: as `client.segment`."""
        opened = self._opened(image)
        with self._lock:
            with self.hold_sync():
                self._image, self.image_number = image, self.image_number + 1
                for name, value in {**opened, "question": {}, "answer": {}}.items():
                    setattr(self, name, value)
            self.results = None

    def _opened(self, image: object) -> dict[str, Any]:
        """What the widget shows of an image: its picture, and the regions that light up."""
        segments = self._client.segment(image)  # type: ignore[arg-type]  # whatever this client takes
        return {"picture": _picture_of(segments), "segments": segments.to_dict()}

    def _ask(self, question: Mapping[str, Any]) -> None:
        """Answer what the page asks. An error is shown there; one that is none of ours is raised here as well."""
        if not question:
            return
        with self._lock:
            image = self._image
            if question["image_number"] != self.image_number:
                self.question = {}
                return
        results: Answer | None = None
        answer: dict[str, Any] = {"number": question["number"]}
        try:
            if question["asks"]:
                results = self._client.query(image, _prompt_of(question), **self._page)  # type: ignore[arg-type]
                answer |= _shown(results)
        except SearchAnythingError as error:
            results, answer["problem"] = None, str(error)
        except BaseException as error:
            results, answer["problem"] = None, f"{type(error).__name__}: {error}"
            raise
        finally:
            with self._lock:
                if question["image_number"] == self.image_number:
                    self.answer = answer  # before `results`, whose observers may fail
                    self.results = results


def _is_client(client: object) -> bool:
    local = sys.modules.get("searchanything.client.client")  # whoever has a `Client` has loaded it
    return isinstance(client, RemoteClient) or (local is not None and isinstance(client, local.Client))


def _picture_of(segments: Segments | RemoteSegments) -> bytes:
    """The image's file for the browser, at most 1,280 px; a server draws it itself."""
    if isinstance(segments, RemoteSegments):
        named = segments.asked["image"]
        path = f"uploads/{named['upload']}" if "upload" in named else f"images/{image_id(ImageRef(**named))}"
        return bytes(sender(segments.send)(Call("GET", f"/v1/{path}/thumbnail?side={_SIDE_PX}", bytes)))
    from PIL import Image

    from searchanything.core.files import jpeg_bytes

    image = Image.fromarray(segments.image)
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    return jpeg_bytes(image)


def _prompt_of(question: Mapping[str, Any]) -> dict[str, Any] | None:
    names = ("boxes", "text") if question.get("boxes") or question.get("text") else ("granularity",)
    fields = {name: question.get(name) for name in ("foreground", "background", *names)}
    return {name: value for name, value in fields.items() if value} or None


def _shown(results: Answer) -> dict[str, Any]:
    selection = results.selection
    return {"html": results._repr_html_(), "reason": selection.reason, **_masks(selection)}  # as a notebook does


def _masks(selection: Selection) -> dict[str, Any]:
    """What is selected, and where nothing is, what lies nearest."""
    selected = [selection.mask] if selection.kind == "region" else []
    offered = [one.mask for one in selection.runners_up[:_OFFERED]] if selection.kind == "none" else []
    return {
        "kind": selection.kind,
        "selected": [*map(mask_document, selected)],
        "offered": [*map(mask_document, offered)],
    }

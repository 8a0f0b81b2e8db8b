"""The picker in the kernel: what the page asks is what the client answers, on an index and on a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.serving import IMAGES, Served, listening
from PIL import Image

import searchanything
from searchanything import AsyncRemoteClient, Client, Filter, ImageRef, RemoteClient
from searchanything.core.errors import ImageError, StoreError, UsageError
from searchanything.notebook import Picker

RED, BLUE = [20, 30], [70, 20]  # in a/two.png


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("picker"), monkeypatch)
        with listening(served) as url:
            yield served, url


@pytest.fixture(params=["index", "server"])
def client(request: pytest.FixtureRequest, served: tuple[Served, str]) -> Iterator[Client | RemoteClient]:
    if request.param == "index":
        yield served[0].client
    else:
        remote = RemoteClient(served[1])
        yield remote
        remote.close()


@pytest.fixture
def path(served: tuple[Served, str]) -> str:
    return str(served[0].folder / "a/two.png")


def ask(picker: Picker, **question: Any) -> dict[str, Any]:
    """What the page shows after this question."""
    number = picker.question.get("number", 0) + 1
    picker.question = {"foreground": [], "background": [], "boxes": [], "text": "", "whole": False, **question} | {
        "number": number,
        "asks": True,
        "image_number": picker.image_number,
    }
    assert picker.answer["number"] == number
    return dict(picker.answer)


@pytest.mark.parametrize(
    ("question", "prompt"),
    [
        ({"foreground": [RED], "granularity": "part"}, {"foreground": [RED], "granularity": "part"}),
        ({"foreground": [RED, BLUE]}, {"foreground": [RED, BLUE]}),
        ({"foreground": [RED], "background": [BLUE]}, {"foreground": [RED], "background": [BLUE]}),
        ({"boxes": [[48, 6, 92, 42]]}, {"boxes": [[48, 6, 92, 42]]}),
        ({"boxes": [[48, 6, 92, 42]], "granularity": "part"}, {"boxes": [[48, 6, 92, 42]]}),  # a box has no levels
        ({"text": "blue", "foreground": [BLUE]}, {"text": "blue", "foreground": [BLUE]}),
        ({"whole": True}, None),
    ],
)
def test_what_is_pointed_at_is_what_a_query_is_given(
    client: Client | RemoteClient, path: str, question: dict[str, Any], prompt: dict[str, Any] | None
) -> None:
    picker = Picker(client, path, limit=3)
    shown = ask(picker, **question)
    expected = client.query(path, prompt, limit=3)
    assert picker.prompt == prompt
    assert picker.results is not None
    assert [(hit.image, hit.region, hit.distance_bits) for hit in picker.results] == [
        (hit.image, hit.region, hit.distance_bits) for hit in expected
    ]
    assert len(picker.results) == 3
    assert shown["reason"] == expected.selection.reason
    assert "problem" not in shown
    assert len(shown["selected"]) == (expected.selection.kind == "region")
    assert all(hit.image.key in shown["html"] for hit in expected)


def test_the_picture_and_its_regions_are_those_of_the_image(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path)
    picture = np.asarray(Image.open(BytesIO(picker.picture)).convert("RGB"))
    assert np.abs(picture.astype(int) - IMAGES["a/two.png"]).mean() < 8
    assert picker.segments == client.segment(path).to_dict()
    assert picker.results is None


def test_an_indexed_image_is_picked_by_its_name(client: Client | RemoteClient, served: tuple[Served, str]) -> None:
    image = ImageRef(served[0].bucket, "a/two.png")
    picker = Picker(client, image, limit=1)
    ask(picker, foreground=[BLUE])
    assert picker.results is not None
    assert picker.results[0].image == image
    size = Image.open(BytesIO(picker.picture)).size
    assert size == (96, 64)


def test_large_images_are_sent_small_and_pointed_at_in_their_own_pixels(client: Client | RemoteClient) -> None:
    large = np.repeat(np.repeat(IMAGES["a/two.png"], 40, axis=0), 40, axis=1)
    picker = Picker(client, large, limit=1)
    assert Image.open(BytesIO(picker.picture)).size == (1280, 853)
    assert picker.segments["image"] == {"width": 3840, "height": 2560}
    ask(picker, foreground=[[70 * 40, 20 * 40]])
    assert picker.results is not None
    assert picker.results.selection.box_xyxy[0] > 1600  # the blue one


def test_the_page_of_hits_is_as_the_query_was_told(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path, limit=9, filter=Filter(key_prefix="b/"), group_by_image=True)
    ask(picker, foreground=[BLUE])
    assert picker.results is not None
    assert [hit.image.key for hit in picker.results] == ["b/blue.png", "b/green.png"]


def test_errors_are_shown_and_the_next_question_is_answered(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path)
    ask(picker, foreground=[RED])
    shown = ask(picker, background=[RED])
    assert "foreground" in shown["problem"]
    assert picker.results is None
    assert "html" not in shown
    assert "problem" not in ask(picker, foreground=[RED])


def test_an_error_that_is_none_of_ours_is_shown_and_raised(
    served: tuple[Served, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picker = Picker(served[0].client, path)
    ask(picker, foreground=[RED])

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("<b>cells</b>")

    monkeypatch.setattr(Client, "query", broken)
    with pytest.raises(ZeroDivisionError):
        ask(picker, foreground=[RED])
    assert picker.answer == {"number": 2, "problem": "ZeroDivisionError: <b>cells</b>"}
    assert picker.results is None  # not those of the question before


def test_clearing_forgets_the_answer_and_asks_nobody(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path)
    ask(picker, foreground=[RED])
    picker.question = {"number": 7, "asks": False, "background": [RED], "image_number": 0}
    assert picker.answer == {"number": 7}
    assert picker.results is None


def test_another_image_in_the_same_widget(client: Client | RemoteClient, served: tuple[Served, str], path: str) -> None:
    picker = Picker(client, path, limit=1)
    ask(picker, foreground=[RED])
    before = picker.picture
    picker.show(str(served[0].folder / "b/blue.png"))
    assert (picker.results, picker.prompt, picker.answer) == (None, None, {})
    assert picker.picture != before
    ask(picker, foreground=[[40, 20]])
    assert picker.results is not None
    assert picker.results.selection.box_xyxy == pytest.approx((20, 8, 60, 40), abs=1)
    with pytest.raises(ImageError):
        picker.show(str(served[0].folder / "missing.png"))
    assert ask(picker, foreground=[[40, 20]])["reason"]  # the image before is still there
    assert picker.image == str(served[0].folder / "b/blue.png")


def test_another_image_whose_picture_does_not_come_leaves_the_one_before(
    client: Client | RemoteClient, served: tuple[Served, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picker = Picker(client, path, limit=1)

    def broken(*_: object) -> bytes:
        raise StoreError("no picture")

    monkeypatch.setattr("searchanything.notebook.picker._picture_of", broken)
    with pytest.raises(StoreError):
        picker.show(str(served[0].folder / "b/blue.png"))
    assert picker.image == path
    ask(picker, foreground=[RED])
    assert picker.results is not None
    assert picker.results.selection.box_xyxy[0] < 10  # the red one of the first


def test_a_question_that_was_on_its_way_is_not_asked_of_the_next_image(
    client: Client | RemoteClient, served: tuple[Served, str], path: str
) -> None:
    picker = Picker(client, path, limit=1)
    late = {"number": 1, "asks": True, "foreground": [RED], "image_number": picker.image_number}
    picker.show(str(served[0].folder / "b/blue.png"))
    picker.question = late
    assert (picker.question, picker.answer, picker.results) == ({}, {}, None)


def test_an_answer_that_comes_after_another_image_was_shown_is_dropped(
    served: tuple[Served, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JupyterLab a cell runs beside the answer, in another thread."""
    client = served[0].client
    picker, query = Picker(client, path, limit=1), client.query

    def overtaken(*asked: Any, **page: Any) -> Any:
        answer = query(*asked, **page)
        cell = threading.Thread(target=picker.show, args=(str(served[0].folder / "b/blue.png"),))
        cell.start()
        cell.join()
        return answer

    monkeypatch.setattr(client, "query", overtaken)
    picker.question = {"number": 1, "asks": True, "foreground": [RED], "image_number": 0}
    assert (picker.question, picker.answer, picker.results) == ({}, {}, None)


def test_an_observer_that_fails_leaves_the_answer(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path, limit=1)

    def failing(_: object) -> None:
        raise ZeroDivisionError

    picker.observe(failing, names="results")
    with pytest.raises(ZeroDivisionError):
        ask(picker, foreground=[RED])
    assert (picker.answer["number"], "problem" in picker.answer) == (1, False)


def test_an_observer_may_show_what_was_found(client: Client | RemoteClient, path: str) -> None:
    picker = Picker(client, path, limit=1)
    picker.observe(lambda change: change["new"] and picker.show(change["new"][0].image), names="results")
    picker.question = {"number": 1, "asks": True, "foreground": [RED], "image_number": 0}
    assert isinstance(picker.image, ImageRef)
    assert (picker.question, picker.answer, picker.results) == ({}, {}, None)


def test_results_can_be_observed(client: Client | RemoteClient, path: str) -> None:
    picker, seen = Picker(client, path, limit=2), []
    picker.observe(lambda change: seen.append(len(change["new"])), names="results")
    ask(picker, foreground=[RED])
    assert seen == [2]


@pytest.mark.parametrize("wrong", [None, "trial.db", AsyncRemoteClient("http://127.0.0.1:1"), searchanything.connect])
def test_anything_else_as_the_client_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="expected a Client or a RemoteClient"):
        Picker(wrong, "a.png")


def test_without_its_library_the_error_says_what_to_install() -> None:
    code = """
import sys

class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name == "anywidget":
            raise ModuleNotFoundError("No module named 'anywidget'", name=name)

sys.meta_path.insert(0, NotInstalled)
from searchanything.core.errors import LibraryError
try:
    import searchanything.notebook
except LibraryError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "anywidget" in printed
    assert "[notebook]" in printed


def test_a_client_of_a_server_needs_neither_numpy_nor_pillow(served: tuple[Served, str]) -> None:
    code = f"""
import sys
for name in ("numpy", "PIL", "torch", "pymilvus"):
    sys.modules[name] = None
from searchanything import ImageRef, RemoteClient
from searchanything.notebook import Picker
picker = Picker(RemoteClient({served[1]!r}), ImageRef({served[0].bucket!r}, "a/two.png"))
picker.question = {{"number": 1, "asks": True, "foreground": [{RED}], "image_number": 0}}
print(len(picker.picture) > 100, len(picker.results), "problem" in picker.answer)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert printed.stdout.split() == ["True", "5", "False"], printed.stderr


def test_the_page_of_the_widget_is_one_module() -> None:
    lines = Path(__file__).parents[3].joinpath("searchanything/notebook/picker.js").read_text("utf-8")
    assert "import {" in lines
    source = str(Picker._esm)
    assert not [line for line in source.splitlines() if line.startswith("import ")]
    assert [line for line in source.splitlines() if line.startswith("export")] == ["export default {"]

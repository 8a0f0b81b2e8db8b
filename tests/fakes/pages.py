"""What the tests of the page share: a server over hand-drawn images, a browser, and a hand that points."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.models import FakeSegmenter, drawn
from fakes.serving import Served, listening
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from searchanything.client.remote_names import image_id
from searchanything.core.protocols import Segmentation
from searchanything.core.types import RGBImage

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "ui"
expect.set_options(timeout=30_000)  # a busy machine takes its time
WIDTH, HEIGHT = 384, 256
IMAGES: dict[str, RGBImage] = {
    "a/two.png": drawn(HEIGHT, WIDTH, red=(16, 16, 160, 240), yellow=(60, 80, 110, 160), blue=(200, 32, 360, 160)),
    "a/red.png": drawn(HEIGHT, WIDTH, red=(32, 16, 176, 240)),
    "b/blue.png": drawn(HEIGHT, WIDTH, blue=(80, 32, 240, 160)),
    "b/green.png": drawn(HEIGHT, WIDTH, green=(80, 32, 240, 160)),
    "b/tiny.png": drawn(HEIGHT, WIDTH, blue=(300, 200, 330, 224)),
}


class NestingSegmenter(FakeSegmenter):
    """Things of one colour, and as a further region the first two together: part and whole."""

    def segment(self, images: Any) -> list[Segmentation]:
        return [_with_union(one) if len(one.scores) > 1 else one for one in super().segment(images)]


def _with_union(one: Segmentation) -> Segmentation:
    return replace(
        one,
        boxes_xyxy=np.concatenate([one.boxes_xyxy, one.boxes_xyxy[:1]]),
        scores=np.concatenate([one.scores, one.scores[-1:] - 0.05]).astype(np.float32),
        masks=np.concatenate([one.masks, (one.masks[0] | one.masks[-1])[None]]),
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("page")
        segmenter = NestingSegmenter(input_size=384)
        served = Served.make(folder, monkeypatch, images=IMAGES, segmenter=segmenter, words=True)
        with listening(served) as url:
            yield served, url


@contextlib.contextmanager
def launched_chromium(*arguments: str) -> Iterator[Browser]:
    """Debian's chromium, for the length of a block."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("chromium is missing: apt-get install chromium")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


@contextlib.contextmanager
def other_chromium(browser: Browser, settings: str) -> Iterator[Browser]:
    """A second one with settings of Blink (NAME=VALUE,…): it has a mouse unless they say otherwise."""
    mouse = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
    arguments = ["--no-sandbox", f"--blink-settings={mouse},{settings}"]
    other = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=arguments)
    yield other
    other.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    quiet = ("--disable-quic", "--disable-background-networking", "--disable-component-update")
    with launched_chromium(*quiet) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: tuple[Served, str]) -> Iterator[Page]:
    """A page on the list of images; whatever goes wrong in its scripts fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, base_url=served[1])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not _ours(request.url, served[1]) else None)
    page.set_default_timeout(30_000)
    page.goto("/")
    yield page
    page.screenshot(path=SCREENSHOTS / f"page-{_test_name()}.png")
    context.close()
    assert wrong == [], "an error, or something fetched from elsewhere"


def hold(page: Page, pattern: str) -> Callable[[], None]:
    """Keep what is asked for from the server until the function that is given back is called."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route))

    def release() -> None:
        for route in held:
            route.continue_()
        page.unroute(pattern)

    return release


def _ours(url: str, base: str) -> bool:
    return url.startswith((base, "blob:", "data:"))


def _test_name() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "page").rpartition("::")[2].partition(" ")[0].removeprefix("test_")


def open_image(page: Page, served: tuple[Served, str], key: str = "a/two.png") -> None:
    page.goto(f"/?image={identity(served, key)}")
    page.wait_for_selector("#region-list li", state="attached")


def identity(served: tuple[Served, str], key: str) -> str:
    return image_id(next(row.image for row in served[0].client.images()[0] if row.image.key == key))


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the image is in the window."""
    frame = page.locator("#canvas").bounding_box()
    assert frame is not None
    return frame["x"] + x / WIDTH * frame["width"], frame["y"] + y / HEIGHT * frame["height"]


def click(page: Page, x: float, y: float, *keys: str) -> None:
    for key in keys:
        page.keyboard.down(key)
    page.mouse.click(*place(page, x, y))
    for key in keys:
        page.keyboard.up(key)


def keys(page: Page) -> list[str]:
    """The names of the hits, once an answer is there."""
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "false")
    page.wait_for_selector(".hit")
    return page.locator(".hit-name").all_inner_texts()


def asked(page: Page, act: Callable[[], object]) -> dict[str, Any]:
    """What the page asks the server when this is done."""
    with page.expect_request(lambda request: request.url.endswith(("/v1/query", "/v1/refine"))) as found:
        act()
    document: dict[str, Any] = found.value.post_data_json
    return document

"""The page on paper: each picture with its region, and nothing that only a screen can use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.models import drawn
from fakes.pages import SCREENSHOTS, browser, keys
from fakes.serving import Served, listening
from playwright.sync_api import Browser, Page, Request, expect

__all__ = ["browser"]  # a fixture

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]

COUNT = 24
IMAGES = {
    f"{number:02}.png": drawn(96, 128, blue=(10 + number, 8, 90 + number, 70 + number % 9)) for number in range(COUNT)
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("print"), monkeypatch, images=IMAGES, words=True)
        with listening(served) as url:
            yield url


@pytest.fixture
def low(browser: Browser, url: str) -> Iterator[Page]:
    """A page in a window that shows but the first row."""
    page = browser.new_context(viewport={"width": 800, "height": 400}, base_url=url).new_page()
    page.set_default_timeout(30_000)
    yield page
    page.context.close()


def printed(page: Page, name: str) -> int:
    """The number of pictures in the PDF."""
    path = SCREENSHOTS / f"{name}.pdf"
    path.write_bytes(page.pdf())
    return path.read_bytes().count(b"/Subtype /Image")


def test_an_answer_is_printed_with_all_its_pictures_and_regions(low: Page) -> None:
    low.goto("/?text=blue")
    assert len(keys(low)) == COUNT
    expect(low.locator(".hit .frame img.there")).to_have_count(COUNT)
    assert printed(low, "print-answer") >= COUNT
    low.emulate_media(media="print")
    for hidden in (".bar", ".tools", ".hit-actions", ".hit-go", ".more"):
        assert not [one for one in low.locator(hidden).all() if one.is_visible()], hidden
    for outline in low.locator(".hit .outline").all():
        assert outline.is_visible()
    title = low.locator("#asked-title")
    expect(title).to_contain_text("blue")
    box = title.bounding_box()
    assert box is not None
    assert box["height"] > 10


def test_the_image_that_was_asked_with_is_printed(low: Page) -> None:
    low.goto("/")
    low.locator(".image-tile").first.click()
    low.wait_for_selector("#region-list li", state="attached")
    low.click("#whole")
    assert len(keys(low)) == COUNT
    expect(low.locator(".hit .frame img.there")).to_have_count(COUNT)
    assert printed(low, "print-asked") > COUNT


def test_the_list_of_images_is_printed_with_their_names(low: Page) -> None:
    low.goto("/")
    expect(low.locator(".image-tile img.there")).to_have_count(COUNT)
    assert printed(low, "print-images") >= COUNT
    low.emulate_media(media="print")
    name = low.locator(".image-name").last
    assert name.is_visible()
    colour = name.evaluate("(one) => getComputedStyle(one).color")
    assert colour != "rgb(255, 255, 255)", "which is on white paper"


def test_pictures_out_of_view_come_last_and_one_at_a_time(low: Page) -> None:
    asked, under_way, together = list[str](), set[str](), list[int]()

    def begun(request: Request) -> None:
        if "/thumbnail" in request.url:
            asked.append(request.url)
            under_way.add(request.url)
            together.append(len(under_way))

    low.on("request", begun)
    low.on("requestfinished", lambda request: under_way.discard(request.url))
    low.goto("/")
    low.wait_for_selector(".image-tile img.there")
    in_view = len(asked)
    assert in_view < COUNT
    expect(low.locator(".image-tile img.there")).to_have_count(COUNT)
    assert len(asked) == COUNT
    assert set(together[in_view + 1 :]) == {1}

"""The page while what it shows changes elsewhere: in the index, in the bucket, in another tab, at the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.models import drawn
from fakes.pages import HEIGHT, IMAGES, WIDTH, NestingSegmenter, browser, click, identity, keys, open_image, page
from fakes.serving import Served, listening, png_of
from fakes.standing import add_noise
from playwright.sync_api import Page, expect

from searchanything.core.types import RegionRef

__all__ = ["browser", "page"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, str]]:
    """A server of each test's own, whose images change."""
    segmenter = NestingSegmenter(input_size=384)
    served = Served.make(tmp_path, monkeypatch, images=IMAGES, segmenter=segmenter, words=True)
    with listening(served) as url:
        yield served, url


COLOUR = """() => {
    const canvas = document.querySelector("#canvas"), at = canvas.getContext("2d");
    return [...at.getImageData(canvas.width * 0.42 | 0, canvas.height * 0.375 | 0, 1, 1).data].slice(0, 3);
}"""


def change(served: Served, key: str) -> None:
    """Green in place of blue, and a further thing, in the bucket and in the index."""
    (served.folder / key).write_bytes(png_of(drawn(HEIGHT, WIDTH, green=(80, 32, 240, 160), red=(300, 200, 330, 224))))
    served.client.index(served.folder)


@pytest.mark.parametrize("ask", ["click", "whole"])
def test_an_image_that_changed_is_shown_as_it_is_now(page: Page, served: tuple[Served, str], ask: str) -> None:
    """Its picture and its regions are of one state, and so are the pictures of the answers."""
    open_image(page, served, "b/blue.png")
    red, green, blue = page.evaluate(COLOUR)
    assert blue > 200 > max(red, green)
    change(served[0], "b/blue.png")
    if ask == "click":
        click(page, 160, 96)
    else:
        page.click("#whole")
    keys(page)
    expect(page.locator("#region-list li")).to_have_count(3)
    page.click("#clear")
    page.wait_for_function(f"() => {{ const [, green, blue] = ({COLOUR})(); return green > 200 && blue < 100; }}")


def test_an_image_that_changed_has_another_picture_in_the_list(page: Page, served: tuple[Served, str]) -> None:
    """The browser keeps a picture for some minutes: one of another content has another address."""
    tile = page.locator('.image-tile[title="b/blue.png"] img')
    expect(tile).to_have_class("there")
    before = tile.get_attribute("data-path")
    change(served[0], "b/blue.png")
    page.reload()
    expect(tile).to_have_class("there")
    assert tile.get_attribute("data-path") != before


def test_a_region_that_is_gone_can_be_left(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=77")
    expect(page.locator("#notice button")).to_have_text("Point again")
    page.locator("#notice button").click()
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#canvas")).to_be_focused()
    page.wait_for_selector("#region-list li", state="attached")
    click(page, 250, 90)
    keys(page)


def test_marks_of_what_is_gone_can_be_forgotten(page: Page, served: tuple[Served, str]) -> None:
    image = identity(served, "a/two.png")
    page.goto(f"/?image={image}&region=0&right={image}:77&refined=1")
    expect(page.locator("#notice button")).to_have_text("Forget marks")
    page.locator("#notice button").click()
    keys(page)
    assert "right=" not in page.url


@pytest.mark.parametrize("address", ["/?image=none", "/?upload=none", "/?like=IMAGE:77&like=IMAGE:78"])
def test_from_what_is_gone_a_way_leads_to_the_images(page: Page, served: tuple[Served, str], address: str) -> None:
    page.goto(address.replace("IMAGE", identity(served, "a/two.png")))
    expect(page.locator("#notice button")).to_have_text("All images")
    page.locator("#notice button").click()
    expect(page.locator(".image-tile")).to_have_count(5)


def test_pictures_come_when_the_server_is_back(page: Page) -> None:
    """Nothing is scrolled, and nobody asks."""
    page.clock.install()
    page.route("**/thumbnail?*", lambda route: route.abort())
    page.reload()
    expect(page.locator(".image-tile img.gone")).to_have_count(5)
    page.clock.fast_forward(6_000)  # still away: the next time is later
    page.unroute("**/thumbnail?*")
    page.clock.fast_forward(11_000)
    expect(page.locator(".image-tile img.there")).to_have_count(5)


def test_pictures_that_the_server_refuses_are_not_asked_for_over_and_over(page: Page) -> None:
    page.clock.install()
    page.route("**/thumbnail?*", lambda route: route.fulfill(status=422, json={"title": "No image"}))
    page.reload()
    expect(page.locator(".image-tile img.gone")).to_have_count(5)
    asking: list[str] = []
    page.on("request", lambda request: asking.append(request.url))
    page.clock.fast_forward(300_000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert asking == []


def test_keys_of_one_character_are_switched_in_all_tabs(page: Page) -> None:
    other = page.context.new_page()
    other.goto("/")
    expect(other.locator(".words kbd")).to_be_visible()
    page.click("#help-button")
    page.locator("#letter-keys").uncheck()
    expect(other.locator(".words kbd")).to_be_hidden()


def test_what_was_seen_in_one_tab_is_not_new_in_the_other(page: Page, served: tuple[Served, str]) -> None:
    """It is looked at when the other tab is seen again, as is what came meanwhile."""
    image = next(row.image for row in served[0].client.images()[0] if row.image.key == "b/blue.png")
    add_noise(served[0].client)
    served[0].client.standing.add("blue", RegionRef(image, 0))
    with page.expect_response("**/v1/standing/matches*") as looked:
        page.goto("/")
    assert looked.value.json()["matches"] == []
    (served[0].folder / "b/new.png").write_bytes(png_of(drawn(HEIGHT, WIDTH, blue=(80, 32, 240, 160))))
    served[0].client.index(served[0].folder)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#standing-badge")).to_have_text("1")


def test_a_wait_goes_by_the_clock(page: Page, served: tuple[Served, str]) -> None:
    """A laptop that slept does not wait for what is over."""
    page.clock.install()
    open_image(page, served)
    busy = {"title": "Too busy", "status": 429, "detail": "wait"}
    page.route("**/v1/query", lambda route: route.fulfill(status=429, json=busy, headers={"Retry-After": "600"}))
    click(page, 250, 90)
    expect(page.locator("#notice button")).to_be_disabled()
    page.clock.fast_forward(700_000)  # each timer that is due fires once, as after a sleep
    expect(page.locator("#notice button")).to_be_enabled()

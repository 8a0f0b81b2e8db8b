"""The page for whoever sees, hears, points or types in another way: names, places of the focus, what is read aloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from fakes.models import drawn
from fakes.pages import HEIGHT, WIDTH, asked, browser, click, identity, keys, open_image, page, served
from fakes.serving import Served, listening, png_of
from playwright.sync_api import Browser, Page, Route, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]

NAMED = {"button", "link", "checkbox", "radio", "textbox", "searchbox", "application", "image", "dialog"}


def nameless(page: Page) -> list[str]:
    """The roles of what a screen reader would name by its role alone."""
    nodes: list[dict[str, Any]] = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    shown = [one for one in nodes if not one.get("ignored") and one["role"]["value"] in NAMED]
    assert shown
    return [one["role"]["value"] for one in shown if not one.get("name", {}).get("value")]


@pytest.mark.parametrize("width", [1280, 320])
def test_all_controls_have_names(page: Page, served: tuple[Served, str], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    page.wait_for_selector(".image-tile")
    assert nameless(page) == []
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.click("#filters-button")
    assert nameless(page) == []


def test_no_two_buttons_of_the_answers_have_one_name(page: Page, served: tuple[Served, str]) -> None:
    """An image may be there several times, each time with another region."""
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    assert len(keys(page)) > len(set(keys(page)))
    names = page.locator(".hit-actions button").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    assert len(names) == len(set(names))


EDGES = """(one) => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const around = [];
    for (let at = one.parentElement; at; at = at.parentElement) {
        const fill = numbers(getComputedStyle(at).backgroundColor);
        if (fill[3] !== 0) return [numbers(getComputedStyle(one).borderTopColor), fill].map((all) => all.slice(0, 3));
    }
}"""


def luminance(colour: list[float]) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fields_have_edges_that_are_seen(page: Page, scheme: Literal["light", "dark"]) -> None:
    """WCAG 1.4.11: three to one."""
    page.emulate_media(color_scheme=scheme)
    page.goto("/?text=blue&prefix=b/")
    keys(page)
    fields = ["#filter-prefix", "#filter-meta", "#filters input[type=date]"]
    edges = [page.locator(one).first.evaluate(EDGES) for one in fields]
    page.click(".brand")
    edges.append(page.locator("#browse-find").evaluate(EDGES))
    for edge, fill in edges:
        light, dark = sorted((luminance(edge), luminance(fill)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_answers_that_are_drawn_anew_keep_the_focus_near(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.locator(".hit-link").nth(1).focus()
    asked(page, lambda: page.keyboard.press("g"))
    expect(page.locator("#answers-title")).to_be_focused()
    page.locator(".mark-right").first.click()
    page.locator("#refine-clear").focus()
    asked(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#answers-title")).to_be_focused()


def test_a_browser_that_keeps_nothing(page: Page) -> None:
    page.add_init_script("""for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });""")
    page.goto("/?text=blue")
    keys(page)
    page.click("#help-button")
    page.locator("#letter-keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#dialog")).to_be_hidden()


def test_a_tall_image_is_seen_whole(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tall = {
        "tall.png": drawn(384, 192, blue=(40, 300, 160, 370)),
        "square.png": drawn(256, 256, blue=(40, 90, 200, 200)),
    }
    with listening(Served.make(tmp_path, monkeypatch, images=tall)) as url:
        page = browser.new_context(viewport={"width": 1280, "height": 860}, base_url=url).new_page()
        page.goto("/")
        page.locator(".image-tile").last.click()
        page.wait_for_selector("#region-list li", state="attached")
        page.click("#whole")
        keys(page)
        expect(page.locator(".frame img.there")).to_have_count(2)
        for tile in page.locator(".hit .tile").all():
            outer, inner = tile.bounding_box(), tile.locator(".frame img").bounding_box()
            assert outer is not None
            assert inner is not None
            assert inner["y"] >= outer["y"] - 1
            assert inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1
            assert abs(inner["height"] - outer["height"]) <= 1
        page.context.close()


@pytest.mark.parametrize("width", [920, 620, 320])
def test_the_name_of_the_image_has_room(page: Page, served: tuple[Served, str], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    open_image(page, served)
    assert page.locator("#stage-name").evaluate("(one) => one.clientWidth >= 130 && one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize(
    "address", ["/", "/?text=blue", "/?image=IMAGE", "/?image=none", "/?like=IMAGE:0&like=IMAGE:1"]
)
def test_each_view_has_one_heading_of_the_first_level(page: Page, served: tuple[Served, str], address: str) -> None:
    page.goto(address.replace("IMAGE", identity(served, "a/two.png")))
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).not_to_be_empty()


def test_single_keys_can_be_switched_off(page: Page, served: tuple[Served, str]) -> None:
    """WCAG 2.1.4: speech and trembling hands press keys that nobody meant."""
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.keyboard.press("?")
    page.locator("#letter-keys").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    keys(page)
    page.locator(".hit-link").first.focus()
    for key in "?/fgrwy":
        page.keyboard.press(key)
    expect(page.locator(".hit-link").first).to_be_focused()
    for quiet in ("#dialog", "#filters", "#refine", ".words kbd"):
        expect(page.locator(quiet)).to_be_hidden()
    assert "group=" not in page.url
    page.keyboard.press("ArrowRight")
    expect(page.locator(".hit-link").nth(1)).to_be_focused()
    page.click("#help-button")
    page.locator("#letter-keys").check()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#words-text")).to_be_focused()


def test_an_upload_says_when_it_can_be_pointed_at(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/segment", lambda route: held.append(route))
    picture = png_of(drawn(HEIGHT, WIDTH, green=(30, 30, 200, 200)))
    page.set_input_files("#upload", [{"name": "mine.png", "mimeType": "image/png", "buffer": picture}])
    expect(page.locator("#selection-text")).to_contain_text("can be pointed at when they are found")
    expect(page.locator("#start")).to_be_hidden()
    expect(page.locator("#whole")).to_be_disabled()
    held[0].continue_()
    expect(page.locator("#selection-text")).to_contain_text("Point at a thing")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#whole")).to_be_enabled()


def test_an_image_without_regions_says_so(page: Page, served: tuple[Served, str]) -> None:
    def none(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"regions": []})

    page.route("**/regions", none)
    page.goto(f"/?image={identity(served, 'a/two.png')}")
    expect(page.locator("#start")).to_contain_text("No regions were found")
    expect(page.locator("#start")).not_to_contain_text("Click once for the part", use_inner_text=True)
    expect(page.locator("#selection-text")).to_contain_text("has no regions")


def test_an_image_that_is_not_there_cannot_be_pointed_at(page: Page) -> None:
    page.goto("/?image=none")
    expect(page.locator("#notice")).to_be_visible()
    expect(page.locator("#stage-name")).to_have_text("No image")
    expect(page.locator("#selection-text")).to_be_empty()
    expect(page.locator("#whole")).to_be_disabled()


def test_the_focus_comes_back_to_what_was_opened(page: Page, served: tuple[Served, str]) -> None:
    tile = page.locator('.image-tile[title="a/two.png"]')
    tile.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-list li", state="attached")
    expect(page.locator("#stage-name")).to_be_focused()
    page.go_back()
    expect(tile).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-list li", state="attached")
    page.locator(".stage [data-home]").focus()
    page.keyboard.press("Enter")
    expect(tile).to_be_focused()
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    hit = page.locator(".hit-link").nth(3)
    hit.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stage-name")).to_be_focused()
    page.go_back()
    expect(hit).to_be_focused()


def test_the_link_to_the_content_does_not_stop_what_is_opened(page: Page, served: tuple[Served, str]) -> None:
    """It is the first thing that the keyboard comes to: whoever uses it does not wait for the page."""
    held: list[Route] = []
    regions = "**/v1/images/*/regions*"
    page.route(regions, lambda route: held.append(route))
    with page.expect_request(regions):
        page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    held.pop().continue_()
    expect(page.locator(".hit-link").first).to_be_visible()


def test_the_link_to_the_content_asks_nothing(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.wait_for_load_state("networkidle")
    asking: list[str] = []
    page.on("request", lambda request: asking.append(request.url) if "/v1/" in request.url else None)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(".stage [data-home]")).to_be_focused()
    page.wait_for_timeout(500)
    assert asking == []


def test_what_was_selected_and_marked_is_read_aloud(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: click(page, 250, 90))
    keys(page)
    expect(page.locator("#say")).to_contain_text("% of the image, top")
    expect(page.locator("#say")).to_contain_text("match")
    page.locator(".hit-link").nth(1).focus()
    page.keyboard.press("r")
    expect(page.locator("#say")).to_have_text("1 right, 0 wrong")


def test_a_dialog_speaks_from_within(page: Page, served: tuple[Served, str]) -> None:
    """What is outside an open dialog is not heard."""
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.click("#missing")
    expect(page.locator("#dialog-say")).to_have_text("5 images to choose from")
    page.locator("dialog .image-tile").first.click()
    expect(page.locator("dialog .verdict")).to_be_visible()
    assert page.locator("#dialog-say").inner_text() == page.locator("dialog .verdict").inner_text()
    expect(page.locator("#dialog-close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    assert "region=0" in page.url, "the same Escape cleared the selection"


def test_a_dialog_is_left_by_a_click_beside_it(page: Page, served: tuple[Served, str]) -> None:
    """Not by one on its edge, nor by words that are marked up to beyond it; the page behind it stays where it is."""
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.click("#missing")
    page.fill("#expected", "blue")
    dialog, field = page.locator("#dialog").bounding_box(), page.locator("#expected").bounding_box()
    assert dialog is not None
    assert field is not None
    page.mouse.move(field["x"] + 60, field["y"] + 10)
    page.mouse.down()
    page.mouse.move(dialog["x"] - 50, field["y"] + 10)
    page.mouse.up()
    page.mouse.click(dialog["x"] + 8, dialog["y"] + dialog["height"] / 2)
    expect(page.locator("#dialog")).to_be_visible()
    page.mouse.move(dialog["x"] - 50, 500)
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(300)
    assert page.evaluate("() => scrollY") == 0
    page.mouse.click(dialog["x"] - 50, 500)
    expect(page.locator("#dialog")).to_be_hidden()
    page.mouse.wheel(0, 300)
    page.wait_for_function("() => scrollY > 0")


def test_a_dialog_that_was_closed_stays_closed(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    held: list[Route] = []
    page.route("**/v1/explain", lambda route: held.append(route))
    page.locator(".hit-link").first.focus()
    page.keyboard.press("y")
    expect(page.locator("#dialog")).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_response("**/v1/explain"):
        held[0].continue_()
    page.wait_for_timeout(300)
    expect(page.locator("#dialog")).to_be_hidden()


def test_marks_show_without_colours_of_the_page(browser: Browser, served: tuple[Served, str]) -> None:
    context = browser.new_context(base_url=served[1], forced_colors="active")
    page = context.new_page()
    image = identity(served, "a/two.png")
    page.goto(f"/?image={image}&region=0&right={image}:0")
    keys(page)
    colour = "(one) => getComputedStyle(one).backgroundColor"
    marked = page.locator('.hit[data-mark="right"]')
    assert marked.locator(".mark-right").evaluate(colour) != marked.locator(".mark-wrong").evaluate(colour)
    expect(marked.locator(".tile")).to_have_css("outline-style", "solid")
    context.close()


def test_the_help_fits_the_smallest_phone(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.click("#help-button")
    assert page.locator("#dialog").evaluate("(one) => one.scrollWidth <= one.clientWidth")


def test_the_keyboard_goes_back_in_sight(page: Page, served: tuple[Served, str]) -> None:
    """The bar stays at the top, and hides nothing that has the focus (WCAG 2.4.11)."""
    page.set_viewport_size({"width": 1000, "height": 500})
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.locator(".hit-link").last.focus()
    below = "(one) => one.getBoundingClientRect().top >= document.querySelector('.bar').getBoundingClientRect().bottom"
    for _ in range(3 * page.locator(".hit").count()):
        page.keyboard.press("Shift+Tab")
        assert page.locator(":focus").evaluate(below), page.locator(":focus").get_attribute("aria-label")

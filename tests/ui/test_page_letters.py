"""The page with larger letters, in a zoomed window and on small screens: nothing is cut off, nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.pages import SCREENSHOTS, browser, identity, keys, other_chromium, served
from fakes.serving import Served
from playwright.sync_api import Browser, Page, expect

__all__ = ["browser", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]

STATES = ["browse", "opened", "hits", "filters", "help", "keep", "refined", "problem"]
WRONG = """() => {
    const wrong = [], wide = document.documentElement.clientWidth;
    const name = (one) => `${one.tagName} ${one.id || one.className} ${one.textContent.slice(0, 20)}`;
    const shows = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const everything = [...document.querySelectorAll("body *")];
    const all = everything.filter((one) => shows(one) && !one.closest(".sr, .skip, svg, pre"));
    for (const one of all) {
        const { left, right, width } = one.getBoundingClientRect(), style = getComputedStyle(one);
        if (width && (right > wide + 1 || left < -1)) wrong.push(`outside: ${name(one)}`);
        if (style.overflowX === "visible" || style.textOverflow === "ellipsis" || one.tagName === "INPUT") continue;
        if (one.scrollWidth > one.clientWidth + 1) wrong.push(`cut off: ${name(one)}`);
    }
    const dialog = document.querySelector("dialog[open]");
    const controls = all.filter((one) => one.matches("button, a, input, summary, h1, h2, p, .figure, kbd"));
    const seen = controls.filter((one) => one.closest("dialog") === dialog && !one.closest(".bar, .toast"));
    seen.forEach((one, place) => {
        const a = one.getBoundingClientRect();
        for (const other of seen.slice(place + 1)) {
            if (one.contains(other) || other.contains(one)) continue;
            const b = other.getBoundingClientRect();
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 2 && down > 2) wrong.push(`over each other: ${name(one)} / ${name(other)}`);
        }
    });
    return wrong;
}"""


@pytest.fixture(scope="module", params=[24, 32])
def letters(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[Browser, int]]:
    """A browser whose own letters are larger than 16 px."""
    with other_chromium(browser, f"defaultFontSize={request.param}") as larger:
        yield larger, request.param


def show(page: Page, served: tuple[Served, str], state: str) -> None:
    image = identity(served, "a/two.png")
    asked = f"/?image={image}&region=0"
    addresses = {
        "browse": "/",
        "opened": f"/?image={image}",
        "refined": f"{asked}&right={image}:1&refined=1",
        "problem": f"/?image={image}&region=77",
    }
    page.goto(addresses.get(state, asked))
    ready = {"browse": ".image-tile img.there", "opened": "#start:visible", "problem": "#notice:visible"}
    page.wait_for_selector(ready.get(state, ".hit img.there"))
    for opened, button in (("filters", "#filters-button"), ("help", "#help-button"), ("keep", "#keep")):
        if state == opened:
            page.click(button)


def wrong_in(page: Page, served: tuple[Served, str], name: str) -> dict[str, list[str]]:
    """What is outside, cut off or over something else in each state; a screenshot of each."""
    found = {}
    for state in STATES:
        show(page, served, state)
        found[state] = page.evaluate(WRONG)
        page.screenshot(path=SCREENSHOTS / f"page-{name}-{state}.png")
    return found


def test_letters_are_as_large_as_the_browser_is_set(letters: tuple[Browser, int], served: tuple[Served, str]) -> None:
    """WCAG 1.4.4: up to 200 %, and whatever holds letters grows with them."""
    browser, size = letters
    context = browser.new_context(base_url=served[1], viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
    page = context.new_page()
    found = wrong_in(page, served, f"letters-{size}")
    body = page.evaluate("() => parseFloat(getComputedStyle(document.body).fontSize)")
    button = page.locator("#upload-button").evaluate("(one) => one.clientHeight")
    context.close()
    assert body == pytest.approx(14 * size / 16)
    assert button >= 32 * size / 16
    assert found == {state: [] for state in STATES}


@pytest.mark.parametrize("width", [640, 320])
def test_a_zoomed_window_is_a_smaller_one(browser: Browser, served: tuple[Served, str], width: int) -> None:
    """WCAG 1.4.10: 1280 px at 200 and 400 % are 640 and 320, and nothing has to be scrolled in two directions."""
    context = browser.new_context(
        base_url=served[1], viewport={"width": width, "height": width * 2 // 3}, reduced_motion="reduce"
    )
    page = context.new_page()
    found = wrong_in(page, served, f"zoomed-{width}")
    context.close()
    assert found == {state: [] for state in STATES}


def test_large_letters_fit_a_phone(letters: tuple[Browser, int], served: tuple[Served, str]) -> None:
    browser, size = letters
    context = browser.new_context(
        base_url=served[1], viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    found = wrong_in(page, served, f"phone-{size}")
    context.close()
    assert found == {state: [] for state in STATES}


@pytest.fixture
def touch_laptop(browser: Browser, served: tuple[Served, str]) -> Iterator[Page]:
    """A mouse, and a screen that can be touched."""
    with other_chromium(browser, "availablePointerTypes=6") as laptop:
        page = laptop.new_context(base_url=served[1], viewport={"width": 1280, "height": 860}).new_page()
        page.set_default_timeout(30_000)
        yield page


def test_the_first_touch_of_a_laptop_shows_what_fingers_need(touch_laptop: Page, served: tuple[Served, str]) -> None:
    page = touch_laptop
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    assert page.evaluate("() => matchMedia('(pointer: fine) and (any-pointer: coarse)').matches")
    expect(page.locator("#modes")).to_be_hidden()
    expect(page.locator(".hit-actions").first).to_have_css("opacity", "0")
    box = page.locator("#answers-title").bounding_box()
    assert box is not None
    devtools = page.context.new_cdp_session(page)
    at = [{"x": box["x"] + 5, "y": box["y"] + 5}]
    devtools.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at})
    expect(page.locator("#modes")).to_be_hidden()  # nothing moves under the finger
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#modes")).to_be_visible()
    expect(page.locator(".hit-actions").first).to_have_css("opacity", "1")
    page.screenshot(path=SCREENSHOTS / "page-touch-laptop.png")
    page.click("#help-button")
    expect(page.locator("#dialog")).to_contain_text("Take away, Box")
    expect(page.locator("#dialog")).to_contain_text("Shift + click")
    page.screenshot(path=SCREENSHOTS / "page-touch-laptop-help.png")


def test_the_help_of_a_phone_is_of_fingers(browser: Browser, served: tuple[Served, str]) -> None:
    context = browser.new_context(
        base_url=served[1], viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto("/")
    page.locator("#help-button").tap()
    expect(page.locator("#dialog")).to_contain_text("Tap again")
    expect(page.locator("#dialog")).not_to_contain_text("click")
    expect(page.locator("#letter-keys")).to_be_hidden()
    page.screenshot(path=SCREENSHOTS / "page-phone-help.png")
    page.locator("#dialog summary").tap()
    expect(page.locator("#letter-keys")).to_be_visible()
    context.close()

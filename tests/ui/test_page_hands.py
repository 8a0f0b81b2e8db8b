"""Hands on the page: a wheel, fingers, the right button, the keyboard's place; and names of any script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from fakes.pages import asked, browser, click, keys, open_image, page, place, served
from fakes.serving import Served
from playwright.sync_api import Browser, Page, Route, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


@pytest.fixture
def phone(browser: Browser, served: tuple[Served, str]) -> Iterator[Page]:
    """The smallest phone, held upright, with an image open."""
    context = browser.new_context(
        viewport={"width": 320, "height": 640}, base_url=served[1], has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    open_image(page, served)
    yield page
    context.close()


def test_fingers_add_take_away_and_draw_boxes(phone: Page) -> None:
    expect(phone.locator("#start .by-touch")).to_be_visible()
    asked(phone, lambda: phone.touchscreen.tap(*place(phone, 40, 40)))
    phone.locator("#modes label", has_text="Add").tap()
    both = asked(phone, lambda: phone.touchscreen.tap(*place(phone, 250, 90)))
    assert len(both["prompt"]["foreground"]) == 2
    phone.locator("#modes label", has_text="Take away").tap()
    without = asked(phone, lambda: phone.touchscreen.tap(*place(phone, 85, 120)))
    assert without["prompt"]["background"][0] == pytest.approx([85, 120], abs=2)
    phone.locator("#modes label", has_text="Box").tap()
    boxed = asked(phone, lambda: swipe(phone, (195, 25), (365, 165)))
    assert boxed["prompt"]["boxes_xyxy"][0] == pytest.approx([195, 25, 365, 165], abs=4)
    assert phone.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """One finger from place to place of the image."""
    devtools = page.context.new_cdp_session(page)
    (x1, y1), (x2, y2) = place(page, *start), place(page, *end)
    for kind, share in (("touchStart", 0.0), ("touchMove", 0.5), ("touchMove", 1.0), ("touchEnd", None)):
        at = [] if share is None else [{"x": x1 + (x2 - x1) * share, "y": y1 + (y2 - y1) * share}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


def fingers(page: Page, *steps: tuple[str, list[tuple[float, float]]]) -> None:
    """What fingers do one after the other, each at its place of the image."""
    devtools = page.context.new_cdp_session(page)
    for kind, places in steps:
        at = [dict(zip("xy", place(page, *one), strict=True)) | {"id": n} for n, one in enumerate(places)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


def pinch(page: Page) -> None:
    """Two fingers move apart on the image, until the page is larger."""
    start = [(190.0, 128.0), (230.0, 128.0)]
    apart = [("touchMove", [(190.0 - 15 * n, 128.0), (230.0 + 15 * n, 128.0)]) for n in range(11)]
    fingers(page, ("touchStart", start[:1]), ("touchStart", start), *apart, ("touchEnd", []))
    page.wait_for_function("() => visualViewport.scale > 1.5")


def test_a_second_finger_zooms_and_draws_no_box(phone: Page) -> None:
    phone.locator("#modes label", has_text="Box").tap()
    first, last, palm, moved = (195.0, 25.0), (365.0, 165.0), (40.0, 230.0), (50.0, 225.0)
    steps = [("touchStart", [first]), ("touchMove", [last]), ("touchStart", [last, palm])]
    steps += [("touchMove", [last, moved]), ("touchEnd", [])]
    boxed = asked(phone, lambda: fingers(phone, *steps))
    assert boxed["prompt"]["boxes_xyxy"][0] == pytest.approx([*first, *last], abs=4)
    keys(phone)
    address = phone.url
    pinch(phone)
    assert phone.url == address


def test_the_mouse_leaves_a_box_of_the_keyboard_alone(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.locator("#canvas").focus()
    for key in ("ArrowLeft", "b", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    page.mouse.move(*place(page, 40, 40))
    page.mouse.move(*place(page, 80, 90))
    boxed = asked(page, lambda: page.keyboard.press("b"))
    assert boxed["prompt"]["boxes_xyxy"][0] == pytest.approx([192, 128, 201.6, 134.4], abs=0.1)


def test_a_window_may_become_lower_or_higher(page: Page, served: tuple[Served, str]) -> None:
    """The image fits it, and the list below the image can be reached beside long answers."""
    open_image(page, served)
    asked(page, lambda: click(page, 40, 40))
    keys(page)
    high = page.locator("#canvas").evaluate("(one) => one.clientHeight")
    page.set_viewport_size({"width": 1280, "height": 400})
    page.wait_for_function("() => document.querySelector('#canvas').clientHeight === 264")
    page.locator("#hits").evaluate("(one) => (one.style.minHeight = '5000px')")
    page.click(".region-list summary")
    page.locator("#region-list button").last.focus()
    expect(page.locator("#region-list button").last).to_be_in_viewport(ratio=1)
    assert page.evaluate("() => scrollY") < 400, "it is reached behind all answers only"
    page.set_viewport_size({"width": 1280, "height": 860})
    page.wait_for_function("(high) => document.querySelector('#canvas').clientHeight === high", arg=high)


def test_a_finger_that_moves_scrolls(phone: Page) -> None:
    """It adds no box, and a wide swipe is not the browser's step back."""
    boxes: list[str] = []
    phone.on("framenavigated", lambda frame: boxes.append(frame.url) if "box=" in frame.url else None)
    swipe(phone, (20, 25), (390, 40))
    asked(phone, lambda: phone.touchscreen.tap(*place(phone, 250, 90)))
    assert boxes == []


def test_a_finger_over_the_image_scrolls_the_page(phone: Page) -> None:
    swipe(phone, (190, 190), (195, 5))
    phone.wait_for_function("() => scrollY > 100")


def test_a_wheel_over_the_image_scrolls_the_page_until_it_is_zoomed(page: Page, served: tuple[Served, str]) -> None:
    page.set_viewport_size({"width": 900, "height": 400})
    open_image(page, served)
    page.mouse.move(*place(page, 100, 100))
    page.mouse.wheel(0, 40)
    page.wait_for_function("() => scrollY === 40")
    page.locator("#canvas").focus()
    for _ in range(4):
        page.keyboard.press("+")
    frame = page.locator("#canvas-box")
    before = page.evaluate("() => scrollY")
    for _ in range(12):
        page.mouse.wheel(0, 400)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_function(
        "(one) => one.scrollTop + one.clientHeight > one.scrollHeight - 2", arg=frame.element_handle()
    )
    assert page.evaluate("() => scrollY") == before


def test_the_modes_are_for_fingers(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    expect(page.locator("#modes")).to_be_hidden()
    expect(page.locator("#start .by-mouse")).to_be_visible()


def test_the_right_button_takes_away(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: click(page, 40, 40))
    without = asked(page, lambda: page.mouse.click(*place(page, 85, 120), button="right"))
    assert without["prompt"]["background"][0] == pytest.approx([85, 120], abs=2)


def canvas_of(page: Page) -> str:
    """What is drawn on the image now."""
    drawing: str = page.evaluate("() => document.querySelector('#canvas').toDataURL()")
    return drawing


@pytest.mark.parametrize("button", ["right", "middle"])
def test_other_buttons_draw_no_box(page: Page, served: tuple[Served, str], button: Literal["right", "middle"]) -> None:
    open_image(page, served)
    page.mouse.move(*place(page, 190, 230))
    before, address = canvas_of(page), page.url
    page.mouse.down(button=button)
    for x, y in ((100, 200), (40, 180), (190, 230)):
        page.mouse.move(*place(page, x, y))
    assert canvas_of(page) == before
    page.mouse.up(button=button)
    assert page.url == address
    expect(page.locator("#toast")).to_be_empty()


def test_a_button_that_was_let_go_unseen_draws_no_box(page: Page, served: tuple[Served, str]) -> None:
    """A menu, or a window before this one, takes the end of a drag."""
    open_image(page, served)
    page.mouse.move(*place(page, 190, 230))
    before, address = canvas_of(page), page.url
    devtools = page.context.new_cdp_session(page)

    def mouse(kind: str, x: float, y: float, buttons: int) -> None:
        left, top = place(page, x, y)
        button = {"button": "left", "buttons": buttons, "clickCount": 1} if buttons else {"button": "none"}
        devtools.send("Input.dispatchMouseEvent", {"type": kind, "x": left, "y": top, **button})

    mouse("mousePressed", 190, 230, 1)
    mouse("mouseMoved", 30, 200, 1)
    assert canvas_of(page) != before
    mouse("mouseMoved", 190, 240, 0)
    assert canvas_of(page) == before
    mouse("mouseMoved", 190, 230, 0)
    page.mouse.up()
    assert page.url == address


def test_the_wheel_with_ctrl_zooms_about_the_pointer(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    at = place(page, 250, 90)
    page.mouse.move(*at)
    page.keyboard.down("Control")
    for _ in range(4):
        page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    frame = page.locator("#canvas-box")
    assert frame.evaluate("(one) => one.scrollWidth > 2 * one.clientWidth")
    question = asked(page, lambda: page.mouse.click(*at))
    row = served[0].client.regions(_ref(served, "a/two.png"))[question["image"]["region"]]
    assert row.box_xyxy[0] == pytest.approx(200, abs=4), "another place lies under the pointer"
    keys(page)
    page.mouse.move(*at)
    page.mouse.wheel(80, 0)
    expect(page.locator("#zoom-out")).to_be_enabled()
    before = frame.evaluate("(one) => one.scrollLeft")
    page.locator("#canvas").focus()
    page.keyboard.press("0")
    assert before > 0
    assert frame.evaluate("(one) => one.scrollWidth === one.clientWidth")
    expect(page.locator("#zoom-out")).to_be_disabled()


def _ref(served: tuple[Served, str], key: str) -> object:
    return next(row.image for row in served[0].client.images()[0] if row.image.key == key)


def test_the_cross_stays_in_sight_of_a_zoomed_image(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.locator("#canvas").focus()
    for key in ["+"] * 4 + ["ArrowLeft"] * 30:
        page.keyboard.press(key)
    assert page.locator("#canvas-box").evaluate("(one) => one.scrollLeft") == 0
    for _ in range(45):
        page.keyboard.press("ArrowRight")
    assert page.locator("#canvas-box").evaluate("(one) => one.scrollLeft") > 0


def larger(route: Route) -> None:
    """The regions of an image of many pixels."""
    found = route.fetch().json()
    route.fulfill(json=found | {"image": {"width": 3840, "height": 2560}})


def test_a_zoomed_large_image_comes_with_more_pixels(page: Page, served: tuple[Served, str]) -> None:
    page.route("**/regions", larger)
    open_image(page, served)
    with page.expect_request("**/thumbnail?side=2048*"):
        page.click("#zoom-in")


def test_two_fingers_bring_more_pixels(phone: Page, served: tuple[Served, str]) -> None:
    phone.route("**/regions", larger)
    open_image(phone, served)
    with phone.expect_request("**/thumbnail?side=2048*"):
        pinch(phone)
    phone.wait_for_function(
        "() => { const one = document.querySelector('#canvas'); return one.width > 3 * one.clientWidth; }"
    )


def test_a_long_image_fills_its_tile(page: Page) -> None:
    def long(route: Route) -> None:
        found = route.fetch().json()
        found["images"][0] |= {"width": 10_000, "height": 1_000}
        route.fulfill(json=found)

    page.route("**/v1/images?*", long)
    with page.expect_request("**/thumbnail?side=1280*"):
        page.reload()


def test_the_keyboard_keeps_its_place(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: click(page, 40, 40))
    page.locator("#levels input:checked").focus()
    other = asked(page, lambda: page.keyboard.press("ArrowRight"))
    keys(page)
    expect(page.locator("#levels input:checked")).to_be_focused()
    assert asked(page, lambda: page.keyboard.press("ArrowRight"))["image"] != other["image"]
    keys(page)
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#canvas")).to_be_focused()


def test_the_whole_image_is_a_switch(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: page.click("#whole"))
    keys(page)
    page.click("#whole")
    expect(page.locator("#start")).to_be_visible()


def test_names_and_words_from_right_to_left(page: Page) -> None:
    """Words in Hebrew do not turn the milliseconds after them around; names begin where they begin."""
    page.goto("/?text=%D7%A9%D7%9C%D7%95%D7%9D")
    keys(page)
    expect(page.locator("#answers-title bdi")).to_have_text("\u05e9\u05dc\u05d5\u05dd")
    expect(page.locator(".hit-name").first).to_have_attribute("dir", "auto")


def test_what_is_read_aloud_has_spaces(page: Page) -> None:
    page.goto("/?text=blue")
    keys(page)
    expect(page.locator("#say")).to_contain_text("answers nearest to")

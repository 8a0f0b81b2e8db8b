"""The page in Debian's chromium, headless: every state that a person meets. Screenshots are kept in `build/ui/`.

The models are hand-written (colours are things), the server and the index are real.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.models import drawn
from fakes.pages import (
    HEIGHT,
    IMAGES,
    SCREENSHOTS,
    WIDTH,
    asked,
    browser,
    click,
    identity,
    keys,
    open_image,
    page,
    place,
    served,
)
from fakes.serving import Served, listening, png_of
from playwright.sync_api import Browser, Page, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


def test_images_are_listed_and_found_by_name(page: Page) -> None:
    expect(page.locator(".image-tile")).to_have_count(5)
    page.fill("#browse-find", "blue")
    expect(page.locator(".image-tile")).to_have_count(1)
    page.click(".image-tile")
    page.wait_for_selector("#region-list li", state="attached")
    expect(page.locator("#stage-name")).to_have_text("blue.png")
    page.go_back()
    expect(page.locator("#browse")).to_be_visible()


def test_hovering_asks_nobody(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.wait_for_load_state("networkidle")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    before = page.screenshot()
    for x, y in [(40, 40), (85, 120), (250, 90), (190, 230)]:
        page.mouse.move(*place(page, x, y))
    page.mouse.move(*place(page, 250, 90))
    expect(page.locator("#tip")).to_be_visible()
    assert page.screenshot() != before, "nothing lights up"
    page.mouse.move(*place(page, 190, 230))
    expect(page.locator("#tip")).to_be_hidden()
    assert requests == []


def test_a_click_searches_with_the_stored_region(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    question = asked(page, lambda: click(page, 250, 90))
    assert question["image"]["region"] >= 0
    assert "prompt" not in question
    assert set(keys(page)[:2]) == {"two.png", "blue.png"}
    assert "region=" in page.url
    expect(page.locator(".hit").first).to_contain_text("bits")
    expect(page.locator(".hit .outline").first).to_be_visible()
    page.reload()
    assert set(keys(page)[:2]) == {"two.png", "blue.png"}, "the address does not hold the question"


def test_the_tip_says_what_a_click_would_do(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.mouse.move(*place(page, 250, 90))
    expect(page.locator("#tip")).to_have_text("Click to search")
    asked(page, lambda: click(page, 250, 90))
    expect(page.locator("#tip")).to_have_text("Selected")
    page.mouse.move(*place(page, 40, 40))
    expect(page.locator("#tip")).to_have_text("2 levels: click again for the next")
    page.mouse.move(*place(page, 255, 95))
    expect(page.locator("#tip")).to_have_text("Selected")


def test_a_click_again_goes_from_part_to_whole_and_around(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    regions = [asked(page, lambda: click(page, 40, 40))["image"]["region"] for _ in range(3)]
    assert regions[0] == regions[2] != regions[1]
    rows = {row.region: row.area_px for row in served[0].client.regions(_ref(served, "a/two.png"))}
    assert rows[regions[0]] < rows[regions[1]]
    expect(page.locator("#levels")).to_be_visible()
    chosen = asked(page, lambda: page.locator("#levels label").last.click())
    assert chosen["image"]["region"] == regions[1]


def _ref(served: tuple[Served, str], key: str) -> Any:
    return next(row.image for row in served[0].client.images()[0] if row.image.key == key)


def test_adding_and_taking_away(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: click(page, 40, 40))
    both = asked(page, lambda: click(page, 250, 90, "Shift"))
    assert (both["prompt"]["kind"], len(both["prompt"]["foreground"])) == ("points", 2)
    assert both["prompt"]["foreground"][0] == pytest.approx([40, 40], abs=2)
    without = asked(page, lambda: click(page, 85, 120, "Alt"))
    assert without["prompt"]["background"][0] == pytest.approx([85, 120], abs=2)
    keys(page)
    assert "bg=" in page.url


def test_a_box(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)

    def drag() -> None:
        page.mouse.move(*place(page, 195, 25))
        page.mouse.down()
        page.mouse.move(*place(page, 300, 100), steps=4)
        page.mouse.move(*place(page, 365, 165), steps=4)
        page.mouse.up()

    question = asked(page, drag)
    assert question["prompt"]["boxes_xyxy"][0] == pytest.approx([195, 25, 365, 165], abs=3)
    assert set(keys(page)[:2]) == {"two.png", "blue.png"}


def test_words_in_an_image(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.fill("#words-text", "blue")
    question = asked(page, lambda: page.press("#words-text", "Enter"))
    assert question["prompt"]["text"] == "blue"
    assert set(keys(page)[:2]) == {"two.png", "blue.png"}


def test_an_upload_and_its_shared_address(page: Page, served: tuple[Served, str], browser: Browser) -> None:
    file = {
        "name": "mine.png",
        "mimeType": "image/png",
        "buffer": png_of(drawn(HEIGHT, WIDTH, green=(30, 30, 200, 200))),
    }
    page.set_input_files("#upload", [file])  # type: ignore[list-item]
    page.wait_for_selector("#region-list li", state="attached")
    click(page, 100, 100)
    assert keys(page)[0] == "green.png"
    other = browser.new_context(base_url=served[1]).new_page()
    other.goto(page.url)
    assert keys(other)[0] == "green.png"
    other.context.close()


def test_a_pasted_and_a_dropped_image(page: Page) -> None:
    data = base64.b64encode(png_of(drawn(HEIGHT, WIDTH, green=(30, 30, 200, 200)))).decode()
    give = """([data, kind]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "given.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        const event = kind === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: carried })
                                       : new DragEvent("drop", { ...options, dataTransfer: carried });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        page.goto("/")
        page.wait_for_selector(".image-tile")
        page.evaluate(give, [data, kind])
        page.wait_for_selector("#region-list li", state="attached")
        assert "upload=" in page.url


def test_filters_and_an_answer_without_hits(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    page.click("#filters-button")
    page.fill("#filter-prefix", "b/")
    question = asked(page, lambda: page.press("#filter-prefix", "Enter"))
    assert question["filter"] == {"key_prefix": "b/"}
    assert set(keys(page)) <= {"blue.png", "green.png", "tiny.png"}
    asked(page, lambda: page.locator("#filters label", has_text="Small").click())
    assert set(keys(page)) == {"tiny.png"}
    expect(page.locator("#filters .button")).to_be_enabled()
    page.fill("#filter-meta", "album=sea")
    asked(page, lambda: page.press("#filter-meta", "Enter"))
    expect(page.locator("#notice")).to_contain_text("No image passes the filters")
    expect(page.locator("#filters-badge")).to_have_text("3")
    page.locator("#notice button").click()
    assert len(keys(page)) > 3


def test_one_per_image(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    assert len(keys(page)) > len(set(keys(page)))
    asked(page, lambda: page.click("label.toggle"))
    expect(page.locator(".hit")).to_have_count(5)


def test_a_hit_is_the_next_question(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    question = asked(page, lambda: page.locator(".hit", has_text="blue.png").first.locator(".hit-link").click())
    assert question["image"]["key"] == "b/blue.png"
    expect(page.locator("#stage-name")).to_have_text("blue.png")
    page.go_back()
    expect(page.locator("#stage-name")).to_have_text("two.png")


def test_why_and_why_not(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    page.locator(".hit").first.locator(".mark-why").click()
    expect(page.locator("dialog .verdict")).to_be_visible()
    expect(page.locator("#dialog-title")).to_have_text("Why it is here")
    page.keyboard.press("Escape")
    page.click("#filters-button")
    page.fill("#filter-prefix", "a/")
    page.press("#filter-prefix", "Enter")
    keys(page)
    page.click("#missing")
    page.fill("#expected", "green")
    expect(page.locator("dialog .image-tile")).to_have_count(1)
    page.click("dialog .image-tile")
    expect(page.locator("#dialog-title")).to_have_text("Why it is not here")
    assert page.locator(".steps li").count() > 3


def test_nothing_under_the_point(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 190, 230)
    expect(page.locator("#answers-title")).to_have_text("Nothing is selected there")


def test_errors_are_told_and_tried_again(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    problem = {"type": "urn:searchanything:problem:BusyError", "title": "Too busy", "status": 429, "detail": "wait",
               "instance": "urn:searchanything:request:r-7"}  # fmt: skip
    page.route("**/v1/query", lambda route: route.fulfill(status=429, body=json.dumps(problem)))
    click(page, 250, 90)
    expect(page.locator("#answers-title")).to_have_text("The server is busy")
    expect(page.locator("#notice")).to_contain_text("r-7")
    page.unroute("**/v1/query")
    page.route("**/v1/query", lambda route: route.abort())
    page.locator("#notice button").click()
    expect(page.locator("#notice")).to_contain_text("cannot be reached")
    page.unroute("**/v1/query")
    page.locator("#notice button").click()
    keys(page)
    expect(page.locator("#notice")).to_be_hidden()


def test_the_keyboard_alone(page: Page) -> None:
    page.wait_for_selector(".image-tile")
    page.locator(".image-tile").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-list li", state="attached")
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowRight")  # the cross appears in the middle
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    for _ in range(6):
        page.keyboard.press("ArrowUp")
    question = asked(page, lambda: page.keyboard.press("Enter"))
    assert "region" in question["image"]
    keys(page)
    page.keyboard.press("b")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    assert "boxes_xyxy" in asked(page, lambda: page.keyboard.press("b"))["prompt"]
    keys(page)
    page.locator(".hit-link").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(page.locator(".hit").nth(1)).to_have_attribute("data-mark", "right")
    page.keyboard.press("?")
    expect(page.locator("#dialog-title")).to_have_text("Pointing and keys")
    page.keyboard.press("Escape")
    page.locator("#canvas").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#start")).to_be_visible()


def test_regions_are_a_list_too(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.click("summary")
    assert page.locator("#region-list button").count() == 4
    asked(page, lambda: page.locator("#region-list button").last.click())
    keys(page)


def test_a_receipt_is_copied(page: Page, served: tuple[Served, str]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    page.click("#receipt")
    expect(page.locator("#toast")).to_contain_text("Receipt copied")
    receipt = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert served[0].client.replay(receipt).same


@pytest.mark.parametrize("width", [400, 768, 1600])
def test_it_fits_every_width(page: Page, served: tuple[Served, str], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for address in ("/", f"/?image={identity(served, 'a/two.png')}&region=0"):
        page.goto(address)
        page.wait_for_selector(".hit" if "region" in address else ".image-tile")
        wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{wide} px too wide at {width}"
        page.screenshot(path=SCREENSHOTS / f"page-{width}-{'ask' if 'region' in address else 'browse'}.png")


def test_a_key_is_asked_for(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True, images=IMAGES)
    token, _ = served.desk.ring.add("one", places=[(served.bucket, "a/")])
    with listening(served) as url:
        page = browser.new_context(base_url=url).new_page()
        page.goto("/")
        page.locator("#key-input").press("Escape")
        expect(page.locator("#browse-notice")).to_contain_text("A key is needed")
        page.click("#browse-notice button")  # whoever closed it is not left before an empty page
        page.fill("#key-input", "sa_wrong")
        page.press("#key-input", "Enter")
        expect(page.locator("dialog")).to_contain_text("not valid")
        page.fill("#key-input", token)
        page.press("#key-input", "Enter")
        expect(page.locator(".image-tile img.there")).to_have_count(2)
        assert token not in page.url
        assert page.context.cookies() == []
        page.context.close()

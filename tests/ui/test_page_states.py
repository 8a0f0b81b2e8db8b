"""The page while something is under way, after something failed, and on the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.pages import IMAGES, asked, browser, click, hold, identity, keys, open_image, page, served
from fakes.serving import Served, crowd, listening
from playwright.sync_api import Browser, Page, Request, Route, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


def questions(page: Page) -> list[dict[str, Any]]:
    """What is asked from now on."""
    found: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.url.endswith("/v1/query"):
            found.append(request.post_data_json)

    page.on("request", note)
    return found


def two_pages(page: Page) -> None:
    """Let the list of images go on once."""

    def answer(route: Route) -> None:
        found = route.fetch(url=route.request.url.partition("&after")[0]).json()
        route.fulfill(json=found | {"next": None if "after=" in route.request.url else "more"})

    page.route("**/v1/images?*", answer)


def test_back_comes_to_the_list_as_it_was_left(page: Page) -> None:
    page.set_viewport_size({"width": 500, "height": 400})
    two_pages(page)
    page.reload()
    page.click("#tiles-more")
    expect(page.locator(".image-tile")).to_have_count(10)
    page.evaluate("() => scrollTo(0, 200)")
    page.locator(".image-tile").last.evaluate("(tile) => tile.click()")
    page.wait_for_selector("#region-list li", state="attached")
    page.go_back()
    expect(page.locator(".image-tile")).to_have_count(10)
    assert _top(page) == 200


def _top(page: Page) -> int:
    """How far the page is scrolled, once it stands still."""
    before, now = -1, 0
    while now != before:
        before = now
        page.wait_for_timeout(250)
        now = page.evaluate("() => scrollY")
    return now


def _leave_at_700(page: Page, served: tuple[Served, str]) -> None:
    """A low window that is scrolled to a hit, which is opened."""
    page.set_viewport_size({"width": 500, "height": 400})
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    page.evaluate("() => scrollTo(0, 700)")
    page.locator(".hit-link").last.evaluate("(link) => link.click()")
    expect(page.locator("#stage-name")).not_to_have_text("two.png")
    keys(page)


def test_back_comes_to_the_hit_that_was_left(page: Page, served: tuple[Served, str]) -> None:
    _leave_at_700(page, served)
    page.go_back()
    expect(page.locator("#stage-name")).to_have_text("two.png")
    keys(page)
    assert _top(page) == 700


def test_back_and_forward_in_the_midst_of_an_answer_keep_the_place(page: Page, served: tuple[Served, str]) -> None:
    _leave_at_700(page, served)
    release = hold(page, "**/v1/query")
    with page.expect_request("**/v1/query"):
        page.evaluate("() => { scrollTo(0, 100); history.back(); }")
    page.wait_for_timeout(400)  # longer than a place that is scrolled to takes to be kept
    with page.expect_request("**/v1/query"):
        page.go_forward()
    release()
    page.go_back()
    expect(page.locator("#stage-name")).to_have_text("two.png")
    keys(page)
    assert _top(page) == 700


def test_an_index_that_was_made_anew_has_other_regions(page: Page, served: tuple[Served, str]) -> None:
    """What was asked with is outlined, not what had its number when the image was opened."""
    numbers = {0: 2, 2: 0, 1: 3, 3: 1}

    def before(route: Route) -> None:
        found = route.fetch().json()
        for one in found["regions"]:
            one["region"] = numbers[one["region"]]
        route.fulfill(json=found)

    page.route("**/regions", before)
    open_image(page, served)
    page.unroute("**/regions")
    assert asked(page, lambda: click(page, 250, 90))["image"]["region"] == 0
    keys(page)
    expect(page.locator("#selection-text")).to_contain_text("middle left")
    assert asked(page, lambda: click(page, 250, 90))["image"]["region"] == 2
    keys(page)
    expect(page.locator("#selection-text")).to_contain_text("top right")


def test_pictures_that_did_not_come_are_fetched_when_they_are_seen_again(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 200})
    page.route("**/thumbnail?*", lambda route: route.abort())
    page.reload()
    expect(page.locator(".image-tile img.gone")).not_to_have_count(0)
    page.unroute("**/thumbnail?*")
    page.evaluate("() => document.querySelector('#tiles').style.marginTop = '3000px'")
    page.wait_for_timeout(300)  # none is near the window
    page.evaluate("() => document.querySelector('#tiles').style.marginTop = ''")
    expect(page.locator(".image-tile img.gone")).to_have_count(0)
    expect(page.locator(".image-tile img.there")).not_to_have_count(0)


def test_more_hits_come_below_those_that_are_there(browser: Browser, many: tuple[Served, str]) -> None:
    """Nothing is drawn anew, so nothing blinks; the keyboard goes on at the first new one."""
    page = browser.new_page(base_url=many[1])
    page.goto(f"/?image={many[0].id('a/two.png')}&region=0")
    keys(page)
    expect(page.locator(".hit")).to_have_count(24)
    page.locator(".hit").first.evaluate("(card) => { card.kept = true; }")
    page.click("#hits-more")
    expect(page.locator(".hit")).to_have_count(48)
    assert page.locator(".hit").first.evaluate("(card) => card.kept === true")
    expect(page.locator(".hit").nth(24).locator(".hit-link")).to_be_focused()
    assert page.locator(".hit-link").nth(24).get_attribute("aria-label").startswith("25.")  # type: ignore[union-attr]
    page.click("label.toggle")
    expect(page.locator(".hit")).to_have_count(5)
    page.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """An index of more regions than one page of hits."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("many"), monkeypatch, images=IMAGES)
        crowd(served, regions=60)
        with listening(served) as url:
            yield served, url


def test_a_list_that_cannot_be_had_is_a_notice_to_try_again(page: Page) -> None:
    two_pages(page)
    page.route("**/v1/images?*", lambda route: route.abort())
    page.reload()
    expect(page.locator("#browse-notice")).to_contain_text("The server cannot be reached")
    page.unroute("**/v1/images?*")
    two_pages(page)
    page.locator("#browse-notice button").click()
    expect(page.locator(".image-tile")).to_have_count(5)
    expect(page.locator("#browse-notice")).to_be_hidden()
    page.route("**/v1/images?*", lambda route: route.abort())
    page.click("#tiles-more")
    expect(page.locator("#browse-notice")).to_contain_text("Is searchanything serve still running?")
    assert "?." not in page.inner_text("#browse-notice")
    page.locator("#browse-notice").evaluate("(notice) => { notice.hidden = true; }")
    page.fill("#browse-find", "blue")
    expect(page.locator("#browse-notice")).to_be_visible()


def test_a_list_that_is_to_come_shows_that(page: Page) -> None:
    page.wait_for_selector(".image-tile")
    release = hold(page, "**/v1/images?*")
    page.fill("#browse-find", "blue")
    expect(page.locator("#progress")).to_be_visible()
    release()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator(".image-tile")).to_have_count(1)


def test_an_empty_list_does_not_blame_a_name(page: Page) -> None:
    empty = {"images": [], "next": None, "total": 0, "complete": True}
    page.route("**/v1/images?*", lambda route: route.fulfill(json=empty))
    page.reload()
    expect(page.locator("#browse-count")).to_have_text("No images yet")
    page.fill("#browse-find", "x")
    expect(page.locator("#browse-count")).to_have_text("No image has that in its name")


def test_a_busy_server_is_asked_again_when_it_said(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    body = json.dumps({"title": "Too busy", "status": 429, "detail": "wait"})
    page.route("**/v1/query", lambda route: route.fulfill(status=429, body=body, headers={"Retry-After": "3"}))
    click(page, 250, 90)
    again = page.locator("#notice button")
    expect(again).to_be_disabled()
    page.unroute("**/v1/query")
    expect(again).to_be_enabled()
    again.click()
    keys(page)


def test_pictures_that_are_missing_have_names(page: Page) -> None:
    page.route("**/thumbnail?*", lambda route: route.abort())
    page.reload()
    expect(page.locator(".image-tile").first.locator(".image-name")).to_have_css("opacity", "1")


def test_what_was_selected_before_is_not_said_of_the_next_question(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 40, 40)
    keys(page)
    release = hold(page, "**/v1/query")
    click(page, 250, 90, "Shift")
    expect(page.locator("#selection-text")).to_have_text("Selecting…")
    page.click("#receipt")
    expect(page.locator("#toast")).to_contain_text("no answer yet")
    release()
    expect(page.locator("#selection-text")).to_contain_text("Selected")
    page.route("**/v1/query", lambda route: route.abort())
    click(page, 85, 120, "Alt")
    expect(page.locator("#notice")).to_be_visible()
    expect(page.locator("#selection-text")).to_be_empty()


def test_the_image_before_cannot_be_pointed_at(page: Page, served: tuple[Served, str]) -> None:
    """While the next one is on its way, a click would ask about the wrong image."""
    open_image(page, served)
    release = hold(page, "**/thumbnail?side=1280")
    page.locator(".stage [data-home]").click()
    page.locator('.image-tile[title="b/blue.png"]').click()
    expect(page.locator("#browse")).to_be_hidden()
    asking = questions(page)
    click(page, 100, 100)
    release()
    expect(page.locator("#stage-name")).to_have_text("blue.png")
    page.wait_for_selector("#region-list li", state="attached")
    page.wait_for_load_state("networkidle")
    assert asking == []


def test_an_image_that_was_left_asks_nothing_more(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'b/blue.png')}&region=0")
    keys(page)
    release = hold(page, f"**/v1/images/{identity(served, 'a/two.png')}")
    page.locator(".hit", has_text="two.png").first.locator(".hit-link").click()
    expect(page.locator("#stage-name")).to_be_empty()
    page.go_back()
    expect(page.locator("#stage-name")).to_have_text("blue.png")
    keys(page)
    asking = questions(page)
    release()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    assert asking == []
    expect(page.locator("#stage-name")).to_have_text("blue.png")


def test_an_image_its_picture_and_its_regions_are_asked_for_at_once(page: Page, served: tuple[Served, str]) -> None:
    """One way to the server and back, not three."""
    path = f"**/v1/images/{identity(served, 'a/two.png')}"
    release = hold(page, path)
    with page.expect_request(f"{path}/regions"), page.expect_request(f"{path}/thumbnail?side=1280"):
        page.goto(f"/?image={identity(served, 'a/two.png')}")
    release()
    page.wait_for_selector("#region-list li", state="attached")


def test_every_module_is_named_in_the_page(page: Page) -> None:
    """Else a browser learns of one only when it has read another."""
    folder = Path(__file__).parents[2] / "searchanything" / "serve" / "page"
    modules = {f"/page/{one.name}" for one in folder.glob("*.js")}
    named = page.locator("link[rel=modulepreload]").evaluate_all("(all) => all.map((one) => one.getAttribute('href'))")
    assert {*named, "/page/app.js"} == modules


@pytest.mark.parametrize(("path", "address"), [("**/v1/images?*", "/"), ("**/v1/query", "/?text=blue")])
def test_an_answer_that_cannot_be_read_is_said(page: Page, path: str, address: str) -> None:
    """It breaks off when the server dies, and a proxy answers with a page of its own."""
    page.route(path, lambda route: route.fulfill(body="<html>Sign in</html>", content_type="text/html"))
    page.goto(address)
    notice = page.locator("#browse-notice" if address == "/" else "#notice")
    expect(notice.locator("strong")).to_have_text("The answer cannot be read")
    expect(notice).not_to_contain_text("Unexpected token")
    expect(page.locator("#say")).to_have_text("The answer cannot be read")


def test_back_leaves_a_question_at_once_however_often_it_was_asked(page: Page) -> None:
    page.locator('.image-tile[title="b/blue.png"]').click()
    page.wait_for_selector("#region-list li", state="attached")
    opened = page.url
    for _ in range(3):
        asked(page, lambda: click(page, 160, 90))
        keys(page)
    assert "region=" in page.url
    page.go_back()
    expect(page).to_have_url(opened)
    page.go_back()
    page.fill("#words-text", "blue")
    for _ in range(2):
        asked(page, lambda: page.press("#words-text", "Enter"))
        keys(page)
    page.go_back()
    expect(page.locator("#browse")).to_be_visible()


def test_back_closes_what_was_about_the_question(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    asked(page, lambda: click(page, 250, 90))
    keys(page)
    page.locator(".hit .mark-why").first.click()
    expect(page.locator("#dialog .verdict")).to_be_visible()
    page.go_back()
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#dialog")).to_be_hidden()


def test_what_cannot_be_explained_can_be_tried_again(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'a/two.png')}&region=0")
    keys(page)
    busy = json.dumps({"title": "Too busy", "status": 429, "detail": "wait"})
    for path in ("**/v1/images?*", "**/v1/explain"):
        page.route(path, lambda route: route.fulfill(status=429, body=busy, headers={"Retry-After": "1"}))
    page.click("#missing")
    expect(page.locator("#dialog .notice")).to_contain_text("Too busy")
    expect(page.locator("#dialog-say")).to_have_text("Too busy")
    page.unroute("**/v1/images?*")
    page.locator("#dialog .notice button").click()
    expect(page.locator("#expected")).to_be_focused()
    page.locator("#dialog .image-tile").first.click()
    expect(page.locator("#dialog .notice")).to_contain_text("Too busy")
    page.unroute("**/v1/explain")
    page.locator("#dialog .notice button").click()
    expect(page.locator("#dialog .verdict")).to_be_visible()


def test_an_index_to_come_is_no_failure(page: Page) -> None:
    """The first thing that is seen by whoever starts the server before anything is indexed."""
    problem = {
        "type": "urn:searchanything:problem:IndexNotFoundError",
        "title": "Nothing has been indexed under this URI",
        "status": 503,
        "detail": "nothing is indexed at index.db; run `searchanything index SOURCE` first",
        "instance": "urn:searchanything:request:abc",
    }
    page.route("**/v1/images?*", lambda route: route.fulfill(status=503, json=problem, headers={"Retry-After": "1"}))
    page.reload()
    notice = page.locator("#browse-notice")
    expect(notice.locator("strong")).to_have_text("Nothing is indexed yet")
    expect(notice).to_have_class("notice nothing")
    expect(notice).to_contain_text("searchanything index SOURCE")
    expect(notice).not_to_contain_text("Request")
    page.unroute("**/v1/images?*")
    notice.locator("button").click()
    expect(page.locator(".image-tile")).to_have_count(5)


def test_what_is_offered_is_asked_again_where_it_was_not_said(page: Page) -> None:
    """While the index is switched the server cannot say; later there are words and standing queries after all."""
    page.route("**/v1/status", lambda route: route.fulfill(status=503, body="{}"))
    page.reload()
    page.wait_for_selector(".image-tile")
    expect(page.locator("#standing-button")).to_be_hidden()
    page.unroute("**/v1/status")
    page.locator(".image-tile").first.click()
    expect(page.locator("#standing-button")).to_be_visible()

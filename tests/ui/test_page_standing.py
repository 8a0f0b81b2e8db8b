"""Standing queries on the page: a question is kept, what is new is shown until it was seen, and a query is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.models import drawn
from fakes.pages import HEIGHT, IMAGES, SCREENSHOTS, WIDTH, NestingSegmenter, browser, hold, identity, keys, page
from fakes.serving import Served, listening, png_of
from fakes.standing import add_noise
from playwright.sync_api import Browser, Page, expect

from searchanything.core.serve_settings import ServeSettings

__all__ = ["browser", "page"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]
HOOKS = "https://ops.example.org/hooks/"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, str]]:
    """A server of each test's own, whose index is large enough for standing queries."""
    settings = ServeSettings(preload=False, webhooks=HOOKS)
    segmenter = NestingSegmenter(input_size=384)
    served = Served.make(tmp_path, monkeypatch, images=IMAGES, segmenter=segmenter, words=True, settings=settings)
    add_noise(served.client)
    with listening(served) as url:
        yield served, url


def keep(page: Page, served: tuple[Served, str], name: str, *, webhook: str = "") -> None:
    """Ask with the blue thing, and keep that."""
    page.goto(f"/?image={identity(served, 'b/blue.png')}&region=0")
    keys(page)
    page.click("#keep")
    page.fill("#standing-name", name)
    if webhook:
        page.fill("#standing-webhook", webhook)
    page.click("dialog button.primary")


def index_new(served: Served, *names: str) -> None:
    for number, name in enumerate(names):
        image = drawn(HEIGHT, WIDTH, blue=(80, 32, 240, 160), green=(8 + number, 180, 60, 230))
        (served.folder / name).write_bytes(png_of(image))
    served.client.index(served.folder)


def test_a_question_is_kept_and_what_is_new_is_shown_until_it_was_seen(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue things")
    expect(page.locator(".standing b")).to_have_text("blue things")
    expect(page.locator(".standing-state")).to_contain_text("nothing new")
    [kept] = served[0].client.standing.list()
    assert kept.query.kind == "regions"
    assert kept.query.max_false_match == 1e-4
    index_new(served[0], "b/new.png", "a/newer.png")
    page.goto("/")
    expect(page.locator("#standing-badge")).to_have_text("2")
    page.click("#standing-button")
    expect(page.locator(".standing-state")).to_contain_text("2 new matches")
    expect(page.locator(".news .outline")).to_have_count(2)
    page.wait_for_selector(".standing-picture img.there")
    page.screenshot(path=SCREENSHOTS / "page-standing.png")
    page.click(".news button")
    expect(page.locator(".standing-state")).to_contain_text("nothing new")
    expect(page.locator("#standing-badge")).to_be_hidden()
    assert served[0].client.standing.fetch().matches == ()


def test_a_new_match_is_searched_with(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue")
    expect(page.locator(".standing b")).to_have_text("blue")
    index_new(served[0], "b/new.png")
    page.click("#dialog-close")
    page.click("#standing-button")
    page.click(".news a")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator("#stage-name")).to_have_text("new.png")


def test_a_query_is_removed_after_being_asked_twice(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue")
    button = page.locator(".standing-state button")
    button.click()
    expect(button).to_have_text("Really remove")
    assert len(served[0].client.standing.list()) == 1
    button.click()
    expect(page.locator("#dialog-body")).to_contain_text("None yet")
    assert served[0].client.standing.list() == []


def test_a_double_click_removes_nothing(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue")
    button = page.locator(".standing-state button")
    button.dblclick()
    expect(button).to_have_accessible_name("Really remove blue")
    expect(page.locator("#dialog-say")).to_have_text("Press again to really remove blue")
    assert len(served[0].client.standing.list()) == 1
    removals: list[str] = []
    page.on("request", lambda request: removals.append(request.url) if request.method == "DELETE" else None)
    button.evaluate("(one) => (one.click(), one.click())")
    expect(page.locator("#dialog-body")).to_contain_text("None yet")
    assert len(removals) == 1


def test_what_was_closed_stays_closed_when_the_answer_comes(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue")
    expect(page.locator(".standing b")).to_have_text("blue")
    page.click("#dialog-close")
    release = hold(page, "**/v1/standing/matches*")
    page.click("#standing-button")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    with page.expect_response("**/v1/standing/matches*"):
        release()
    page.wait_for_timeout(200)
    expect(page.locator("#dialog-title")).to_have_text("Pointing and keys")
    page.keyboard.press("Escape")
    release = hold(page, "**/v1/standing")
    page.click("#keep")
    page.fill("#standing-name", "other")
    page.click("dialog button.primary")
    page.keyboard.press("Escape")
    release()
    expect(page.locator("#toast")).to_contain_text("other is asked")
    expect(page.locator("#dialog")).to_be_hidden()


def test_what_could_not_be_done_is_said_in_the_dialog(page: Page, served: tuple[Served, str]) -> None:
    """A message beside an open dialog lies behind it, and is not heard."""
    keep(page, served, "blue")
    expect(page.locator(".standing b")).to_have_text("blue")
    [kept] = served[0].client.standing.list()
    button = page.locator(".standing-state button")
    button.click()
    served[0].client.standing.remove("blue")
    button.click()
    expect(page.locator("#dialog [role=alert]")).to_contain_text(
        f"There is no standing query with the id '{kept.query.id}'"
    )


def test_what_was_not_looked_at_is_not_said_to_be_nothing(page: Page, served: tuple[Served, str]) -> None:
    for name in ("first", "second", "third"):
        served[0].client.standing.add(name, served[0].folder / "b/blue.png", (100, 60))
    index_new(served[0], "b/new.png", "b/newer.png")
    page.route("**/v1/standing/matches?*", lambda route: route.continue_(url=route.request.url.replace("500", "3")))
    page.goto("/")
    page.click("#standing-button")
    expect(page.locator(".standing-state > span")).to_have_text(
        ["2 new matches", "2 new matches or more", "not looked at yet"]
    )
    expect(page.locator("#dialog-say")).to_have_text("3 standing queries, 4 new matches or more")


def test_what_is_wrong_is_said_in_the_form_and_what_was_typed_stays(page: Page, served: tuple[Served, str]) -> None:
    keep(page, served, "blue", webhook="https://elsewhere.example/")
    expect(page.locator(".wrong")).to_contain_text("sends nothing to that webhook")
    expect(page.locator("#standing-webhook")).to_have_value("https://elsewhere.example/")
    page.screenshot(path=SCREENSHOTS / "page-standing-form.png")
    page.fill("#standing-webhook", f"{HOOKS}blue")
    page.click("dialog button.primary")
    expect(page.locator(".standing p").first).to_contain_text("sent to https://ops.example.org/…")
    assert served[0].client.standing.list()[0].query.webhook == f"{HOOKS}blue"


def test_words_are_kept_and_marks_are_not(page: Page) -> None:
    page.goto("/?text=blue")
    keys(page)
    page.click("#keep")
    expect(page.locator("#standing-name")).to_have_value("blue")
    page.check("input[name=rate][value='0.001']", force=True)
    page.click("dialog button.primary")
    page.wait_for_selector(".standing b, .wrong:not(:empty)")
    page.click("#dialog-close")
    page.click(".mark-right >> nth=0", force=True)
    page.click("#refine-button")
    page.wait_for_selector("#refine-probe:visible")
    page.click("#keep")
    expect(page.locator("#toast")).to_contain_text("cannot be kept")


def test_dates_of_a_filter_do_not_count_the_rest_does(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?image={identity(served, 'b/blue.png')}&region=0&from=2020-01-01&prefix=b/")
    keys(page)
    page.click("#keep")
    expect(page.locator("dialog form")).to_contain_text("The dates of the filters do not count")
    page.click("dialog button.primary")
    page.wait_for_selector(".standing b")
    [kept] = served[0].client.standing.list()
    assert kept.query.filter is not None
    assert (kept.query.filter.key_prefix, kept.query.filter.indexed_at_ms) == ("b/", (None, None))


def test_who_may_not_sees_nothing_of_it(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, images=IMAGES, segmenter=NestingSegmenter(input_size=384), keys=True)
    token, _ = served.desk.ring.add("reader")
    with listening(served) as url:
        page = browser.new_context(base_url=url).new_page()
        page.add_init_script(f"sessionStorage.setItem('searchanything-key', {token!r})")
        with page.expect_response("**/v1/status"):
            page.goto("/")
        page.wait_for_selector(".image-tile")
        expect(page.locator("#standing-button")).to_be_hidden()
        page.context.close()


@pytest.mark.parametrize("width", [320, 400])
def test_it_fits_a_phone(page: Page, served: tuple[Served, str], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    keep(page, served, "a rather long name of a thing that is asked for again and again")
    page.wait_for_selector(".standing b")
    index_new(served[0], "b/new.png")
    page.click("#dialog-close")
    page.set_viewport_size({"width": width, "height": 200})  # as at a zoom of 400 %
    page.click("#keep")
    expect(page.locator("#standing-name")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": width, "height": 640})
    page.click("#standing-button")
    page.wait_for_selector(".news .outline")
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"page-standing-{width}.png")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "() => { const d = document.getElementById('dialog'); return d.scrollWidth <= d.clientWidth; }"
    )


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_list_that_cannot_be_had_is_tried_again(page: Page, served: tuple[Served, str], status: int) -> None:
    keep(page, served, "blue")
    expect(page.locator(".standing b")).to_have_text("blue")
    page.click("#dialog-close")
    problem = {"title": "Not now", "status": status, "detail": "the index is switched"}
    after = {} if status == 504 else {"Retry-After": "2"}
    page.route("**/v1/standing", lambda route: route.fulfill(status=status, json=problem, headers=after))
    page.set_viewport_size({"width": 320, "height": 640})
    page.click("#standing-button")
    again = page.locator("#dialog .notice button")
    expect(page.locator("#dialog .notice")).to_contain_text("The index is switched.")
    expect(page.locator("#dialog-say")).to_have_text("Not now. The index is switched.")
    assert page.locator("#dialog .notice").evaluate("(one) => one.scrollWidth <= one.clientWidth")
    if after:
        expect(again).to_be_disabled()
    page.unroute("**/v1/standing")
    again.click()
    expect(page.locator(".standing b")).to_have_text("blue")


@pytest.mark.parametrize("act", ["list", "keep", "seen"])
def test_a_key_that_is_refused_is_asked_for(page: Page, served: tuple[Served, str], act: str) -> None:
    keep(page, served, "blue")
    expect(page.locator(".standing b")).to_have_text("blue")
    index_new(served[0], "b/new.png")
    page.click("#dialog-close")
    problem = {"title": "No key", "status": 401, "detail": "expected a key"}
    if act == "seen":
        page.click("#standing-button")
        page.wait_for_selector(".news button")
    page.route("**/v1/standing*/**", lambda route: route.fulfill(status=401, json=problem))
    page.route("**/v1/standing", lambda route: route.fulfill(status=401, json=problem))
    if act == "list":
        page.click("#standing-button")
    elif act == "seen":
        page.click(".news button")
    else:
        page.click("#keep")
        page.click("dialog button.primary")
    expect(page.locator("#key-input")).to_be_focused()
    page.unroute_all()
    page.fill("#key-input", "sa_other")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator(".hit").first).to_be_visible()

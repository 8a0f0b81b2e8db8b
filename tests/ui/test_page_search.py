"""The page beyond one region: words alone, several regions, marks, and how good an answer is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.pages import IMAGES, SCREENSHOTS, asked, browser, click, identity, keys, open_image, page, served
from fakes.serving import Served, crowd, listening
from playwright.sync_api import Browser, Page, Route, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """An index without words, of so many regions that it can say what is chance."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("crowd"), monkeypatch)
        crowd(served, regions=400)
        with listening(served) as url:
            yield served, url


def crowd_page(browser: Browser, crowded: tuple[Served, str], address: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 860}, base_url=crowded[1]).new_page()
    page.set_default_timeout(30_000)
    page.goto(address)
    return page


def test_each_click_on_nothing_is_of_its_own_place(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    for place in ([375.0, 240.0], [180.0, 250.0]):
        question = asked(page, lambda place=place: click(page, *place))
        assert question["prompt"]["foreground"][0] == pytest.approx(place, abs=2)


def test_words_alone_search_everything(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("blue")
    question = asked(page, lambda: page.keyboard.press("Enter"))
    assert (question["text"], "image" in question) == ("blue", False)
    assert set(keys(page)[:3]) == {"two.png", "blue.png", "tiny.png"}
    expect(page.locator(".hit").first).to_contain_text("by words")
    page.screenshot(path=SCREENSHOTS / "page-words.png")
    assert "text=blue" in page.url
    page.locator(".hit").first.locator(".mark-why").click()
    expect(page.locator("#dialog-title")).to_have_text("Why it is here")
    expect(page.locator("dialog .verdict")).to_contain_text("number 1")
    expect(page.locator("dialog .steps")).to_contain_text("from the words")
    page.screenshot(path=SCREENSHOTS / "page-words-why.png")
    page.keyboard.press("Escape")
    page.reload()
    assert len(keys(page)) > 3
    page.go_back()
    expect(page.locator("#browse")).to_be_visible()


def test_an_index_without_words_says_how_to_add_them(browser: Browser, crowded: tuple[Served, str]) -> None:
    page = crowd_page(browser, crowded, "/?text=a+red+bicycle")
    expect(page.locator("#answers-title")).to_have_text("No words in this index yet")
    expect(page.locator("#notice")).to_contain_text("searchanything index SOURCE --add-words")
    page.screenshot(path=SCREENSHOTS / "page-no-words.png")
    page.context.close()


def test_marks_refine_and_are_in_the_address(page: Page, served: tuple[Served, str]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_image(page, served)
    click(page, 250, 90)
    before = keys(page)
    page.locator(".hit").nth(1).locator(".mark-right").click()
    page.locator(".hit").nth(2).locator(".mark-wrong").click()
    expect(page.locator("#refine-text")).to_contain_text("1 right, 1 wrong")
    assert "right=" in page.url
    question = asked(page, lambda: page.click("#refine-button"))
    assert (len(question["right"]), len(question["wrong"])) == (1, 1)
    assert question["right"][0]["key"].endswith(before[1])
    expect(page.locator("#refine-text")).to_contain_text("Refined by 1 right, 1 wrong")
    expect(page.locator(".hit[data-mark=right]")).to_have_count(1)
    refined = keys(page)
    page.screenshot(path=SCREENSHOTS / "page-refined.png")
    page.locator(".hit").nth(1).locator(".mark-why").click()
    expect(page.locator("dialog .verdict")).to_contain_text("number 2")
    expect(page.locator("dialog .steps")).to_contain_text("by 1 right and 1 wrong mark")
    page.keyboard.press("Escape")
    page.click("#refine-probe")
    expect(page.locator("#toast")).to_contain_text("Probe copied")
    probe = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert (probe["format"], len(probe["right"])) == ("searchanything-probe/1", 1), (
        "the marked one has the query's code"
    )
    page.click("#receipt")
    expect(page.locator("#toast")).to_contain_text("no receipt")
    page.reload()
    assert keys(page) == refined, "the address does not hold the marks"
    expect(page.locator("#refine-text")).to_contain_text("Refined by 1 right, 1 wrong")
    page.click("#refine-clear")
    expect(page.locator("#refine")).to_be_hidden()
    assert keys(page) == before
    assert "right=" not in page.url


def test_marks_come_and_go(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    page.locator(".hit").nth(1).locator(".mark-right").click()
    page.locator(".hit").nth(1).locator(".mark-wrong").click()
    expect(page.locator("#refine-text")).to_contain_text("0 right, 1 wrong")
    expect(page.locator("#refine-like")).to_be_hidden()
    page.locator(".hit").nth(1).locator(".mark-wrong").click()
    expect(page.locator("#refine")).to_be_hidden()
    page.locator(".hit").nth(0).locator(".mark-right").click()
    asked(page, lambda: click(page, 40, 40))
    keys(page)
    expect(page.locator("#refine")).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 900, 400])
def test_the_figures_of_a_match_are_never_covered_or_cut(
    browser: Browser, crowded: tuple[Served, str], width: int
) -> None:
    """Neither on a card under the pointer nor on one that is marked; the buttons lie in the card, beside the name."""
    region = crowded[0].region("a/two.png", 60)
    page = crowd_page(browser, crowded, f"/?image={crowded[0].id('a/two.png')}&region={region}")
    page.set_viewport_size({"width": width, "height": 900})
    keys(page)
    card = page.locator(".hit").first
    card.hover()
    card.locator(".mark-right").click()
    page.locator(".hit").nth(1).hover()
    for one in (card, page.locator(".hit").nth(1)):
        match, actions = (one.locator(name).bounding_box() for name in (".hit-match", ".hit-actions"))
        assert match is not None
        assert actions is not None
        assert actions["y"] + actions["height"] <= match["y"] + 1 or actions["x"] >= match["x"] + match["width"] - 1
        for figure in one.locator(".figure").all():
            assert figure.evaluate(
                "one => one.getBoundingClientRect().right <= one.parentElement.getBoundingClientRect().right + 1"
            )
        assert one.evaluate("(one) => one.scrollWidth <= one.clientWidth + 1")
    page.screenshot(path=SCREENSHOTS / f"page-marked-{width}.png")
    page.context.close()


def test_several_regions_are_the_next_question(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    click(page, 250, 90)
    keys(page)
    for place in (0, 1):
        page.locator(".hit").nth(place).locator(".mark-right").click()
    question = asked(page, lambda: page.click("#refine-like"))
    assert (len(question["like"]), "image" in question) == (2, False)
    assert set(keys(page)[:2]) == {"two.png", "blue.png"}
    expect(page.locator("#like li .outline")).to_have_count(2)
    page.click("#missing")
    page.fill("#expected", "green")
    expect(page.locator("dialog .image-tile")).to_have_count(1)
    page.click("dialog .image-tile")
    expect(page.locator("dialog .steps")).to_contain_text("what the 2 regions have in common")
    page.keyboard.press("Escape")
    assert page.url.count("like=") == 2
    page.reload()
    keys(page)
    expect(page.locator("#like li .outline")).to_have_count(2)


def test_words_are_refined(page: Page) -> None:
    page.fill("#words-text", "blue")
    page.press("#words-text", "Enter")
    keys(page)
    page.locator(".hit").first.locator(".mark-right").click()
    asked(page, lambda: page.click("#refine-button"))
    expect(page.locator("#refine-text")).to_contain_text("Refined by 1 right, 0 wrong")
    expect(page.locator(".hit").first).to_contain_text("bits")


def test_a_key_that_may_not_refine_is_told(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True, images=IMAGES)
    token, _ = served.desk.ring.add("one", rights=["read"])
    with listening(served) as url:
        page = browser.new_context(base_url=url, viewport={"width": 1280, "height": 860}).new_page()
        page.goto("/")
        page.fill("#key-input", token)
        page.press("#key-input", "Enter")
        page.wait_for_selector(".image-tile")
        page.goto(f"/?image={served.id('a/two.png')}&region=0")
        keys(page)
        page.locator(".hit").first.hover()
        page.locator(".hit").first.locator(".mark-right").click()
        expect(page.locator("#refine-text")).to_contain_text("may not refine")
        expect(page.locator("#refine-button")).to_be_hidden()
        expect(page.locator("#refine-like")).to_be_visible()
        page.context.close()


def test_chance_is_said_in_words_and_number(browser: Browser, crowded: tuple[Served, str]) -> None:
    region = crowded[0].region("a/two.png", 60)
    page = crowd_page(browser, crowded, f"/?image={crowded[0].id('a/two.png')}&region={region}")
    keys(page)
    first = page.locator(".hit").first
    expect(first).to_contain_text("1 in ")
    expect(first).to_contain_text("bits")
    expect(page.locator("#answers-title")).to_contain_text("good match")
    expect(page.locator("#hits")).to_have_class("hits")
    page.screenshot(path=SCREENSHOTS / "page-chance.png")
    page.context.close()


def test_no_good_match_is_not_like_many(browser: Browser, crowded: tuple[Served, str]) -> None:
    region = crowded[0].region("a/two.png", 60)
    address = f"/?image={crowded[0].id('a/two.png')}&region={region}&prefix=b/green"
    page = crowd_page(browser, crowded, address)
    keys(page)
    expect(page.locator("#answers-title")).to_have_text("No good match")
    expect(page.locator("#notice")).to_contain_text("Probably not in the index")
    expect(page.locator("#notice")).to_contain_text("as near by chance")
    expect(page.locator("#hits")).to_have_class("hits faint")
    page.screenshot(path=SCREENSHOTS / "page-no-good-match.png")
    page.context.close()


def test_words_that_fit_nothing(page: Page) -> None:
    def weak(route: Route) -> None:
        answer = route.fetch().json()
        match = {"cosine": 0.01, "better": 80, "words": 102, "confidence": "weak"}
        route.fulfill(json=answer | {"good_match": False, "selection": answer["selection"] | {"text_match": match}})

    page.route("**/v1/query", weak)
    page.goto("/?text=a+steam+engine")
    keys(page)
    expect(page.locator("#answers-title")).to_have_text("No good match")
    expect(page.locator("#notice")).to_contain_text("80 of 102 everyday words name even the best of them better")
    expect(page.locator("#hits")).to_have_class("hits faint")


def test_an_address_of_several_regions_that_are_gone(page: Page, served: tuple[Served, str]) -> None:
    page.goto(f"/?like={identity(served, 'a/two.png')}:0&like=nonsense&like={identity(served, 'a/red.png')}:99")
    expect(page.locator("#notice")).to_contain_text("got 99")


def test_an_index_without_words_does_not_invite_them(browser: Browser, crowded: tuple[Served, str]) -> None:
    page = crowd_page(browser, crowded, "/")
    expect(page.locator("#words-text")).to_have_attribute("placeholder", "Open an image to find things in it by words")
    page.locator(".image-tile").first.click()
    expect(page.locator("#words-text")).to_have_attribute("placeholder", "Words for a thing in this image")
    page.context.close()

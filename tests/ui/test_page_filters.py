"""The filters of the page: what is typed stays, what is removed goes, and all of it can be read."""

from __future__ import annotations

import pytest
from fakes.pages import asked, browser, keys, open_image, page, served
from fakes.serving import Served
from playwright.sync_api import Page, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]


def test_what_is_no_metadata_is_said(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.click("#filters-button")
    page.fill("#filter-meta", "sea")
    page.press("#filter-meta", "Enter")
    assert "album=sea" in page.locator("#filter-meta").evaluate("(one) => one.validationMessage")
    page.fill("#filter-meta", "album=sea")
    page.press("#filter-meta", "Enter")
    expect(page.locator(".chip")).to_have_count(1)


def test_each_of_several_metadata_can_be_removed(page: Page) -> None:
    page.goto("/?text=blue&meta=album%3Dsea&meta=year%3D2024&meta=place%3Dhere")
    expect(page.locator(".chip")).to_have_text(["album=sea ✕", "year=2024 ✕", "place=here ✕"])
    question = asked(page, page.get_by_role("button", name="Remove album=sea").click)
    assert question["filter"] == {"metadata": {"year": "2024", "place": "here"}}
    expect(page.locator(".chip")).to_have_text(["year=2024 ✕", "place=here ✕"])
    page.get_by_role("button", name="Remove year=2024").focus()
    question = asked(page, lambda: page.keyboard.press("Enter"))
    assert question["filter"] == {"metadata": {"place": "here"}}
    expect(page.locator("#filter-meta")).to_be_focused()
    asked(page, page.get_by_role("button", name="Remove place=here").click)
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#filters-badge")).to_be_hidden()


def test_who_goes_on_to_the_next_field_can_type_there(page: Page) -> None:
    page.goto("/?text=blue")
    keys(page)
    page.click("#filters-button")
    page.click("#filter-prefix")
    page.keyboard.type("b/")
    question = asked(page, lambda: page.click("#filter-meta"))
    assert question["filter"] == {"key_prefix": "b/"}
    keys(page)
    expect(page.locator("#filter-meta")).to_be_focused()
    page.keyboard.type("album=sea")
    question = asked(page, lambda: page.keyboard.press("Enter"))
    assert question["filter"] == {"key_prefix": "b/", "metadata": {"album": "sea"}}
    expect(page.locator("#answers-title")).to_have_text("No answers")
    expect(page.locator("#filter-meta")).to_be_focused()
    page.locator("#filters").get_by_role("button", name="Clear filters").focus()
    assert asked(page, lambda: page.keyboard.press("Enter"))["filter"] == {}
    expect(page.locator("#filter-prefix")).to_have_value("")
    expect(page.locator("#filter-meta")).to_be_focused()


def test_a_filter_that_lets_nothing_through_says_why(page: Page) -> None:
    page.goto("/?text=blue&meta=year:%3D2024&meta=album%3Dsea")
    expect(page.locator("#notice")).to_contain_text("No image passes the filters")
    expect(page.locator("#notice")).to_contain_text("Nothing found where year:=2024: of ")


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_a_date_is_seen_whole(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 860})
    page.goto("/?text=blue&from=2026-11-29")
    keys(page)
    dates = page.locator("#filters input[type=date]")
    needed = dates.first.evaluate("""(one) => {
        const alone = one.cloneNode();
        alone.style.cssText = "width: auto; position: absolute";
        document.querySelector("#filters").append(alone);
        const wide = alone.offsetWidth;
        alone.remove();
        return wide;
    }""")
    assert all(wide >= needed for wide in dates.evaluate_all("(all) => all.map((one) => one.offsetWidth)"))


def test_filters_stay_in_their_columns(page: Page, served: tuple[Served, str]) -> None:
    open_image(page, served)
    page.click("#filters-button")
    widths = page.locator("#filters .filter").evaluate_all("(all) => all.map((one) => Math.round(one.offsetWidth))")
    assert len(set(widths)) == 1, f"one is wider than its column: {widths}"

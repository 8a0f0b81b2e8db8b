"""The filters of the page: what is typed stays, what is removed goes, and all of it can be read."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from fakes.pages import asked, browser, keys, open_image, page, served
from fakes.serving import Served
from playwright.sync_api import Browser, Page, expect

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


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_days_are_those_of_whoever_asks(browser: Browser, served: tuple[Served, str], zone: str) -> None:
    """From midnight to midnight, also where the clocks change in between."""
    page = browser.new_context(base_url=served[1], timezone_id=zone).new_page()
    for days in ("from=2026-11-29&to=2026-11-29", "from=2026-10-25&to=2026-11-01", "from=2026-09-26&to=2026-09-27"):
        question = asked(page, lambda days=days: page.goto(f"/?text=blue&{days}"))
        start, end = question["filter"]["indexed_at_ms"]
        first, last = (day.partition("=")[2] for day in days.split("&"))
        here = ZoneInfo(zone)
        assert datetime.fromtimestamp(start / 1000, here).isoformat()[:19] == f"{first}T00:00:00"
        assert datetime.fromtimestamp((end + 1) / 1000 - 1, here).isoformat()[:19] == f"{last}T23:59:59"
        assert datetime.fromtimestamp((end + 1) / 1000, here).isoformat()[11:19] == "00:00:00"
    page.context.close()


@pytest.mark.parametrize("day", ["2026-99-99", "2026-02-31"])
def test_a_day_that_is_none_is_left_out(page: Page, day: str) -> None:
    question = asked(page, lambda: page.goto(f"/?text=blue&from={day}"))
    assert question["filter"] == {}
    expect(page.locator("#filters-badge")).to_be_hidden()

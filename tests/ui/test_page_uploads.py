"""Own images on the page: dropped, chosen, slow to arrive, and what is none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from fakes.models import drawn
from fakes.pages import HEIGHT, WIDTH, browser, hold, page, served
from fakes.serving import png_of
from playwright.sync_api import Error, Page, Route, expect

__all__ = ["browser", "page", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]
GREEN = png_of(drawn(HEIGHT, WIDTH, green=(30, 30, 200, 200)))


def drop(page: Page, *files: Path, address: str = "") -> None:
    """What another program drags onto the page and lets go there."""
    items = [{"mimeType": "text/uri-list", "data": address}] if address else []
    data = {"items": items, "files": [str(one) for one in files], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def choose(page: Page, name: str = "mine.png") -> None:
    page.set_input_files("#upload", [{"name": name, "mimeType": "image/png", "buffer": GREEN}])


def test_of_several_files_the_first_image_is_taken(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "green.png").write_bytes(GREEN)
    page.wait_for_selector(".image-tile")
    drop(page, tmp_path / "notes.txt", tmp_path / "green.png")
    expect(page.locator("#stage-name")).to_have_text("Your image")
    expect(page.locator("#drop")).to_be_hidden()


def test_what_cannot_be_uploaded_is_said(page: Page, tmp_path: Path) -> None:
    page.wait_for_selector(".image-tile")
    drop(page, tmp_path)
    expect(page.locator("#toast")).to_have_text("That cannot be read: is it a folder?")
    drop(page, address="https://example.org/photo.jpg")
    expect(page.locator("#toast")).to_have_text("Drop the image itself: addresses are not opened")
    expect(page.locator("#progress")).to_be_hidden()


def test_words_are_dropped_into_their_field(page: Page) -> None:
    field = page.locator("#words-text")
    frame = field.bounding_box()
    assert frame is not None
    at = {"x": frame["x"] + 60, "y": frame["y"] + 10}
    data = {"items": [{"mimeType": "text/plain", "data": "a red bag"}], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
    expect(field).to_have_value("a red bag")


def test_words_that_come_with_their_picture_are_pasted_into_their_field(page: Page) -> None:
    """A table copies its cells as both."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("""async () => {
        const canvas = new OffscreenCanvas(20, 20);
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        const picture = await canvas.convertToBlob({ type: "image/png" });
        const words = new Blob(["a red bag"], { type: "text/plain" });
        await navigator.clipboard.write([new ClipboardItem({ "image/png": picture, "text/plain": words })]);
    }""")
    page.locator("#words-text").focus()
    page.keyboard.press("Control+v")
    expect(page.locator("#words-text")).to_have_value("a red bag")
    page.locator("#help-button").focus()
    page.keyboard.press("Control+v")
    page.wait_for_url("**/?upload=*")


def test_files_that_are_dragged_over_a_dialog_hide_nothing_when_it_is_closed(page: Page, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(GREEN)
    page.click("#help-button")
    data = {"items": [], "files": [str(tmp_path / "green.png")], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 300, "data": data})
    page.keyboard.press("Escape")
    page.wait_for_selector("#drop", state="hidden")
    page.click("#help-button")
    drop(page, tmp_path / "green.png")
    expect(page.locator("#stage-name")).to_have_text("Your image")
    expect(page.locator("#dialog")).to_be_hidden()


def test_an_upload_under_way_is_said_until_it_is_there(page: Page) -> None:
    release = hold(page, "**/v1/uploads")
    choose(page)
    page.wait_for_timeout(3000)  # longer than other messages stay
    expect(page.locator("#toast")).to_have_text("Uploading mine.png…")
    expect(page.locator("#toast")).to_have_class("toast shown")
    release()
    expect(page.locator("#stage-name")).to_have_text("Your image")
    expect(page.locator("#toast")).to_have_class("toast")


def test_an_upload_that_comes_late_takes_nothing_away(page: Page) -> None:
    page.wait_for_selector(".image-tile")
    release = hold(page, "**/v1/uploads")
    with page.expect_request("**/v1/uploads"):
        choose(page)
    page.locator('.image-tile[title="b/blue.png"]').click()
    expect(page.locator("#stage-name")).to_have_text("blue.png")
    expect(page.locator("#toast")).to_have_text("The upload was stopped")
    release()
    page.wait_for_timeout(500)
    expect(page.locator("#stage-name")).to_have_text("blue.png")


def test_of_two_uploads_the_later_one_is_opened(page: Page) -> None:
    held: list[Route] = []
    page.wait_for_selector(".image-tile")
    page.route("**/v1/uploads", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/v1/uploads"):
        choose(page, "first.png")
    choose(page, "second.png")
    expect(page.locator("#stage-name")).to_have_text("Your image")
    address = page.url
    with contextlib.suppress(Error):  # it was stopped
        held[0].continue_()
    page.wait_for_timeout(500)
    assert page.url == address

"""The picker in a browser: a real one in the kernel's place, asked through the model that notebooks hand a widget."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.pages import HEIGHT, SCREENSHOTS, WIDTH, browser, served
from fakes.serving import Served
from playwright.sync_api import Browser, Page, expect

from searchanything.notebook import Picker

__all__ = ["browser", "served"]  # fixtures

pytestmark = [pytest.mark.ui, pytest.mark.timeout(300)]

# As anywidget's model: changes fire events, `save_changes` sends to the kernel, which answers in its own time.
PAGE = """
<!doctype html><title>Notebook</title><style>%s</style><div id="cell"></div>
<script type="module">
import widget from "/picker.js";
const state = %s, heard = {}, held = [];
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
state.picture = bytes(state.picture);
const fire = (name) => (heard[`change:${name}`] || []).forEach((act) => act());
const model = {
  get: (name) => state[name],
  set: (name, value) => ((state[name] = value), fire(name)),
  on: (event, act) => (heard[event] ||= []).push(act),
  off: (event, act) => (heard[event] = heard[event].filter((one) => one !== act)),
  save_changes: async () => {
    if (window.lost) return;
    const answer = await kernel(JSON.stringify(state.question));
    if (window.holds) await new Promise((release) => held.push(release));
    model.set("answer", answer);
  },
};
window.release = () => held.splice(0).forEach((one) => one());
window.show = (changes) => {
  const plain = (name) => JSON.stringify(name === "picture" ? [...new Uint8Array(state.picture.buffer)] : state[name]);
  const before = Object.fromEntries(Object.keys(changes).map((name) => [name, plain(name)]));
  Object.assign(state, changes, { picture: bytes(changes.picture) });
  for (const name of Object.keys(changes)) if (plain(name) !== before[name]) fire(name);
};
window.listeners = () => Object.values(heard).flat().length;
window.leave = widget.render({ model, el: document.getElementById("cell") });
</script>
"""


@dataclass
class Notebook:
    page: Page
    picker: Picker
    asked: list[dict[str, Any]] = field(default_factory=list)

    def place(self, x: float, y: float) -> tuple[float, float]:
        frame = self.page.locator("canvas").bounding_box()
        assert frame is not None
        return frame["x"] + x / WIDTH * frame["width"], frame["y"] + y / HEIGHT * frame["height"]

    def click(self, x: float, y: float, *modifiers: Any) -> None:
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(x, y))
        for key in modifiers:
            self.page.keyboard.up(key)

    def answered(self, times: int) -> dict[str, Any]:
        """The question so many answers were given to."""
        expect(self.page.locator(".answer")).to_have_attribute("aria-busy", "false")
        assert len(self.asked) == times
        return self.asked[-1]

    @property
    def text(self) -> str:
        return self.page.get_by_role("status").inner_text()


def state_of(picker: Picker) -> dict[str, Any]:
    """What a notebook sends the page of it."""
    state = {name: getattr(picker, name) for name in ("answer", "question", "segments", "image_number")}
    return {**state, "picture": base64.b64encode(picker.picture).decode()}


@pytest.fixture
def notebook(browser: Browser, served: tuple[Served, str]) -> Iterator[Notebook]:
    picker = Picker(served[0].client, str(served[0].folder / "a/two.png"), limit=4)
    context = browser.new_context(viewport={"width": 900, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    found = Notebook(page, picker)

    def kernel(question: str) -> dict[str, Any]:
        found.asked.append(json.loads(question))
        picker.question = found.asked[-1]
        return dict(picker.answer)

    page.expose_function("kernel", kernel)
    state = state_of(picker)
    shown = PAGE % (picker._css, json.dumps(state).replace("<", "\\u003c"))
    page.route("**/picker.js", lambda route: route.fulfill(body=str(picker._esm), content_type="text/javascript"))
    page.route("**/lab", lambda route: route.fulfill(body=shown, content_type="text/html"))
    page.goto("http://notebook.test/lab")
    page.wait_for_function("() => document.querySelector('canvas')?.width > 300")
    yield found
    page.screenshot(path=SCREENSHOTS / "picker.png", full_page=True)
    context.close()
    assert wrong == []


def test_a_click_asks_and_a_further_one_goes_up_a_level(notebook: Notebook) -> None:
    assert notebook.text.startswith("Point at a thing")
    notebook.page.mouse.move(*notebook.place(100, 100))
    expect(notebook.page.locator(".tip")).to_have_text("2 levels: click again for the next")
    notebook.click(100, 100)
    first = notebook.answered(1)
    assert (first["foreground"], first["granularity"]) == ([[100, 100]], "part")
    assert notebook.picker.results is not None
    assert notebook.text == f"Selected: {notebook.picker.results.selection.reason}."
    expect(notebook.page.locator(".answer figure")).to_contain_text("4 hits")
    small = notebook.picker.results.selection.area_px
    notebook.click(104, 103)
    second = notebook.answered(2)
    assert second["foreground"] == [[100, 100]]
    assert notebook.picker.results.selection.area_px > small


def test_shift_adds_alt_takes_away_and_escape_clears(notebook: Notebook) -> None:
    notebook.click(100, 200, "Alt")
    assert notebook.text == "First select something, then take away from it."
    assert notebook.asked == []
    notebook.click(30, 200)
    notebook.answered(1)
    notebook.click(250, 90, "Shift")
    assert notebook.answered(2)["foreground"] == [[30, 200], [250, 90]]
    notebook.click(85, 120, "Alt")
    assert notebook.answered(3)["background"] == [[85, 120]]
    notebook.page.keyboard.press("Escape")
    assert notebook.answered(4)["asks"] is False
    assert notebook.picker.results is None
    expect(notebook.page.locator(".answer")).to_be_empty()
    expect(notebook.page.get_by_role("button", name="Clear")).to_be_disabled()


def test_a_dragged_box_words_and_the_whole_image(notebook: Notebook) -> None:
    notebook.page.mouse.move(*notebook.place(195, 25))
    notebook.page.mouse.down()
    notebook.page.mouse.move(*notebook.place(300, 100))
    notebook.page.mouse.move(*notebook.place(365, 165))
    notebook.page.mouse.up()
    assert notebook.answered(1)["boxes"][0] == pytest.approx([195, 25, 365, 165], abs=2)
    words = notebook.page.get_by_label("Words for a thing in this image")
    words.fill("  blue ")
    words.press("Enter")
    both = notebook.answered(2)
    assert (both["text"], len(both["boxes"])) == ("blue", 1)
    notebook.page.get_by_role("button", name="Whole image").click()
    assert notebook.answered(3) | {"number": 0} == {
        "foreground": [],
        "background": [],
        "granularity": None,
        "boxes": [],
        "text": "",
        "whole": True,
        "number": 0,
        "asks": True,
        "image_number": 0,
    }
    assert notebook.picker.prompt is None
    notebook.click(85, 120, "Alt")  # from the whole image nothing is taken away
    assert notebook.text == "First select something, then take away from it."
    assert notebook.answered(3)["whole"]
    expect(words).to_have_value("")


def test_the_keyboard_alone_selects(notebook: Notebook) -> None:
    notebook.page.locator("canvas").focus()
    notebook.page.keyboard.press("ArrowRight")
    for _ in range(6):
        notebook.page.keyboard.press("ArrowRight")
    assert notebook.text.endswith("% of the image, top right")  # what lies under the cross is read aloud
    notebook.page.keyboard.press("Enter")
    ((x, y),) = notebook.answered(1)["foreground"]
    assert (x, y) == (pytest.approx(WIDTH * 0.65, abs=2), HEIGHT // 2)


def test_in_a_frame_that_is_as_high_as_what_is_in_it_the_image_stays_large(notebook: Notebook) -> None:
    notebook.page.set_viewport_size({"width": 900, "height": 150})
    expect(notebook.page.locator("canvas")).to_have_css("height", "420px")


def test_what_jupyter_would_take_for_its_own_keys_is_left_to_the_widget(notebook: Notebook) -> None:
    elements = notebook.page.locator("canvas, input, button")
    assert elements.count() == 4
    for one in elements.all():
        expect(one).to_have_attribute("data-lm-suppress-shortcuts", "true")


def test_clicks_while_the_kernel_works_become_one_question(notebook: Notebook) -> None:
    notebook.page.evaluate("window.holds = true")
    notebook.click(30, 200)
    expect(notebook.page.get_by_role("status")).to_have_text("Searching…")
    notebook.click(100, 100)
    notebook.click(250, 90)
    assert len(notebook.asked) == 1
    notebook.page.evaluate("window.holds = false; window.release()")
    assert notebook.answered(2)["foreground"] == [[250, 90]]


def test_what_waits_is_not_asked_of_the_image_that_is_shown_meanwhile(
    notebook: Notebook, served: tuple[Served, str]
) -> None:
    notebook.page.evaluate("window.holds = true")
    notebook.click(30, 200)
    notebook.click(250, 90)
    expect(notebook.page.get_by_role("status")).to_have_text("Searching…")
    notebook.picker.show(str(served[0].folder / "a/two.png"))  # the same again, whose picture is the same
    notebook.page.evaluate("changes => window.show(changes)", state_of(notebook.picker))
    expect(notebook.page.get_by_role("status")).to_contain_text("Point at a thing")
    assert len(notebook.asked) == 1
    notebook.page.evaluate("window.holds = false")
    notebook.click(100, 100)
    again = notebook.answered(2)
    assert (again["foreground"], again["granularity"], again["image_number"]) == ([[100, 100]], "part", 1)


def test_a_kernel_that_never_answers_is_said(notebook: Notebook) -> None:
    notebook.page.clock.install()
    notebook.page.evaluate("window.lost = true")
    notebook.click(30, 200)
    notebook.page.clock.run_for(9_000)
    assert notebook.text == "Searching…"
    notebook.page.clock.run_for(2_000)
    assert "run the cell again" in notebook.text
    notebook.click(100, 100)
    assert "run the cell again" in notebook.text


def test_words_that_are_being_typed_stay_and_escape_clears_them(notebook: Notebook) -> None:
    words = notebook.page.get_by_label("Words for a thing in this image")
    notebook.page.evaluate("window.holds = true")
    words.fill("blue")
    words.press("Enter")
    expect(notebook.page.get_by_role("status")).to_have_text("Searching…")
    words.fill("red bl")
    notebook.page.evaluate("window.holds = false; window.release()")
    notebook.answered(1)
    expect(words).to_have_value("red bl")
    words.press("Escape")
    notebook.answered(2)
    expect(words).to_have_value("")


def test_an_error_is_shown_as_text(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    from searchanything.core.errors import StoreError

    def failing(*_: object, **__: object) -> None:
        raise StoreError("no answer from <img src=x onerror=alert(1)>")

    monkeypatch.setattr(notebook.picker, "_client", type("Failing", (), {"query": failing})())
    notebook.click(30, 200)
    notebook.answered(1)
    assert notebook.text == "no answer from <img src=x onerror=alert(1)>"
    assert notebook.page.locator("img").count() == 0


def test_names_of_images_are_text_in_the_answer(notebook: Notebook, served: tuple[Served, str]) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    (served[0].folder / name).write_bytes((served[0].folder / "a/red.png").read_bytes())
    served[0].client.index(served[0].folder)
    notebook.click(30, 200)
    notebook.answered(1)
    expect(notebook.page.locator(".answer")).to_contain_text(name)
    assert notebook.page.locator(".answer img[src=x]").count() == 0


def test_a_cell_that_is_run_again_leaves_no_listener(notebook: Notebook) -> None:
    assert notebook.page.evaluate("window.listeners()") == 3
    notebook.page.evaluate("window.leave()")
    assert notebook.page.evaluate("window.listeners()") == 0
    devtools = notebook.page.context.new_cdp_session(notebook.page)
    viewport = devtools.send("Runtime.evaluate", {"expression": "visualViewport"})["result"]["objectId"]
    assert devtools.send("DOMDebugger.getEventListeners", {"objectId": viewport})["listeners"] == []

"""What the pages show can be typed: the command line understands its lines, Python compiles, names are there.

`python docs/run_examples.py` runs the examples themselves, with the bundled models, and writes their output.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer

import searchanything
from searchanything.cli.app import app
from searchanything.cli.verbs import ListedVerb
from searchanything.core import errors

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(console|sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def load(name: str):
    """A script of `docs/` as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fences(*kinds: str) -> list[tuple[str, str]]:
    return [
        (page.name, code) for page in PAGES for kind, code in FENCE.findall(page.read_text("utf-8")) if kind in kinds
    ]


def command_lines() -> list[tuple[str, list[str]]]:
    lines = []
    for page, code in fences("console", "sh"):
        joined = code.replace("\\\n", " ")
        for line in joined.splitlines():
            words = (
                shlex.split(line.removeprefix("$ "), comments=True) if re.match(r"(\$ )?searchanything ", line) else []
            )
            if words:
                lines.append((page, words))
    return lines


@pytest.mark.parametrize("words", [words for _, words in command_lines()], ids=" ".join)
def test_every_command_line_of_the_pages_is_understood(words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given.png").touch()
    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
        command = command.load() if isinstance(command, ListedVerb) else command
    assert command.make_context(words[1], list(rest)) is not None


def test_there_are_command_lines_and_a_wrong_one_is_found() -> None:
    assert len(command_lines()) > 15
    query = typer.main.get_command(app).commands["query"]
    with pytest.raises(typer.TyperException, match="--pointe"):
        query.make_context("query", ["a.jpg", "--pointe", "1,2"])


@pytest.mark.parametrize(("page", "code"), fences("python"))
def test_every_python_example_compiles_and_names_what_there_is(page, code) -> None:
    compile(code, page, "exec")
    for name in re.findall(r"searchanything\.(\w+)", code):
        assert hasattr(searchanything, name) or find_spec(f"searchanything.{name}"), f"{page}: searchanything.{name}"


def test_the_readme_shows_the_example_that_the_first_page_runs() -> None:
    readme = [code for page, code in fences("python") if page == "README.md"]
    first = [code for page, code in fences("python") if page == "index.md"]
    assert readme
    assert set(readme) <= set(first)


def test_every_make_target_of_the_pages_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = {target for _, code in fences("console", "sh") for target in re.findall(r"^(?:\$ )?make (\w+)", code, re.M)}
    assert "demo" in named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.M)] == []


def test_pictures_of_the_pages_are_small_and_all_used() -> None:
    pictures = {path.name: path.stat().st_size for path in (DOCS / "images").iterdir()}
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [name for name in pictures if f"images/{name}" not in text] == []
    assert max(pictures.values()) < 300_000
    assert sum(pictures.values()) < 3_000_000


def test_every_block_of_the_front_pages_is_run_or_says_why_not() -> None:
    examples = load("run_examples")
    for page in (*examples.FRONT, *examples.GUIDES):
        text = page.read_text("utf-8")
        blocks = list(examples.BLOCK.finditer(text))
        assert len(blocks) == len(re.findall(r"^```(?:sh|console|python|bash|shell)$", text, re.M)), page.name
        left = {match["code"]: match["left"] for match in blocks if match["left"]}
        reasons = re.compile("fetch|bucket|install|takes minutes|until it is stopped|needs (Airflow|Dagster|fiftyone) ")
        assert all(reasons.search(reason) for reason in left.values())
        assert len(blocks) - len(left) >= 1 + (page in examples.FRONT), page.name
        for code in (match["code"] for match in blocks if not match["left"] and match["kind"] == "sh"):
            lines = code.splitlines()
            assert all(line.startswith(("searchanything ", "export SEARCHANYTHING_")) for line in lines), code


def test_the_models_are_asked_for_what_is_new_alone() -> None:
    asked: list[int] = []

    def ask(_model: object, batch):
        asked.append(len(batch))
        return np.array([int(one.sum()) for one in batch])

    images = [np.full((2, 3, 3), number, dtype=np.uint8) for number in range(3)]
    seen = load("run_examples")._remembered(ask)
    one, other = (SimpleNamespace(description={"weights": name}) for name in "ab")
    assert seen(one, images[:2]) == [0, 18]
    assert seen(one, [images[2], images[0]]) == [36, 0]
    assert asked == [2, 1]
    crops = seen(one, np.stack(images))
    assert (crops.tolist(), asked) == ([0, 18, 36], [2, 1])
    assert seen(one, [images[1].reshape(3, 2, 3)]) == [18]  # another image
    assert seen(other, images[1:2]) == [18]  # another model
    assert asked == [2, 1, 1, 1]
    assert len(seen(one, images[:0])) == 0


def test_each_page_begins_with_nothing(tmp_path, monkeypatch) -> None:
    """No images, no index, no settings, and none of the page before: what a page needs, it makes."""
    examples = load("run_examples")
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__URI", "of-the-developer.db")
    look = "import os\nfrom pathlib import Path\n"
    look += "assert not list(Path().iterdir()) and not list(Path.home().iterdir())\n"
    look += "assert not [name for name in os.environ if name.startswith('SEARCHANYTHING_')]\n"
    page = f"```python\n{look}```\n\n```console\n$ export SEARCHANYTHING_MODELS__PRESET=pico\n```\n\n"
    page += "```python\nassert os.environ['SEARCHANYTHING_MODELS__PRESET'] == 'pico'\nPath('left').touch()\n```\n"
    pages = [tmp_path / "first.md", tmp_path / "second.md"]
    for path in pages:
        path.write_text(page, "utf-8")
    examples.run_pages(pages, check=True)
    assert os.environ["SEARCHANYTHING_MILVUS__URI"] == "of-the-developer.db"
    pages[1].write_text("```console\n$ searchanything index images --preset pico\n```\n", "utf-8")
    with pytest.raises(RuntimeError, match=r"second\.md: exit code"):
        examples.run_pages(pages, check=True)


def test_pages_that_are_run_make_their_images_first() -> None:
    examples = load("run_examples")
    for page in examples.PAGES:
        first = next(match for match in examples.BLOCK.finditer(page.read_text("utf-8")) if not match["left"])
        assert re.match(r"(\$ )?searchanything demo --scenes (images|photos)\n", first["code"]), page.name


def test_scenes_are_drawn_once_and_only_as_many_as_are_taken() -> None:
    drawn: list[int] = []

    def draw(count: int, *, seed: int):
        for number in range(count):
            drawn.append(number)
            yield seed, number

    again = load("run_examples")._drawn_once(draw)
    assert list(islice(again(5, seed=3), 2)) == [(3, 0), (3, 1)]
    assert list(again(5, seed=3)) == [(3, number) for number in range(5)] == list(again(5, seed=3))
    assert drawn == [0, 1, 2, 3, 4]
    assert list(again(1, seed=4)) == [(4, 0)]


def test_a_block_that_says_why_is_left_alone() -> None:
    examples = load("run_examples")
    page = "<!-- not run: fetches weights -->\n```sh\nrm -rf x\n```\n"
    assert examples.run_page(page) == page


def test_the_python_page_shows_every_method_of_a_client() -> None:
    """It shows what a class defines itself, so nothing public may be inherited; each method says what it promises."""
    assert "::: searchanything.client.client.Client\n" in (DOCS / "api.md").read_text("utf-8")
    public = {name: one for name, one in vars(searchanything.Client).items() if not name.startswith("_")}
    inherited = {name for base in searchanything.Client.__mro__[1:-1] for name in vars(base)}
    assert {name for name in inherited if not name.startswith("_")} <= public.keys()
    assert {"query", "index", "refresh", "sync", "delete", "estimate", "failures", "retry_failed"} <= public.keys()
    assert [name for name, one in public.items() if not one.__doc__] == []


def test_an_example_that_fails_stops_the_run() -> None:
    examples = load("run_examples")
    with pytest.raises(ZeroDivisionError):
        examples.run_page("```python\n1 / 0\n```\n")
    with pytest.raises(RuntimeError, match="exit code 2"):
        examples.run_page("```console\n$ searchanything query nowhere.jpg\n```\n")


def test_output_of_an_example_replaces_what_the_page_showed() -> None:
    examples = load("run_examples")
    shown = "# A\n\n```python\nx = 2\nprint(x)\n```\n\n```text\nold\n```\n"
    page = f"{shown}\n```python\nprint(x + 1)\n```\n\n```yaml\nrm: x\n```\n"
    assert examples.run_page(page) == page.replace("old", "2")
    assert examples.commands_of("$ a \\\n  b\nout\n$ c\n") == [("a \\\n  b\n", True), ("c\n", False)]


def test_every_public_name_has_its_place_on_the_python_page() -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(r"^::: searchanything\.\S*?(\w+)$", page, re.M)
    assert sorted(listed) == sorted(searchanything.__all__)


def test_an_error_class_without_a_cure_stops_the_generator(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    reference = load("reference")
    monkeypatch.delitem(reference.CURES, "FilterError")
    with pytest.raises(LookupError, match="FilterError"):
        reference.errors_page()
    sys.modules.pop("cures", None)


def parents(rows: list[tuple[int, str]]) -> dict[str, str | None]:
    """By name, what stands above it in a tree of (depth, name)."""
    above: list[str] = []
    found: dict[str, str | None] = {}
    for depth, name in rows:
        above = above[:depth]
        found[name] = above[-1] if above else None
        above.append(name)
    return found


def test_the_trees_of_errors_are_those_of_the_classes() -> None:
    """Of the page, and of the module's docstring: each class once, below its own base."""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    ours = {kind.__name__: [base.__name__ for base in kind.__bases__ if base in classes] for kind in classes}
    row = re.compile(r"^\| ((?:· )*)`(\w+)` \|", re.M)
    page = [(len(dots) // 2, name) for dots, name in row.findall((DOCS / "errors.md").read_text("utf-8"))]
    line = re.compile(r"^    ((?:│   |    |[├└]── )*)(\w+Error)\b", re.M)
    drawn = [(len(lines) // 4, name) for lines, name in line.findall(errors.__doc__)]
    for tree in (page, drawn):
        assert len(tree) == len(classes)
        assert {name: [above] if above else [] for name, above in parents(tree).items()} == ours


def test_pages_that_arrive_later_and_decisions_are_linked(tmp_path) -> None:
    completed = load("site_nav").completed
    (tmp_path / "adr").mkdir()
    for name in ("adr/0002-b.md", "adr/0001-a.md", "scale.md"):
        (tmp_path / name).touch()
    nav = [{"Start": "index.md"}, {"Explanation": [{"Architecture": "architecture.md"}]}]
    assert completed(nav, tmp_path) == [
        {"Start": "index.md"},
        {
            "Explanation": [
                {"Architecture": "architecture.md"},
                {"How far it reaches": "scale.md"},
                {"Decisions": ["adr/0001-a.md", "adr/0002-b.md"]},
            ]
        },
    ]

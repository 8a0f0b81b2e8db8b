"""Runs the examples of the pages and writes their output and pictures into them: `python docs/run_examples.py`.

Each page from top to bottom, as its readers do it: in an empty folder and an empty home, without settings. The lines of
```sh blocks and the lines `$ …` of ```console blocks are run by the command line itself, in this process, `export` sets
a variable for the rest of the page; ```python blocks are run. What follows a `$` line is replaced by what it prints,
and so is a ```text block right below one of the others. Pictures that an example saves, and that the page shows, go to
`docs/images/`. A block after `<!-- not run: reason -->` is left alone, as are blocks of other languages.
With `--check` nothing is written: the examples run, on few scenes, and a failure of any of them is the failure of the
check. Names of pages (`explain.md`) restrict it to those.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice, tee
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parent
# In this order: the first page shows what a first run prints.
FRONT = (HERE / "index.md", ROOT / "README.md", HERE / "tutorial.md")
# Run by tests, as the front pages are.
GUIDES = tuple(HERE / f"{name}.md" for name in ("jobs", "fiftyone", "failures", "own_regions"))
PAGES = (*FRONT, *GUIDES, HERE / "prompts.md", HERE / "explain.md")
BLOCK = re.compile(
    r"(?P<left><!-- not run: [^\n]+ -->\n+)?"
    r"^```(?P<kind>console|python|sh)\n(?P<code>.*?)^```\n(?P<out>\n```text\n.*?^```\n)?",
    re.MULTILINE | re.DOTALL,
)
WIDTH_COLUMNS = 110
WIDEST_PX = 1000  # but for contact sheets of more columns, of which a page links the full size
WIDEST_SHEET_PX = 1250
FEW_SCENES = 12  # of 120, where the output is not looked at


def main() -> int:
    """Run the pages."""
    names = [name for name in sys.argv[1:] if name != "--check"]
    check = "--check" in sys.argv[1:]
    with each_image_once(), few_scenes() if check else contextlib.nullcontext():
        run_pages([page for page in PAGES if not names or page.name in names], check=check)
    return 0


def run_pages(pages: Sequence[Path], *, check: bool) -> None:
    """Run pages, each by itself. Raises: RuntimeError, which names the page and the line that failed."""
    for page in pages:
        with nothing_there():
            try:
                done = run_page(page.read_text("utf-8"))
            except Exception as error:
                raise RuntimeError(f"{page.name}: {error}") from error
            if not check:
                page.write_text(done, "utf-8")
                keep_pictures(done)


@contextlib.contextmanager
def nothing_there() -> Iterator[None]:
    """An empty working folder, an empty home, and none of our settings, for the length of a block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as home,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"HOME": home, "COLUMNS": str(WIDTH_COLUMNS)}),
    ):
        for name in [name for name in os.environ if name.startswith("SEARCHANYTHING_")]:
            del os.environ[name]
        yield


@contextlib.contextmanager
def each_image_once() -> Iterator[None]:
    """Scenes are drawn, and the models see each image, once in this process: all pages have the same ones.

    All else runs as ever; what a model says of an image or a crop does not depend on the others of its batch.
    """
    from searchanything.demo import example_images
    from searchanything.models.lazy import LazyEncoder, LazySegmenter

    with (
        mock.patch.object(example_images, "generate_demo_scenes", _drawn_once(example_images.generate_demo_scenes)),
        mock.patch.object(LazySegmenter, "segment", _remembered(LazySegmenter.segment)),
        mock.patch.object(LazyEncoder, "embed_crops", _remembered(LazyEncoder.embed_crops)),
        mock.patch.object(LazyEncoder, "embed_many", lambda encoder, crops: encoder.embed_crops(crops)),
    ):
        yield


@contextlib.contextmanager
def few_scenes() -> Iterator[None]:
    """Of the example scenes only the first are there, and any others under the names that pages have: examples run."""
    from searchanything.demo import example_images

    draw = example_images.generate_demo_scenes
    named = {name for page in PAGES for name in re.findall(r"scene-\d{4}\.jpg", page.read_text("utf-8"))}

    def few(count: int, *, seed: int) -> Iterator[tuple[str, Any]]:
        drawn = list(islice(draw(count, seed=seed), FEW_SCENES))
        for number in range(count):
            name = f"scene-{number:04d}.jpg"
            if number < FEW_SCENES or name in named:
                yield name, drawn[number % FEW_SCENES][1]

    with mock.patch.object(example_images, "generate_demo_scenes", few):
        yield


def _drawn_once(draw: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A drawer of scenes that draws each of them when it is first asked for, and no more."""
    known: dict[tuple[int, int], Iterator[Any]] = {}

    def again(count: int, *, seed: int) -> Iterator[Any]:
        known[count, seed], scenes = tee(known.get((count, seed)) or draw(count, seed=seed))
        return scenes

    return again


def _remembered(ask: Callable[[Any, Any], Sequence[Any]]) -> Callable[[Any, Any], Any]:
    """A model's method for batches, asked for those alone that are new to it."""
    known: dict[bytes, Any] = {}

    def remembered(model: Any, batch: Any) -> Any:  # noqa: ANN401 - images, or one array of crops
        seen_by = repr(sorted(model.description.items())).encode()
        keys = [blake2b(b"%b %a %b" % (seen_by, one.shape, one.tobytes())).digest() for one in batch]
        if not keys:
            return ask(model, batch)
        new = [row for row, key in enumerate(keys) if key not in known]
        asked = batch[new] if isinstance(batch, np.ndarray) else [batch[row] for row in new]
        known.update(zip((keys[row] for row in new), ask(model, asked) if new else (), strict=True))
        answers = [known[key] for key in keys]
        return np.stack(answers) if isinstance(batch, np.ndarray) else answers

    return remembered


def run_page(text: str) -> str:
    """The page with what its examples print now. Raises: RuntimeError for one that fails."""
    names: dict[str, Any] = {"__name__": "__main__"}

    def run(match: re.Match[str]) -> str:
        kind, code = match["kind"], match["code"]
        if match["left"]:
            return match[0]
        if kind == "console":
            return f"```console\n{''.join(_run_console(code))}```\n{match['out'] or ''}"
        printed = _run_python(code, names) if kind == "python" else _run_shell(code)
        shown = f"\n```text\n{printed}```\n" if match["out"] else ""
        return f"```{kind}\n{code}```\n{shown}"

    return BLOCK.sub(run, text)


def commands_of(code: str) -> list[tuple[str, bool]]:
    """The command lines of a console block (continued by a backslash), and whether the page shows their output."""
    parts = re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]
    commands = []
    for part in parts:
        line = re.match(r"(?:.*\\\n)*.*\n", part)
        if line is None:
            raise RuntimeError(f"not a command line: {part!r}")
        commands.append((line[0], bool(part[line.end() :].strip())))
    return commands


def _run_console(code: str) -> Iterator[str]:
    for line, shows in commands_of(code):
        printed = _run_line(line)
        yield f"$ {line}"
        if shows:
            yield _plain(printed)


def _run_shell(code: str) -> str:
    lines = code.replace("\\\n", " ").splitlines()
    return _plain("".join(_run_line(line) for line in lines if line.partition("#")[0].strip()))


def _run_line(line: str) -> str:
    """What a command line prints. Raises: RuntimeError where it fails."""
    from searchanything.cli.app import run

    words = shlex.split(line.replace("\\\n", " "), comments=True)
    if words[0] == "export":
        os.environ |= dict(word.split("=", 1) for word in words[1:])
        return ""
    if words[0] != "searchanything":
        raise RuntimeError(f"only searchanything is run here: {line}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code_of_exit = run(words[1:])
    if code_of_exit != 0:
        raise RuntimeError(f"exit code {code_of_exit}: {line}")
    return printed.getvalue()


def _run_python(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), names)  # noqa: S102  the pages are ours
    return _plain(printed.getvalue())


def _plain(printed: str) -> str:
    """What was printed, without this run's folder, times and blanks at line ends: the next run prints the same."""
    folder = f"{Path.cwd()}/"
    narrower = re.compile(rf"^(#.*?) {{{len(folder)}}}", re.MULTILINE)  # a table's column is narrower by as much
    shown = narrower.sub(r"\1", printed.replace(folder, ""))
    shown = re.sub(r"[\d,.]+ (ms|s)\b", r"… \1", shown)
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


def keep_pictures(page: str) -> None:
    """The pictures that a page shows, from this folder: no wider than shown twice as fine, and small files."""
    for path in sorted(Path().glob("*.png")):
        if f"images/{path.stem}.webp" in page:
            picture = Image.open(path).convert("RGB")
            is_linked = page.count(f"](images/{path.stem}.webp)") > 1
            widest_px = WIDEST_SHEET_PX if is_linked else WIDEST_PX
            picture.thumbnail((widest_px, 4 * widest_px), Image.Resampling.LANCZOS)
            picture.save(HERE / "images" / f"{path.stem}.webp", quality=82, method=6)


if __name__ == "__main__":
    sys.exit(main())

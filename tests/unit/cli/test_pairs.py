"""Two columns on stdout: as Rich prints them, which is loaded only for a terminal that is too narrow."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from searchanything.cli.session import answer_pairs

PAIRS = [("images", "1,204"), ("collections", "regions regions_9754e36f5df2812c, images images_9754e36f5df2812c")]
WIDE = [*PAIRS, ("uri", "/srv/写真/index.db")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def by_rich(pairs: list[tuple[str, str]], width: int) -> list[str]:
    table, out = Table.grid(padding=(0, 2)), io.StringIO()
    for name, value in pairs:
        table.add_row(name, Text(value))
    Console(file=out, width=width, highlight=False, soft_wrap=True).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("pairs", [PAIRS, WIDE])
@pytest.mark.parametrize("width", [30, 78, 79, 80, 300])
def test_a_terminal_shows_what_rich_would(
    pairs: list[tuple[str, str]], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = Terminal()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("COLUMNS", str(width))
    answer_pairs({}, "text", lambda: pairs)
    assert stdout.getvalue().splitlines() == by_rich(pairs, width)


def test_into_a_pipe_lines_are_never_cut_and_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    answer_pairs({}, "text", lambda: [*PAIRS, ("uri", "x" * 20_000), ("note", "a\x1b[2Jb\nc [bold]d")])
    assert capsys.readouterr().out.splitlines() == [
        "images       1,204",
        "collections  regions regions_9754e36f5df2812c, images images_9754e36f5df2812c",
        f"uri          {'x' * 20_000}",
        "note         a\\x1b[2Jb\\nc [bold]d",
    ]


def test_json_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    answer_pairs({"images": 3}, "json", lambda: pytest.fail("no text is made"))
    assert capsys.readouterr().out == '{"images": 3}\n'


def test_rich_is_not_loaded_for_them() -> None:
    code = (
        "import sys\nfrom searchanything.cli.session import answer_pairs\n"
        "answer_pairs({}, 'text', lambda: [('a', 'b')])\nprint([one for one in sys.modules if one.startswith('rich.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["a  b", "[]"]

"""What a verb gets from the command line around it: a client, and the two streams kept apart.

Answers go to stdout, and in JSON format nothing else does; everything else goes to stderr.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

import typer

from searchanything.cli.options import CommonOptions, Format
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.escaping import json_text, printable, printable_lines
from searchanything.core.put_off import questions_only

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from searchanything.client.client import Client
    from searchanything.core.settings import Settings

TwoColumns: TypeAlias = Sequence[tuple[str, str]]  # names and what they say
Connect: TypeAlias = Callable[[str | None, str | None], "contextlib.AbstractContextManager[Client]"]  # URI, preset
_BLAS_THREADS: Final = "OPENBLAS_NUM_THREADS"
SHOWN_LINES: Final = 20  # failures and the like, for people
WIDE_COLUMNS = 10_000  # into a pipe, lines are never wrapped or cut


def open_client(uri: str | None, preset: str | None) -> Client:
    """The real client. Imported here, because its libraries take longer to load than `--help` may.

    Raises: LibraryError, and what `connect` raises.
    """
    from searchanything.core.libraries import importing

    with importing(), _one_blas_thread():
        from searchanything.client.opening import connect

    return connect(uri, preset=preset)


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """NumPy, imported meanwhile, starts no threads for large products, of which questions have none: 0.1 s of CPU.

    What this process starts later is not told.
    """
    if not questions_only() or _BLAS_THREADS in os.environ:
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_BLAS_THREADS]


@dataclass(frozen=True, slots=True)
class Session:
    """The command line's surroundings; tests hand over their own `connect`."""

    connect: Connect = open_client

    @contextlib.contextmanager
    def client(self, uri: str | None, preset: str | None) -> Iterator[Client]:
        """A client for the length of a block. What libraries print meanwhile goes to stderr."""
        with contextlib.redirect_stdout(sys.stderr), self.connect(uri, preset) as client:
            yield client


def session_of(context: typer.Context) -> Session:
    """The session that `run` handed to the application."""
    session: Session = context.obj
    return session


def client_of(context: typer.Context, common: CommonOptions) -> contextlib.AbstractContextManager[Client]:
    """A client of the index and preset that were asked for."""
    return session_of(context).client(common.uri, common.preset)


def settings_of(uri: str | None, preset: str | None = None) -> Settings:
    """The settings with what was typed in their place. Raises: SettingsError."""
    from searchanything.core.settings import load_settings

    settings = load_settings()
    settings.milvus.uri = uri or settings.milvus.uri
    settings.models.preset = preset or settings.models.preset
    return settings


def answer(document: Mapping[str, Any], format: Format, text: Callable[[], RenderableType]) -> bool:
    """Print a verb's answer: the document as JSON, or what `text` makes of it. False if its reader went away."""
    return write_stdout(one_line(document)) if format == "json" else _write_shown(text())


def answer_pairs(document: Mapping[str, Any], format: Format, pairs: Callable[[], TwoColumns]) -> None:
    """The same for two columns, for which Rich is loaded only where a terminal is too narrow for them."""
    if format == "json":
        write_stdout(one_line(document))
        return
    shown = pairs()
    indent = max(map(len, (name for name, _ in shown)), default=0)
    lines = [f"{name:{indent}}  {printable(value)}" for name, value in shown]
    if not sys.stdout.isatty() or all(one.isascii() and len(one) <= get_terminal_size().columns for one in lines):
        write_stdout("".join(f"{line.rstrip()}\n" for line in lines))
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in shown:
        table.add_row(name, plain(value))
    _write_shown(table)


def _write_shown(content: RenderableType) -> bool:
    from rich.console import Console

    from searchanything.cli.shown import Shown

    # Rich writes into a buffer, because it would end the process itself where the reader has gone away.
    terminal, buffer = sys.stdout.isatty(), io.StringIO()
    width = None if terminal else WIDE_COLUMNS
    Console(file=buffer, force_terminal=terminal, width=width, highlight=False, soft_wrap=True).print(Shown(content))
    lines = buffer.getvalue().splitlines()
    return write_stdout("".join(f"{line.rstrip()}\n" for line in lines))


def one_line(document: Mapping[str, Any]) -> str:
    """A document as a line of JSON, with escapes where stdout has no room for all letters, or nobody could see them."""
    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    return json_text(json.dumps(document, ensure_ascii=escaped, allow_nan=False)) + "\n"


def figure_table(first: str, *others: str) -> Table:
    """An empty table: names on the left, numbers on the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading.replace("_", " "), justify="right")
    return table


def first_lines(lines: Sequence[str], noun: str, plural: str = "") -> list[str]:
    """The first of many lines, and how many more there are, such as `more failure`."""
    more = len(lines) - SHOWN_LINES
    end = [f"… and {counted(more, noun, plural)}; --format json lists all"] if more > 0 else []
    return [*lines[:SHOWN_LINES], *end]


def plain(text: str) -> RenderableType:
    """A text as it stands: what looks like markup in a key is no markup."""
    from rich.text import Text

    return Text(text)


def write_stdout(text: str) -> bool:
    """Write all of it now. A reader that went away (`… | head`) is not an error, but said by False."""
    try:
        # Keys may hold bytes that are no UTF-8, which reach us as lone surrogates, and stdout may be Latin-1.
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        return False
    return True


def say(message: str) -> None:
    """Tell people something that is not the answer.

    If they went away (`… 2>&1 | head`), their terminal was closed or their disk is full, the work goes on.
    """
    try:
        print(printable_lines(message), file=sys.stderr)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Send all further output nowhere: the interpreter flushes a stream once more at its end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_image(text: str) -> None:
    """Refuse a file that is not there before anything is loaded. Raises: UsageError."""
    from searchanything.core.reading import kind_at
    from searchanything.images.inputs import folder_message, named_image

    named = named_image(text)
    if not isinstance(named, Path):
        return
    expected = "an image file or s3://bucket/key"
    kind = kind_at(named, expected)
    if kind == "folder":
        raise UsageError(folder_message(text))
    if kind != "file":
        raise UsageError(f"{text}: no such file; expected {expected}")


def save_where_asked(path: Path | None, write: Callable[[Path], object]) -> None:
    """Write an answer's file, if one was asked for, and say so."""
    if path is not None:
        write(path)
        say(f"saved {path}")


def check_save(path: Path | None, *inputs: str | Path | None) -> None:
    """Refuse a name that no image can be saved under, or that of an input, before anything is computed.

    Raises: UsageError.
    """
    if path is not None:
        from searchanything.core.files import check_save_path

        check_save_path(path, inputs=files_read(one for one in inputs if one))


def files_read(names: Iterable[str | Path]) -> list[Path]:
    """The files that names of images and regions stand for, however these are written."""
    from searchanything.cli.regions import split_region
    from searchanything.images.inputs import named_image

    files = []
    for name in names:
        region = split_region(str(name))
        with contextlib.suppress(UsageError, OSError):  # what names nothing is told by who reads it
            files.append(named_image(name if region is None else region[0]))
    return [one for one in files if isinstance(one, Path)]


def check_receipt(path: Path | None) -> None:
    """Refuse a name that no receipt can be written under before anything is computed. Raises: UsageError."""
    if path is not None:
        from searchanything.core.files import check_save_path

        check_save_path(path, (".json",))

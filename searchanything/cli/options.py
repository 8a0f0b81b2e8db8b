"""The options and arguments that several verbs share, so that each is spelt and explained once.

Options that go together are a dataclass, which `expanded` puts into a verb's signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import typer

if TYPE_CHECKING:
    from searchanything.images.scopes import Patterns

COMMON = "Common options"


def option(flag: str, metavar: str, help: str, *, panel: str | None = None) -> Any:  # noqa: ANN401 - as `typer.Option`
    """An option with a value, or several, which is None unless it is given."""
    return typer.Option(flag, metavar=metavar, help=help, show_default=False, rich_help_panel=panel)


Format: TypeAlias = Literal["text", "json"]
Uri = Annotated[
    str | None,
    option(
        "--uri",
        "URI",
        "Index: a file (embedded), http(s)://host:port (Milvus server) or memory://. "
        "Default: SEARCHANYTHING_MILVUS__URI, or a file in this user's home.",
        panel=COMMON,
    ),
]
Preset = Annotated[
    str | None,
    option(
        "--preset",
        "NAME",
        "Models: pico, small, base, large, multilingual or paper. An index remembers its own.",
        panel=COMMON,
    ),
]
FormatOption = Annotated[
    Format,
    typer.Option("--format", help="text for people, json for scripts: one document on stdout.", rich_help_panel=COMMON),
]
# `run` reads this flag before anything is parsed, so that it governs usage errors too; no verb looks at it.
Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Log details on stderr, with tracebacks of errors.", rich_help_panel=COMMON),
]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="s3://bucket/prefix, or a folder.", show_default=False)]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A file, or s3://bucket/key.", show_default=False)]
OptionalImage = Annotated[
    str | None,
    typer.Argument(metavar="[IMAGE]", help="A file, or s3://bucket/key; none with --text alone.", show_default=False),
]
Save = Annotated[Path | None, option("--save", "FILE.png", "Draw the answer to an image file.")]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a verb answers."""

    format: FormatOption = "text"
    verbose: Verbose = False


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """Which index and models a verb works with, and how it answers."""

    uri: Uri = None
    preset: Preset = None
    format: FormatOption = "text"
    verbose: Verbose = False


@dataclass(frozen=True, slots=True)
class AskOptions(CommonOptions):
    """The same for verbs that a warm process may run; the entry point looks at `--no-warm`, no verb does."""

    no_warm: Annotated[
        bool, typer.Option("--no-warm", help="Neither use nor start a warm process.", rich_help_panel=COMMON)
    ] = False


@dataclass(frozen=True, slots=True)
class PatternOptions:
    """Which keys of a source are meant."""

    include: Annotated[
        list[str] | None,
        option(
            "--include",
            "PATTERN",
            "Only keys that match, such as '*.jpg' or '2024/*'. A pattern for the end of keys, such as '*.v2', "
            "also makes the keys that it matches count as images. Repeatable.",
        ),
    ] = None
    exclude: Annotated[list[str] | None, option("--exclude", "PATTERN", "Skip keys that match; repeatable.")] = None

    def patterns(self) -> Patterns | None:
        """None leaves it to the settings."""
        if not self.include and not self.exclude:
            return None
        from searchanything.images.scopes import Patterns

        return Patterns(tuple(self.include or ()), tuple(self.exclude or ()))


def expanded(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with each parameter that is a group of options replaced by the group's own options."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(verb).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        own = get_type_hints(groups[name], include_extras=True)
        parameters += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=own[field.name])
            for field in fields(groups[name])
        ]

    @wraps(verb)
    def run(**options: object) -> None:
        made = {
            name: group(**{field.name: options.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        verb(**made, **options)

    run.__signature__ = signature(verb).replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run

"""Wrong usage in the words of the rest: what was typed, and what is expected in its place.

typer finds the faults and says them in the words of its libraries ("Input should be greater than or equal to 1"). What
is not known here is said as typer says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import typer

from searchanything.cli.verbs import VERBS

_PATH: Final = re.compile(
    r"(?:file|dir|directory|path) '(.*)' (does not exist|is a file|is a directory|is not readable|is not writable)\.",
    re.I | re.S,
)
_PATHS: Final[Mapping[str, str]] = {
    "does not exist": "no such file or folder",
    "is a file": "this is a file, expected a folder",
    "is a directory": "this is a folder, expected a file",
    "is not readable": "you may not read it",
    "is not writable": "you may not write to it",
}
_CHOICES: Final = re.compile(r"(?:Value error, )?'(.*)' is not one of ('.*')\.?", re.S)
_TOO_MANY: Final = re.compile(r"Got unexpected extra argument\(?s?\)? \((.*)\)", re.S)
_NO_COMMAND: Final = re.compile(r"No such command '(.*?)'(?:\. Did you mean (.*)\?)?\.?", re.S)
_GUESSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("search", "ask", "similar", "lookup"), "query"),
    **dict.fromkeys(("add", "ingest", "import", "build", "create", "update", "crawl"), "index"),
    **dict.fromkeys(("list", "ls", "info", "stats", "count", "show"), "status"),
    **dict.fromkeys(("remove", "rm", "forget", "clear", "drop"), "delete"),
    **dict.fromkeys(("web", "ui", "gui", "page", "server", "start", "open", "run"), "serve"),
    **dict.fromkeys(("check", "test", "verify", "health"), "doctor"),
    **dict.fromkeys(("download", "fetch", "pull", "weights"), "models fetch"),
    **dict.fromkeys(("dedup", "dupes", "duplicate"), "duplicates"),
    **dict.fromkeys(("train", "hashing"), "hash train"),
    **dict.fromkeys(("evaluate", "benchmark", "measure"), "eval"),
    **dict.fromkeys(("why", "debug"), "explain"),
    "help": "--help",
    "version": "--version",
}  # what people try first, and what it is called here
_GUESSED_OPTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--click", "--foreground", "--positive"), "--point"),
    **dict.fromkeys(("--negative", "--minus"), "--background"),
    **dict.fromkeys(("--bbox", "--rect", "--rectangle", "--crop"), "--box"),
    **dict.fromkeys(("--words", "--prompt", "--caption"), "--text"),
    **dict.fromkeys(("--top", "--top-k", "--topk", "--k", "-k", "-n", "--max", "--count"), "--limit"),
    **dict.fromkeys(("--output", "--out"), "--save"),
    **dict.fromkeys(("--model", "--models"), "--preset"),
    **dict.fromkeys(("--db", "--database", "--url", "--host", "--milvus"), "--uri"),
    **dict.fromkeys(("--json", "--csv"), "--format"),
}
_SAID: Final = (
    (re.compile(r"Option '(.*)' requires an argument\.", re.S), "{}: its value is missing"),
    (re.compile(r"Option '(.*)' does not take a value\.", re.S), "{} takes no value"),
)
_NUMBERS: Final = ("int_", "float_", "greater_than", "less_than", "finite_number")  # pydantic's names of such faults


def wrong_usage(error: typer.TyperException) -> str:
    """What is wrong and what is expected, as a sentence; empty where typer has shown the help instead."""
    match type(error).__name__:
        case "NoArgsIsHelpError":
            return "expected a command: " + ", ".join(sorted(_commands_of(error)))
        case "MissingParameter":
            return _missing(error)
        case "BadParameter":
            return _bad_value(error)
        case "NoSuchOption":
            return _no_option(error)
    said = error.format_message()
    if (found := _TOO_MANY.fullmatch(said)) is not None:
        numbers = re.fullmatch(r"[\d.,\s]+", found[1])
        advice = "write coordinates without spaces, as 320,240" if numbers else "put a name with spaces in quotes"
        return f"one argument too many: {found[1]}; {advice}"
    if (found := _NO_COMMAND.fullmatch(said)) is not None:
        near = _guess(error, found[1]) or (found[2] or "").replace("'", "") or _misspelt(error, found[1])
        return f"there is no command {found[1]}" + (f"; did you mean {near}?" if near else "")
    for pattern, words in _SAID:
        if (found := pattern.fullmatch(said)) is not None:
            return words.format(found[1])
    return said


def _guess(error: typer.TyperException, typed: str) -> str:
    """What a guess means, where there is such a command: `delete` is no answer to `keys remove`."""
    near = _GUESSED.get(typed.lower(), "")
    of_group = getattr(getattr(error, "ctx", None), "info_name", None)
    return near if near.startswith("-") or near.split(" ")[0] in {*_commands_of(error), of_group} else ""


def _misspelt(error: typer.TyperException, typed: str) -> str:
    """What a guess means that is nearly one of ours."""
    return next((_guess(error, one) for one in get_close_matches(typed.lower(), _GUESSED, 1)), "")


def verb_of(arguments: Sequence[str]) -> str:
    """The command whose help explains a wrong command line, where the error itself does not say."""
    named = next((one for one in arguments if one in VERBS), None)
    return f"searchanything {named}" if named else "searchanything"


def _commands_of(error: typer.TyperException) -> Sequence[str]:
    command = getattr(getattr(error, "ctx", None), "command", None)
    return list(getattr(command, "commands", {}))


def _no_option(error: typer.TyperException) -> str:
    name = str(getattr(error, "option_name", ""))
    command = getattr(getattr(error, "ctx", None), "command", None)
    known = {one for param in getattr(command, "params", ()) for one in getattr(param, "opts", ())}
    near = {_GUESSED_OPTIONS.get(name, "")} & known or get_close_matches(
        name, getattr(error, "possibilities", None) or (), 1
    )
    if near:
        return f"there is no option {name}; did you mean {next(iter(near))}?"
    return f"there is no option {name}" + (" here; a command's options follow its name" if _commands_of(error) else "")


def _missing(error: typer.TyperException) -> str:
    param = getattr(error, "param", None)
    if param is None:
        return error.format_message()
    means = (getattr(param, "help", None) or "").rstrip(".")
    return f"{_name(param)} is missing" + (f": {means[:1].lower()}{means[1:]}" if means else "")


def _bad_value(error: typer.TyperException) -> str:
    param, said = getattr(error, "param", None), str(getattr(error, "message", ""))
    if param is None:
        return said or error.format_message()
    fault = _fault(error)
    if str(fault.get("type", "")).startswith(_NUMBERS):
        return f"{_name(param)} {fault['input']}: expected {_number(param)}"
    if (found := _CHOICES.fullmatch(said)) is not None:
        choices = re.findall(r"'([^']*)'", found[2])
        return f"{_name(param)} {found[1]}: expected {_either(choices)}"
    if (found := _PATH.fullmatch(said)) is not None:
        return f"{_name(param)} {found[1]}: {_PATHS[found[2]]}"
    return error.format_message()


def _fault(error: typer.TyperException) -> Mapping[str, Any]:
    """What pydantic found, if it was pydantic."""
    errors = getattr(error.__cause__, "errors", None)
    found = errors() if callable(errors) else []
    return found[0] if found else {}


def _name(param: Any) -> str:  # noqa: ANN401  typer's own class is private
    """`--limit` of an option, `SOURCE` of an argument."""
    options = [one for one in getattr(param, "opts", ()) if one.startswith("-")]
    return max(options, key=len) if options else str(getattr(param, "metavar", None) or param.name).strip("[]")


def _number(param: Any) -> str:  # noqa: ANN401
    """The numbers that an option takes."""
    described = param.type_descriptor
    bounds, kind = described.parameter_info, described.annotation
    what = "a number" if "float" in str(kind) else "a whole number"
    if bounds.min is not None and bounds.max is not None:
        return f"{what} from {bounds.min:g} to {bounds.max:g}"
    if bounds.min is not None:
        return f"{what} of {bounds.min:g} or more"
    return what if bounds.max is None else f"{what} of {bounds.max:g} or less"


def _either(choices: Sequence[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last

"""The command line's entry point, also for `python -m searchanything`.

A warm process may answer (`cli.warm`), for which the standard library is enough. The command line itself needs others;
where one of those cannot be loaded, this says so: the light client, which has none of them, ends here.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

from searchanything.cli.entry import QUESTIONS, warm_answer
from searchanything.core.errors import LibraryError
from searchanything.core.extras import DISTRIBUTION, LOCAL, install_command, package_version
from searchanything.core.libraries import importing
from searchanything.core.put_off import answer_questions_only

# Verbs that answer once and end. Collecting cycles while they import costs a fifth of `status` and finds nothing.
ONLY_ASK: Final = QUESTIONS | {"failed", "status"}  # for these, parts of libraries are left out
SHORT: Final = ONLY_ASK | {"doctor", "models"}
_LONG: Final = (["failed", "retry"],)  # it indexes
_NO_PLUGINS: Final = ("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to find them, it looks at all that is installed: 15 ms
_RARELY: Final = (1_000_000, 50, 100)  # new objects between two collections, in place of 700 to 2,000
# What a verb needs beside the command line: one command installs both.
_EXTRAS: Final = {
    "serve": "serve",
    "watch": "service",
    "worker": "service",
    "cluster-key": "service",
    "deploy": "service",
    "demo": "demo",
}


def main() -> None:
    """Hand a question to a warm process where one may answer it, else run the command line here."""
    arguments = sys.argv[1:]
    code = warm_answer(arguments)
    if code is not None:
        sys.exit(code)
    short = ends_soon(arguments)
    if short:
        gc.set_threshold(*_RARELY)
    if short and arguments and arguments[0] in ONLY_ASK:
        answer_questions_only()
        os.environ.setdefault(*_NO_PLUGINS)
    try:
        with importing():
            from searchanything.cli.app import run
    except LibraryError as error:
        if arguments == ["--version"]:
            sys.stdout.write(f"{DISTRIBUTION} {package_version()}\n")
            return
        _explain(error, _cure(error, arguments), as_json="json" in arguments or "--format=json" in arguments)
        sys.exit(1)
    code = run(arguments)
    if short:
        gc.freeze()  # at its end the interpreter looks for garbage in all that was imported: a sixth of `status`
    sys.exit(code)


def ends_soon(arguments: Sequence[str]) -> bool:
    """Whether a command answers once and ends: help and versions do, too."""
    return not arguments or arguments[0].startswith("-") or (arguments[0] in SHORT and list(arguments[:2]) not in _LONG)


def _cure(error: LibraryError, arguments: Sequence[str]) -> str:
    """The error's own, with all that the verb will need where `local` is missing."""
    if error.cure != install_command(LOCAL) or "--scenes" in arguments:
        return error.cure
    return install_command(_EXTRAS.get(arguments[0] if arguments else "", LOCAL))


def _explain(error: LibraryError, cure: str, *, as_json: bool) -> None:
    """As `searchanything.cli.failures.report` does, without a library."""
    message = f"{error.library} cannot be loaded: {error.reason}"
    if as_json:
        document = {"error": {"type": type(error).__name__, "message": message, "cure": cure}}
        sys.stdout.write(f"{json.dumps(document)}\n")
    else:
        sys.stderr.write(f"error: {message}\ncure:  {cure}\n")


if __name__ == "__main__":
    main()

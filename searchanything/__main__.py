"""The command line's entry point, also for `python -m searchanything`.

A warm process may answer (`cli.warm`), for which the standard library is enough. The command line itself needs others;
where one of those cannot be loaded, this says so.
"""

from __future__ import annotations

import json
import sys

from searchanything.cli.entry import warm_answer
from searchanything.core.errors import LibraryError
from searchanything.core.libraries import importing


def main() -> None:
    """Hand a question to a warm process where one may answer it, else run the command line here."""
    code = warm_answer(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    try:
        with importing():
            from searchanything.cli.app import run
    except LibraryError as error:
        _explain(error, as_json="json" in sys.argv or "--format=json" in sys.argv)
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))


def _explain(error: LibraryError, *, as_json: bool) -> None:
    """As `searchanything.cli.failures.report` does, without a library."""
    message = f"{error.library} cannot be loaded: {error.reason}"
    if as_json:
        document = {"error": {"type": type(error).__name__, "message": message, "cure": error.cure}}
        sys.stdout.write(f"{json.dumps(document)}\n")
    else:
        sys.stderr.write(f"error: {message}\ncure:  {error.cure}\n")


if __name__ == "__main__":
    main()

"""The command line's entry point, also for `python -m searchanything`.

The command line itself needs libraries; where one of those cannot be loaded, this says so.
"""

from __future__ import annotations

import json
import sys

from searchanything.core.errors import LibraryError
from searchanything.core.libraries import importing


def main() -> None:
    """Run the command line."""
    try:
        with importing():
            from searchanything.cli.app import main as run
    except LibraryError as error:
        _explain(error, as_json="json" in sys.argv or "--format=json" in sys.argv)
        sys.exit(1)
    run()


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

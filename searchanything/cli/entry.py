"""The entry point of the package: hands a question to a warm process where it may, else runs the command line here.

Only the standard library is imported before that is decided: a warm answer takes as long as Python takes to start.
"""

from __future__ import annotations

import sys

from searchanything.cli.warm import ask_warm

INTERRUPTED = 130  # as `failures` has it, which is not light


def main() -> None:
    """Run the command line of this process."""
    arguments = sys.argv[1:]
    try:
        code = ask_warm(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if code is None:
        from searchanything.cli.app import run

        code = run(arguments)
    sys.exit(code)

"""Writes the generated parts of the documentation: `python docs/generate.py`; with `--check` it only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from searchanything.settings import settings_table

HERE = Path(__file__).parent
SETTINGS_HEAD = """# Settings

Generated from `searchanything/settings.py` by `python docs/generate.py`. Each is read from the environment or from a
`.env` file in the working directory. Secrets are never logged or shown.

"""


def pages() -> dict[Path, str]:
    """The generated pages and what they should hold."""
    return {HERE / "settings.md": SETTINGS_HEAD + settings_table()}


def main() -> int:
    """Write the pages, or report those that are out of date."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.name} is out of date: run python docs/generate.py\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())

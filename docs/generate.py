"""Writes the generated pages of the documentation: `python docs/generate.py`; with `--check` it only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from badges import badges
from house import picture, table
from reference import errors_page, options_page, presets_page, settings_page

HERE = Path(__file__).parent


def pages() -> dict[Path, str]:
    """The generated pages and what they should hold."""
    return {
        HERE / "settings.md": settings_page(),
        HERE / "options.md": options_page(),
        HERE / "errors.md": errors_page(),
        HERE / "presets.md": presets_page(),
        HERE / "images" / "house.svg": picture(),
        **{HERE / "images" / name: text for name, text in badges().items()},
        HERE / "architecture.md": _with_packages((HERE / "architecture.md").read_text("utf-8")),
    }


def _with_packages(page: str) -> str:
    """The page with the packages' table as it is now."""
    pattern = r"(<!-- packages -->\n).*?(<!-- end of packages -->)"
    return re.sub(pattern, lambda mark: f"{mark[1]}\n{table()}\n{mark[2]}", page, flags=re.DOTALL)


def main() -> int:
    """Write the pages, or report those that are out of date."""
    wanted = pages()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.name} is out of date: run python docs/generate.py\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

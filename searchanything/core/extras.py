"""What is installed beside the light client: which extra brings a package, and the command that installs it.

`importlib.metadata` is imported where it is used: a warm answer does without, and it takes as long as Python to start.
"""

from __future__ import annotations

import functools
import re
from typing import Final

DISTRIBUTION: Final = "searchanything"
LOCAL: Final = "local"  # the command line, models and indexes: every other extra but `notebook` brings it too
_REQUIREMENT: Final = re.compile(r"""(?P<package>[\w.-]+).*;.*\bextra\s*==\s*["'](?P<extra>[\w-]+)["']""")


@functools.cache
def package_version() -> str:
    """This package's version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed as a package"


def install_command(extra: str, *options: str) -> str:
    """What installs an extra, from where this package came: an index of packages, a checkout, a wheel or an address."""
    from searchanything.core.origin import pip_argument

    return " ".join(["pip install", *options, pip_argument(DISTRIBUTION, extra)])


def extra_of(package: str) -> str | None:
    """The extra that brings a package which is not installed; None where reinstalling that package is the way out.

    What no extra names is a package of a package: it comes with `local`, unless all that `local` names is there.
    """
    named = _named_by_extras()
    wanted = _normal(package)
    for extra in (LOCAL, *named):  # the metadata of a wheel repeats what is `local` in each of the others
        if wanted in named.get(extra, ()):
            return extra
    complete = named and all(_is_installed(one) for one in named.get(LOCAL, ()))
    return None if complete else LOCAL


def _named_by_extras() -> dict[str, list[str]]:
    """The packages that each extra names, in pyproject.toml's order; nothing where there is no installed package."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        wanted = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    named: dict[str, list[str]] = {}
    for match in filter(None, map(_REQUIREMENT.match, wanted)):
        if _normal(match["package"]) != DISTRIBUTION:
            named.setdefault(match["extra"], []).append(_normal(match["package"]))
    return named


def _is_installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()

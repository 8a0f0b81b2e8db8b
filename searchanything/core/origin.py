"""Where this package was installed from, so that what adds an extra works there too. Import it where it is used."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


def pip_argument(name: str, extra: str) -> str:
    """A distribution with an extra, as pip and uv take it: by name, or by the folder, wheel or address it came from.

    Quoted, because some shells read brackets as a pattern.
    """
    origin = _origin(name)
    if not origin:
        return quote(f"{name}[{extra}]")
    file = _file(origin)
    if file is not None:
        return ("-e " if origin.get("dir_info", {}).get("editable") else "") + quote(f"{file}[{extra}]")
    vcs = origin.get("vcs_info")
    address = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else origin["url"]
    return quote(f"{name}[{extra}] @ {address}")


def _origin(name: str) -> dict[str, Any]:
    """As pip and uv write it down (`direct_url.json`, PEP 610); empty for an index of packages."""
    try:
        text = distribution(name).read_text("direct_url.json")
    except PackageNotFoundError:
        checkout = Path(__file__).parents[2]
        return {"url": checkout.as_uri(), "dir_info": {}} if (checkout / "pyproject.toml").is_file() else {}
    origin: dict[str, Any] = json.loads(text or "{}")
    file = _file(origin) if origin else None
    gone = file is not None and not file.exists()  # as the wheel of a container image
    return {} if gone else origin


def _file(origin: dict[str, Any]) -> Path | None:
    address = urlsplit(origin["url"])
    return Path(url2pathname(address.path)) if address.scheme == "file" and "vcs_info" not in origin else None

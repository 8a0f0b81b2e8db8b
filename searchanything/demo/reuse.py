"""When the answers of an earlier run still stand: everything that they follow from is as it was."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from searchanything.demo.files import files_below


def inputs_digest(*parts: str) -> str:
    """A digest of what the answers follow from: the given parts, and all code of this package."""
    digest = sha256(json.dumps(parts).encode())
    for file in files_below(files("searchanything")):
        if file.name.endswith((".py", ".css", ".html")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def report_of_same_inputs(out: Path, inputs: str) -> dict[str, Any] | None:
    """The report in `out`, if it follows from the same inputs and its page and drawings are there; else None."""
    try:
        document = json.loads((out / "report.json").read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not isinstance(document, dict) or document.get("inputs") != inputs:
        return None
    whole = all((out / file).is_file() for file in ("index.html", *document["drawings"]))
    return document if whole else None

"""The table of all settings, as the docs show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from searchanything.core.settings import ENV_PREFIX, Settings


def settings_table() -> str:
    """The Markdown table of all settings for `docs/settings.md`."""
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    lines += [" | ".join(["", *row, ""]).strip() for row in _rows()]
    return "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, str, str, str]]:
    home = str(Path.home())
    for group, outer in Settings.model_fields.items():
        model = outer.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"settings group {group} is not a model")
        schema = model.model_json_schema()["properties"]
        for name, inner in model.model_fields.items():
            value = inner.get_default(call_default_factory=True)
            shown = "" if value in (None, ()) else f"`{str(value).replace(home, '~')}`"
            variable = f"`{ENV_PREFIX}{group}__{name}`".upper()
            yield variable, _type_of(schema[name]), shown, inner.description or ""


def _type_of(schema: dict[str, object]) -> str:
    """A short name for a JSON schema's type."""
    if "enum" in schema:
        values = schema["enum"]
        return " or ".join(str(value) for value in values) if isinstance(values, list) else "choice"
    if schema.get("type") == "array":
        return "texts with commas"
    options = schema.get("anyOf")
    if isinstance(options, list):
        return " or ".join(_type_of(option) for option in options if option.get("type") != "null")
    if schema.get("format") in ("password", "path"):
        return {"password": "secret", "path": "path"}[str(schema["format"])]
    return str(schema.get("type", "text")).replace("string", "text")

"""Texts with commas, as settings hold several patterns or names."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


PatternList: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split)]

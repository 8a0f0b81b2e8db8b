"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(at_ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment in UTC, in a form of `strftime`; its number where no calendar has it, whoever said so."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"

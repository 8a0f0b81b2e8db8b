"""Numbers with their nouns, for messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 image`, `2 images`, `1,200 images`; `plural` where the noun does not just take an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"

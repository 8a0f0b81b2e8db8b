"""What to say of a source without an image: what is there instead, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from searchanything.core.addresses import split_s3
from searchanything.core.counting import counted

_SHOWN: Final = 5  # suffixes


def no_images_text(source: str, skipped: Sequence[dict[str, Any]], *, total: int) -> str:
    """What is there in place of images, and what to do; `skipped` as reports say it, of `total` objects."""
    noun = "file" if split_s3(source) is None else "object"
    if not total:
        return f"nothing under {source}: 0 objects; check the bucket and the prefix, or the folder"
    suffixes: Counter[str] = Counter()
    for one in skipped:
        suffixes.update(one["suffixes"])
    verb = "which is no image" if total == 1 else "none is an image"
    kinds = _kinds(suffixes)
    return f"{counted(total, noun)} under {source}, {verb}{': ' if kinds else ''}{kinds}{_advice(skipped)}"


def _kinds(suffixes: Counter[str]) -> str:
    """`118 .txt, 2 .pdf`, the most frequent first."""
    named = {suffix: count for suffix, count in suffixes.items() if suffix.startswith(".")}
    shown = sorted(named.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN]
    parts = [f"{count:,} {suffix}" for suffix, count in shown]
    if without := suffixes[""]:
        parts.append(f"{without:,} without a suffix")
    if rest := suffixes.total() - sum(count for _, count in shown) - without:
        parts.append(f"{rest:,} others")
    return ", ".join(parts)


def _advice(skipped: Sequence[dict[str, Any]]) -> str:
    """What to do, by the reasons."""
    from searchanything.images.names import SkipReason

    by_reason = {one["reason"]: one for one in skipped}
    advice = []
    if SkipReason.EXCLUDED in by_reason:
        advice.append("check --include and --exclude")
    if (unread := by_reason.get(SkipReason.UNREAD)) is not None:
        advice.append(f"convert {_suffix(unread) or 'them'} to JPEG, PNG or TIFF")
    other = by_reason.get(SkipReason.OTHER) or by_reason.get(SkipReason.UNTYPED)
    if other is not None:
        suffix = _suffix(other)
        pattern = f"*{suffix}" if suffix else "PATTERN"
        advice.append(f"if {suffix or 'they'} are images all the same: --include '{pattern}'")
    return "".join(f"; {one}" for one in advice)


def _suffix(group: dict[str, Any]) -> str:
    """The most frequent one, if names have any."""
    return next((one for one in group["suffixes"] if one.startswith(".")), "")

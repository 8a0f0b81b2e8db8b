"""Which objects of a bucket are meant: a prefix, include and exclude patterns, and a prefix that is our own.

Patterns are those of `aws s3 sync`: `*` stands for any characters (slashes too), `?` for one, `[abc]` for one of a set;
they are matched against the whole key, and upper and lower case differ. An include pattern that says how keys end
(`*.v2`, `*_large`) also makes images of what it names, whatever name and type say; one that ends in `*` only narrows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING, Final

from searchanything.core.arguments import check_kind, several
from searchanything.core.settings import OWN_PREFIX
from searchanything.images.names import NameSays, SkipReason, name_says, skip_reason
from searchanything.images.sidecars import etag_for_regions

_SPECIAL: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """The keys that one of some patterns names. What is a name, or all that begins with one, is looked up."""

    names: frozenset[str]
    beginnings: tuple[tuple[int, frozenset[str]], ...]
    others: re.Pattern[str] | None

    @classmethod
    def of(cls, patterns: Iterable[str]) -> _Keys:
        names, beginnings, others = set(), defaultdict(set), []
        for one in patterns:
            if not _SPECIAL.search(one):
                names.add(one)
            elif one.endswith("*") and not _SPECIAL.search(one[:-1]):
                beginnings[len(one) - 1].add(one[:-1])
            else:
                others.append(translate(one))
        by_length = tuple((length, frozenset(some)) for length, some in sorted(beginnings.items()))
        return cls(frozenset(names), by_length, re.compile("|".join(others)) if others else None)

    def __contains__(self, key: str) -> bool:
        return (
            key in self.names
            or any(key[:length] in some for length, some in self.beginnings)
            or (self.others is not None and self.others.match(key) is not None)
        )


@dataclass(frozen=True, slots=True)
class Patterns:
    """Which keys are in and which are out; without `include` patterns all are in. Raises: UsageError."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _included: _Keys = field(init=False, repr=False, compare=False)
    _excluded: _Keys = field(init=False, repr=False, compare=False)
    _named: _Keys = field(init=False, repr=False, compare=False)

    if TYPE_CHECKING:  # what the fields are made of

        def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None: ...

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            object.__setattr__(self, name, several(getattr(self, name), str, name, "patterns such as '*.jpg'"))
        object.__setattr__(self, "_included", _Keys.of(self.include))
        object.__setattr__(self, "_excluded", _Keys.of(self.exclude))
        object.__setattr__(self, "_named", _Keys.of(one for one in self.include if not one.endswith("*")))

    def includes(self, key: str) -> bool:
        """Whether a key is in, as far as the `include` patterns say."""
        return not self.include or key in self._included

    def excludes(self, key: str) -> bool:
        """Whether an `exclude` pattern names a key."""
        return key in self._excluded

    def names(self, key: str) -> bool:
        """Whether an `include` pattern names a key by its end."""
        return key in self._named


@dataclass(frozen=True, slots=True)
class Scope:
    """The keys of a bucket that are meant: those under `prefix` that the patterns let in.

    What lies under `own_prefix` never is: this program keeps its own products there. `sidecar_suffix` ends the keys of
    sidecars (`cat.jpg.json`), None where there are none; `sidecar_regions` is whether regions are taken from them.
    """

    prefix: str = ""
    patterns: Patterns = field(default_factory=Patterns)
    own_prefix: str = OWN_PREFIX
    sidecar_suffix: str | None = None
    sidecar_regions: bool = False

    def __post_init__(self) -> None:
        check_kind(self.patterns, Patterns, "patterns", "searchanything.Patterns")

    def wants(self, key: str) -> bool:
        """True for a key that is meant, be it an image or not."""
        if not key.startswith(self.prefix) or self.is_own(key):
            return False
        return self.patterns.includes(key) and not self.patterns.excludes(key)

    def why_skipped(self, key: str, content_type: str | None) -> SkipReason | None:
        """Why an object is skipped; None for an image that is meant. The type counts where the name says nothing."""
        reason: SkipReason | None = SkipReason.EXCLUDED
        if self.wants(key):
            reason = None if self._is_named(key) else skip_reason(key, content_type)
        owner = self.image_key(key)
        return SkipReason.SIDECAR if reason is not None and owner != key and self.may_be_image(owner) else reason

    def may_be_image(self, key: str) -> bool:
        """False where the key alone tells that this is no image that is meant."""
        said = name_says(key)
        return self.wants(key) and (said in (NameSays.IMAGE, NameSays.NOTHING) or self._is_named(key))

    def needs_type(self, key: str) -> bool:
        """True where the key says nothing, so that the content type decides."""
        return name_says(key) is NameSays.NOTHING and not self._is_named(key)

    def _is_named(self, key: str) -> bool:
        """True for what an include pattern calls an image by its end; never for what systems leave behind."""
        return self.patterns.names(key) and name_says(key) is not NameSays.SYSTEM

    def concerns(self, place: str) -> bool:
        """`wants`, and True for a folder (`a/b/`, "") that may hold what is meant: not our own, not excluded."""
        if place and not place.endswith("/"):
            return self.wants(place)
        return not self.is_own(place) and not self.patterns.excludes(place)

    def is_own(self, key: str) -> bool:
        """True for this program's own products."""
        return bool(self.own_prefix) and key.startswith(self.own_prefix)

    def image_key(self, key: str) -> str:
        """The key of the image that a sidecar belongs to; any other key as it is."""
        suffix = self.sidecar_suffix
        if suffix and key.endswith(suffix) and name_says(key) is not NameSays.IMAGE:
            return key.removesuffix(suffix)
        return key

    def sidecar_etag(self, etag: str) -> str:
        """A listed sidecar's etag as its image's row keeps it."""
        return etag_for_regions(etag) if self.sidecar_regions else etag

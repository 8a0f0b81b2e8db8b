"""What `eval mine` measured last of an index, kept beside it so that `status` can quote it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from searchanything.core.protocols import IndexStore


@dataclass(frozen=True, slots=True)
class Consistency:
    """Shares of altered copies of `regions` regions that found them first, or among ten, among `among_regions`."""

    fingerprint: str
    recall_1: float
    recall_10: float
    regions: int
    among_regions: int
    measured_at_ms: int

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """What was kept; None for nothing, or what another version kept otherwise."""
        try:
            found = json.loads(data)
            return cls(**{one.name: found[one.name] for one in fields(cls)})
        except (ValueError, KeyError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """As `searchanything status --format json` shows it."""
        return {name: value for name, value in asdict(self).items() if name != "fingerprint"}


def keep_consistency(indexes: IndexStore, measured: Consistency) -> None:
    """Keep it in place of what was kept of the same index. Raises: RegionIndexError."""
    indexes.remember(_note(measured.fingerprint), json.dumps(asdict(measured)).encode())


def kept_consistency(indexes: IndexStore, fingerprint: str) -> Consistency | None:
    """What was kept last of an index. Raises: RegionIndexError."""
    return Consistency.parse(indexes.recall(_note(fingerprint)))


def _note(fingerprint: str) -> str:
    return f"consistency-{fingerprint}"

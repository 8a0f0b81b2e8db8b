"""What a run did, as people read it: counts, rates, times, failures with their reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from searchanything.core.counting import counted
from searchanything.core.escaping import markdown_text
from searchanything.core.skips import Skipped
from searchanything.ingest.contact_sheet import SheetTile
from searchanything.ingest.reports import Failure, IndexReport, images_are, sum_reports

SHOWN_TILES: Final = 64
SHOWN_HELD: Final = 10
_ADDRESS: Final = re.compile(r"https?://[!-'*-;=?-~]+")  # nothing that would end a link in Markdown
_SHOWN_FAILURES: Final = 50  # in an artifact; `searchanything failed list` has them all
_COUNTS: Final = {  # fields of an `IndexReport`, and how people read them
    **{name: name for name in ("indexed", "unchanged", "empty", "failed", "skipped", "deleted", "exhausted")},
    "gone": "gone but not forgotten",
}
_STAGES: Final = (
    "plan", "read", "decode", "segment", "cut", "pool", "crop", "embed", "hash", "masks", "draw", "commit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What happened to a batch, and in which process; `tiles` show some images."""

    report: IndexReport
    seconds: float
    host: str
    pid: int
    tiles: tuple[SheetTile, ...] = ()


@dataclass(frozen=True, slots=True)
class WaveReport:
    """What happened to the batches of a wave, or to all waves of a sync. `seconds` is the time from start to end.

    `listing` says what the listing skipped or could not read.
    """

    batches: tuple[BatchReport, ...] = ()
    lost: tuple[Failure, ...] = ()
    seconds: float = 0.0
    listing: IndexReport = field(default_factory=IndexReport)

    @property
    def total(self) -> IndexReport:
        """The sums over all batches and the listing; images that no worker survived are failures."""
        total = sum_reports((self.listing, *(batch.report for batch in self.batches)))
        return replace(total, failed=total.failed + len(self.lost), failures=total.failures + self.lost)

    @property
    def images(self) -> int:
        """Images that were looked at, or for."""
        total, listing = self.total, self.listing
        found = total.indexed + total.unchanged + total.empty + total.failed - listing.failed
        return found + total.gone - listing.gone

    def __add__(self, other: WaveReport) -> WaveReport:
        """Two waves as one; their times are added."""
        return sum_waves((self, other))


def sum_waves(waves: Iterable[WaveReport]) -> WaveReport:
    """Several waves as one, their times added; in time that grows with what they report, not with its square."""
    every = list(waves)
    return WaveReport(
        batches=tuple(chain.from_iterable(one.batches for one in every)),
        lost=tuple(chain.from_iterable(one.lost for one in every)),
        seconds=sum(one.seconds for one in every),
        listing=sum_reports(one.listing for one in every),
    )


def summary(wave: WaveReport) -> str:
    """One line, for the state of a run."""
    total = wave.total
    counts = [f"{getattr(total, name):,} {shown}" for name, shown in _COUNTS.items() if getattr(total, name)]
    if total.warnings:
        counts.append(counted(len(total.warnings), "warning"))
    return ", ".join(counts) or "nothing to do"


def wave_markdown(source: str, wave: WaveReport) -> str:
    """The artifact of a run, in Markdown."""
    total = wave.total
    workers: dict[tuple[str, int], list[BatchReport]] = {}
    for batch in wave.batches:
        workers.setdefault((batch.host, batch.pid), []).append(batch)
    busy = sum(batch.seconds for batch in wave.batches)
    rate = wave.images / wave.seconds if wave.seconds else 0.0
    lines = [
        f"### {in_table(source)}",
        "",
        "| what | how many |",
        "|---|---:|",
        *(f"| {shown} | {getattr(total, name):,} |" for name, shown in _COUNTS.items()),
        f"| regions written | {total.regions:,} |",
        "",
        "| time | |",
        "|---|---:|",
        f"| from start to end | {wave.seconds:.2f} s |",
        f"| work, summed over {counted(len(workers), 'worker')} | {busy:.2f} s |",
        f"| images per second | {rate:.1f} |",
        f"| batches | {len(wave.batches)} |",
    ]
    lines += sheet_lines([tile for batch in wave.batches for tile in batch.tiles])
    lines += _stage_lines(total.timings_ms) + _worker_lines(workers) + failure_lines(total.failures)
    lines += failure_lines(total.warnings, heading="warning") + skip_lines(total.skips)
    return "\n".join(lines) + "\n"


def sync_markdown(source: str, found: dict[str, Any], wave: WaveReport) -> str:
    """The artifact of a sync: what differed, and the repair. `found` is the document of `sync check`."""
    lines = [
        f"### Sync of {in_table(source)}",
        "",
        "| listing against index | objects |",
        "|---|---:|",
        f"| checked | {found['checked']:,} |",
        *(f"| {name} | {len(found[name]):,} |" for name in ("missing", "stale", "orphaned", "failed")),
        f"| regions that had no row in the index | {found['lost']:,} |",
        f"| places that could not be listed (see the failures below) | {len(found['unlisted']):,} |",
        "",
        *_held_lines(found["held"]),
    ]
    return "\n".join(lines) + wave_markdown(source, wave)


def _held_lines(keys: Sequence[str]) -> list[str]:
    """The images that are gone and were not forgotten, and what to do about it."""
    if not keys:
        return []
    return [
        f"**Held back: {images_are(len(keys))} gone from the listing, too many at once to forget automatically.** Is "
        "a disk or a part of the bucket missing? If they were deleted: `searchanything sync repair SOURCE --forget`, "
        "or this flow with `forget`. Examples:",
        "",
        *(f"- {in_table(key)}" for key in keys[:SHOWN_HELD]),
        "",
    ]


def sheet_lines(tiles: Sequence[SheetTile]) -> list[str]:
    """The contact sheet: images by their links, which go dead when the images are erased; else the files' places."""
    if not tiles:
        return []
    shown = tiles[:SHOWN_TILES]
    linked = [f"![{in_table(tile.key)}]({tile.address})" for tile in shown if _ADDRESS.fullmatch(tile.address)]
    files = [
        f"- {in_table(tile.key)}: {in_table(tile.address)}" for tile in shown if not _ADDRESS.fullmatch(tile.address)
    ]
    return ["", "Regions of some of the images, as long as these exist, for a week at most:", "", *linked, *files]


def failure_lines(failures: Sequence[Failure], *, heading: str = "failed") -> list[str]:
    """A table of failures or warnings, the first `_SHOWN_FAILURES` of them."""
    if not failures:
        return []
    rows = [
        f"| {in_table(one.key)} | {in_table(one.error)} | {in_table(one.message)} |"
        for one in failures[:_SHOWN_FAILURES]
    ]
    more = len(failures) - len(rows)
    return ["", f"| {heading} | error | reason |", "|---|---|---|", *rows, *([f"… and {more:,} more"] if more else [])]


def skip_lines(skips: Sequence[Skipped]) -> list[str]:
    """A table of what was skipped, by reason and with examples."""
    if not skips:
        return []
    rows = [f"| {in_table(one.reason)} | {one.count:,} | {', '.join(map(in_table, one.examples))} |" for one in skips]
    return ["", "| skipped, because | objects | for example |", "|---|---:|---|", *rows]


def in_table(text: str) -> str:
    """A text inside a Markdown table: keys are anybody's, and may hold what looks like a table, a tag or a link."""
    return markdown_text(text[:300])


def _stage_lines(timings_ms: Mapping[str, float]) -> list[str]:
    """Seconds per stage, in the order of the pipeline; stages overlap."""
    order = {name: place for place, name in enumerate(_STAGES)}
    stages = sorted(timings_ms, key=lambda name: (order.get(name, len(order)), name))
    rows = [f"| {in_table(name.replace('_', ' '))} | {timings_ms[name] / 1000:.2f} s |" for name in stages]
    return ["", "| stage, summed over its threads | |", "|---|---:|", *rows] if rows else []


def _worker_lines(workers: Mapping[tuple[str, int], Sequence[BatchReport]]) -> list[str]:
    rows = [
        f"| {in_table(host)} | {pid} | {len(done)} | {WaveReport(tuple(done)).images:,} "
        f"| {sum(batch.seconds for batch in done):.2f} s |"
        for (host, pid), done in sorted(workers.items())
    ]
    return ["", "| worker | process | batches | images | work |", "|---|---:|---:|---:|---:|", *rows] if rows else []

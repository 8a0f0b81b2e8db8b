"""A comparison of two evaluations as a picture: each difference with its interval, beside zero."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from searchanything.core.escaping import printable
from searchanything.core.files import check_save_path, write_whole
from searchanything.evaluation.comparing import differing, shown_figures
from searchanything.evaluation.measures import LEAST_IMAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES: Final = (".png", ".svg")
_COLOURS: Final = {"better": "#3a8a4d", "worse": "#c44e52", "unclear": "#7f7f7f", "few": "#b89c5a", "same": "#c8c8c8"}
_MEANING: Final = {
    "better": "better, zero outside of the interval",
    "worse": "worse, zero outside of the interval",
    "unclear": "zero within the interval",
    "few": f"fewer than {LEAST_IMAGES} images differ: no interval",
    "same": "no query differs",
}
_TITLE_WIDTH: Final = 100  # characters


def check_plot_path(path: Path | None) -> None:
    """Refuse a name that no plot can be saved under, before anything is computed. Raises: UsageError."""
    if path is not None:
        check_save_path(path, _SUFFIXES)


def save_differences(report: Mapping[str, Any], path: Path) -> None:
    """Draw a comparison, and write the format that the suffix names, .png or .svg. Raises: UsageError."""
    target = check_save_path(path, _SUFFIXES)
    page = draw_differences(report)
    write_whole(target, partial(page.savefig, format=target.suffix[1:].lower(), dpi=110))


def draw_differences(report: Mapping[str, Any]) -> Figure:
    """A line for each figure that people look at first, with both means; without an interval, the point alone."""
    from matplotlib.figure import Figure

    shown = shown_figures(report)
    page = Figure(figsize=(9, 1.6 + 0.32 * len(shown)), layout="constrained")
    axes = page.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    for place, one in enumerate(shown.values()):
        kind = _kind(one)
        low, high = one["ci95"] or [one["difference"]] * 2
        axes.plot([low, high], [place, place], color=_COLOURS[kind], linewidth=2.5, solid_capstyle="butt")
        axes.plot([one["difference"]], [place], "o", color=_COLOURS[kind])
        means = f"{one['before']:.3f} → {one['after']:.3f}"
        axes.annotate(means, (1.01, place), xycoords=("axes fraction", "data"), va="center", family="monospace")
    for kind in dict.fromkeys(map(_kind, shown.values())):
        axes.plot([], [], "o-", color=_COLOURS[kind], label=_MEANING[kind])
    axes.set_yticks(range(len(shown)), [*shown])
    axes.invert_yaxis()
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.set_xlabel("difference, with 95 % interval over images")
    title = [
        f"{report['queries']:,} queries on {report['images']:,} images",
        *wrap(printable(differing(report)), _TITLE_WIDTH),
    ]
    page.suptitle("\n".join(title), fontsize=10, parse_math=False)
    page.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return page


def _kind(one: Mapping[str, Any]) -> str:
    if not one["better"] and not one["worse"]:
        return "same"
    if one["ci95"] is None:
        return "few"
    if one["ci95"][0] <= 0 <= one["ci95"][1]:
        return "unclear"
    return "better" if one["difference"] > 0 else "worse"

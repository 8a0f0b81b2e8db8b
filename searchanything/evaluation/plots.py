"""The report as one page of plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FUNNEL: Final = ("not_segmented", "not_kept", "float", "hash", "left")
_COLOURS: Final = {"float": "#4c72b0", "bits": "#dd8452", "few_bits": "#937860", "lost": "#c44e52", "left": "#55a868"}
_TOP: Final = 1.36  # of an axis of shares: the legend lies above the bars
_STEPS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_ASLANT: Final[Mapping[str, Any]] = {"rotation": 20, "ha": "right"}
_LABEL_LETTERS: Final = 40
_MANY: Final = 6  # labels beside each other that lie aslant


def draw(report: Mapping[str, Any]) -> Figure:
    """One page: retrieval by subset, recall by size, the funnel, and what regions cost."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(12, 8), layout="constrained")
    panels = page.subplots(2, 2)
    _retrieval(panels[0, 0], report)
    _sizes(panels[0, 1], report)
    _funnel(panels[1, 0], report)
    _policies(panels[1, 1], report)
    counts = report["dataset"]
    page.suptitle(f"{report.get('preset', '')}: {counts['images']:,} images, {counts['instances']:,} instances")
    return page


def _retrieval(axes: Axes, report: Mapping[str, Any]) -> None:
    """mAP@10 of each space, for all queries and for each group, with 95 % intervals."""
    subsets: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {"all": ((), report)}
    for name, levels in report.get("groups", {}).items():
        subsets |= {f"{name} = {level}": (("groups", name, level), part) for level, part in levels.items()}
    spaces = [name for name, part in report["retrieval"].items() if isinstance(part, Mapping)]
    colours = (_COLOURS["float"], "#8c8c8c", _COLOURS["bits"], "#c9a227", _COLOURS["few_bits"])
    for place, space in enumerate(spaces):
        heights = [part["retrieval"][space]["map_10"] or 0.0 for _, part in subsets.values()]
        keys = [(*prefix, "retrieval", space, "map_10") for prefix, _ in subsets.values()]
        positions = [row + (place - (len(spaces) - 1) / 2) * 0.8 / len(spaces) for row in range(len(subsets))]
        axes.bar(positions, heights, 0.8 / len(spaces), label=_space_label(space), color=colours[place % len(colours)])
        for position, height, key in zip(positions, heights, keys, strict=True):
            low, high = report["ci95"].get(".".join(key), (height, height))
            (interval,) = axes.plot([position, position], [low, high], color="black", linewidth=1)
    interval.set_label("95 % interval")
    aslant = _ASLANT if len(subsets) >= _MANY else {}
    axes.set_xticks(range(len(subsets)), [*map(_short, subsets)], parse_math=False, **aslant)
    axes.set_title("mAP@10, box prompt to regions of other images")
    _legend_above(axes, columns=3)


def _short(level: str) -> str:
    """A level of an attribute, which is anybody's text, as a label."""
    shown = printable(level[:_LABEL_LETTERS])
    return f"{shown[: _LABEL_LETTERS - 1]}…" if len(level) > _LABEL_LETTERS or len(shown) > _LABEL_LETTERS else shown


def _space_label(space: str) -> str:
    """`256 bit rescored` for `bits_256_rescored`."""
    name, _, how = space.removeprefix("bits_").partition("_")
    return " ".join(filter(None, (name, "bit" if space.startswith("bits_") else "", how)))


def _sizes(axes: Axes, report: Mapping[str, Any]) -> None:
    """What is found, by the size of the object."""
    sizes = report["by_size"]
    bits = f"bits_{report['bits']}"
    lines = {
        "segmented, IoU ≥ 0.5": [part["segmentation"]["recall_iou50"] for part in sizes.values()],
        "box prompt": [part["prompts"]["box"] for part in sizes.values()],
        "point prompt": [part["prompts"]["point"] for part in sizes.values()],
        f"recall@10, {report['bits']} bit": [part["retrieval"][bits]["recall_10"] for part in sizes.values()],
    }
    for place, (label, values) in enumerate(lines.items()):
        positions = [size + (place - (len(lines) - 1) / 2) * 0.2 for size in range(len(sizes))]
        axes.bar(positions, _numbers(values), 0.2, label=label)
    names = [name.replace("_px_or_more", " px+").replace("_", " ") for name in sizes]
    labels = [f"{name}\n{part['instances']:,}" for name, part in zip(names, sizes.values(), strict=True)]
    axes.set_xticks(range(len(sizes)), labels)
    axes.set_title("by the object's size (number of instances below)")
    _legend_above(axes, columns=2)


def _funnel(axes: Axes, report: Mapping[str, Any]) -> None:
    """From a perfect ranking down to what is left."""
    top, said = 1.0, set[str]()
    for place, name in enumerate(_FUNNEL):
        value = report["funnel"][name] or 0.0
        bottom = 0.0 if name == "left" else top - value
        gained = name == "left" or value < 0
        means = "left, or gained" if gained else "lost"
        label = None if means in said else means
        axes.bar(place, value, bottom=bottom, color=_COLOURS["left" if gained else "lost"], label=label)
        said.add(means)
        axes.text(place, max(bottom + value, bottom), f"{value:.3f}", ha="center", va="bottom")
        top = bottom
    axes.set_xticks(range(len(_FUNNEL)), [name.replace("_", " ") for name in _FUNNEL])
    axes.set_title("where mAP@10 is lost")
    _legend_above(axes, columns=2)


def _policies(axes: Axes, report: Mapping[str, Any]) -> None:
    """Instances with an indexed region against the bytes that an image takes."""
    policies = report["ablations"].get("policies", {})
    places: dict[tuple[float, float], dict[str, list[str]]] = {}
    for name, part in policies.items():
        family, count = name.split("_")
        place = part["stored_bytes_per_image"], part["instances_indexed"]
        places.setdefault(place, {}).setdefault(family, []).append(count)
    for place, families in places.items():  # policies that come to the same have one mark: it would hide others
        label = "; ".join(f"{family} {', '.join(counts)}" for family, counts in families.items())
        marker = "D" if len(families) > 1 else "o" if "largest" in families else "s"
        axes.plot(*place, marker, label=label, alpha=0.7)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("bytes of codes and masks per image")
    axes.set_title("instances with an indexed region")
    if policies:
        axes.legend(
            loc="best", ncols=2 if len(places) > 3 else 1, title="regions of an image that are kept"
        )  # framed: its marks are no data
    else:
        axes.text(0.5, 0.5, "without ablations", ha="center", transform=axes.transAxes)


def _legend_above(axes: Axes, *, columns: int) -> None:
    """A legend that lies on no bar of an axis of shares."""
    axes.set_ylim(0, _TOP)
    axes.set_yticks(_STEPS)
    axes.legend(frameon=False, ncols=columns, loc="upper center")


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]

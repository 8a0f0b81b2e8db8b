"""The judgement as one HTML file: a table and drawings, without scripts or outside resources."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from searchanything.core.escaping import html_text
from searchanything.hash_training.judging import FIGURE_NAMES, RECALLS, Judgement, shown_figure

_COLOURS: Final = ("#0b6e99", "#d9822b", "#6b8e23", "#8e5ea2", "#777777")
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #d8dee4}
th:first-child,td:first-child{text-align:left}
tr.chosen{font-weight:600;background:#eef6fb}img{width:100%;height:auto}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{font-weight:600}dd{margin:0}
"""


def render_report(
    document: Mapping[str, Any], judgements: Mapping[str, Judgement], *, chosen: str, regions: str = "held-out regions"
) -> str:
    """The page. `document` holds the facts of the head (flat values are shown), `chosen` names the shipped method.

    `regions` says what was judged on.
    """
    facts = "".join(
        f"<dt>{html_text(name.replace('_', ' '))}</dt><dd>{html_text(str(value))}</dd>"
        for name, value in document.items()
        if not isinstance(value, Mapping)
    )
    one = next(iter(judgements.values()))
    recalls = [name for name in RECALLS if one.figures()[name] is not None]
    drawings = (
        *([("How many float neighbours the codes find", _recall_bars(judgements, recalls))] if recalls else []),
        ("Distance of codes against similarity of features", _scatter(judgements)),
        ("How often each bit is one", _bit_means(judgements)),
    )
    sections = "".join(
        f'<h2>{html_text(title)}</h2><img alt="{html_text(title)}" src="{_data_address(figure)}">'
        for title, figure in drawings
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Hash layer: judgement</title>'
        f"<style>{_STYLE}</style></head><body><h1>Hash layer: {html_text(chosen)}</h1><dl>{facts}</dl>"
        f"<h2>Judgement on {one.rows:,} {regions}, {one.queries:,} of them as queries</h2>"
        f"{_table(judgements, chosen)}{sections}</body></html>\n"
    )


def _table(judgements: Mapping[str, Judgement], chosen: str) -> str:
    names = [(html_text(name), html_text(meaning)) for name, meaning in FIGURE_NAMES.values()]
    head = "".join(f'<th title="{meaning}">{name}</th>' for name, meaning in names)
    rows = "".join(
        f'<tr class="{"chosen" if method == chosen else ""}"><td>{html_text(method)}</td>'
        + "".join(f"<td>{shown_figure(judgement.figures()[name])}</td>" for name in FIGURE_NAMES)
        + "</tr>"
        for method, judgement in judgements.items()
    )
    meanings = "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in names)
    return f"<table><thead><tr><th>method</th>{head}</tr></thead><tbody>{rows}</tbody></table><dl>{meanings}</dl>"


def _recall_bars(judgements: Mapping[str, Judgement], recalls: Sequence[str]) -> Figure:
    figure = Figure(figsize=(9, 0.8 + 0.5 * len(judgements)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(judgements))
    for offset, name in zip((-0.2, 0.2), recalls, strict=False):
        values = [getattr(judgement, name) for judgement in judgements.values()]
        bars = axes.barh(places + offset, values, 0.38, label=FIGURE_NAMES[name][0], color=_COLOURS[offset > 0])
        axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.set_yticks(places, list(judgements))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("share of the 10 float neighbours found")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _scatter(judgements: Mapping[str, Judgement]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, len(judgements), sharex=True, sharey=True, squeeze=False)[0]
    for axes, colour, (name, judgement) in zip(panels, _COLOURS, judgements.items(), strict=False):
        axes.plot(judgement.cosines, judgement.distances_bits, ".", markersize=2, color=colour)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("cosine of features")
    panels[0].set_ylabel("distance in bits")
    return figure


def _bit_means(judgements: Mapping[str, Judgement]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    for colour, (name, judgement) in zip(_COLOURS, judgements.items(), strict=False):
        axes.hist(judgement.bit_means, np.linspace(0, 1, 41).tolist(), histtype="step", color=colour, label=name)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of regions for which a bit is one")
    axes.set_ylabel("bits")
    axes.legend()
    return figure


def _data_address(figure: Figure) -> str:
    """An SVG drawing as the address of an image, the same bytes in each run."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "searchanything", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

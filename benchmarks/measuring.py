"""What the benchmarks of speed share: paired timing, and a report with table, JSON and plot."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from searchanything.core.processor import processor_name

LIBRARIES = ("numpy", "torch", "open_clip_torch", "pymilvus", "milvus-lite", "faiss-cpu", "prefect", "searchanything")


def parser(doc: str | None, *, plots: bool = False) -> argparse.ArgumentParser:
    """Options that every program has, and that of those that can draw their figures."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="write the figures there")
    if plots:
        made.add_argument("--plot", type=Path, help="draw the figures there (.svg or .png)")
    return made


def parser_for_scenes(doc: str | None) -> argparse.ArgumentParser:
    """The options of a program that asks a preset's models about generated scenes."""
    made = parser(doc)
    made.add_argument("--preset", default="pico")
    made.add_argument("--scenes", type=int, default=60)
    made.add_argument("--seed", type=int, default=77)
    return made


def best_ms(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    least_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    before: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """The least milliseconds of each call. They take turns, so that a machine that slows down slows all of them.

    `before` is given each call's name before it, and its time does not count. With `time.thread_time` as the clock,
    what other programs take does not count: for calls of one thread alone.
    """
    best = dict.fromkeys(calls, float("inf"))
    began, done = time.perf_counter(), 0
    while done < rounds or time.perf_counter() - began < least_s:
        for name, call in calls.items():
            if before is not None:
                before(name)
            start = clock()
            call()
            best[name] = min(best[name], (clock() - start) * 1000)
        done += 1
    return best


def percentiles(spent_ms: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile of at least two values."""
    cuts = statistics.quantiles(spent_ms, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": ", ".join([processor_name(), *_gpus()]),
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "commit": _commit(),
    }


def _gpus() -> list[str]:
    """The GPU, where torch was used and has one."""
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name()] if torch is not None and torch.cuda.is_available() else []


def _commit() -> str:
    """The commit of the code; nothing where git or its folder is not at hand."""
    ask = ["git", "rev-parse", "--short", "HEAD"]
    try:
        said = subprocess.run(ask, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    return said.strip()


def report(name: str, rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> None:
    """Print a table of rows, and write JSON where asked."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_shown(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[at]) for line in cells)) for at, column in enumerate(columns)]
    for line in (columns, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores, load {about['load'][0]}, commit {about['commit']}")
    write({"benchmark": name, "machine": about, "rows": list(rows)}, options.json)


def write(document: object, file: Path | None) -> None:
    """Write figures as JSON, where a file is asked for; what is no list says on which machine, unless it does."""
    if file is None:
        return
    if isinstance(document, dict) and "machine" not in document:
        document = {"machine": machine(), **document}
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def plotting() -> Any:  # noqa: ANN401 - a module
    """matplotlib's pyplot without a screen, with plain lines, and narrow enough for a phone."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({
        "figure.figsize": (4.9, 3.7), "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.axisbelow": True, "grid.alpha": 0.25, "svg.hashsalt": "searchanything", "font.size": 10,
    })  # fmt: skip
    return plt


def save_figure(figure: Any, file: Path) -> None:  # noqa: ANN401 - matplotlib is optional
    """Write a figure, its parts moved so that no words overlap."""
    figure.tight_layout()
    figure.savefig(file)


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"

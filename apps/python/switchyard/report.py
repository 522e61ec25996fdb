# SPDX-License-Identifier: Apache-2.0
"""The charts of a report as PNG files, drawn by matplotlib (`pip install switchyard[report]`).

    switchyard report bench.json --json > report.json
    python -m switchyard.report report.json -o pictures

or `switchyard.report.export("report.json", "pictures")`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["export"]

_COLOURS = ("#0b62a8", "#c2410c", "#0f766e", "#8b2fa0", "#8a5a00", "#be185d", "#4d7c0f")
_GREY = "#6b7280"  # the reference, as on the page
_MARKS = ("o", "s", "^", "D", "v", "*", "P")
_UNITS = {"ms": "ms", "bytes": "bytes", "share": "share", "times": "times", "": ""}


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "switchyard.report needs matplotlib: pip install 'switchyard[report]'"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


class _Palette:
    """The same colour and mark for a name in every chart."""

    def __init__(self, names: set[str]) -> None:
        others = sorted(names - {"reference"})
        self._style = {n: (_COLOURS[i % 7], _MARKS[i % 7]) for i, n in enumerate(others)}
        self._style["reference"] = (_GREY, "o")

    def __getitem__(self, name: str) -> dict[str, str]:
        colour, mark = self._style[name]
        return {"color": colour, "marker": mark}


def _names(chart: dict) -> list[str]:
    rows = [d for row in chart.get("rows", []) for key in ("dots", "parts", "bars")
            for d in row.get(key, [])]
    found = chart.get("series", []) + chart.get("points", []) + rows
    return list(dict.fromkeys(item["name"] for item in found))


def _lines(ax: Any, chart: dict, palette: _Palette) -> None:
    for series in chart["series"]:
        xs, ys = zip(*series["points"])
        ax.plot(xs, ys, label=series["name"], **palette[series["name"]])
    for cross in chart["crossovers"]:
        ax.axvline(cross["x"], color=_GREY, linestyle="--", linewidth=1)
        ax.annotate(f"{cross['to']} from {cross['x']:.3g}", (cross["x"], 1), rotation=90, fontsize=8,
                    xycoords=("data", "axes fraction"), ha="right", va="top")
    ax.set(xscale="log", yscale="log", xlabel=chart["x_label"], ylabel=chart["y_unit"])
    ax.legend()


def _dots(ax: Any, chart: dict, palette: _Palette) -> None:
    seen = set()
    for i, row in enumerate(chart["rows"]):
        for dot in row["dots"]:
            style, name = palette[dot["name"]], dot["name"]
            if dot["high"]:
                ax.plot([dot["value"], dot["high"]], [i, i], color=style["color"], linewidth=1)
            ax.plot(dot["value"], i, linestyle="", label=None if name in seen else name, **style)
            seen.add(name)
    if chart["line"]:
        ax.axvline(chart["line"], color=_GREY, linewidth=1)
    ax.set_yticks(range(len(chart["rows"])), [row["label"] for row in chart["rows"]], fontsize=8)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel=f"{chart['x_label']} ({_UNITS[chart['x_unit']]})")
    ax.legend()


def _roofline(ax: Any, chart: dict, palette: _Palette) -> None:
    top = max(p["value"] for p in chart["peaks"])
    xs = [p["intensity"] for p in chart["points"]] + [top / c["value"] for c in chart["levels"]]
    low, high = min(xs) / 2, max(xs) * 2
    for level in chart["levels"]:
        ax.plot([low, top / level["value"]], [low * level["value"], top], color="black", linewidth=1)
        ax.annotate(f"{level['name']} {level['value']:.3g} GB/s", (low, low * level["value"]), fontsize=8)
    for peak in chart["peaks"]:
        ax.plot([low, high], [peak["value"]] * 2, color="black", linewidth=1, linestyle=":")
        ax.annotate(f"{peak['name']} {peak['value']:.3g}", (high, peak["value"]), fontsize=8, ha="right",
                    va="bottom")
    seen = set()
    for p in chart["points"]:
        name = p["name"]
        ax.plot(p["intensity"], p["gflop_per_s"], linestyle="", label=None if name in seen else name,
                **palette[name])
        ax.annotate(p["label"], (p["intensity"], p["gflop_per_s"]), fontsize=8, xytext=(5, 3),
                    textcoords="offset points")
        seen.add(name)
    ax.set(xscale="log", yscale="log", xlabel="FLOP/byte", ylabel="GFLOP/s", xlim=(low, high))
    ax.legend(loc="lower right")


def _shares(ax: Any, chart: dict, palette: _Palette) -> None:
    seen = set()
    for i, row in enumerate(chart["rows"]):
        total, left = sum(p["value"] for p in row["parts"]) or 1.0, 0.0
        for part in row["parts"]:
            share, name = 100 * part["value"] / total, part["name"]
            ax.barh(i, share, left=left, color=palette[name]["color"],
                    label=None if name in seen else name)
            seen.add(name)
            left += share
    ax.set_yticks(range(len(chart["rows"])), [row["label"] for row in chart["rows"]])
    ax.invert_yaxis()
    ax.set(xlabel="% of the time")
    ax.legend()


def _bars(ax: Any, chart: dict, palette: _Palette) -> None:
    labels, at = [], 0
    seen = set()
    for row in chart["rows"]:
        for bar in row["bars"]:
            name = bar["name"]
            ax.barh(at, bar["value"], color=palette[name]["color"], label=None if name in seen else name)
            seen.add(name)
            labels.append(row["label"])
            at += 1
    ax.set_yticks(range(at), labels, fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel=f"{chart['x_label']} ({_UNITS[chart['x_unit']]})")
    ax.legend()


_DRAW = {"lines": _lines, "dots": _dots, "roofline": _roofline, "shares": _shares, "bars": _bars}


def export(report: str | os.PathLike | dict, folder: str | os.PathLike, *, dpi: int = 144) -> list[Path]:
    """Writes one PNG file for each chart of a report.

    report: the document of `switchyard report ... --json`, or the path of a file that holds it.
    folder: made if missing. dpi: dots an inch; pictures are 9 inches wide.
    Returns the files, named by number and title. Raises ImportError without matplotlib, OSError,
    and ValueError for a document that is no report."""
    pyplot = _matplotlib()
    if not isinstance(report, dict):
        report = json.loads(Path(report).read_text())
    if not isinstance(report, dict) or report.get("command") != "report":
        raise ValueError("not a document of `switchyard report --json`")
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    palette = _Palette({n for chart in report["charts"] for n in _names(chart)})
    written = []
    for number, chart in enumerate(report["charts"], 1):
        rows = len(chart.get("rows", []))
        figure, ax = pyplot.subplots(figsize=(9, max(5.0, 1.5 + 0.4 * rows)), layout="constrained")
        _DRAW[chart["kind"]](ax, chart, palette)
        ax.set_title(chart["title"], loc="left", fontweight="bold")
        ax.grid(alpha=0.3)
        name = re.sub(r"[^a-z0-9]+", "-", chart["title"].lower()).strip("-")
        path = out / f"{number:02d}-{name}.png"
        figure.savefig(path, dpi=dpi)
        pyplot.close(figure)
        written.append(path)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m switchyard.report", description="The charts of a report as PNG files."
    )
    parser.add_argument("report", help="what `switchyard report FILE... --json` printed")
    parser.add_argument("-o", "--output", default="report-charts", help="a folder (report-charts)")
    parser.add_argument("--dpi", type=int, default=144)
    options = parser.parse_args()
    for path in export(options.report, options.output, dpi=options.dpi):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

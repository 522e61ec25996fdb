#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How k-means grows with rows, columns and clusters, beside the peers: ten Lloyd iterations from
given centroids, one size varied at a time.

    python benchmarks/kmeans_scaling.py [--json FILE] [--svg FILE] [--threads N] [--quick]

Prints a line for each size: milliseconds of every contender, the kernel that Switchyard chose, and
the machine's limit, which is the longer of two times: reading the rows once a pass as fast as plain
copies go, and all n k d multiply-adds of a pass at the speed of NumPy's matrix product. Kernels that
skip work may be faster than that. --json writes what `switchyard report` draws, --svg a plot.
"""

from __future__ import annotations

import argparse
import html
import importlib
import json
import math
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine

BASE = {"n": 100_000, "d": 16, "k": 64}
SWEEPS = {
    "n": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    "d": (1, 2, 4, 8, 16, 64, 256, 1024),
    "k": (2, 8, 32, 128, 512, 2048, 4096),
}
QUICK = {"n": (1_000, 10_000), "d": (1, 4), "k": (2, 32)}
PEERS = ("scikit-learn", "oneDAL", "FAISS")
COLOURS = {"switchyard": "#0b62a4", "scikit-learn": "#e07b00", "oneDAL": "#4a9e4a", "FAISS": "#a83f9a"}


def sizes(quick: bool) -> Iterator[tuple[str, dict[str, int]]]:
    for axis, values in (QUICK if quick else SWEEPS).items():
        for value in values:
            size = BASE | {axis: value}
            size["n"] = max(size["n"] if not quick else min(size["n"], 10_000), size["k"])
            yield axis, size


def measure(options: argparse.Namespace, cpus: list[int]) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sy = importlib.import_module("run").module()
    import kmeans
    from kmeans_data import mixture
    from side_by_side import run_case

    engine = sy.Engine(threads=options.threads, cache_dir="")
    limits = machine.Limits(options.threads, 1)
    report: dict[str, Any] = {
        "schema_version": 1,
        "machine": machine.facts(options.threads, cpus),
        "command_line": "benchmarks/kmeans_scaling.py " + " ".join(sys.argv[1:]),
        "cases": [],
    }
    for axis, size in sizes(options.quick):
        x, start = mixture(size["n"], size["d"], size["k"])
        # A single pair of rows that swaps sides leads fits of few columns to other optima.
        case = kmeans.lloyd(engine, sy.last_run, f"by {axis}:", x, start, kmeans.check_tied)
        case.sides = [s for s in case.sides if s.name in ("switchyard", *PEERS)]
        begin = time.perf_counter()
        result = run_case(
            case, limits, seconds=0.2 if options.quick else 1.5, warm_up=0.1 if options.quick else 0.5
        )
        result["scaling"] = {"axis": axis, **size}
        if result["sides"]:
            result["scaling"]["limit_ms"] = 1e3 * max(
                case.bytes / limits.copy_bandwidth(case.working_set), case.flops / limits.gemm_peak()
            )
        report["cases"].append(result)
        print(line(result, time.perf_counter() - begin), flush=True)
    return report


def line(result: dict[str, Any], took: float) -> str:
    size = result["scaling"]
    text = f"{size['axis']}: n={size['n']:<9} d={size['d']:<5} k={size['k']:<5}"
    for side in result["sides"]:
        text += f" {side['name']} {side['min_ms']:.4g} ms,"
    if result["sides"]:
        ours, *others = result["sides"]
        if others:
            fastest = min(others, key=lambda s: s["min_ms"])
            text += f" {fastest['min_ms'] / ours['min_ms']:.1f}x the fastest peer ({fastest['name']}),"
        text += f" limit {size['limit_ms']:.4g} ms, {chosen(result)}"
    for name, why in result["disagreement"].items():
        text += f" [{name}: {why}]"
    return f"{text} ({took:.0f} s)"


def chosen(result: dict[str, Any]) -> str:
    kernels = result["sides"][0]["kernels"]
    return max(kernels, key=kernels.get) if kernels else "?"


def svg(report: dict[str, Any]) -> str:
    """Three panels, both axes logarithmic."""
    width, height, left, bottom, gap = 420, 400, 60, 60, 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * (width + gap)}" height="{height + 90}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    cases = [c for c in report["cases"] if c["sides"]]
    times = [s["min_ms"] for c in cases for s in c["sides"]]
    times += [c["scaling"]["limit_ms"] for c in cases]
    low, high = (math.log10(f(times)) + step for f, step in ((min, -0.2), (max, 0.2)))

    def y(ms: float) -> float:
        return 20 + (height - bottom) * (high - math.log10(ms)) / (high - low)

    for panel, axis in enumerate(SWEEPS):
        mine = [c for c in cases if c["scaling"]["axis"] == axis]
        if not mine:
            continue
        at = panel * (width + gap) + left
        values = [c["scaling"][axis] for c in mine]
        first, last = math.log10(min(values)), math.log10(max(values)) + 1e-9
        span = width - left - 10

        def x(value: float) -> float:
            return at + 5 + (span - 10) * (math.log10(value) - first) / (last - first)

        fixed = ", ".join(f"{name} = {BASE[name]:,}" for name in BASE if name != axis)
        out.append(f'<text x="{at}" y="14" font-weight="bold">{axis} varies; {fixed}</text>')
        for power in range(math.ceil(low), math.floor(high) + 1):
            out.append(
                f'<line x1="{at}" x2="{at + span}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}" '
                f'stroke="#ddd"/><text x="{at - 6}" y="{y(10**power) + 4:.1f}" '
                f'text-anchor="end">{10**power:g}</text>'
            )
        for value in values:
            out.append(
                f'<text x="{x(value):.1f}" y="{height - bottom + 38}" text-anchor="middle" '
                f'font-size="10">{value:g}</text>'
            )
        lines = {name: [] for name in COLOURS}
        for case in mine:
            for side in case["sides"]:
                lines[side["name"]].append((case["scaling"][axis], side["min_ms"]))
        lines["limit"] = [(c["scaling"][axis], c["scaling"]["limit_ms"]) for c in mine]
        for name, points in lines.items():
            style = 'stroke="#888" stroke-dasharray="5 4"'
            if name != "limit":
                style = f'stroke="{COLOURS[name]}" stroke-width="{2.5 if name == "switchyard" else 1.5}"'
            path = " ".join(f"{x(v):.1f},{y(ms):.1f}" for v, ms in points)
            out.append(f'<polyline points="{path}" fill="none" {style}/>')
        for case in mine:  # the chosen kernel, by the last part of its name
            value, ms = case["scaling"][axis], case["sides"][0]["min_ms"]
            kernel = chosen(case)
            out.append(
                f'<circle cx="{x(value):.1f}" cy="{y(ms):.1f}" r="3.5" fill="{COLOURS["switchyard"]}">'
                f"<title>{kernel}: {ms:.4g} ms</title></circle>"
                f'<text x="{x(value):.1f}" y="{y(ms) + 16:.1f}" text-anchor="middle" font-size="9" '
                f'fill="{COLOURS["switchyard"]}">{kernel.split(".")[-1].split("@")[0]}</text>'
            )
    at = left
    for name, colour in [*COLOURS.items(), ("the machine's limit", "#888")]:
        out.append(f'<text x="{at}" y="{height + 20}" fill="{colour}">&#9632; {name}</text>')
        at += 140
    facts = report["machine"]
    out.append(
        f'<text x="{left}" y="{height + 44}">ms of ten Lloyd iterations and the last assignment (minima); '
        f"{html.escape(str(facts['cpu']))}, {facts['threads']} threads</text></svg>"
    )
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--svg", metavar="FILE", help="write the plot there")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (2)")
    parser.add_argument("--quick", action="store_true", help="a few small sizes")
    options = parser.parse_args()
    cpus = machine.use_threads(options.threads)  # before NumPy and the peers are imported
    warnings.filterwarnings("ignore", category=UserWarning)
    try:
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        print("kmeans_scaling: scikit-learn is not installed (benchmarks/requirements.txt)")
        return 2
    warnings.simplefilter("ignore", ConvergenceWarning)
    report = measure(options, cpus)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    if options.svg:
        Path(options.svg).write_text(svg(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

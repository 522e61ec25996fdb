#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do processes that tune alone choose alike? Runs `switchyard tune` in many fresh processes, each
with a timing store of its own, and compares their choices.

    python benchmarks/agreement.py [--processes 20] [--budget 8] [--margin 0.05] [--json FILE]

A shape counts where the gap between the best kernel and the next one exceeds the margin, by the
medians over all processes. Exit status: 0 when all processes chose the best kernel of every such
shape, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("SWITCHYARD_BUILD", ROOT / "build"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--budget", type=float, default=8, help="seconds of tuning each (8)")
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def tune(budget: float, cache: Path) -> dict:
    """One process; verdicts are kept between them, timings are not."""
    for timings in cache.glob("*/timings"):
        shutil.rmtree(timings)
    done = subprocess.run(
        [BUILD / "bin" / "switchyard", "tune", "--budget", str(budget), "--json"],
        env={**os.environ, "SWITCHYARD_CACHE_DIR": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    )
    return {(row["op"], row["shape"]): row for row in json.loads(done.stdout)["shapes"]}


def main() -> int:
    options = arguments()
    runs = []
    with tempfile.TemporaryDirectory() as cache:
        tune(options.budget, Path(cache))  # verifies every kernel once
        for i in range(options.processes):
            if sys.stderr.isatty():
                print(f"\rprocess {i + 1} of {options.processes}", end="", file=sys.stderr)
            runs.append(tune(options.budget, Path(cache)))
    shapes = set.intersection(*(set(run) for run in runs))
    rows, clear, agreeing = [], 0, 0
    for key in sorted(shapes):
        times = defaultdict(list)
        choices = defaultdict(int)
        for run in runs:
            choices[run[key]["chosen"]] += 1
            for kernel, ns in run[key]["times_ns"].items():
                times[kernel].append(ns)
        medians = sorted((statistics.median(ns), kernel) for kernel, ns in times.items())
        gap = medians[1][0] / medians[0][0] - 1 if len(medians) > 1 else float("inf")
        share = choices[medians[0][1]] / len(runs)
        rows.append({"op": key[0], "shape": key[1], "best": medians[0][1], "gap": gap,
                     "share": share, "choices": dict(choices)})  # fmt: skip
        if gap > options.margin:
            clear += 1
            agreeing += share == 1
    for row in sorted(rows, key=lambda r: r["gap"]):
        others = "" if row["share"] == 1 else f"   {row['choices']}"
        print(f"{row['gap']:8.1%}  {row['share']:6.0%}  {row['op']} {row['shape']}: {row['best']}{others}")
    print(f"\n{len(runs)} processes, {len(rows)} shapes that all of them measured; of {clear} with a gap "
          f"above {options.margin:.0%}, {agreeing} were decided alike by all")  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps({"processes": len(runs), "shapes": rows}, indent=1))
    return 0 if agreeing == clear and clear > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

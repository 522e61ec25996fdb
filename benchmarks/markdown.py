#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The side-by-side figures as one Markdown table.

    python benchmarks/markdown.py bench.json [--into README.md]

bench.json is what `run.py --json` writes. --into replaces what lies between the file's lines
`<!-- benchmark table -->` and `<!-- end of the table -->`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

NAMES = {
    "numpy": "NumPy",
    "scikit-learn": "scikit-learn",
    "oneDAL": "oneDAL",
    "FAISS": "FAISS",
    "torch": "PyTorch",
    "mlx": "MLX",
    "onnxruntime": "ONNX Runtime",
    "gguf-py": "gguf-py",
    "ggml": "ggml",
}
BEGIN, END = "<!-- benchmark table -->", "<!-- end of the table -->"


def duration(ms: float) -> str:
    if ms >= 1000:
        return f"{ms / 1000:.3g} s"
    return f"{ms:.3g} ms" if ms >= 1 else f"{ms * 1000:.3g} µs"


def table(report: dict, command: str) -> str:
    """Rows: cases. Our time, and how many times as long each peer takes; minima of the turns."""
    cases = [c for c in report["cases"] if c["sides"]]
    present = [n for n in NAMES if any(n in c["ratios"] for c in cases)]
    present += sorted({n for c in cases for n in c["ratios"]} - set(NAMES))
    machine = report["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        f"Measured on {report['date']} by `{command}`: {machine['cpu']}, {machine['threads']} threads for"
        f" every contender, load {machine['load_average']:.1f}; {versions}. Minima of interleaved turns in"
        " one process, after each answer was checked. A peer's figure is its time as a multiple of"
        " Switchyard's: above 1 Switchyard is faster.",
        "",
        "| case | Switchyard | " + " | ".join(NAMES.get(n, n) for n in present) + " |",
        "|---|--:|" + "--:|" * len(present),
    ]
    for c in cases:
        own = c["sides"][0]["min_ms"]
        ratios = {n: r["of_minima"] for n, r in c["ratios"].items()}
        fastest = min(ratios.values(), default=2.0) >= 1
        cells = []
        for name in present:
            ratio = ratios.get(name)
            text = "" if ratio is None else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"
            if ratio is not None and ratio < 1 and ratio == min(ratios.values()):
                text = f"**{text}**"
            cells.append(text)
        mine = f"**{duration(own)}**" if fastest else duration(own)
        label = f"{c['group']}: {c['case']}".replace("|", "\\|")
        lines.append(f"| {label} | {mine} | " + " | ".join(cells) + " |")
    smallest = [
        (n, f)
        for n, f in report.get("dispatch", {}).items()
        if f.get("from") == "Python"
    ]
    if smallest:
        lines += [
            "",
            "The smallest call from Python (32 values, processor time): "
            + ", ".join(f"{n} {f['min_ns']:.0f} ns" for n, f in smallest)
            + ".",
        ]
    return "\n".join(lines) + "\n"


def put_into(path: Path, text: str) -> None:
    whole = path.read_text()
    if BEGIN not in whole or END not in whole:
        sys.exit(f"{path} has no lines '{BEGIN}' and '{END}'")
    before, rest = whole.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--into", type=Path, help="a Markdown file with the two marks")
    options = parser.parse_args()
    report = json.loads(options.report.read_text())
    text = table(report, report.get("command_line", "./dev bench"))
    if options.into:
        put_into(options.into, text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

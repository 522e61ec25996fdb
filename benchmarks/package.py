#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package as a user gets it: `pip install .` into an empty environment, the README's tour,
the wheel's size, the time that importing takes, the cost of the smallest call.

    python benchmarks/package.py [--wheel FILE] [--json FILE]

Exit status 1 when the tour fails, or something of the tree is needed to run it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = 15

# Run by the new environment, in an empty folder.
IMPORT_TIME = """
import sys, time
start = time.perf_counter()
import numpy
between = time.perf_counter()
import switchyard
end = time.perf_counter()
print((end - between) * 1e3, (end - start) * 1e3)
"""
CALL_TIME = """
import json, sys, time
import numpy as np, switchyard as sy
engine = sy.Engine(threads=1, cache_dir="")
x, out, y = np.arange(32, dtype=np.float32), np.zeros(34, np.uint8), np.zeros(32, np.float32)
calls = {
    "switchyard quantize(out=)": lambda: engine.quantize(x, "q8_0", out=out),
    "switchyard quantize": lambda: engine.quantize(x, "q8_0"),
    "numpy.negative(out=)": lambda: np.negative(x, out=y),
    "numpy.clip(out=)": lambda: np.clip(x, 0, 1, out=y),
}
try:
    import torch
    a, b = torch.arange(32.0), torch.zeros(32)
    calls["torch.neg(out=)"] = lambda: torch.neg(a, out=b)
except ImportError:
    pass
end = time.perf_counter() + 1
while time.perf_counter() < end:
    engine.quantize(x, "q8_0", out=out)
best = dict.fromkeys(calls, float("inf"))
for _ in range(31):
    for name, call in calls.items():
        start = time.thread_time_ns()
        for _ in range(2000):
            call()
        best[name] = min(best[name], (time.thread_time_ns() - start) / 2000)
print(json.dumps(best))
"""


def run(*command: Any, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, text=True, capture_output=True
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(folder: Path, wheel: Path | None) -> dict[str, Any]:
    # Nothing of the tree or the caller may help.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SWITCHYARD"))}
    env |= {"SWITCHYARD_CACHE_DIR": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    empty = folder / "empty"
    empty.mkdir()
    if wheel is None:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT,
            cwd=empty, env=env)
        wheel = next(folder.glob("switchyard-*.whl"))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel, cwd=empty, env=env)
    tour = run(python, "-I", ROOT / "examples" / "tour.py", cwd=empty, env=env)
    times = [
        tuple(map(float, run(python, "-c", IMPORT_TIME, cwd=empty, env=env).split()))
        for _ in range(IMPORTS)
    ]
    return {
        "wheel": wheel.name,
        "wheel_bytes": wheel.stat().st_size,
        "tour": tour.strip(),
        "import_ms": min(t[0] for t in times),
        "import_with_numpy_ms": min(t[1] for t in times),
        "call_ns": json.loads(run(python, "-c", CALL_TIME, cwd=empty, env=env)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--wheel", type=Path, help="install this one instead of building one")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    wheel = options.wheel.resolve() if options.wheel else None
    with tempfile.TemporaryDirectory(prefix="switchyard-package-") as folder:
        figures = measure(Path(folder), wheel)
    print(f"{figures['wheel']}: {figures['wheel_bytes'] / 1e6:.2f} MB")
    print(f"the tour: {figures['tour']}")
    print(
        f"import switchyard: {figures['import_ms']:.1f} ms after NumPy, "
        f"{figures['import_with_numpy_ms']:.1f} ms with it (the least of {IMPORTS})"
    )
    for name, ns in figures["call_ns"].items():
        print(f"{name:<28} {ns:8.0f} ns")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

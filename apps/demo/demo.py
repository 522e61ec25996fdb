# SPDX-License-Identifier: Apache-2.0
"""The main job on real input: runs config/quickstart.yaml, measures NumPy on the same inputs in the
same run, and prints one table (demo-output/demo.json holds the same).

    python apps/demo/demo.py [--switchyard build/bin/switchyard]

Needs the packages of requirements.txt beside this file; downloads nothing.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

import numpy_peers
import prepare

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUMPY_ITERATIONS = 20  # k-means: more than this many of NumPy's are extrapolated, and labelled so


def run_switchyard(program: pathlib.Path, out: pathlib.Path) -> dict:
    if not program.exists():
        raise SystemExit(f"{program} is missing: run ./dev build first")
    command = [str(program), "run", str(ROOT / "config/quickstart.yaml"), "--json"]
    command += ["--metrics", str(out / "metrics.json"), "--report", str(out / "report.html")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    document = json.loads(done.stdout) if done.stdout.strip() else {}
    if "error" in document or not document:
        message = document.get("error", {}).get("message", f"exit code {done.returncode}")
        raise SystemExit(f"switchyard run failed: {message}")
    return document


def colours(job: dict, data: dict) -> dict:
    """NumPy's k-means on the same pixels."""
    done = job["n_iter"]
    few = min(done, NUMPY_ITERATIONS)
    (_, _, inertia), ms = numpy_peers.median_ms(
        lambda: numpy_peers.kmeans(data["pixels"], job["k"], few), times=1
    )
    note = "whole fit" if few == done else f"{few} of {done} iterations, scaled up"
    return {
        "time_ms": ms * done / few if few else ms,
        "sample": None if few == done else note,
        "agreement": f"inertia {job['inertia'] / inertia:.4f} of NumPy's (another random start)",
    }


def read_model(path: pathlib.Path) -> prepare.Weights:
    return prepare.Weights(path)


def raw(weights: prepare.Weights, name: str, dtype) -> np.ndarray:
    tensor = weights.header[name]
    begin, end = tensor["data_offsets"]
    return weights.data[begin:end].view(dtype).reshape(tensor["shape"])


def weights_job(data: dict, written: pathlib.Path, quantize, dtype) -> dict:
    """NumPy quantises the same matrices; its codes are counted against Switchyard's."""
    model, file = data["weights"], read_model(written)
    total, same, values = 0.0, 0, 0
    for name in model.matrices():
        matrix = np.array(model[name])  # in memory, as Switchyard had it
        result, ms = numpy_peers.median_ms(lambda m=matrix: quantize(m))
        total += ms
        codes = raw(file, name, dtype)
        same += int((result[0] == codes).sum())
        values += codes.size
    return {
        "time_ms": total,
        "sample": None,
        "agreement": f"{100 * same / values:.4f} % of the codes equal NumPy's",
    }


def attention_job(data: dict, out: pathlib.Path) -> dict:
    result, ms = numpy_peers.median_ms(
        lambda: numpy_peers.attention(data["q"], data["k"], data["v"])
    )
    difference = float(np.abs(result - np.load(out / "attention.npy")).max())
    return {
        "time_ms": ms,
        "sample": None,
        "agreement": f"largest difference to NumPy {difference:.1e}",
    }


def duration(ms: float) -> str:
    return f"{ms / 1e3:.2f} s" if ms >= 1000 else f"{ms:.1f} ms" if ms >= 1 else f"{ms * 1e3:.0f} us"


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows)


def report(jobs: list[dict], seconds: float) -> str:
    rows = [["job", "backend", "time", "vs reference", "vs NumPy", "right?"]]
    for job in jobs:
        right = "verified" if job["verified"] != "no" else "NOT VERIFIED"
        if job["backend"] == "reference":
            right = "the reference"
        reference = job["compared"][0] if job["compared"] else None
        if reference:
            right += ", equals reference" if reference["equal"] else ", DIFFERS FROM REFERENCE"
        rows.append(
            [
                job["name"],
                job["backend"],
                duration(job["time_ms"]),
                f"{reference['times_faster']:.1f}x" + ("*" if reference["sample"] else "")
                if reference
                else "-",
                f"{job['numpy']['times_faster']:.1f}x" + ("*" if job["numpy"]["sample"] else ""),
                right,
            ]
        )
    lines = [table(rows), ""]
    for job in jobs:
        lines.append(f"{job['name']}: {job['kernel']}")
        lines.append(f"  why: {job['why']}")
        for reference in job["compared"]:
            where = f", on {reference['sample']}" if reference["sample"] else ""
            lines.append(
                f"  {reference['backend']}: {duration(reference['other_time_ms'])} against "
                f"{duration(reference['own_time_ms'])}{'*' if where else ''}{where}"
            )
        peer = job["numpy"]
        where = f"*, from {peer['sample']}" if peer["sample"] else ""
        lines.append(f"  NumPy: {duration(peer['time_ms'])}{where}; {peer['agreement']}")
        if "mse" in job:
            lines.append(
                f"  {job['tensor_count']} matrices, {job['bytes_before'] / 2**20:.1f} -> "
                f"{job['bytes_after'] / 2**20:.1f} MiB, error {job['mse']:.3g} (MSE), "
                f"{job['snr_db']:.2f} dB signal to noise (each one's: demo.json)"
            )
        if "inertia" in job:
            lines.append(
                f"  k = {job['k']}, {job['n_iter']} iterations, inertia {job['inertia']:.6g}"
            )
    lines.append("* on a part of the data, or fewer iterations, as stated")
    lines.append(f"{seconds:.0f} s in all")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--switchyard", type=pathlib.Path, default=ROOT / "build/bin/switchyard")
    # quickstart.yaml reads and writes there too.
    out = ROOT / "demo-output"
    options = parser.parse_args()
    start = time.perf_counter()
    print("preparing inputs", file=sys.stderr, flush=True)
    data = prepare.prepare(out)
    print("switchyard run config/quickstart.yaml", file=sys.stderr, flush=True)
    document = run_switchyard(options.switchyard, out)
    jobs = {job["name"]: job for job in document["jobs"]}
    print("the same in NumPy", file=sys.stderr, flush=True)
    peers = {
        "photo-colours": lambda: colours(jobs["photo-colours"], data),
        "weights-mlx4": lambda: weights_job(
            data, out / "model-mlx4.safetensors", numpy_peers.mlx_affine4, np.uint32
        ),
        "weights-ternary": lambda: weights_job(
            data, out / "model-ternary.safetensors", numpy_peers.ternary, np.int8
        ),
        "text-attention": lambda: attention_job(data, out),
    }
    for name, measure in peers.items():
        peer = measure()
        peer["times_faster"] = peer["time_ms"] / jobs[name]["time_ms"]
        jobs[name]["numpy"] = peer
    document["command"] = "demo"
    document["seconds"] = time.perf_counter() - start
    (out / "demo.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(report(document["jobs"], document["seconds"]))
    for name in ("report.html", "photograph-after.png", "model-mlx4.safetensors",
                 "model-ternary.safetensors", "attention.npy", "demo.json", "metrics.json"):
        print(f"demo-output/{name}")
    return 0 if document["right"] else 5


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The OpenCL plugin beside openmp on the same processors: every operation in turns, its kernels and
transfers apart, a first and a second start, and from what size on it wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clblast
import numpy as np
from kmeans_data import mixture
from side_by_side import Side, measure

OPS = ("quantize", "dequantize", "kmeans.step", "kmeans.assign", "attention")
FORMATS = ("q4_0", "q8_0", "q4_k", "q6_k", "tq1_0", "mxfp4", "mlx_affine4", "ternary", "int8")
KMEANS = ((100_000, 128, 256), (1_000_000, 16, 64), (200_000, 3, 64), (50_000, 64, 16))
# heads of q and k, queries, keys, elements, dtype
ATTENTION = (
    (8, 2, 1024, 1024, 128, "float32"),
    (24, 24, 512, 512, 64, "float32"),
    (8, 2, 1024, 1024, 128, "float16"),
    (32, 8, 1, 4096, 128, "float32"),
    (32, 8, 1, 4096, 128, "float16"),
)
# What is asked of a device that is the processor itself: times openmp's time at most.
ASKED = {"compute": 3.0, "bandwidth": 1.5}
BANDWIDTH_BOUND = 0.33  # of the copy bandwidth that openmp reaches where that is the limit


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """For engines made meanwhile: their devices read it when they start."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def pinned(sy: Any, backend: str, threads: int) -> Any:
    return sy.Engine(threads=threads, pin={op: backend for op in OPS}, cache_dir="")


def problems(sy: Any, quick: bool) -> Iterator[tuple[str, Callable[[Any], Any], float]]:
    """Name, what an engine is to do, bytes of its arrays."""
    rng = np.random.default_rng(1)
    rows = 1024 if quick else 8192
    x = rng.standard_normal((rows, 4096), np.float32)
    y = np.empty_like(x)
    plain = sy.Engine()
    for format in FORMATS:
        q = plain.quantize(x, format)
        yield f"quantize {format}", lambda e, f=format, o=q: e.quantize(x, f, out=o), x.nbytes + q.nbytes
        yield f"dequantize {format}", lambda e, q=q: e.dequantize(q, out=y), x.nbytes + q.nbytes
    del x, y
    for n, d, k in KMEANS:
        if quick:
            n //= 10
        points, first = mixture(n, d, k)
        yield (
            f"kmeans {n}, {d}, {k}",
            lambda e, p=points, c=first, k=k: e.kmeans(p, k, init=c, max_iter=3, tol=0),
            4.0 * points.nbytes,
        )
    for hq, hk, lq, lk, d, dtype in ATTENTION:
        q = rng.standard_normal((1, hq, lq, d), np.float32).astype(dtype)
        k, v = (rng.standard_normal((1, hk, lk, d), np.float32).astype(dtype) for _ in range(2))
        yield (
            f"attention {hq}:{hk} {lq} x {lk}, D {d}, {dtype}",
            lambda e, q=q, k=k, v=v, lq=lq: e.attention(q, k, v, causal=lq > 1),
            2 * q.nbytes + k.nbytes + v.nbytes,
        )


def answer(result: Any) -> list[Any]:
    """Copies of a result's arrays: the next call writes to the same."""
    if isinstance(result, np.ndarray):
        return [result.copy()]
    parts = ("blocks", "codes", "scales", "biases", "labels", "centroids")
    arrays = (getattr(result, part, None) for part in parts)
    return [np.array(a) for a in arrays if a is not None]


def agree(name: str, ours: list[Any], theirs: list[Any]) -> bool:
    """To the byte; attention within its bounds."""
    if name.startswith("attention"):
        bound = 4e-3 if name.endswith("float16") else 2e-5
        return float(np.abs(ours[0].astype(np.float64) - theirs[0]).max()) <= bound
    return bool(ours) and [a.tobytes() for a in ours] == [a.tobytes() for a in theirs]


def inside(engine: Any, call: Callable[[Any], Any], calls: int = 5) -> dict[str, float]:
    """Of a call, by the device's own clock: milliseconds in kernels and in transfers."""
    before = engine.metrics()["devices"]["opencl"]
    for _ in range(calls):
        call(engine)
    after = engine.metrics()["devices"]["opencl"]
    return {k: (after[k] - before[k]) / calls for k in ("kernels", "kernel_ms", "transfer_ms")}


def beside_clblast(sy: Any, engine: Any, quick: bool, seconds: float) -> dict | None:
    """Labels of points (distances and the nearest) beside CLBlast's product of as many multiply-adds
    on the same device."""
    n, d, k = (2_000 if quick else 20_000), 128, 256
    points, centres = mixture(n, d, k)
    try:
        product = clblast.Product(points, centres, np.empty((n, k), np.float32))
        if not clblast.check(product):
            print("  clblast: left out, its product is wrong")
            return None
    except clblast.Failed as error:
        print(f"  clblast: left out, {error}")
        return None
    ours, theirs = measure(
        [Side("opencl", lambda: engine.kmeans_assign(points, centres)), Side("clblast", product)],
        seconds=seconds,
        warm_up=0.2,
    )
    gmacs = [n * d * k * 1e-9 / t.minimum for t in (ours, theirs)]
    print(
        f"  kmeans.assign {n}, {d}, {k} with the nearest found: {ours.minimum * 1e3:.2f} ms,"
        f" {gmacs[0]:.1f} G multiply-adds/s; CLBlast's product alone {theirs.minimum * 1e3:.2f} ms,"
        f" {gmacs[1]:.1f}"
    )
    return {"gmac_per_s": gmacs, "ms": [ours.minimum * 1e3, theirs.minimum * 1e3]}


START = """
import json, sys, time
before = time.perf_counter()
import numpy as np, switchyard as sy
ready = time.perf_counter()
engine = sy.Engine(threads=int(sys.argv[1]), pin={"quantize": "opencl"}, cache_dir=sys.argv[2])
made = time.perf_counter()
x = np.ones((64, 256), np.float32)
engine.quantize(x, "q4_0")
first = time.perf_counter()
engine.quantize(x, "q4_0")
again = time.perf_counter()
device = engine.metrics()["devices"]["opencl"]
print(json.dumps({"engine_ms": 1e3 * (made - ready), "first_call_ms": 1e3 * (first - made),
                  "second_call_ms": 1e3 * (again - first), "built": device["programs_built"],
                  "cached": device["programs_cached"]}))
"""


def starts(sy: Any, threads: int) -> list[dict]:
    """Two processes one after the other, nothing kept before the first: drivers loaded, devices tried
    out, the kernel compiled and verified."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        kept = {"XDG_CACHE_HOME": folder, "POCL_CACHE_DIR": f"{folder}/pocl"}
        Path(kept["POCL_CACHE_DIR"]).mkdir()
        path = str(Path(sy.__file__).parents[1])
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", START, str(threads), folder],
                env=os.environ | kept | {"PYTHONPATH": path},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            out.append(json.loads(done.stdout))
    return out


def crossover(sy: Any, threads: int, quick: bool) -> list[dict]:
    """Engines that time every candidate, at growing sizes: who is chosen, and what `explain` says of
    opencl. (Left to itself, an engine tries a processor's own driver late: docs/selection.md.)"""
    rng = np.random.default_rng(2)
    engine = sy.Engine(threads=threads, policy="benchmark", cache_dir="")
    out = []
    for n in (4_096, 262_144) if quick else (4_096, 65_536, 1_048_576, 16_777_216):
        engine.quantize(rng.standard_normal((n // 1024, 1024), np.float32), "q4_0")
        told = engine.explain("quantize", n=n, rows=n // 1024, format="q4_0", dtype="f32")
        ours = next(c for c in told["candidates"] if c["backend"] == "opencl" and c["supported"])
        best = next(c for c in told["candidates"] if c["kernel"] == told["chosen"])
        if ours is best:
            verdict = "chosen"
        elif ours["median_ns"] > 0:
            verdict = f"{ours['median_ns'] / best['median_ns']:.2f} times its time"
        else:
            verdict = ours["reason"]
        out.append(
            {
                "values": n,
                "chosen": told["chosen"],
                "opencl": verdict,
                "opencl_ns": ours["median_ns"],
                "reproducer": told["reproducer"],
            }
        )
    return out


def run(sy: Any, quick: bool, threads: int, limits: Any, seconds: float) -> tuple[dict, bool]:
    here = next((p for p in sy.Engine(cache_dir="").plugins() if p["id"] == "opencl"), None)
    if here is None or here["status"] != "loaded":
        print(f"devices: left out, {here['reason'] if here else 'the opencl plugin was not built'}")
        return {}, True
    engines = {b: pinned(sy, b, threads) for b in ("opencl", "openmp")}
    with variable("SWITCHYARD_OPENCL_ZERO_COPY", "0"):
        engines["copied"] = pinned(sy, "opencl", threads)
        engines["copied"].quantize(np.ones((1, 32), np.float32), "q4_0")
    print(f"devices: opencl beside openmp, {threads} threads each; milliseconds, min and median")
    figures, good = [], True
    for name, call, size in problems(sy, quick):
        want = answer(call(engines["openmp"]))
        if not all(agree(name, answer(call(engines[b])), want) for b in ("opencl", "copied")):
            print(f"  {name}: NOT TIMED, the answers differ")
            good = False
            continue
        timings = measure(
            [Side(b, lambda e=engines[b]: call(e)) for b in ("opencl", "openmp")],
            seconds=seconds,
            warm_up=0.2,
        )
        ours, theirs = timings
        reached = size / theirs.minimum / limits.copy_bandwidth(size)
        figure = {
            "case": name,
            "opencl_ms": [ours.minimum * 1e3, ours.median * 1e3],
            "openmp_ms": [theirs.minimum * 1e3, theirs.median * 1e3],
            "times": [ours.minimum / theirs.minimum, ours.median / theirs.median],
            "openmp_of_copy_bandwidth": reached,
            "limit": "bandwidth" if reached > BANDWIDTH_BOUND else "compute",
            "inside": inside(engines["opencl"], call),
            "copied": inside(engines["copied"], call),
        }
        figures.append(figure)
        print(text_of(figure), flush=True)
    peer = beside_clblast(sy, engines["opencl"], quick, seconds)
    first = starts(sy, threads)
    for word, start in zip(("first", "second"), first):
        print(
            f"  {word} start: engine {start['engine_ms']:.0f} ms, first call with its check"
            f" {start['first_call_ms']:.0f} ms, the next {start['second_call_ms']:.2f} ms;"
            f" {start['built']} programs compiled, {start['cached']} from files"
        )
    sizes = crossover(sy, threads, quick)
    for size in sizes:
        print(f"  quantize q4_0 of {size['values']} values: {size['chosen']}; opencl: {size['opencl']}")
    return {"cases": figures, "clblast": peer, "starts": first, "crossover": sizes}, good


def text_of(f: dict) -> str:
    kept = "" if f["times"][0] <= ASKED[f["limit"]] else f"  MORE THAN {ASKED[f['limit']]:g} TIMES"
    return (
        f"  {f['case']:<44} opencl {f['opencl_ms'][0]:9.3f} {f['opencl_ms'][1]:9.3f}"
        f"   openmp {f['openmp_ms'][0]:9.3f} {f['openmp_ms'][1]:9.3f}"
        f"   {f['times'][0]:5.2f} {f['times'][1]:5.2f} times; kernels {f['inside']['kernel_ms']:.3f} ms"
        f" in {f['inside']['kernels']:.0f}, transfers {f['inside']['transfer_ms']:.3f} ms"
        f" ({f['copied']['transfer_ms']:.3f} ms if copied); {f['limit']}-bound{kept}"
    )

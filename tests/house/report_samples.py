# SPDX-License-Identifier: Apache-2.0
"""Made-up documents in the form of the real ones, to draw pages of: all figures follow from simple
models of backends, so that pages are the same everywhere."""

import json
import struct
import zlib

# Backend: fixed cost in ms, elements a millisecond, threads.
BACKENDS = {"reference": (0.0002, 4e4, 1), "avx2": (0.0006, 6e5, 1), "avx512": (0.0007, 9e5, 1),
            "openmp": (0.012, 1.7e6, 2), "openblas": (0.03, 1.2e6, 2), "opencl:0": (0.25, 4e6, 2)}
LEVELS = {"L1d": (420, 780), "L2": (190, 370), "L3": (110, 160), "memory": (28, 41)}
PEAKS = {"f32": 112, "f64": 57, "bf16": 221, "int8": 440}


def time_ms(backend, elements):
    fixed, rate, _ = BACKENDS[backend]
    return fixed + elements / rate


def info():
    limits = [{"what": what, "where": level, "bytes": 1 << (14 + 3 * i), "threads": threads,
               "gb_per_s": speed * factor}
              for i, (level, speeds) in enumerate(LEVELS.items())
              for threads, speed in zip((1, 2), speeds)
              for what, factor in (("read", 1.0), ("write", 0.6), ("copy", 0.9))]
    compute = [{"what": kind, "isa": "avx512", "threads": threads, "gflop_per_s": peak * threads}
               for kind, peak in PEAKS.items() for threads in (1, 2)]
    return {"schema_version": 1, "command": "info", "version": "0.1.0", "threads": 2,
            "machine": {"cpu": "A processor of a test", "cores": 2, "memory_bytes": 24 << 30,
                        "caches": {"L1d": 32768, "L2": 1 << 20, "L3": 32 << 20},
                        "isa": ["avx2", "avx512f", "avx512_vnni"]},
            "limits": limits, "compute_limits": compute}


def bench_row(op, shape, elements, bytes_each, flops_each, slower=1.0):
    results = []
    for name in BACKENDS:
        ms = time_ms(name, elements) * (slower if name == "openmp" else 1)
        results.append({"backend": name, "kernel": f"{op}.f32.{name}@{name}", "verified": "cached",
                        "compared": True, "wrong": None, "threads": BACKENDS[name][2], "samples": 40,
                        "min_ms": 0.97 * ms, "median_ms": ms, "p95_ms": 1.2 * ms,
                        "times_faster_than_reference": time_ms("reference", elements) / ms,
                        "limited_by": "memory-bound: 60 % of L2 bandwidth, 4 % of f32 peak"})
    results.sort(key=lambda r: r["median_ms"])
    return {"op": op, "shape": shape, "described": shape, "bytes": bytes_each * elements,
            "flops": flops_each * elements, "results": results, "refused": []}


def bench(slower=1.0):
    rows = [bench_row("quantize", f"n={n},rows=1,format=q4_0", n, 4.6, 5, slower)
            for n in (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)]
    rows += [bench_row("kmeans.step", f"n={n},d=16,k={k}", n * k / 8, 3, 60)
             for k in (8, 64) for n in (1000, 10000, 100000, 1000000)]
    rows += [bench_row("attention", f"b=1,hq=32,hkv=8,lq={lq},lkv={lkv},d=128,causal=1",
                       lq * lkv * 8, 0.4, 90, slower) for lq, lkv in ((512, 512), (1, 4096))]
    return {"schema_version": 1, "command": "bench", "threads": 2, "shapes": rows,
            "machine": {"fingerprint": "0123456789abcdef", "cpu": "A processor of a test"}}


def regret():
    shapes = [{"op": op, "shape": f"n={1000 * (i + 1)},d={4 << i % 4}", "noise": 0.001,
               "chosen": f"{op}.f32.a@{'avx512' if i % 5 else 'openmp'}",
               "oracle": f"{op}.f32.a@avx512", "regret": 0.0 if i % 5 else 0.01 * (i % 7)}
              for op in ("quantize", "kmeans.step", "attention") for i in range(20)]
    fixed = {"reference": (12.0, 30.0), "avx2": (0.9, 2.0), "avx512": (0.3, 1.4), "openmp": (0.41, 3.0)}
    return {"schema_version": 1, "command": "regret", "count": len(shapes), "mean": 0.0062,
            "p95": 0.031, "worst": 0.06, "oracle_noise": {"mean": 0.0011, "p95": 0.004, "worst": 0.01},
            "wins": {"avx512": 48, "openmp": 12}, "shapes": shapes,
            "fixed_backends": {name: {"mean": m, "p95": p, "worst": 2 * p}
                               for name, (m, p) in fixed.items()}}


def peers():
    cases = []
    for group, name, ms, others in (
            ("quantize", "ternary, 1e6 values, outputs given", 0.3, {"numpy": 9.1}),
            ("quantize", "mlx_affine4, 1024 x 1024, group 64, fresh outputs", 0.4, {"mlx": 1.9}),
            ("quantize", "q4_0, 1024 x 1024, fresh outputs", 0.35, {"gguf-py": 61, "ggml": 5.2}),
            ("kmeans", "n=10000 d=100 k=10, 10 iterations from given centroids", 7.5,
             {"scikit-learn": 1.7, "oneDAL": 1.2, "FAISS": 2.2, "numpy": 8.0}),
            ("kmeans", "n=100000 d=128 k=1024, 10 iterations from given centroids", 1200,
             {"scikit-learn": 1.3, "oneDAL": 0.96, "FAISS": 1.8}),
            ("attention", "prefill causal 32:8, L 1024, D 128, f32", 88,
             {"torch": 1.1, "onnxruntime": 2.4, "mlx": 7.7, "numpy": 12})):
        sides = [{"name": "switchyard", "note": "", "min_ms": ms, "median_ms": 1.05 * ms}]
        sides += [{"name": n, "note": "", "min_ms": ms * r, "median_ms": 1.1 * ms * r}
                  for n, r in others.items()]
        cases.append({"group": group, "case": name, "sides": sides, "agreement": {},
                      "disagreement": {}, "ratios": {n: {"of_minima": r, "of_medians": r}
                                                     for n, r in others.items()}})
    calls = {"direct": ("C++", 20), "bound": ("C++", 23), "engine_run": ("C++", 60),
             "switchyard engine.quantize": ("Python", 700), "torch.neg(out=)": ("Python", 900),
             "onnxruntime session.run": ("Python", 4200)}
    return {"schema_version": 1, "date": "2025-01-01", "cases": cases,
            "dispatch": {n: {"from": f, "min_ns": t, "median_ns": t + 1} for n, (f, t) in calls.items()},
            "machine": {"cpu": "A processor of a test", "threads": 2, "load_average": 0.1,
                        "versions": {"numpy": "2.0", "torch": "2.9"}}}


def metrics():
    def summary(backend, sizes):
        total = sum(s["avg_time_ms"] * s["timed_count"] for s in sizes)
        return {"count": sum(s["timed_count"] for s in sizes), "total_time_ms": total,
                "avg_time_ms": total / 50, "p50_ms": 1, "p95_ms": 2, "sizes": sizes, "fallbacks": 0}

    def sizes(backend, flops):
        return [{"timed_count": 10, "bytes": 4.0 * n, "flops": flops * n, "threads": 2,
                 "avg_time_ms": time_ms(backend, n), "gb_per_s": 1, "gflop_per_s": 1, "bound": "memory",
                 "text": "memory-bound: 62 % of L2 bandwidth, 3 % of f32 peak"}
                for n in (1000, 4000, 16000, 64000, 256000)]

    operations = {op: {b: summary(b, sizes(b, flops)) for b in BACKENDS if b != skip}
                  for op, flops, skip in (("quantize", 5, "openblas"), ("kmeans.step", 64, ""),
                                          ("attention", 300, "opencl:0"))}
    total = {}
    for backends in operations.values():
        for name, m in backends.items():
            into = total.setdefault(name, {"count": 0, "total_time_ms": 0})
            into["count"] += m["count"]
            into["total_time_ms"] += m["total_time_ms"]
    run = {"version": "0.1.0", "threads": 2, "machine": info()["machine"],
           "recommendations": [
               {"what": "pin attention to openmp",
                "evidence": "measured here: attention.f32_f32.prefill@openmp has a median of 4.1 ms, "
                            "attention.f32_f32.prefill@avx512 of 7.9 ms", "expected_gain": 1.93,
                "command": "switchyard run CONFIG.yaml --set 'engine.pin={attention: openmp}'"},
               {"what": "move fewer bytes in quantize calls of about 1.0 MiB: narrower types or parts "
                        "that stay in a nearer cache", "evidence": "measured here: 41 % of all time, "
                "avx512 at 28.1 GB/s and 12.2 GFLOP/s, memory-bound: 71 % of memory bandwidth",
                "expected_gain": None, "command": None}],
           "jobs": [{"name": "weights of the whole model to four bits", "op": "quantize",
                     "backend": "avx512", "kernel": "quantize.f32_mlx_affine4.group@avx512",
                     "verified": "cached", "time_ms": 24.8, "shape": [30522, 384], "dtype": "f32",
                     "compared": [{"backend": "reference", "times_faster": 104.0, "equal": True}],
                     "bytes_before": 90728448, "bytes_after": 14176320,
                     "peak_memory_bytes": 211 << 20}]}
    return {"schema_version": 1, "total_operations": 850, "backend_summary": total,
            "operations": operations, "fallback_reasons": [{"reason": "not verified yet", "count": 3}],
            "exploration_ms": 4.0, "exploration_share": 0.013, "dispatch_ns": 41.0,
            "machine": "0123456789abcdef", "run": run}


def picture(width=96, height=64):
    """A small landscape: sky, hills, a sun; PNG bytes."""
    rows = b""
    for y in range(height):
        rows += b"\0"
        for x in range(width):
            hill = height * 0.62 + 9 * ((x * 7 % 96) / 96 - 0.5) ** 2 * 4
            sun = (x - 70) ** 2 + (y - 16) ** 2 < 60
            rows += bytes((255, 210, 90) if sun else (60 + y, 130 + y, 220 - y) if y < hill
                          else (40 + x // 3, 90 + y // 2, 50))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_all(folder):
    for name, doc in (("info", info()), ("bench", bench()), ("bench_after", bench(1.31)),
                      ("regret", regret()), ("peers", peers()), ("metrics", metrics())):
        (folder / f"{name}.json").write_text(json.dumps(doc))
    (folder / "picture.png").write_bytes(picture())

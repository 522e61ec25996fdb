# SPDX-License-Identifier: Apache-2.0
"""Quantisation against NumPy, torch, MLX, gguf-py and ggml, and against plain copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quantize_peers import (
    check_bytes,
    check_ggml,
    check_ternary,
    ggml,
    gguf_side,
    mlx_affine,
    numpy_ternary,
    numpy_ternary_into,
    torch_ternary,
)
from side_by_side import Case, Side

# Bytes of codes and scales for a value (scales by row or tensor are next to nothing).
BLOCKS = {
    "q4_0": 18 / 32,
    "q4_1": 20 / 32,
    "q5_0": 22 / 32,
    "q5_1": 24 / 32,
    "q8_0": 34 / 32,
    "tq1_0": 54 / 256,
    "tq2_0": 66 / 256,
    "q2_0": 18 / 64,
    "mxfp4_ggml": 17 / 32,
    "q4_k": 144 / 256,
    "q6_k": 210 / 256,
}
SEARCHED = ("q4_k", "q6_k")  # limited by arithmetic, not by memory
OTHERS = {
    "mxfp4": 17 / 32,
    **{f"mlx_affine{bits}": bits / 8 + 8 / 64 for bits in (2, 3, 4, 5, 6, 8)},
    "ternary": 1.0,
    "tern2": 2 / 8 + 8 / 64,
    "i2_s": 1 / 4,
    "int8": 1.0,
}
IN_L2 = 1 << 17  # values: 512 KiB as f32
LARGE = 100_000_000 // 1024 * 1024


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(1)

    def who() -> str:
        return last_run().kernel

    large = None if quick else rng.standard_normal(LARGE, np.float32)
    for label, n in (("1e5", 100_000), ("1e6", 1_000_000), ("1e7", 10_000_000), ("1e8", LARGE)):
        if quick and n > 1_000_000:
            continue
        w = rng.standard_normal(n, np.float32) if n < LARGE else large
        yield from ternary_cases(engine, who, label, w)
        del w
    for rows in (1024,) if quick else (1024, 10 * 1024):
        yield from mlx_cases(engine, who, rng.standard_normal((rows, 1024), np.float32))
    yield from l2_cases(who, rng.standard_normal((IN_L2 // 256, 256), np.float32), quick)
    yield from gguf_cases(engine, who, rng.standard_normal((1024, 1024), np.float32))
    if not quick:
        yield from memory_cases(engine, who, large.reshape(-1, 1024))


def ternary_cases(engine: Any, who: Callable, label: str, w: Any) -> Iterator[Case]:
    n = w.size
    size = dict(bytes=5.0 * n, flops=0.0, working_set=5.0 * n)
    note = "one thread; temporary given too"
    codes, scales = np.zeros(n, np.int8), np.zeros(1, np.float32)
    numpy_codes, temporary = np.zeros(n, np.int8), np.zeros(n, np.float32)
    yield Case(
        "quantize",
        f"ternary, {label} values, outputs given",
        [
            Side("switchyard", lambda: engine.quantize(w, "ternary", out=(codes, scales)), who=who),
            Side("numpy", lambda: numpy_ternary_into(w, numpy_codes, temporary), note),
            *torch_ternary(w, given=True),
        ],
        check_ternary(w),
        **size,
    )
    del codes, numpy_codes, temporary
    yield Case(
        "quantize",
        f"ternary, {label} values, fresh outputs",
        [
            Side("switchyard", lambda: engine.quantize(w, "ternary"), who=who),
            Side("numpy", lambda: numpy_ternary(w), "one thread"),
            *torch_ternary(w, given=False),
        ],
        check_ternary(w),
        **size,
    )


def mlx_cases(engine: Any, who: Callable, w: Any) -> Iterator[Case]:
    peer = mlx_affine(w)
    if peer is None:
        return
    note = "CPU; its number of threads cannot be set"
    size = w.nbytes * (1 + OTHERS["mlx_affine4"] / 4)
    shape = f"{w.shape[0]} x {w.shape[1]}"
    common = dict(bytes=size, flops=0.0, working_set=size)

    def ours(out: Any = None) -> Any:
        q = engine.quantize(w, "mlx_affine4", group_size=64, out=out)
        return q.codes, q.scales, q.biases

    given = engine.quantize(w, "mlx_affine4", group_size=64)
    for kind, out in (("fresh outputs", None), ("outputs given", given)):
        yield Case(
            "quantize",
            f"mlx_affine4, {shape}, group 64, {kind}",
            [
                Side("switchyard", lambda out=out: ours(out), who=who),
                Side("mlx", peer.quantize, note + "; outputs are always fresh"),
            ],
            check_bytes,
            **common,
        )
    y = np.zeros_like(w)
    for kind, target in (("fresh output", None), ("output given", y)):
        yield Case(
            "quantize",
            f"mlx_affine4 dequantised, {shape}, group 64, {kind}",
            [
                Side(
                    "switchyard",
                    lambda target=target: (engine.dequantize(given, out=target),),
                    who=who,
                ),
                Side("mlx", peer.dequantize, note + "; outputs are always fresh"),
            ],
            check_bytes,
            **common,
        )


def l2_cases(who: Callable, w: Any, quick: bool) -> Iterator[Case]:
    """One thread against ggml's one thread, everything in the second-level cache."""
    peer = ggml()
    if peer is None:
        print("quantize: SWITCHYARD_GGML names no library of build_ggml.sh; ggml is left out")
        return
    import switchyard

    alone = switchyard.Engine(threads=1, cache_dir="")
    note = "its reference code in C, one thread"
    for name, each in BLOCKS.items():
        if quick and name not in ("q4_0", "tq2_0"):
            continue
        q = alone.quantize(w, name)
        blocks, y, theirs = np.zeros_like(q.blocks), np.zeros_like(w), np.zeros_like(w)
        size = w.nbytes + each * w.size
        common = dict(bytes=size, flops=0.0, working_set=size, time=0.4)
        yield Case(
            "quantize",
            f"{name}, {w.size} values in L2, one thread, outputs given",
            [
                Side("switchyard", lambda: (alone.quantize(w, name, out=q).blocks,), who=who),
                Side("ggml", lambda: (peer.quantize(w, name, out=blocks),), note),
            ],
            check_ggml(name),
            **common,
        )
        yield Case(
            "quantize",
            f"{name} dequantised, {w.size} values in L2, one thread, output given",
            [
                Side("switchyard", lambda: (alone.dequantize(q, out=y),), who=who),
                Side("ggml", lambda: (peer.dequantize(q.blocks, name, out=theirs),), note),
            ],
            check_ggml(name),
            **common,
        )


def gguf_cases(engine: Any, who: Callable, w: Any) -> Iterator[Case]:
    """gguf-py, which many converters call."""
    for name in ("q4_0", "q8_0", "tq2_0"):
        others = gguf_side(name, w)
        if not others:
            return
        yield Case(
            "quantize",
            f"{name}, 1024 x 1024, fresh outputs",
            [Side("switchyard", lambda: (engine.quantize(w, name).blocks,), who=who), *others],
            check_bytes,
            bytes=w.nbytes + w.size * BLOCKS[name],
            flops=0.0,
            working_set=w.nbytes + w.size * BLOCKS[name],
            time=0.4,
        )


def memory_cases(engine: Any, who: Callable, w: Any) -> Iterator[Case]:
    """Formats that memory limits, at 1e8 values, beside copies of as many bytes."""
    y = np.zeros_like(w)
    for name, each in {**BLOCKS, **OTHERS}.items():
        if name in SEARCHED:
            continue
        options = {"granularity": "row"} if name == "int8" else {}
        q = engine.quantize(w, name, **options)
        size = w.nbytes + each * w.size
        common = dict(bytes=size, flops=0.0, working_set=size, time=0.3)
        label = f"{name}{' by row' if options else ''}"
        yield Case(
            "quantize",
            f"{label}, 1e8 values, outputs given",
            [
                Side(
                    "switchyard",
                    lambda: engine.quantize(w, name, out=q, **options),
                    "no peer: the copy is the measure",
                    who=who,
                )
            ],
            check_bytes,
            **common,
        )
        yield Case(
            "quantize",
            f"{label} dequantised, 1e8 values, output given",
            [
                Side(
                    "switchyard",
                    lambda: engine.dequantize(q, out=y),
                    "no peer: the copy is the measure",
                    who=who,
                )
            ],
            check_bytes,
            **common,
        )
        del q

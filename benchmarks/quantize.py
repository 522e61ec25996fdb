# SPDX-License-Identifier: Apache-2.0
"""Quantisation against NumPy, MLX, gguf-py and ggml."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side import Case, Disagreement, Side


def numpy_ternary(w: Any) -> tuple[Any, Any]:
    m = max(np.abs(w).mean(), 1e-5)
    return np.clip(np.rint(w * (1 / m)), -1, 1).astype(np.int8), m


def numpy_ternary_into(w: Any, codes: Any, temporary: Any) -> tuple[Any, Any]:
    m = max(np.abs(w, out=temporary).mean(), 1e-5)
    np.multiply(w, 1 / m, out=temporary)
    np.rint(temporary, out=temporary)
    np.clip(temporary, -1, 1, out=temporary)
    np.copyto(codes, temporary, casting="unsafe")
    return codes, m


def check_ternary(w: Any):
    def check(ours: Any, theirs: Any) -> str:
        codes, m = theirs
        if abs(float(ours.scales[0]) - float(m)) > 1e-5 * float(m):
            raise Disagreement(f"scales {ours.scales[0]} and {m}")
        differ = np.flatnonzero((ours.codes != codes).ravel())
        # The order of the mean's sum decides its last bits, and those the values next to a half.
        away = np.abs(np.abs(w.ravel()[differ] / m) - 0.5)
        if differ.size and away.max() > 1e-5:
            raise Disagreement(f"{differ.size} codes differ, one {away.max():.1e} from a tie")
        return f"codes agree but for {differ.size} ties" if differ.size else "codes agree"

    return check


def check_bytes(ours: Any, theirs: Any) -> str:
    for mine, other in zip(ours, theirs, strict=True):
        other = np.asarray(other)
        if mine.tobytes() != other.tobytes():
            raise Disagreement(f"bytes differ ({mine.dtype} {mine.shape})")
    return "bytes agree"


def check_ggml(name: str):
    """Bytes; of ggml built with its own flags (products and sums contracted) nearly all of them."""

    def check(ours: Any, theirs: Any) -> str:
        mine, other = np.asarray(ours[0]).ravel(), np.asarray(theirs[0]).ravel()
        if mine.size != other.size:
            raise Disagreement(f"{mine.size} and {other.size} bytes")
        differ = float(np.mean(mine != other))
        if differ > 0.01:
            raise Disagreement(f"{100 * differ:.2f} % of the bytes of {name} differ")
        return "bytes agree" if differ == 0 else f"{100 * (1 - differ):.3f} % of the bytes agree"

    return check


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(1)

    def who() -> str:
        return last_run().kernel

    for label, n in (("1e6", 1_000_000), ("1e7", 10_000_000)):
        if quick and n > 1_000_000:
            continue
        w = rng.standard_normal(n, np.float32)
        codes, scales = np.zeros(n, np.int8), np.zeros(1, np.float32)
        numpy_codes, temporary = np.zeros(n, np.int8), np.zeros(n, np.float32)
        size = dict(bytes=5.0 * n, flops=0.0)
        yield Case(
            "quantize",
            f"ternary, {label} values, outputs given",
            [
                Side(
                    "switchyard",
                    lambda: engine.quantize(w, "ternary", out=(codes, scales)),
                    who=who,
                ),
                Side(
                    "numpy",
                    lambda: numpy_ternary_into(w, numpy_codes, temporary),
                    "one thread; temporary given too",
                ),
            ],
            check_ternary(w),
            working_set=5.0 * n,
            **size,
        )
        yield Case(
            "quantize",
            f"ternary, {label} values, fresh outputs",
            [
                Side("switchyard", lambda: engine.quantize(w, "ternary"), who=who),
                Side("numpy", lambda: numpy_ternary(w), "one thread"),
            ],
            check_ternary(w),
            working_set=5.0 * n,
            **size,
        )

    w = rng.standard_normal((1024, 1024), np.float32)
    yield from mlx_cases(engine, who, w)
    yield from gguf_cases(engine, who, w)


def mlx_cases(engine: Any, who: Any, w: Any) -> Iterator[Case]:
    try:
        import mlx.core as mx
    except ImportError:
        print("quantize: mlx is not installed; its cases are left out")
        return
    mx.set_default_device(mx.cpu)
    x = mx.array(w)
    mx.eval(x)

    def theirs() -> Any:
        arrays = mx.quantize(x, group_size=64, bits=4)
        mx.eval(*arrays)
        return arrays

    def ours() -> Any:
        q = engine.quantize(w, "mlx_affine4", group_size=64)
        return q.codes, q.scales, q.biases

    yield Case(
        "quantize",
        "mlx_affine4, 1024 x 1024, group 64, fresh outputs",
        [
            Side("switchyard", ours, who=who),
            Side("mlx", theirs, "CPU; its number of threads cannot be set"),
        ],
        check_bytes,
        bytes=w.nbytes * (1 + 0.125 + 8 / 256),
        flops=0.0,
        working_set=w.nbytes * 1.16,
    )


def gguf_side(name: str, w: Any) -> list[Side]:
    """gguf-py quantises the simple blocks only."""
    try:
        import gguf
    except ImportError:
        print("quantize: gguf is not installed; left out")
        return []
    kind = gguf.GGMLQuantizationType[name.upper()]
    if name in ("q4_k", "q6_k"):
        return []
    return [
        Side(
            "gguf-py",
            lambda: (gguf.quants.quantize(w, kind),),
            "NumPy code, one thread",
        )
    ]


def ggml_side(name: str, w: Any) -> list[Side]:
    """ggml's C code, where SWITCHYARD_GGML names a library of benchmarks/build_ggml.sh."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "peers"))
    from ggml import Ggml

    ggml = Ggml.from_environment("SWITCHYARD_GGML")
    if ggml is None:
        return []
    return [Side("ggml", lambda: (ggml.quantize(w, name),), "its reference quantiser in C, one thread")]


def gguf_cases(engine: Any, who: Any, w: Any) -> Iterator[Case]:
    if "SWITCHYARD_GGML" not in os.environ:
        print("quantize: SWITCHYARD_GGML names no library of build_ggml.sh; ggml is left out")
    sizes = {"q4_0": 18 / 32, "q8_0": 34 / 32, "tq2_0": 66 / 256, "q4_k": 144 / 256, "q6_k": 210 / 256}
    for name, size in sizes.items():
        others = gguf_side(name, w) + ggml_side(name, w)
        if not others:
            continue
        yield Case(
            "quantize",
            f"{name}, 1024 x 1024, fresh outputs",
            [
                Side(
                    "switchyard",
                    lambda name=name: (engine.quantize(w, name).blocks,),
                    who=who,
                ),
                *others,
            ],
            check_ggml(name),
            bytes=w.nbytes + w.size * size,
            flops=0.0,
            working_set=w.nbytes + w.size * size,
        )

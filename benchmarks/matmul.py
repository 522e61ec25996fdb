# SPDX-License-Identifier: Apache-2.0
"""Matrix products against OpenBLAS (NumPy's), torch and MLX; quantised weights at batch 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from side_by_side import Case, Disagreement, Side

# rows of x, outputs, inputs
PLAIN = ((512, 512, 512), (1024, 1024, 1024), (1, 4096, 4096))
QUANTISED = ("q4_0", "q8_0", "tq2_0", "tq1_0", "mlx_affine4", "mlx_affine8")
MANY = (64, 4096, 4096)  # a prompt's worth of rows


def within(bound: Any) -> Callable[[Any, Any], str]:
    def check(ours: Any, theirs: Any) -> str:
        gap = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
        if not (gap <= bound).all():
            raise Disagreement(f"results differ by up to {gap.max():.1e}")
        return f"results within {gap.max():.0e}"

    return check


def plain(engine: Any, last_run: Any, torch: Any, m: int, n: int, k: int) -> Case:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)
    turned = np.ascontiguousarray(w.T)
    sides = [
        Side("switchyard", lambda: engine.matmul(x, w, transpose=True), who=lambda: last_run().kernel),
        Side("numpy", lambda: x @ turned, "its OpenBLAS"),
    ]
    if torch is not None:
        tx, tw = torch.from_numpy(x), torch.from_numpy(w)
        sides.append(Side("torch", lambda: torch.nn.functional.linear(tx, tw).numpy()))
    size = 4.0 * (x.size + w.size + m * n)
    return Case(
        "matmul",
        f"f32 {m} x {n} x {k}",
        sides,
        within(1e-6 * k),
        bytes=size,
        flops=2.0 * m * n * k,
        working_set=size,
    )


def plain_bf16(engine: Any, last_run: Any, torch: Any, m: int, n: int, k: int) -> Case:
    rng = np.random.default_rng(1)
    x, w = (
        torch.from_numpy(rng.standard_normal(shape, np.float32)).bfloat16() for shape in ((m, k), (n, k))
    )
    size = 2.0 * (m * k + n * k + m * n)

    def check(ours: Any, theirs: Any) -> str:  # both are rounded to bf16 at the end
        largest = theirs.float().abs().max().item()
        return within(2.0**-8 * largest)(ours.float().numpy(), theirs.float().numpy())

    return Case(
        "matmul",
        f"bf16 {m} x {n} x {k}",
        [
            Side("switchyard", lambda: engine.matmul(x, w, transpose=True), who=lambda: last_run().kernel),
            Side("torch", lambda: torch.nn.functional.linear(x, w)),
        ],
        check,
        bytes=size,
        flops=2.0 * m * n * k,
        working_set=size,
    )


def mlx_side(q: Any, x: np.ndarray) -> Side | None:
    """MLX's own product of the same codes."""
    try:
        import mlx.core as mx
    except ImportError:
        return None
    arrays = [mx.array(a) for a in (q.codes, q.scales, q.biases)]
    mx_x = mx.array(x)
    bits = int(q.format[-1])

    def call() -> np.ndarray:
        return np.array(
            mx.quantized_matmul(
                mx_x, *arrays, transpose=True, group_size=q.group_size, bits=bits, stream=mx.cpu
            )
        )

    return Side("mlx", call, "quantized_matmul on the CPU")


def quantised(engine: Any, last_run: Any, torch: Any, format: str, m: int, n: int, k: int) -> Case:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)
    q = engine.quantize(w, format)
    wide = engine.dequantize(q)
    sides = [Side("switchyard", lambda: engine.matmul(x, q), who=lambda: last_run().kernel)]
    if format.startswith("mlx") and (side := mlx_side(q, x)) is not None:
        sides.append(side)
    if torch is not None:
        tx, tw = torch.from_numpy(x), torch.from_numpy(wide)
        half_x, half_w = tx.bfloat16(), tw.bfloat16()
        sides.append(Side("torch f32", lambda: torch.nn.functional.linear(tx, tw).numpy(),
                          "the weights dequantised beforehand"))
        sides.append(Side("torch bf16",
                          lambda: torch.nn.functional.linear(half_x, half_w).float().numpy(),
                          "likewise, 16 bits a weight"))
    # x in int8 errs by half a step of its block, torch's bf16 by 2^-8 of each product and result.
    size = np.abs(wide).sum(axis=1)
    bound = np.abs(x).max() * size / 254 + 2.0**-6 * np.sqrt(np.square(wide).sum(axis=1)) * 6
    bytes_ = float(q.nbytes + 4 * (x.size + m * n))
    return Case(
        "matmul",
        f"{format} {m} x {n} x {k}",
        sides,
        within(bound),
        bytes=bytes_,
        flops=2.0 * m * n * k,
        working_set=bytes_,
    )


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        import os

        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    except ImportError:
        print("matmul: torch is not installed and left out")
        torch = None
    for m, n, k in PLAIN:
        if not quick or m * n * k <= 512**3:
            yield plain(engine, last_run, torch, m, n, k)
            if torch is not None:
                yield plain_bf16(engine, last_run, torch, m, n, k)
    for format in QUANTISED:
        yield quantised(engine, last_run, torch, format, 1, *((1024, 1024) if quick else MANY[1:]))
    if not quick:
        for format in ("q4_0", "tq2_0", "mlx_affine4"):
            yield quantised(engine, last_run, torch, format, *MANY)

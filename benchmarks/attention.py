# SPDX-License-Identifier: Apache-2.0
"""Attention against torch's scaled_dot_product_attention in its best form of the same work, on the
same torch tensors: prefill, masks, windows, chunks, decoding, in f32, bf16 and f16; plain f32 cases also
against ONNX Runtime, MLX and NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attention_peers import others
from side_by_side import Case, Disagreement, Side


@dataclass(frozen=True)
class Shape:
    name: str
    hq: int
    hkv: int
    lq: int
    lkv: int
    d: int = 128
    batch: int = 1
    causal: bool = True
    window: int = 0
    mask: bool = False  # the causal rule as a tensor, to both
    cold: bool = False  # keys and values go round many sets, out of the caches
    dtypes: tuple[str, ...] = field(default=("f32", "bf16", "f16"))
    quick: bool = False


SHAPES = (
    Shape("prefill causal 32:8, L 512, D 128", 32, 8, 512, 512, quick=True),
    Shape("prefill causal 32:8, L 1024, D 128", 32, 8, 1024, 1024),
    Shape("prefill causal 32:8, L 2048, D 128", 32, 8, 2048, 2048, dtypes=("f32", "bf16")),
    Shape("prefill causal 40:8, L 512, D 128", 40, 8, 512, 512, dtypes=("f32", "bf16")),
    Shape("prefill causal 40:8, L 1024, D 128", 40, 8, 1024, 1024, dtypes=("f32", "bf16")),
    Shape("the causal mask as a tensor 32:8, L 1024", 32, 8, 1024, 1024, mask=True),
    Shape("window 256 32:8, L 1024", 32, 8, 1024, 1024, window=256),
    Shape("MHA 24:24, L 512, D 64, causal", 24, 24, 512, 512, 64),
    Shape("chunk of 64 over 2,048 keys 32:8", 32, 8, 64, 2048),
    Shape("decode 32:8, 4096 keys, D 128", 32, 8, 1, 4096, quick=True),
    Shape("decode 32:8, 4096 keys, out of cache", 32, 8, 1, 4096, cold=True),
    Shape("decode batch 8 32:8, 2048 keys", 32, 8, 1, 2048, batch=8, dtypes=("f32", "bf16")),
    Shape("decode MQA 32:1, 8192 keys", 32, 1, 1, 8192),
    Shape("decode MQA 32:1, 8192 keys, out of cache", 32, 1, 1, 8192, cold=True),
)
# Standard normal inputs: far above rounding, far below any mistake.
BOUNDS = {"f32": 2e-5, "bf16": 3e-2, "f16": 4e-3}
SIZES = {"f32": 4, "bf16": 2, "f16": 2}
COLD_BYTES = 192 << 20  # of all sets together: more than any cache of one socket's share


def visible(shape: Shape, torch: Any) -> Any:
    """What queries see, bool [lq, lkv]."""
    at = torch.arange(shape.lq)[:, None] + shape.lkv - shape.lq
    j = torch.arange(shape.lkv)
    seen = j <= at
    return seen & (j > at - shape.window) if shape.window else seen


def make_case(engine: Any, last_run: Any, shape: Shape, dtype: str, torch: Any) -> Case:
    from torch.nn.functional import scaled_dot_product_attention

    kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    size = SIZES[dtype]
    q = torch.randn(shape.batch, shape.hq, shape.lq, shape.d).to(kind)
    per_set = 2 * shape.batch * shape.hkv * shape.lkv * shape.d * size
    sets = [
        tuple(torch.randn(shape.batch, shape.hkv, shape.lkv, shape.d).to(kind) for _ in range(2))
        for _ in range(max(2, COLD_BYTES // per_set) if shape.cold else 1)
    ]
    first = sets[0]
    seen = visible(shape, torch)
    mask = seen if shape.mask else None
    # torch's best form: its own causal rule where queries and keys are as many, nothing for one
    # query that sees all, else a mask.
    square = shape.lq == shape.lkv and not shape.mask and not shape.window
    theirs_mask = None if square or shape.lq == 1 else seen
    turn = {"ours": itertools.count(), "theirs": itertools.count()}

    def keys(side: str) -> tuple[Any, Any]:
        return sets[next(turn[side]) % len(sets)] if shape.cold else first

    def ours(pair: Any = None) -> Any:
        k, v = pair or keys("ours")
        return engine.attention(
            q, k, v, causal=shape.causal and not shape.mask, window=shape.window or None, mask=mask
        )

    def theirs(pair: Any = None) -> Any:
        k, v = pair or keys("theirs")
        with torch.no_grad():
            return scaled_dot_product_attention(
                q, k, v, attn_mask=theirs_mask, is_causal=square, enable_gqa=shape.hq != shape.hkv
            )

    def check(_: Any, other: Any) -> str:
        if shape.cold:
            other = theirs(first)
        other = torch.as_tensor(np.asarray(other)) if dtype == "f32" else other.float()
        gap = float((ours(first).float() - other).abs().max())
        if not gap <= BOUNDS[dtype]:
            raise Disagreement(f"outputs differ by {gap:.1e}")
        return f"outputs within {gap:.0e}"

    # What the other libraries have a word for.
    plain = dtype == "f32" and not shape.cold and (square or shape.lq == 1)
    moved = float(size * 2 * q.numel() + per_set)
    return Case(
        "attention",
        f"{shape.name}, {dtype}",
        [
            Side("switchyard", ours, who=lambda: last_run().kernel),
            Side("torch", theirs, "scaled_dot_product_attention, enable_gqa"),
            *(others(q, *first, square, shape.lq <= 512) if plain else []),
        ],
        check,
        bytes=moved,
        flops=4.0 * shape.d * shape.batch * shape.hq * float(seen.sum()),
        working_set=moved * len(sets),
    )


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        import torch
    except ImportError:
        print("attention: torch is not installed; its cases are left out")
        return
    import os

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(1)
    for shape in SHAPES:
        if quick and not shape.quick:
            continue
        for dtype in shape.dtypes[: 1 if quick else None]:
            yield make_case(engine, last_run, shape, dtype, torch)

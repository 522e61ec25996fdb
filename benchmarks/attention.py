# SPDX-License-Identifier: Apache-2.0
"""Attention against torch's scaled_dot_product_attention, on the same torch tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from side_by_side import Case, Disagreement, Side

# name, query heads, kv heads, queries, keys, head dim, causal
SHAPES = (
    ("prefill causal 32:8, L 512, D 128", 32, 8, 512, 512, 128, True),
    ("prefill causal 32:8, L 1024, D 128", 32, 8, 1024, 1024, 128, True),
    ("decode 32:8, 4096 keys, D 128", 32, 8, 1, 4096, 128, False),
)
BOUND = 2e-5  # f32, standard normal inputs: far above rounding, far below any mistake


def check(ours: Any, theirs: Any) -> str:
    gap = float((ours - theirs).abs().max())
    if not gap <= BOUND:
        raise Disagreement(f"outputs differ by {gap:.1e}")
    return f"outputs within {gap:.0e}"


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        import torch
        from torch.nn.functional import scaled_dot_product_attention
    except ImportError:
        print("attention: torch is not installed; its cases are left out")
        return
    import os

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(1)
    for name, hq, hkv, lq, lkv, d, causal in SHAPES:
        if quick and lq > 512:
            continue
        q = torch.randn(1, hq, lq, d)
        k, v = torch.randn(1, hkv, lkv, d), torch.randn(1, hkv, lkv, d)

        def ours(q: Any = q, k: Any = k, v: Any = v, causal: bool = causal) -> Any:
            return engine.attention(q, k, v, causal=causal)

        def theirs(q: Any = q, k: Any = k, v: Any = v, causal: bool = causal) -> Any:
            with torch.no_grad():
                return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

        pairs = lq * (lq + 1) / 2 if causal else lq * lkv
        size = 4.0 * (2 * q.numel() + k.numel() + v.numel())
        yield Case(
            "attention",
            f"{name}, f32",
            [
                Side("switchyard", ours, who=lambda: last_run().kernel),
                Side("torch", theirs, "scaled_dot_product_attention, enable_gqa"),
            ],
            check,
            bytes=size,
            flops=4.0 * d * hq * pairs,
            working_set=size,
        )

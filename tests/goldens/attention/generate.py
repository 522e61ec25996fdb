#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes attention.npz beside this file: small problems and their answers by PyTorch in f64.

    python3 tests/goldens/attention/generate.py

For each case NAME: NAME.q, NAME.k, NAME.v (f32, f16, or bf16 as its u16 bits), NAME.params f64
[causal (0 none, 1 top-left, 2 bottom-right), window_left, window_right, softcap, scale], NAME.mask
(bool or f32, some cases), NAME.sinks f32 (some cases), and the answers NAME.o and NAME.lse in f64.
Cases that torch's scaled_dot_product_attention can express are checked against it. `versions` holds
the versions used.
"""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

CASES = {
    # name: (b, hq, hkv, lq, lkv, d, dv, dtype), options
    "mha": ((1, 2, 2, 9, 13, 16, 16, "f32"), {}),
    "gqa_causal": ((2, 3, 1, 17, 17, 12, 12, "f32"), {"causal": 2}),
    "mqa_top_left": ((1, 4, 1, 7, 12, 8, 8, "f32"), {"causal": 1}),
    "bottom_right": ((1, 4, 2, 12, 30, 8, 8, "f32"), {"causal": 2}),
    "more_queries": ((1, 2, 1, 19, 6, 8, 8, "f32"), {"causal": 2}),
    "wide_values": ((1, 2, 2, 5, 17, 12, 31, "f32"), {}),
    "window": ((1, 2, 1, 40, 40, 8, 8, "f32"), {"causal": 2, "window": (6, -1)}),
    "window_both": ((1, 2, 2, 25, 25, 8, 8, "f32"), {"window": (4, 3)}),
    "bool_mask": ((1, 4, 2, 18, 29, 8, 8, "f32"), {"mask": "bool"}),
    "additive_mask": ((1, 4, 2, 18, 29, 8, 8, "f32"), {"mask": "additive", "causal": 2}),
    "softcap": ((1, 4, 2, 14, 20, 8, 8, "f32"), {"softcap": 3.0, "causal": 2}),
    "sinks": ((1, 6, 3, 14, 20, 8, 8, "f32"), {"sinks": True, "window": (5, -1), "causal": 2}),
    "scale": ((1, 2, 1, 6, 11, 16, 16, "f32"), {"scale": 0.7}),
    "decode": ((1, 8, 2, 1, 300, 8, 8, "f32"), {"causal": 2}),
    "f16": ((1, 4, 2, 17, 33, 16, 16, "f16"), {"causal": 2}),
    "bf16": ((1, 4, 2, 17, 33, 16, 16, "bf16"), {"causal": 2}),
    "f16_decode": ((1, 8, 2, 1, 290, 8, 8, "f16"), {}),
    "bf16_mask": ((1, 4, 4, 10, 33, 16, 16, "bf16"), {"mask": "bool", "softcap": 20.0}),
}
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def visible(lq, lkv, causal, window):
    offset = 0 if causal == 1 else lkv - lq
    i = torch.arange(lq)[:, None] + offset
    j = torch.arange(lkv)[None, :]
    seen = torch.ones(lq, lkv, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window[0] >= 0:
        seen &= j >= i - window[0]
    if window[1] >= 0:
        seen &= j <= i + window[1]
    return seen


def attend(q, k, v, seen, bias, scale, softcap, sinks):
    """o and lse in f64; rows that see nothing are 0 and -inf."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    t = (q @ k.transpose(-1, -2)) * scale
    if softcap:
        t = softcap * torch.tanh(t / softcap)
    if bias is not None:
        t = t + bias
    t = t.masked_fill(~seen, -math.inf)
    columns = t
    if sinks is not None:
        columns = torch.cat([t, sinks[None, :, None, None].expand(*t.shape[:3], 1)], -1)
    lse = torch.logsumexp(columns, -1)
    p = torch.exp(t - lse[..., None]).masked_fill(torch.isneginf(t), 0.0)
    return p @ v, lse


def stored(x):
    return x.view(torch.int16).numpy().view("u2") if x.dtype == torch.bfloat16 else x.numpy()


def main():
    out = {"versions": np.array(f"numpy {np.__version__}, torch {torch.__version__}")}
    for seed, (name, (sizes, options)) in enumerate(CASES.items()):
        b, hq, hkv, lq, lkv, d, dv, dtype = sizes
        rng = torch.Generator().manual_seed(seed)
        shapes = {"q": (b, hq, lq, d), "k": (b, hkv, lkv, d), "v": (b, hkv, lkv, dv)}
        x = {n: torch.randn(s, generator=rng).to(TYPES[dtype]) for n, s in shapes.items()}
        causal, window = options.get("causal", 0), options.get("window", (-1, -1))
        scale = float(np.float32(options.get("scale", 1 / math.sqrt(d))))
        softcap = options.get("softcap", 0.0)
        seen, bias = visible(lq, lkv, causal, window), None
        if options.get("mask") == "bool":
            mask = torch.rand(1, 1, lq, lkv, generator=rng) < 0.7
            mask[:, :, 3] = False  # a row that sees nothing
            seen = seen & mask
            out[f"{name}.mask"] = mask.numpy()
        elif options.get("mask") == "additive":
            bias = torch.randn(1, hq, lq, lkv, generator=rng)
            bias[torch.rand(bias.shape, generator=rng) < 0.2] = -math.inf
            out[f"{name}.mask"] = bias.numpy()
            bias = bias.double()
        sinks = torch.randn(hq, generator=rng) if options.get("sinks") else None
        if sinks is not None:
            out[f"{name}.sinks"] = sinks.numpy()
            sinks = sinks.double()
        q, k, v = (x[n].double() for n in "qkv")
        o, lse = attend(q, k, v, seen, bias, scale, softcap, sinks)
        if not softcap and sinks is None:
            full = torch.zeros(lq, lkv, dtype=torch.float64).masked_fill(~seen, -math.inf)
            full = full if bias is None else full + bias
            theirs = F.scaled_dot_product_attention(
                q, k, v, attn_mask=full, scale=scale, enable_gqa=hq != hkv
            )
            rows = torch.isfinite(lse)
            assert torch.allclose(theirs[rows], o[rows], rtol=1e-12, atol=1e-12), name
        for n in "qkv":
            out[f"{name}.{n}"] = stored(x[n])
        out[f"{name}.params"] = np.array([causal, *window, softcap, scale])
        out[f"{name}.o"], out[f"{name}.lse"] = o.numpy(), lse.numpy()
    np.savez_compressed(pathlib.Path(__file__).with_name("attention.npz"), **out)


if __name__ == "__main__":
    main()

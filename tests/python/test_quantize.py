# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

import switchyard as sy


def ternary(w):
    m = max(np.abs(w).mean(dtype=np.float64).astype(np.float32), np.float32(1e-5))
    return np.clip(np.rint(w * (np.float32(1) / m)), -1, 1).astype(np.int8), m


def test_ternary_is_what_numpy_says(engine, rng):
    w = rng.standard_normal((37, 129), np.float32)
    q = engine.quantize(w, "ternary")
    codes, m = ternary(w)
    assert q.codes.dtype == np.int8 and q.codes.shape == w.shape
    assert (q.codes == codes).mean() > 0.9999  # the mean's last bit is the order of its sum
    assert q.scales.shape == (1,) and abs(q.scales[0] - m) <= 1e-6 * m
    assert q.blocks is None and q.biases is None
    assert (q.format, q.shape, q.dtype, q.granularity) == ("ternary", w.shape, "f32", "tensor")


@pytest.mark.parametrize(
    ("granularity", "group", "shape"), [("row", None, (6,)), ("group", 64, (6, 2))]
)
def test_ternary_granularities(engine, rng, granularity, group, shape):
    w = rng.standard_normal((6, 128), np.float32)
    q = engine.quantize(w, "ternary", granularity=granularity, group_size=group)
    assert q.scales.shape == shape
    parts = w.reshape(*shape, -1)
    means = np.abs(parts).mean(axis=-1, dtype=np.float64)
    np.testing.assert_allclose(q.scales, means, rtol=1e-6)
    scaled = q.codes.reshape(*shape, -1) * q.scales[..., None]
    np.testing.assert_array_equal(engine.dequantize(q), scaled.reshape(w.shape))


@pytest.mark.parametrize(
    ("format", "block", "size"), [("q4_0", 32, 18), ("q8_0", 32, 34), ("TQ2_0", 256, 66), ("Q6_K", 256, 210), ("mxfp4_ggml", 32, 17)]
)
def test_block_formats(engine, rng, format, block, size):
    x = rng.standard_normal((3, 2 * block), np.float32)
    q = engine.quantize(x, format)
    assert q.blocks.dtype == np.uint8 and q.blocks.shape == (3, 2 * size)
    assert q.codes is None and q.scales is None and q.biases is None
    assert q.format == format.lower()
    assert q.nbytes == q.blocks.nbytes
    y = engine.dequantize(q)
    assert y.shape == x.shape and y.dtype == np.float32
    again = engine.quantize(y, format)
    np.testing.assert_array_equal(engine.dequantize(again), y)


def test_q8_0_bytes(engine):
    x = np.zeros(32, np.float32)
    x[:3] = 1, -2, 0.5
    block = engine.quantize(x, "q8_0").blocks
    assert block[:2].tobytes() == bytes.fromhex("0824")
    assert block[2:].view(np.int8).tolist() == [64, -127, 32] + [0] * 29


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mlx_affine(engine, rng, bits, group, dtype):
    x = rng.standard_normal((5, 256)).astype(dtype)
    q = engine.quantize(x, f"mlx_affine{bits}", group_size=group)
    assert q.codes.dtype == np.uint32 and q.codes.shape == (5, 256 * bits // 32)
    assert q.scales.dtype == q.biases.dtype == dtype
    assert q.scales.shape == q.biases.shape == (5, 256 // group)
    codes = q.codes.view(np.uint8)
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    parts = codes.reshape(5, 256 // group, group).astype(dtype)
    want = parts * q.scales[..., None] + q.biases[..., None]
    y = engine.dequantize(q)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, want.reshape(x.shape))
    span = np.abs(x.astype(np.float64)).max() * 2 / (2**bits - 1)
    assert np.abs(y.astype(np.float64) - x).max() <= span


def test_default_group_size(engine, rng):
    q = engine.quantize(rng.standard_normal((2, 128), np.float32), "mlx_affine4")
    assert q.group_size == 64 and q.scales.shape == (2, 2)


def test_strided_rows_equal_contiguous_ones(engine, rng):
    base = rng.standard_normal((12, 3, 512), np.float32)
    view = base[::-2, :, 128:384]
    for format in ("q4_0", "tq2_0", "ternary", "mlx_affine4"):
        a = engine.quantize(view, format)
        b = engine.quantize(np.ascontiguousarray(view), format)
        for name in ("blocks", "codes", "scales", "biases"):
            if getattr(a, name) is not None:
                assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


def test_outputs_given(engine, rng):
    x = rng.standard_normal((8, 64), np.float32)
    first = engine.quantize(x, "mlx_affine4")
    codes, scales, biases = (np.empty_like(a) for a in (first.codes, first.scales, first.biases))
    q = engine.quantize(x, "mlx_affine4", out=(codes, scales, biases))
    assert q.codes is codes and q.scales is scales and q.biases is biases
    assert codes.tobytes() == first.codes.tobytes()
    assert biases.tobytes() == first.biases.tobytes()

    blocks = np.zeros((8, 2 * 34), np.uint8)
    q = engine.quantize(x, "q8_0", out=blocks)
    assert q.blocks is blocks and blocks.any()
    engine.quantize(-x, "q8_0", out=q)
    assert (blocks == engine.quantize(-x, "q8_0").blocks).all()

    y = np.zeros((8, 128), np.float32)[:, :64]
    assert engine.dequantize(q, out=y) is y
    np.testing.assert_array_equal(y, engine.dequantize(q))
    assert not y.base[:, 64:].any()


def test_dequantize_rounds_to_outs_dtype(engine, rng):
    q = engine.quantize(rng.standard_normal((2, 64), np.float32), "q4_0")
    half = np.empty((2, 64), np.float16)
    engine.dequantize(q, out=half)
    np.testing.assert_array_equal(half, engine.dequantize(q).astype(np.float16))


def test_wrong_outputs_are_refused(engine, rng):
    x = rng.standard_normal((8, 64), np.float32)
    for out in (
        np.zeros((8, 67), np.uint8),
        np.zeros((8, 68), np.int8),
        np.zeros((8, 136), np.uint8)[:, ::2],
    ):
        before = out.copy()
        with pytest.raises(sy.InputError) as caught:
            engine.quantize(x, "q8_0", out=out)
        assert caught.value.code in {"shape", "dtype"}
        assert (out == before).all()
    with pytest.raises(sy.InputError):
        engine.quantize(x, "q8_0", out=())


@pytest.mark.parametrize(
    ("shape", "format", "code"),
    [
        ((4, 33), "q8_0", "shape"),
        ((4, 128), "tq2_0", "shape"),
        ((4, 32), "mlx_affine4", "shape"),
        ((4, 32), "q9_9", "usage"),
        ((), "q8_0", "shape"),
    ],
)
def test_wrong_shapes_and_formats(engine, shape, format, code):
    with pytest.raises(sy.InputError) as caught:
        engine.quantize(np.zeros(shape, np.float32), format)
    assert caught.value.code == code


def test_options_out_of_range(engine):
    x = np.ones((2, 128), np.float32)
    for arguments in (
        dict(format="mlx_affine4", group_size=48),
        dict(format="ternary", granularity="column"),
        dict(format="mlx_affine4", group_size=64.0),
        dict(format=7),
    ):
        with pytest.raises(sy.InputError) as caught:
            engine.quantize(x, **arguments)
        assert caught.value.code in {"usage", "invalid_argument"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", ["q4_0", "q8_0", "tq2_0", "ternary", "mlx_affine4"])
def test_nonfinite_values_are_named(engine, rng, bad, format):
    x = rng.standard_normal((4, 512), np.float32)
    x[2, 300] = bad
    x[3, 10] = np.nan
    with pytest.raises(sy.InputError) as caught:
        engine.quantize(x, format)
    assert caught.value.code == "nonfinite"
    assert caught.value.index == 2 * 512 + 300


def test_scale_overflow(engine):
    x = np.zeros((2, 32), np.float32)
    x[1, 5] = 3e38
    with pytest.raises(sy.InputError) as caught:
        engine.quantize(x, "q8_0")
    assert caught.value.code == "overflow"


def test_dequantize_of_stored_arrays(engine, rng):
    x = rng.standard_normal((4, 64), np.float32)
    q = engine.quantize(x, "mlx_affine8", group_size=32)
    stored = sy.Quantized(
        "MLX_affine8",
        [4, 64],
        codes=q.codes.copy(),
        scales=q.scales.copy(),
        biases=q.biases.copy(),
        group_size=32,
    )
    np.testing.assert_array_equal(engine.dequantize(stored), engine.dequantize(q))
    stored.scales = stored.scales[:, :1].copy()
    with pytest.raises(sy.InputError) as caught:
        engine.dequantize(stored)
    assert caught.value.code == "shape"
    stored.scales = None
    with pytest.raises(sy.InputError):
        engine.dequantize(stored)
    with pytest.raises(sy.InputError):
        engine.dequantize(q.codes)


def test_bf16_needs_somewhere_to_go(engine):
    q = sy.Quantized("q8_0", (32,), blocks=np.zeros(34, np.uint8), dtype="bf16")
    with pytest.raises(sy.InputError) as caught:
        engine.dequantize(q)
    assert caught.value.code == "dtype" and "out=" in str(caught.value)
    out = np.ones(32, np.float32)
    assert not engine.dequantize(q, out=out).any()


def test_empty_arrays(engine):
    q = engine.quantize(np.zeros((0, 64), np.float32), "q4_0")
    assert q.blocks.shape == (0, 36)
    assert engine.dequantize(q).shape == (0, 64)


def test_options_of_the_newer_formats(engine, rng):
    x = rng.standard_normal((4, 256), np.float32)
    q = engine.quantize(x, "mxfp4")
    assert q.codes.dtype == np.uint32 and q.scales.dtype == np.uint8 and q.biases is None
    assert (engine.quantize(x, "mxfp4", scale="floor").scales != q.scales).any()
    assert engine.quantize(x, "i2_s").blocks.shape == (4 * 256 // 4 + 32,)
    t = engine.quantize(x, "tern2", granularity="row")
    np.testing.assert_array_equal(t.biases, -t.scales)
    mean = engine.quantize(x, "tq2_0", scale="absmean").blocks
    assert (mean != engine.quantize(x, "tq2_0").blocks).any()
    one = engine.quantize(x, "int8", granularity="row", rounding="stochastic", seed=1)
    two = engine.quantize(x, "int8", granularity="row", rounding="stochastic", seed=2)
    again = engine.quantize(x, "int8", granularity="row", rounding="stochastic", seed=1)
    assert (one.codes != two.codes).any()
    np.testing.assert_array_equal(one.codes, again.codes)
    assert np.abs(engine.dequantize(one) - x).max() <= one.scales.max()
    x[2, 3] = np.nan
    assert engine.quantize(x, "q4_1", nonfinite="saturate").blocks.shape == (4, 160)
    with pytest.raises(sy.InputError):
        engine.quantize(x, "q4_1", rounding="stochastic")

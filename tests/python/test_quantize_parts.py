# SPDX-License-Identifier: Apache-2.0
"""Rows and columns of quantised arrays, and round trips, against the whole calls."""

import numpy as np
import pytest

import switchyard as sy

# Format, options, and what columns must be multiples of.
CHOICES = [
    *[(name, {}, 32) for name in ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "mxfp4", "mxfp4_ggml")],
    *[(name, {}, 256) for name in ("q4_k", "q6_k", "tq1_0", "tq2_0")],
    ("tq2_0", {"scale": "absmean"}, 256),
    ("q2_0", {}, 64),
    *[(f"mlx_affine{b}", {"group_size": g}, g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)],
    ("ternary", {}, 1),
    ("ternary", {"granularity": "row"}, 1),
    ("ternary", {"granularity": "group", "group_size": 64}, 64),
    ("tern2", {}, 64),
    ("tern2", {"granularity": "row"}, 64),
    ("tern2", {"granularity": "group", "group_size": 32}, 32),
    ("i2_s", {}, 128),
    ("int8", {}, 1),
    ("int8", {"granularity": "row"}, 1),
    ("int8", {"granularity": "channel"}, 1),
    ("int8", {"granularity": "row", "rounding": "stochastic", "seed": 5}, 1),
]
IDS = [" ".join([f, *map(str, o.values())]) for f, o, _ in CHOICES]
SHAPE = (3, 7, 512)


@pytest.fixture(scope="module")
def engine():
    return sy.Engine(cache_dir="", policy="thresholds")


@pytest.fixture(scope="module")
def values():
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    return x * np.float32(2.0) ** np.arange(-12, 9, dtype=np.float32).reshape(3, 7, 1)


def same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


@pytest.mark.parametrize("format, options, unit", CHOICES, ids=IDS)
def test_parts_equal_the_whole(engine, values, format, options, unit):
    q = engine.quantize(values, format, **options)
    whole = engine.dequantize(q).reshape(21, 512)
    same(engine.dequantize(q, rows=slice(4, 9)), whole[4:9])
    same(engine.dequantize(q, rows=slice(-2, None)), whole[-2:])
    same(engine.dequantize(q, rows=5), whole[5])
    same(engine.dequantize(q, rows=-1), whole[-1])
    same(engine.dequantize(q, rows=slice(6, 6)), whole[6:6])
    listed = np.array([[20, 0, 3], [3, -1, 11]])
    same(engine.dequantize(q, rows=listed), whole[listed])
    same(engine.dequantize(q, rows=[]), whole[:0])
    columns = slice(unit, 512 - unit) if unit < 256 else slice(256, 512)
    same(engine.dequantize(q, columns=columns), whole[:, columns])
    same(engine.dequantize(q, rows=[9, 2], columns=columns), whole[[9, 2], columns])
    out = np.zeros((5, 600), np.float16)
    given = out[:, :512]
    assert engine.dequantize(q, rows=slice(4, 9), out=given) is given
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(given, whole[4:9].astype(np.float16))
    assert not out[:, 512:].any()


@pytest.mark.parametrize("format, options, unit", CHOICES, ids=IDS)
def test_only_the_parts_own_codes_are_read(engine, values, format, options, unit):
    """Rows of garbage around the part change nothing."""
    q = engine.quantize(values, format, **options)
    want = engine.dequantize(q, rows=slice(7, 14))
    data = (q.blocks if q.blocks is not None else q.codes).view(np.uint8)
    if format == "i2_s":
        rows = data[:-32].reshape(21, -1)
    else:
        rows = data.reshape(21, -1)
    rows[:7] = 0x7E
    rows[14:] = 0x7E
    same(engine.dequantize(q, rows=slice(7, 14)), want)
    same(engine.dequantize(q, rows=list(range(7, 14))), want)


@pytest.mark.parametrize("format, options, unit", [c for c in CHOICES if c[2] > 1])
def test_columns_within_blocks_are_errors(engine, values, format, options, unit):
    q = engine.quantize(values, format, **options)
    with pytest.raises(sy.InputError, match=rf"within a block of {unit} values.* 0 and {unit}"):
        engine.dequantize(q, columns=slice(unit // 2, 512))
    with pytest.raises(sy.InputError, match=f"nearest bounds are {512 - unit} and 512"):
        engine.dequantize(q, columns=slice(0, 511))


def test_wrong_parts_are_errors(engine, values):
    q = engine.quantize(values, "q4_0")
    for rows in (21, -22, [0, 21], [-22]):
        with pytest.raises(sy.InputError, match="not within the tensor's 21") as error:
            engine.dequantize(q, rows=rows)
        assert error.value.code == "shape"
    for rows in (slice(0, 4, 2), 1.5, [0.5], "a"):
        with pytest.raises(sy.InputError, match="rows must be"):
            engine.dequantize(q, rows=rows)
    with pytest.raises(sy.InputError, match="columns must be a slice"):
        engine.dequantize(q, columns=slice(0, 64, 2))
    with pytest.raises(sy.InputError, match=r"has shape \(?\[?5, 512"):
        engine.dequantize(q, rows=slice(0, 4), out=np.zeros((5, 512), np.float32))
    broken = sy.Quantized("q4_0", (22, 512), blocks=q.blocks)
    with pytest.raises(sy.InputError, match="codes must be contiguous u8 of shape"):
        engine.dequantize(broken, rows=0)


def both(engine, x, format, **options):
    return engine.dequantize(engine.quantize(x, format, **options))


HALVES = ("q4_0", "mlx_affine4", "mxfp4", "tern2", "int8")


@pytest.mark.parametrize(
    "format, options, dtype",
    [(f, o, "float32") for f, o, _ in CHOICES]
    + [(f, o, "float16") for f, o, _ in CHOICES if f in HALVES],
)
def test_round_trips_equal_the_two_calls(engine, format, options, dtype):
    """Also of strided values, and into other types."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 181, 512), np.float32).astype(dtype)
    want = both(engine, x, format, **options)
    same(engine.round_trip(x, format, **options), want)
    wide = np.zeros((3, 181, 600), dtype)
    wide[..., :512] = x
    same(engine.round_trip(wide[..., :512], format, **options), want)
    odd = wide[:, ::-1, :512]
    same(engine.round_trip(odd, format, **options), both(engine, odd, format, **options))
    out = np.zeros(x.shape, np.float32)
    assert engine.round_trip(x, format, **options, out=out) is out
    q = engine.quantize(x, format, **options)
    same(out, engine.dequantize(q, out=np.zeros(x.shape, np.float32)))
    engine.round_trip(x, format, **options, out=x)
    same(x, want)


@pytest.mark.parametrize(
    "format, options",
    [
        ("q4_0", {}),
        ("q8_0", {}),
        ("mxfp4", {}),
        ("mlx_affine3", {"group_size": 32}),
        ("ternary", {"granularity": "group", "group_size": 64}),
        ("tern2", {"granularity": "row"}),
        ("int8", {"granularity": "row"}),
        ("int8", {"granularity": "channel"}),
    ],
)
def test_large_round_trips_in_pieces(engine, format, options):
    """From 24 MiB on in place, from 64 MiB on elsewhere."""
    x = np.random.default_rng(3).standard_normal((5, 2600, 512), np.float32)
    want = both(engine, x, format, **options)
    wide = np.zeros((5, 2600, 514), np.float32)
    wide[..., :512] = x
    for target in (x, wide[..., :512]):
        engine.round_trip(target, format, **options, out=target)
        same(np.ascontiguousarray(target), want)
    assert not wide[..., 512:].any()
    if format == "q4_0":
        x = np.random.default_rng(4).standard_normal((33000, 512), np.float32)
        same(engine.round_trip(x, format), both(engine, x, format))


@pytest.mark.parametrize("backend", ["reference", "avx2", "avx512", "openmp"])
def test_round_trips_agree_on_every_backend(engine, backend):
    if backend not in {p["id"] for p in engine.plugins() if p["status"] == "loaded"}:
        pytest.skip(f"{backend} is not here")
    pinned = sy.Engine(cache_dir="", pin={"*": backend})
    x = np.random.default_rng(2).standard_normal((5, 512), np.float32)
    for format, options, _ in CHOICES:
        same(pinned.round_trip(x, format, **options), both(engine, x, format, **options))


def test_errors_of_round_trips_count_in_x(engine):
    x = np.zeros((1500, 512), np.float32)
    x[1400, 17] = np.nan
    for format in ("q4_0", "mlx_affine4", "int8"):
        with pytest.raises(sy.InputError) as error:
            engine.round_trip(x, format, granularity="row" if format == "int8" else "tensor")
        assert error.value.code == "nonfinite" and error.value.index == 1400 * 512 + 17
    with pytest.raises(sy.InputError, match="multiple"):
        engine.round_trip(x[:, :500], "q4_0")
    with pytest.raises(sy.InputError, match="must have"):
        engine.round_trip(x, "q8_0", out=np.zeros((1500, 500), np.float32))

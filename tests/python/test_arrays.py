# SPDX-License-Identifier: Apache-2.0
"""Inputs are read where they lie, outputs own their memory."""

import gc
import weakref

import numpy as np
import pytest

import switchyard as sy
from switchyard import _core


def address(x):
    return x.__array_interface__["data"][0]


BASE = np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8)


@pytest.mark.parametrize(
    "x",
    [
        BASE,
        BASE[1:3, ::2, ::-1],
        BASE.transpose(2, 0, 1),
        np.asfortranarray(BASE),
        np.broadcast_to(BASE[0, 0], (5, 3, 8)),
        BASE[:0],
        BASE.astype(np.float16)[::-1],
        BASE > 3,
        BASE.astype(np.int64),
        BASE.astype(np.uint32),
        np.float32(3) * np.ones((), np.float32).reshape(()),
    ],
    ids=str,
)
def test_inputs_are_seen_where_they_lie(x):
    x = np.asarray(x)
    seen_address, shape, strides, dtype = _core.view_of(x)
    if x.size:
        assert seen_address == address(x)
    assert shape == x.shape
    if x.size:
        assert strides == tuple(s // x.itemsize for s in x.strides)
    kind = {"f": "f", "i": "i", "u": "u"}.get(x.dtype.kind)
    assert dtype == ("bool" if x.dtype == bool else f"{kind}{8 * x.itemsize}")


def test_read_only_arrays_are_welcome(engine, rng):
    x = rng.standard_normal((8, 64)).astype(np.float32)
    want = engine.quantize(x, "q8_0").blocks
    x.flags.writeable = False
    assert (engine.quantize(x, "q8_0").blocks == want).all()
    assert _core.view_of(x)[0] == address(x)


def test_buffer_protocol_and_dlpack_objects(engine, rng):
    x = rng.standard_normal((2, 32)).astype(np.float32)
    want = engine.quantize(x, "q8_0").blocks

    class Producer:
        def __dlpack__(self, **kwargs):
            return x.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    assert (engine.quantize(Producer(), "q8_0").blocks == want).all()
    assert (engine.quantize(memoryview(x), "q8_0").blocks == want).all()


@pytest.mark.parametrize(
    "bad",
    [
        [[1.0] * 32],
        3.5,
        "text",
        np.array(["a"]),
        np.zeros(32, np.complex64),
        np.zeros(32, np.float32).astype(">f4"),
        np.zeros(4, [("a", np.float32), ("b", np.int8)])["a"],
        np.zeros(32, np.float64),
        np.zeros(32, np.int32),
    ],
    ids=lambda b: f"{type(b).__name__}-{getattr(b, 'dtype', '')}",
)
def test_what_is_no_float_array_is_refused(engine, bad):
    with pytest.raises(sy.InputError) as caught:
        engine.quantize(bad, "q8_0")
    assert caught.value.code == "dtype"


def test_none_is_refused(engine):
    with pytest.raises(sy.InputError):
        engine.quantize(None, "q8_0")
    with pytest.raises(sy.InputError):
        engine.kmeans(None, 3)
    with pytest.raises(sy.InputError):
        engine.attention(None, None, None)


def test_read_only_output_is_refused(engine):
    out = np.zeros(34, np.uint8)
    out.flags.writeable = False
    with pytest.raises(sy.InputError) as caught:
        engine.quantize(np.ones(32, np.float32), "q8_0", out=out)
    assert "writable" in str(caught.value)


def test_outputs_own_their_memory(engine, rng):
    x = rng.standard_normal((64, 64)).astype(np.float32)
    q = engine.quantize(x, "mlx_affine4")
    copies = [a.copy() for a in (q.codes, q.scales, q.biases)]
    arrays = (q.codes, q.scales, q.biases)
    del q
    gc.collect()
    [engine.quantize(-x, "mlx_affine4") for _ in range(20)]
    for array, copy in zip(arrays, copies):
        assert array.flags.writeable
        assert (array == copy).all()


def test_inputs_are_released(engine):
    class Tracked(np.ndarray):
        pass

    x = np.ones((4, 32), np.float32).view(Tracked)
    gone = weakref.ref(x)
    q = engine.quantize(x, "q8_0")
    del x
    gc.collect()
    assert gone() is None
    assert q.blocks.shape == (4, 34)


def test_results_outlive_their_engine(rng):
    x = rng.standard_normal((100, 4), np.float32)
    fit = sy.Engine(cache_dir="").kmeans(x, 3)
    gc.collect()
    assert fit.counts.sum() == 100

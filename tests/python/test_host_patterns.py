# SPDX-License-Identifier: Apache-2.0
"""Thresholds, the result cache, timing a call, batches: what hosts bring from other dispatchers."""

import numpy as np
import pytest
import switchyard as sy


def test_create_auto_needs_nothing():
    engine = sy.create_auto()
    assert engine.kmeans(np.eye(4, dtype=np.float32), 2).labels.shape == (4,)


def test_thresholds_send_small_calls_to_plain_loops(rng, tmp_path):
    config = sy.BackendConfig(prefer_gpu=False, min_size_for_cpp=4096)
    engine = sy.Engine(backend_config=config, cache_dir=tmp_path)
    x = rng.standard_normal((128, 64), np.float32)
    engine.quantize(x[:4], "q8_0")
    assert sy.last_run().backend == "reference"
    engine.quantize(x, "q8_0")
    assert len(engine.backends()) == 1 or sy.last_run().backend != "reference"
    assert engine.explain("quantize", n=64, format="q8_0")["policy"] == "thresholds"
    named = sy.Engine(backend_config=config, policy="adaptive", cache_dir=tmp_path)
    assert named.explain("quantize", n=64, format="q8_0")["policy"] == "adaptive"


def test_preferences_are_followed_in_order(rng):
    engine = sy.Engine(policy="thresholds", preferences=[("reference", 0)])
    engine.quantize(rng.standard_normal((64, 64), np.float32), "q4_0")
    assert sy.last_run().backend == "reference"


@pytest.mark.parametrize(
    "arguments",
    [
        {"result_cache": -1},
        {"preferences": [("reference", -1)]},
        {"preferences": [("@nothing", 0)]},
        {"backend_config": sy.BackendConfig(min_size_for_gpu=-5)},
        {"backend_config": sy.BackendConfig(min_size_for_c="many")},
    ],
)
def test_bad_options_are_refused(arguments):
    with pytest.raises(sy.InputError):
        sy.Engine(**arguments)


def test_verbose_says_who_answered(capfd, rng):
    engine = sy.Engine(verbose=True)
    engine.quantize(rng.standard_normal((8, 64), np.float32), "q8_0")
    text = capfd.readouterr().err
    sy.Engine()  # the level is the process's: quiet again
    assert "quantize" in text and sy.last_run().kernel in text


def test_equal_calls_are_answered_from_the_cache(rng):
    engine = sy.Engine(result_cache=1 << 20)
    x = rng.standard_normal((64, 64), np.float32)
    first = engine.quantize(x, "mlx_affine4")
    assert not sy.last_run().reused
    second = engine.quantize(x, "mlx_affine4")
    assert sy.last_run().reused
    assert np.array_equal(first.codes, second.codes) and first.codes is not second.codes
    second.codes[:] = 0
    assert np.array_equal(engine.quantize(x, "mlx_affine4").codes, first.codes)
    x[3, 3] += 1
    engine.quantize(x, "mlx_affine4")
    assert not sy.last_run().reused
    cache = engine.metrics()["result_cache"]
    assert (cache["hits"], cache["misses"], cache["entries"]) == (2, 2, 2)
    assert cache["hit_rate"] == 0.5 and 0 < cache["bytes"] <= cache["capacity"]
    out = np.empty_like(first.codes), np.empty_like(first.scales), np.empty_like(first.biases)
    engine.quantize(x, "mlx_affine4", out=out)
    assert not sy.last_run().reused  # the caller's arrays are written by the operation
    assert sy.Engine().metrics()["result_cache"]["capacity"] == 0


def test_one_call_is_timed_on_every_backend(rng):
    engine = sy.Engine()
    x = rng.standard_normal((256, 64), np.float32)
    timings, result = engine.benchmark("quantize", x, "q8_0", rounds=3)
    assert sorted(t.backend for t in timings) == sorted(engine.backends())
    timed = [t for t in timings if not t.refused]
    assert timed and all(t.samples == 3 and 0 < t.min_ms <= t.median_ms <= t.p95_ms for t in timed)
    assert [t.median_ms for t in timed] == sorted(t.median_ms for t in timed)
    assert np.array_equal(result.blocks, engine.quantize(x, "q8_0").blocks)
    with pytest.raises(sy.InputError):
        engine.benchmark("quantize", x, "q9")
    with pytest.raises(sy.InputError):
        engine.benchmark("explain", "quantize")
    with pytest.raises(sy.InputError):
        engine.benchmark("quantize", x, "q8_0", rounds=0)


def test_assign_gives_the_labels_of_a_fit(rng):
    engine = sy.Engine()
    x = rng.standard_normal((300, 4), np.float32)
    fit = engine.kmeans(x, 5, tol=0)
    assert np.array_equal(engine.kmeans_assign(x, fit.centroids), fit.labels)


def same(a, b):
    for name in ("blocks", "codes", "scales", "biases"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert np.shape(x) == np.shape(y) and np.array_equal(x, y), name
    assert a.shape == b.shape and a.format == b.format and a.group_size == b.group_size


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("q4_0", {}),
        ("mlx_affine4", {"group_size": 32}),
        ("mxfp4", {}),
        ("int8", {"granularity": "row"}),
        ("tern2", {"granularity": "row"}),
        ("ternary", {"granularity": "row"}),
        ("ternary", {"granularity": "group", "group_size": 32}),
    ],
)
@pytest.mark.parametrize("shape", [(97, 64), (3, 11, 64)])
def test_quantising_in_batches_equals_one_call(rng, format, options, shape):
    engine = sy.Engine()
    x = rng.standard_normal(shape, np.float32)
    whole = engine.quantize(x, format, **options)
    parts = sy.process_in_batches(engine, "quantize", x, batch_rows=10, format=format, **options)
    same(parts, whole)
    back = sy.process_in_batches(engine, "dequantize", parts, batch_rows=7)
    assert np.array_equal(back, engine.dequantize(whole))


def test_files_go_through_without_being_loaded(rng, tmp_path):
    engine = sy.Engine()
    x = rng.standard_normal((500, 64), np.float32)
    np.save(tmp_path / "x.npy", x)
    seen = []
    out = {name: tmp_path / f"{name}.npy" for name in ("codes", "scales", "biases")}
    q = sy.process_in_batches(
        engine,
        "quantize",
        tmp_path / "x.npy",
        out=out,
        memory=64 * 1024,
        progress=lambda p: seen.append((p.done, p.total, p.batch_rows)),
        format="mlx_affine8",
    )
    assert isinstance(q.codes, np.memmap)
    same(q, engine.quantize(x, "mlx_affine8"))
    assert np.array_equal(np.load(out["scales"]), q.scales)
    assert seen[0][0] == 0 and seen[-1][:2] == (500, 500) and len(seen) > 3
    # A quarter of the rows' inputs and outputs at a time, as the memory says.
    assert all(rows * 64 * 4 * 2 <= 64 * 1024 for _, _, rows in seen)
    labels = sy.process_in_batches(
        engine, "kmeans.assign", tmp_path / "x.npy", out=tmp_path / "l.npy", centroids=x[:9]
    )
    assert np.array_equal(labels, engine.kmeans_assign(x, x[:9]))
    assert np.array_equal(np.load(tmp_path / "l.npy"), labels)


def test_attention_is_split_along_the_batch(rng):
    engine = sy.Engine(pin={"attention": "reference"})
    q, k, v = (rng.standard_normal((5, 2, 6, 8), np.float32) for _ in range(3))
    whole = engine.attention(q, k, v, causal=True)
    parts = sy.process_in_batches(engine, "attention", (q, k, v), batch_rows=2, causal=True)
    assert np.array_equal(parts, whole)
    o, lse = sy.process_in_batches(engine, "attention", (q, k, v), batch_rows=3, return_lse=True)
    want = engine.attention(q, k, v, return_lse=True)
    assert np.array_equal(o, want[0]) and np.array_equal(lse, want[1])


def test_generators_and_functions(rng):
    engine = sy.Engine()
    x = rng.standard_normal((30, 64), np.float32)
    seen = []
    results = sy.process_in_batches(
        engine,
        "quantize",
        (x[i : i + 10] for i in range(0, 30, 10)),
        progress=lambda p: seen.append((p.done, p.total)),
        format="q8_0",
    )
    assert seen == []  # lazily: nothing is read before it is wanted
    blocks = np.concatenate([q.blocks for q in results])
    assert np.array_equal(blocks, engine.quantize(x, "q8_0").blocks)
    assert seen == [(0, None), (10, None), (20, None), (30, None)]
    sums = sy.process_in_batches(engine, lambda rows: rows.sum(axis=1), x, batch_rows=7)
    assert np.array_equal(sums, x.sum(axis=1))


def test_progress_may_stop(rng):
    engine = sy.Engine()
    x = rng.standard_normal((30, 64), np.float32)
    with pytest.raises(sy.Error) as stopped:
        sy.process_in_batches(
            engine, "quantize", x, batch_rows=10, progress=lambda p: p.done < 20, format="q8_0"
        )
    assert stopped.value.code == "cancelled"


def test_what_cannot_be_split_is_refused(rng, tmp_path):
    engine = sy.Engine()
    x = rng.standard_normal((8, 64), np.float32)
    for arguments in (
        {"op": "quantize", "x": x, "format": "ternary"},
        {"op": "quantize", "x": x, "format": "int8", "granularity": "channel"},
        {"op": "quantize", "x": x, "format": "q8_0", "rounding": "stochastic"},
        {"op": "quantize", "x": x, "format": "i2_s"},
        {"op": "kmeans", "x": x},
        {"op": "kmeans.assign", "x": x},
        {"op": "attention", "x": x},
        {"op": "dequantize", "x": x},
        {"op": "quantize", "x": x, "format": "q8_0", "batch_rows": 0},
        {"op": "quantize", "x": x, "format": "mlx_affine4", "out": tmp_path / "one.npy"},
        {"op": "quantize", "x": iter([x]), "format": "q8_0", "out": tmp_path / "one.npy"},
        {"op": lambda rows: rows[:1], "x": x, "batch_rows": 4},
    ):
        with pytest.raises(sy.InputError):
            sy.process_in_batches(engine, **arguments)
    with pytest.raises(sy.Error) as missing:
        sy.process_in_batches(engine, "quantize", tmp_path / "none.npy", format="q8_0")
    assert missing.value.code == "io"


def test_memory_decides_the_batch():
    assert sy.available_memory() > 1 << 20
    assert sy.batch_rows(100, memory=1000) == 10
    assert sy.batch_rows(5000, memory=1000) == 1
    assert sy.batch_rows(1 << 10) <= 1 << 20
    with pytest.raises(sy.InputError):
        sy.batch_rows(0)

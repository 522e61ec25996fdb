# SPDX-License-Identifier: Apache-2.0
import inspect
import os
import threading

import numpy as np
import pytest

import switchyard as sy


def defaults(function):
    return {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.default is not inspect.Parameter.empty
    }


def test_defaults_are_the_contract():
    contract = dict(
        preset=None, config=None, threads=None, pin=None, policy="adaptive", cache_dir=None
    )
    additions = ("strict", "verbose", "result_cache", "preferences", "backend_config")
    assert defaults(sy.Engine) == contract | dict.fromkeys(additions)
    additions = dict(scale=None, nonfinite="error", rounding="nearest", seed=0)
    contract = dict(group_size=None, granularity="tensor", out=None)
    assert defaults(sy.Engine.quantize) == contract | additions
    assert defaults(sy.Engine.dequantize) == dict(out=None) | dict(rows=None, columns=None)
    assert defaults(sy.Engine.kmeans) == dict(
        init="k-means++",
        n_init=1,
        max_iter=300,
        tol=1e-4,
        seed=0,
        sample_weight=None,
        int8=False,
        spherical=False,
        closest=False,
        batch_size=0,
        progress=None,
    )
    assert defaults(sy.Engine.attention) == dict(
        causal=False,
        window=None,
        softcap=None,
        mask=None,
        scale=None,
        sinks=None,
        return_lse=False,
        out=None,
        alibi=None,
        kv_lengths=None,
        block_table=None,
        keep=0,
    )


def test_every_public_name_is_documented():
    for name in sy.__all__:
        if not name.startswith("__"):
            assert getattr(sy, name).__doc__, name
    for name, member in inspect.getmembers(sy.Engine):
        if not name.startswith("_"):
            assert member.__doc__, name


def test_plugins_come_with_the_package(engine):
    loaded = {p["id"] for p in engine.plugins() if p["status"] == "loaded"}
    assert "reference" in loaded
    assert all(p["reason"] for p in engine.plugins() if p["status"] != "loaded")


def test_threads_option():
    assert sy.Engine(threads=1, cache_dir="").threads == 1


def test_presets_and_policies_load():
    for preset in ("development", "production-cpu", "embedded", "speed", "balanced", "memory"):
        assert sy.Engine(preset=preset, cache_dir="").threads >= 1
    for policy in ("adaptive", "benchmark", "thresholds"):
        sy.Engine(policy=policy, cache_dir="")


@pytest.mark.parametrize(
    "arguments",
    [
        dict(preset="no-such-preset"),
        dict(policy="no-such-policy"),
        dict(threads=0),
        dict(threads=1.5),
        dict(pin="reference"),
        dict(preset=3),
    ],
)
def test_bad_options_are_input_errors(arguments):
    with pytest.raises(sy.InputError) as caught:
        sy.Engine(cache_dir="", **arguments)
    assert caught.value.code in {"invalid_argument", "usage"}
    assert isinstance(caught.value, ValueError)


def test_config_file(tmp_path):
    path = tmp_path / "engine.yaml"
    path.write_text("version: 1\nengine:\n  threads: 1\n")
    assert sy.Engine(config=path, cache_dir="").threads == 1
    assert sy.Engine(config=str(path), threads=2, cache_dir="").threads == 2


def test_bad_config_names_the_place(tmp_path):
    path = tmp_path / "engine.yaml"
    path.write_text("version: 1\nengine:\n  thread: 1\n")
    with pytest.raises(sy.InputError) as caught:
        sy.Engine(config=path)
    assert caught.value.code == "config"
    assert (caught.value.line, caught.value.column) == (3, 3)
    assert str(path) in str(caught.value) and "threads" in str(caught.value)


def test_missing_config_is_no_input_error(tmp_path):
    with pytest.raises(sy.Error) as caught:
        sy.Engine(config=tmp_path / "absent.yaml")
    assert caught.value.code == "io"
    assert not isinstance(caught.value, ValueError)


def test_unknown_pinned_backend():
    for op in ("*", "attention", "kmeans"):
        with pytest.raises(sy.Error, match="unknown backend 'referense'; did you mean") as caught:
            sy.Engine(pin={op: "referense"}, cache_dir="")
        assert caught.value.code == "backend" and not isinstance(caught.value, ValueError)


def test_a_pin_decides_who_answers(rng):
    x = rng.standard_normal((64, 4), np.float32)
    pinned = sy.Engine(pin={"kmeans": "reference"}, cache_dir="")
    fit = pinned.kmeans(x, 3)
    assert fit.info.backend == "reference"
    assert fit.info.requested_backend == "reference"
    assert fit.info.fallback_reason == ""


def test_environment_pins(monkeypatch, rng):
    monkeypatch.setenv("SWITCHYARD_BACKEND", "reference")
    q = sy.Engine(cache_dir="").quantize(rng.standard_normal(64).astype(np.float32), "q8_0")
    assert q.info.backend == "reference"


def test_explain_finds_calls_whatever_their_alignment():
    engine = sy.Engine(cache_dir="", policy="benchmark")
    memory = np.zeros(4096 * 4 + 64, np.uint8)
    for past in (0, 4):  # bytes behind a cache line
        start = -memory.ctypes.data % 64 + past
        x = memory[start : start + 4096 * 4].view(np.float32).reshape(16, 256)
        engine.quantize(x, "q8_0")
        told = engine.explain("quantize", n=4096, rows=16, format="q8_0", dtype="f32")
        assert told["calls"] >= 1
        assert max(c["samples"] for c in told["candidates"]) > 0


def test_explain_returns_a_dict(engine):
    e = engine.explain("kmeans.step", n=1000, d=16, k=8, dtype="f32")
    assert e["op"] == "kmeans.step"
    assert e["chosen"] in {c["kernel"] for c in e["candidates"]}
    assert any(c["backend"] == "reference" and c["supported"] for c in e["candidates"])
    with pytest.raises(sy.InputError) as caught:
        engine.explain("kmeens.step", n=10)
    assert caught.value.code == "usage" and "kmeans.step" in str(caught.value)
    with pytest.raises(sy.InputError):
        engine.explain("kmeans.step", nn=10)


def test_metrics_count_exactly(rng):
    engine = sy.Engine(pin={"*": "reference"}, cache_dir="")
    assert engine.metrics()["total_operations"] == 0
    x = rng.standard_normal((4, 64)).astype(np.float32)
    for _ in range(7):
        engine.quantize(x, "q8_0")
    m = engine.metrics()
    assert m["total_operations"] == 7
    assert set(m["backend_summary"]) == {"reference"}
    summary = m["backend_summary"]["reference"]
    assert summary["count"] == 7
    assert {"avg_time_ms", "total_time_ms", "p50_ms", "p95_ms", "bytes", "flops"} <= set(summary)
    assert m["by_op"]["quantize"]["reference"]["count"] == 7
    assert isinstance(m["fallback_reasons"], dict)


def test_recommend_is_a_list_of_dicts(engine):
    for item in engine.recommend():
        assert item["what"] and item["evidence"]
        assert item["expected_gain"] is None or item["expected_gain"] > 0


def test_one_engine_from_many_threads(engine, rng):
    x = rng.standard_normal((512, 8), np.float32)
    want = engine.kmeans(x, 5, seed=3)
    want_q = engine.quantize(x, "ternary")
    failures = []

    def work():
        try:
            for _ in range(5):
                got = engine.kmeans(x, 5, seed=3)
                assert (got.labels == want.labels).all()
                assert got.centroids.tobytes() == want.centroids.tobytes()
                assert (engine.quantize(x, "ternary").codes == want_q.codes).all()
        except BaseException as error:  # reported by the main thread
            failures.append(error)

    team = [threading.Thread(target=work) for _ in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not failures


def test_last_run_belongs_to_the_thread(engine):
    engine.quantize(np.ones(32, np.float32), "q8_0")
    assert sy.last_run().kernel.startswith("quantize.")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(sy.last_run()))
    thread.start()
    thread.join()
    assert seen == [None]


def test_engines_come_and_go():
    def count():
        return len(os.listdir("/proc/self/task"))

    sy.Engine(cache_dir="").quantize(np.ones(32, np.float32), "q8_0")
    before = count()
    for _ in range(10):
        sy.Engine(cache_dir="").quantize(np.ones(32, np.float32), "q8_0")
    assert count() <= before + 1

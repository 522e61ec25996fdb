# SPDX-License-Identifier: Apache-2.0
"""Files written by NumPy are read by the `switchyard` program, and the other way round."""

import json
import subprocess

import numpy as np
import pytest

import switchyard as sy


def run(program, *arguments):
    done = subprocess.run(
        [program, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_kmeans_files(program, engine, rng, tmp_path, order, byte_order):
    x = rng.standard_normal((300, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", np.asarray(x.astype(f"{byte_order}f4"), order=order))
    report = run(
        program, "kmeans", tmp_path / "x.npy", "-k", 4, "--seed", 5,
        "--labels", tmp_path / "labels.npy", "--centroids", tmp_path / "centroids.npy",
    )  # fmt: skip
    fit = engine.kmeans(x, 4, seed=5)
    labels = np.load(tmp_path / "labels.npy")
    assert labels.dtype == np.int32 and (labels == fit.labels).all()
    assert np.load(tmp_path / "centroids.npy").tobytes() == fit.centroids.tobytes()
    assert report["inertia"] == pytest.approx(fit.inertia, rel=1e-12)
    assert (report["n_iter"], report["converged"]) == (fit.n_iter, fit.converged)


@pytest.mark.parametrize("format", ["q4_0", "q8_0", "q4_k", "tq1_0", "mxfp4", "mlx_affine3", "ternary", "i2_s", "int8"])
def test_quantized_files(program, engine, rng, tmp_path, format):
    x = rng.standard_normal((6, 512)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run(program, "quantize", tmp_path / "x.npy", tmp_path / "q.npz", "--format", format)
    q = engine.quantize(x, format)
    with np.load(tmp_path / "q.npz") as stored:
        meta = json.loads(str(stored["meta"])) if "meta" in stored else None
        for name in ("blocks", "codes", "scales", "biases"):
            want = getattr(q, name)
            assert (name in stored) == (want is not None), name
            if want is not None:
                assert stored[name].dtype == want.dtype and stored[name].shape == want.shape
                assert stored[name].tobytes() == want.tobytes()
    assert meta["format"] == format and list(meta["shape"]) == [6, 512]
    run(program, "dequantize", tmp_path / "q.npz", tmp_path / "y.npy")
    assert np.load(tmp_path / "y.npy").tobytes() == engine.dequantize(q).tobytes()


def test_npz_written_by_numpy(program, engine, rng, tmp_path):
    q = engine.quantize(rng.standard_normal((4, 64)).astype(np.float32), "mlx_affine8")
    meta = {"format": q.format, "shape": q.shape, "dtype": q.dtype, "group_size": q.group_size}
    np.savez_compressed(
        tmp_path / "q.npz", codes=q.codes, scales=q.scales, biases=q.biases, meta=json.dumps(meta)
    )
    run(program, "dequantize", tmp_path / "q.npz", tmp_path / "y.npy")
    assert np.load(tmp_path / "y.npy").tobytes() == engine.dequantize(q).tobytes()


def test_attention_files(program, rng, tmp_path):
    arrays = [rng.standard_normal((1, h, 12, 8)).astype(np.float32) for h in (4, 2, 2)]
    paths = []
    for name, array in zip("qkv", arrays):
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], array)
    run(program, "attention", *paths, tmp_path / "o.npy", "--causal", "--backend", "reference")
    pinned = sy.Engine(pin={"attention": "reference"}, cache_dir="")
    want = pinned.attention(*arrays, causal=True)
    assert np.load(tmp_path / "o.npy").tobytes() == want.tobytes()

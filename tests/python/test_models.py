# SPDX-License-Identifier: Apache-2.0
"""Model conversion from Python. The container's bytes are tested in C++ and against the peers."""

import json
import struct

import numpy as np
import pytest

import switchyard as sy


def write_model(folder, tensors):
    header, data = {}, b""
    for name, x in tensors.items():
        kind = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}[x.dtype]
        span = [len(data), len(data) + x.nbytes]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": span}
        data += x.tobytes()
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


@pytest.fixture()
def model(tmp_path, rng):
    tensors = {
        "embed.weight": rng.standard_normal((64, 256), np.float32),
        "layer.weight": rng.standard_normal((32, 256), np.float32).astype(np.float16),
        "norm.weight": np.ones(256, np.float32),
    }
    return write_model(tmp_path / "model", tensors)


def choices(report):
    return {
        t["name"]: t["choice"] and f"{t['choice']['format']}:{t['choice']['group_size']}"
        for t in report["tensors"]
    }


def test_converts_and_restores(model, tmp_path, engine):
    report = sy.quantize_model(model, tmp_path / "out", "SPEED_4BIT", engine=engine)
    assert choices(report) == {
        "embed.weight": "mlx_affine4:64",
        "layer.weight": "mlx_affine4:64",
        "norm.weight": None,
    }
    assert report["bytes_after"] < report["bytes_before"] / 3
    assert report["snr_db"] > 15
    embed = report["tensors"][0]
    assert sum(embed["histogram"]) == 64 * 256 and len(embed["checksums"]) == 3
    assert set(report["time"]) >= {"read_ms", "compute_ms", "write_ms"}
    assert (tmp_path / "out" / "config.json").exists()
    back = sy.dequantize_model(tmp_path / "out", tmp_path / "back", engine=engine)
    assert {t["name"] for t in back["tensors"]} == {t["name"] for t in report["tensors"]}


def test_the_shared_engine_answers_too(model):
    assert sy.quantize_model(model, None, "SPEED_4BIT")["dry_run"]


def test_rules_and_unused_ones(model, engine):
    rules = {"embde.weight": "q8_0", "embed*": False, "*": ["tq2_0", "q8_0"]}
    report = sy.quantize_model(model, None, rules=rules, engine=engine)
    assert choices(report)["embed.weight"] is None
    assert choices(report)["layer.weight"] == "tq2_0:0"
    assert len(report["unused_rules"]) == 1 and "did you mean" in report["unused_rules"][0]


def test_predicate(model, engine):
    asked = []

    def decide(name, shape, dtype):
        asked.append((name, shape, dtype))
        if name == "embed.weight":
            return {"format": "mlx_affine8", "group_size": 32}
        return False if name == "nothing" else None

    report = sy.quantize_model(model, None, "SPEED_4BIT", predicate=decide, engine=engine)
    assert asked == [("embed.weight", (64, 256), "f32"), ("layer.weight", (32, 256), "f16")]
    assert choices(report)["embed.weight"] == "mlx_affine8:32"
    assert choices(report)["layer.weight"] == "mlx_affine4:64"
    kept = sy.quantize_model(
        model, None, "SPEED_4BIT", predicate=lambda *_: False, engine=engine
    )
    assert kept["quantized_tensors"] == 0


def test_a_predicate_that_raises(model, tmp_path, engine):
    def decide(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sy.quantize_model(model, tmp_path / "o", "SPEED_4BIT", predicate=decide, engine=engine)
    assert not (tmp_path / "o").exists()


def test_target_bits(model, engine):
    report = sy.quantize_model(model, None, target_bits=7.5, engine=engine)
    assert report["bits_per_value"] <= 7.5
    candidates = report["tensors"][0]["candidates"]
    assert sum(c["chosen"] for c in candidates) == 1
    assert candidates[0]["choice"] == "keep" and candidates[0]["mse"] == 0


def test_progress_stops_and_the_next_run_goes_on(model, tmp_path, engine):
    def stop(what, done):
        return done < 0.5

    with pytest.raises(sy.Error) as failed:
        sy.quantize_model(model, tmp_path / "o", "SPEED_4BIT", progress=stop, engine=engine)
    assert failed.value.code == "cancelled" and not (tmp_path / "o").exists()
    report = sy.quantize_model(model, tmp_path / "o", "SPEED_4BIT", engine=engine)
    assert (tmp_path / "o").is_dir() and report["quantized_tensors"] == 2

    def bad(what, done):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sy.quantize_model(model, tmp_path / "p", "SPEED_4BIT", progress=bad, engine=engine)


def test_errors(model, tmp_path, engine):
    def fails(code, **arguments):
        with pytest.raises(sy.Error) as failed:
            sy.quantize_model(model, None, engine=engine, **arguments)
        assert failed.value.code == code

    fails("usage", recipe="FAST")
    fails("usage", format="q4_O")
    fails("usage", rules=None, format={"format": "q4_0", "bits": 4})
    fails("config", rules={"*": "q4_O"})
    fails("invalid_argument", rules=7)
    fails("invalid_argument", predicate=lambda *_: 3)
    fails("io", recipe=tmp_path / "none.yaml")
    with pytest.raises(sy.Error) as failed:
        sy.quantize_model(tmp_path / "none", None, "SPEED_4BIT", engine=engine)
    assert failed.value.code == "io"

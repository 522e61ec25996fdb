# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files of tests/quantize from the formats' owners.

Made with gguf 0.19.0, mlx 0.32.4 (CPU) and numpy 2.4.6:

    pip install gguf==0.19.0 'mlx[cpu]==0.32.4' numpy && python generate.py

values.npz   x.<data>.<dtype>                         the inputs; bf16 as its bits, u16
ggml.npz     <format>.<data>.<dtype>.blocks | .y      gguf.quants.quantize and dequantize
mlx.npz      <bits>.<group>.<data>.<dtype>.codes | .scales | .biases | .y
                                                      mx.quantize and mx.dequantize

Blocks whose 1/scale is not finite are left out by construction: the owners disagree there.
"""

from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Type

HERE = Path(__file__).parent
COLS = 768  # a multiple of every block and group
GGML = {"q4_0": Type.Q4_0, "q8_0": Type.Q8_0, "tq2_0": Type.TQ2_0}
# The largest magnitudes whose f16 scale (or f32 range) is finite.
HUGE = {"q4_0": 8 * 65519.0, "q8_0": 127 * 65519.0, "tq2_0": 65519.0, "mlx": 1.7e38}


def to_bf16(x):
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def inputs():
    rng = np.random.default_rng(20240611)
    gauss = rng.standard_normal((2, COLS), dtype=np.float32)
    # Runs of 256 share a magnitude: scales around the least normal and subnormal f16, and f32
    # values whose f32 scales stay normal.
    small = rng.standard_normal((7, COLS // 3), dtype=np.float32)
    small *= np.float32(2.0) ** np.array([[-11], [-12], [-14], [-17], [-22], [-60], [-110]])
    small = np.pad(small.reshape(-1), (0, 2 * 256)).reshape(3, COLS).astype(np.float32)
    data = {
        "gaussian": gauss,
        "f16grid": (gauss * 3).astype(np.float16).astype(np.float32),
        "zeros": np.zeros((1, COLS), np.float32),
        "small": small,
        "ties": rng.integers(-32, 33, (2, COLS)).astype(np.float32) / 2,
        "odd": rng.standard_normal((3, 1, COLS), dtype=np.float32) * np.float32(0.02),
        "negative": -np.abs(gauss[:1]) - np.float32(0.5),
    }
    for name, limit in HUGE.items():
        u = rng.uniform(-1, 1, (1, COLS)).astype(np.float32)
        u[0, ::37] = np.sign(u[0, ::37])
        data["huge_" + name] = (u * np.float32(limit)).astype(np.float32)
    return data


def casts(x):
    """x as each dtype: (name, stored array, values as f32)."""
    top = np.float32(65504)
    # + 0: a block of which only negative zeros are left is where gguf and ggml differ.
    half = np.clip(x, -top, top).astype(np.float16) + np.float16(0)
    # Truncated, so that rounding up takes no value past the limit.
    brain = from_bf16((x.view(np.uint32) >> 16).astype(np.uint16))
    yield "f32", x, x
    yield "f16", half, half.astype(np.float32)
    yield "bf16", to_bf16(brain), brain


def stored(a):
    """An MLX array as numpy; bf16 as bits."""
    if a.dtype == mx.bfloat16:
        return np.array(a.view(mx.uint16))
    return np.array(a)


def main():
    values, ggml, mlx = {}, {}, {}
    for data, x in inputs().items():
        for dtype, array, f32 in casts(np.ascontiguousarray(x)):
            values[f"x.{data}.{dtype}"] = array
            for name, kind in GGML.items():
                if data.startswith("huge_") and data != "huge_" + name:
                    continue
                blocks = gguf.quants.quantize(f32, kind)
                key = f"{name}.{data}.{dtype}"
                ggml[key + ".blocks"] = blocks
                ggml[key + ".y"] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
            if data.startswith("huge_") and data != "huge_mlx":
                continue
            kind = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}[dtype]
            m = mx.array(f32).astype(kind)
            assert np.array_equal(stored(m).reshape(array.shape), array)
            for bits in (4, 8):
                for group in (64,) if data in ("f16grid", "ties", "negative") else (32, 64, 128):
                    w, s, b = mx.quantize(m, group_size=group, bits=bits)
                    y = mx.dequantize(w, s, b, group_size=group, bits=bits)
                    key = f"{bits}.{group}.{data}.{dtype}"
                    for part, a in (("codes", w), ("scales", s), ("biases", b), ("y", y)):
                        mlx[f"{key}.{part}"] = stored(a)
    # y of ggml is (q - offset) * d in f32: one dtype of input is enough.
    ggml = {k: v for k, v in ggml.items() if not k.endswith(".y") or ".f32." in k}
    mlx = {
        k: v
        for k, v in mlx.items()
        if not k.endswith(".y") or k.split(".")[2] in ("gaussian", "huge_mlx")
    }
    for name, arrays in (("values", values), ("ggml", ggml), ("mlx", mlx)):
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()

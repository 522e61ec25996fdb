# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files of tests/quantize from the formats' owners.

Made with gguf 0.19.0, mlx 0.32.4 (CPU), numpy 2.4.6 and ggml from llama-cpp-python 0.3.36:

    pip install gguf==0.19.0 'mlx[cpu]==0.32.4' numpy
    benchmarks/build_ggml.sh DIRECTORY && python generate.py DIRECTORY/libggml-exact.so

values.npz   x.<data>.<dtype>                         the inputs; bf16 as its bits, u16
ggml.npz     <format>.<data>.<dtype>.blocks | .y      gguf.quants.quantize and dequantize
ggml_c.npz   <format>.<data>.<dtype>.blocks | .y      ggml itself: what gguf-py cannot quantise
mlx.npz      <bits>.<group>.<data>.<dtype>.codes | .scales | .biases | .y
                                                      mx.quantize and mx.dequantize
mxfp4.npz    <data>.<dtype>.codes | .scales           mx.quantize, mode mxfp4

Blocks whose 1/scale is not finite are left out by construction: the owners disagree there.
"""

import ctypes
import sys
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Type

HERE = Path(__file__).parent
COLS = 768  # a multiple of every block and group
GGML = {
    "q4_0": Type.Q4_0,
    "q4_1": Type.Q4_1,
    "q5_0": Type.Q5_0,
    "q5_1": Type.Q5_1,
    "q8_0": Type.Q8_0,
    "tq1_0": Type.TQ1_0,
    "tq2_0": Type.TQ2_0,
}
# ggml's own name, values in a block, bytes.
GGML_C = {
    "q4_k": ("q4_K", 256, 144),
    "q6_k": ("q6_K", 256, 210),
    "q2_0": ("q2_0", 64, 18),
    "mxfp4_ggml": ("mxfp4", 32, 17),
}
# The largest magnitudes whose f16 scale (or f32 range) is finite.
HUGE = {"q4_0": 8 * 65519.0, "q8_0": 127 * 65519.0, "tq2_0": 65519.0, "mlx": 1.7e38}
# Formats that share another's limit, or stay below it.
HUGE_OF = {"q5_0": "q4_0", "q4_1": "tq2_0", "q5_1": "tq2_0", "tq1_0": "tq2_0", "q2_0": "tq2_0",
           "q4_k": "tq2_0", "q6_k": "tq2_0", "mxfp4_ggml": "mlx"}


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
        "heavy": rng.standard_t(2, (1, COLS)).astype(np.float32),
    }
    # Magnitudes a few units in the last place below a power of two, block by block.
    powers = rng.integers(-60, 60, COLS // 32)
    below = 1 - rng.integers(0, 60, COLS // 32).astype(np.float32) * np.float32(2.0**-24)
    data["powers"] = (
        rng.uniform(-1, 1, (COLS // 32, 32)).astype(np.float32)
        * np.ldexp(below, powers).astype(np.float32)[:, None]
    )
    data["powers"][:, 7] = np.ldexp(below, powers)
    data["powers"] = data["powers"].reshape(1, COLS)
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


def with_ggml(library, name, x):
    """ggml's blocks of x and their values."""
    own, block, size = GGML_C[name]
    out = np.zeros(x.size // block * size, np.uint8)
    y = np.zeros(x.size, np.float32)
    n = ctypes.c_int64(x.size)
    quantize = getattr(library, f"quantize_row_{own}_ref")
    quantize(x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), n)
    dequantize = getattr(library, f"dequantize_row_{own}")
    dequantize(out.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), n)
    return out.reshape(*x.shape[:-1], -1), y.reshape(x.shape)


def main():
    library = ctypes.CDLL(sys.argv[1])
    values, ggml, ggml_c, mlx, mxfp4 = {}, {}, {}, {}, {}
    for data, x in inputs().items():
        for dtype, array, f32 in casts(np.ascontiguousarray(x)):
            values[f"x.{data}.{dtype}"] = array
            for name, kind in GGML.items():
                if data.startswith("huge_") and data != "huge_" + HUGE_OF.get(name, name):
                    continue
                if data == "powers":
                    continue  # far beyond f16 scales
                blocks = gguf.quants.quantize(f32, kind)
                key = f"{name}.{data}.{dtype}"
                ggml[key + ".blocks"] = blocks
                ggml[key + ".y"] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
            for name in GGML_C:
                if data.startswith("huge_") and data != "huge_" + HUGE_OF[name]:
                    continue
                if data == "powers" and name != "mxfp4_ggml":
                    continue
                blocks, y = with_ggml(library, name, np.ascontiguousarray(f32))
                key = f"{name}.{data}.{dtype}"
                ggml_c[key + ".blocks"] = blocks
                ggml_c[key + ".y"] = y
            if data.startswith("huge_") and data != "huge_mlx":
                continue
            kind = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}[dtype]
            m = mx.array(f32).astype(kind)
            assert np.array_equal(stored(m).reshape(array.shape), array)
            if data != "small" or dtype == "f32":  # MLX itself fails on f32 below 2^-120
                tiny = np.abs(f32).max(axis=-1) < 2.0**-100
                if not (data == "small" and tiny.any()):
                    w, s = mx.quantize(m, group_size=32, bits=4, mode="mxfp4")
                    mxfp4[f"{data}.{dtype}.codes"] = stored(w)
                    mxfp4[f"{data}.{dtype}.scales"] = stored(s)
            for bits in (2, 3, 4, 5, 6, 8):
                every = data not in ("f16grid", "ties", "negative", "heavy", "powers")
                if bits not in (4, 8):
                    every = data == "gaussian"
                for group in (32, 64, 128) if every else (64,):
                    w, s, b = mx.quantize(m, group_size=group, bits=bits)
                    y = mx.dequantize(w, s, b, group_size=group, bits=bits)
                    key = f"{bits}.{group}.{data}.{dtype}"
                    for part, a in (("codes", w), ("scales", s), ("biases", b), ("y", y)):
                        mlx[f"{key}.{part}"] = stored(a)
    # y of ggml is (q - offset) * d in f32: one dtype of input is enough.
    ggml = {k: v for k, v in ggml.items() if not k.endswith(".y") or ".f32." in k}
    ggml_c = {k: v for k, v in ggml_c.items() if not k.endswith(".y") or ".f32." in k}
    mlx = {
        k: v
        for k, v in mlx.items()
        if not k.endswith(".y") or k.split(".")[2] in ("gaussian", "huge_mlx")
    }
    files = {"values": values, "ggml": ggml, "ggml_c": ggml_c, "mlx": mlx, "mxfp4": mxfp4}
    for name, arrays in files.items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()

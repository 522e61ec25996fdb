#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a few small valid files for the fuzzers to start from: seeds.py safetensors|gguf FOLDER"""

import json
import struct
import sys
from pathlib import Path


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_seeds():
    def tensor(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield safetensors({}, b"")
    yield safetensors({"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 2], 0, 16)}, bytes(16))
    types = [("F64", 8), ("I64", 8), ("F16", 2), ("BF16", 2), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1)]
    header, at = {}, 0
    for name, size in types:
        header[name] = tensor(name, [1, 3], at, at + 3 * size)
        at += 3 * size
    yield safetensors(header, bytes(at))
    yield json.dumps({"metadata": {"total_size": 4}, "weight_map": {"a": "x.safetensors"}}).encode()


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(version, entries, tensors, data=b"", align=32):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, kind, value in entries:
        out += text(key) + struct.pack("<I", kind) + value
    for name, dims, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return out + bytes(-len(out) % align) + data


def gguf_seeds():
    yield gguf(3, [], [])
    yield gguf(2, [(b"general.architecture", 8, text(b"bert"))], [(b"a", [4, 2], 0, 0)], bytes(32))
    array = struct.pack("<IQ", 8, 2) + text(b"one") + text(b"two")
    nested = struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 5, 2) + bytes(8)
    entries = [(b"list", 9, array), (b"deep", 9, nested), (b"f", 12, bytes(8)), (b"b", 7, b"\1")]
    yield gguf(3, entries, [(b"q", [32], 2, 0), (b"k", [256, 1], 14, 32)], bytes(32 + 210))
    aligned = [(b"general.alignment", 4, struct.pack("<I", 8))]
    yield gguf(3, aligned, [(b"x", [1], 24, 0), (b"y", [1, 1, 1, 1], 30, 8)], bytes(16), align=8)


def main():
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {"safetensors": safetensors_seeds, "gguf": gguf_seeds}[sys.argv[1]]()
    for i, seed in enumerate(seeds):
        (folder / f"seed{i}").write_bytes(seed)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""ggml itself through ctypes: built outside this tree by benchmarks/build_ggml.sh."""

import ctypes
import os

import numpy as np

# Format: ggml's own name, values in a block, bytes.
FORMATS = {
    "q4_0": ("q4_0", 32, 18),
    "q4_1": ("q4_1", 32, 20),
    "q5_0": ("q5_0", 32, 22),
    "q5_1": ("q5_1", 32, 24),
    "q8_0": ("q8_0", 32, 34),
    "q4_k": ("q4_K", 256, 144),
    "q6_k": ("q6_K", 256, 210),
    "tq1_0": ("tq1_0", 256, 54),
    "tq2_0": ("tq2_0", 256, 66),
    "q2_0": ("q2_0", 64, 18),
    "mxfp4_ggml": ("mxfp4", 32, 17),
}


class Ggml:
    """The reference quantisers of one build of ggml, one thread."""

    def __init__(self, path):
        self._library = ctypes.CDLL(path)

    @staticmethod
    def from_environment(variable="SWITCHYARD_GGML_EXACT"):
        """The library that the variable names, or None."""
        path = os.environ.get(variable)
        return Ggml(path) if path else None

    @staticmethod
    def _call(function, source, target, values):
        function(
            ctypes.c_void_p(source.ctypes.data),
            ctypes.c_void_p(target.ctypes.data),
            ctypes.c_int64(values),
        )

    def quantize(self, x, format, out=None):
        """Blocks, uint8 [..., K / block * bytes], of contiguous float32 x [..., K]."""
        own, block, size = FORMATS[format]
        if out is None:
            out = np.empty((*x.shape[:-1], x.shape[-1] // block * size), np.uint8)
        self._call(getattr(self._library, f"quantize_row_{own}_ref"), x, out, x.size)
        return out

    def dequantize(self, blocks, format, out=None):
        """Values, float32 [..., K]."""
        own, block, size = FORMATS[format]
        if out is None:
            out = np.empty((*blocks.shape[:-1], blocks.shape[-1] // size * block), np.float32)
        self._call(getattr(self._library, f"dequantize_row_{own}"), blocks, out, out.size)
        return out

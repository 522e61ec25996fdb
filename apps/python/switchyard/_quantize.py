# SPDX-License-Identifier: Apache-2.0
"""Quantisation, as methods of Engine."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ._errors import InputError
from ._results import Quantized


def _range(name: str, wanted: slice, size: int) -> tuple[int, int]:
    """First and count of a slice without steps."""
    try:
        start, stop, step = wanted.indices(size)
    except TypeError:
        raise InputError(
            f"{name} must be a slice of integers, not {wanted!r}", "invalid_argument"
        ) from None
    if step != 1:
        raise InputError(f"{name} must be a slice of step 1, not {wanted!r}", "invalid_argument")
    return start, max(stop - start, 0)


def _rows(rows: Any, size: int) -> tuple[list[int], bool, tuple[int, ...] | None]:
    """What the core takes for `rows` of `size`, and the leading shape of the result, if it is not
    one dimension."""
    if rows is None:
        return [0, size], False, None
    if isinstance(rows, slice):
        return list(_range("rows", rows, size)), False, None
    try:
        one = operator.index(rows)
    except TypeError:
        wanted = np.asarray(rows)
        if wanted.size == 0:
            wanted = wanted.astype(np.int64)
        if wanted.dtype.kind not in "iu":
            raise InputError(
                f"rows must be an integer, a slice or an array of integers, not {rows!r}",
                "invalid_argument",
            ) from None
        flat = wanted.astype(np.int64).ravel()
        flat = np.where(flat < 0, flat + size, flat)
        return flat.tolist(), True, wanted.shape if wanted.ndim != 1 else None
    return [one + size if one < 0 else one, 1], False, ()


class QuantizeCalls:
    """Mixed into Engine, whose `_core` it uses."""

    _core: Any

    def quantize(
        self,
        x: Any,
        format: str,
        *,
        group_size: int | None = None,
        granularity: str = "tensor",
        scale: str | None = None,
        nonfinite: str = "error",
        rounding: str = "nearest",
        seed: int = 0,
        out: Any = None,
    ) -> Quantized:
        """Quantises x [..., K] (float32, float16 or bfloat16), byte-exact with the format's owner.

        Args:
            x: finite values; the last dimension contiguous, leading ones with any stride.
            format: blocks along K: "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q6_k", "tq1_0",
                "tq2_0", "q2_0", "mxfp4_ggml"; groups along K: "mxfp4", "mlx_affine2", 3, 4, 5, 6
                and 8, "tern2"; "ternary", "i2_s", "int8"; any case.
            group_size: 32, 64 or 128 for the MLX formats and "tern2" (default 64); 32 to 256 for
                "ternary" with granularity "group".
            granularity: one scale per "tensor" or "row" ("ternary", "tern2", "int8"), "group"
                ("ternary", "tern2") or "channel", the first dimension ("int8").
            scale: None for the owner's rule; "absmax" or "absmean" for "tq1_0", "tq2_0" and "q2_0";
                "floor" or "rceil" for the mxfp4 formats.
            nonfinite: "error", or "saturate": NaN counts as 0, infinities as the largest number.
            rounding: "nearest", or "stochastic" ("int8"): up with the probability of the fraction,
                the same for the same seed whatever computes it.
            seed: of stochastic rounding.
            out: contiguous arrays to write to: the blocks or codes, a sequence (codes, scales,
                biases), or a Quantized of an equal call. They are the arrays of the result.

        Returns:
            Quantized, with `.blocks` or `.codes`, `.scales`, `.biases` (None where absent),
            `.format` and `.shape`.

        Raises:
            InputError: "shape" (K is no multiple of the block), "dtype", "nonfinite" or "overflow"
                (`.index` names the first such value), "usage" (unknown format or option).
        """
        return self._core.quantize(
            x,
            format,
            group_size,
            granularity,
            scale,
            nonfinite,
            rounding,
            seed,
            out,
        )

    def dequantize(
        self, q: Quantized, *, rows: Any = None, columns: slice | None = None, out: Any = None
    ) -> Any:
        """The values of q, in its original shape and dtype, or written to `out`.

        Args:
            q: from `quantize`, or a Quantized made from stored arrays.
            rows: only these, leaving the codes of all others alone: an integer, a slice of step 1,
                or an array of integers in any order (an embedding's look-up). Rows count all
                leading dimensions of q together; negative ones count from the end.
            columns: only these, a slice whose bounds are multiples of the format's block or group.
            out: array to write to, float32, float16 or bfloat16, last dimension contiguous; its
                dtype decides the rounding. Of q's shape, or [rows, columns] of a part.

        Returns:
            The new array, or `out`. Of a part: [rows, columns]; without the first dimension for one
            integer, with the dimensions of `rows` for an array.

        Raises:
            InputError: "shape" or "dtype" where the arrays of q do not fit its format and shape,
                rows or columns are outside, or a column lies within a block; "usage" for an unknown
                format.
        """
        if rows is None and columns is None:
            return self._core.dequantize(q, out)
        if not isinstance(q, Quantized) or not q.shape:
            return self._core.dequantize(q, out)  # which says what is wrong
        wanted, listed, leading = _rows(rows, math.prod(q.shape[:-1]))
        first, count = (0, -1) if columns is None else _range("columns", columns, q.shape[-1])
        y = self._core.dequantize_part(q, wanted, listed, first, count, out)
        return y if out is not None or leading is None else y.reshape(*leading, y.shape[-1])

    def round_trip(
        self,
        x: Any,
        format: str,
        *,
        group_size: int | None = None,
        granularity: str = "tensor",
        scale: str | None = None,
        nonfinite: str = "error",
        rounding: str = "nearest",
        seed: int = 0,
        out: Any = None,
    ) -> Any:
        """x quantised and dequantised again, bit by bit as the two calls give it, without keeping
        codes. Large arrays are worked on in pieces that stay in the caches, best of all in place
        (but where one scale serves the whole tensor, and with stochastic rounding).

        Args:
            x, format, ...: as `quantize` takes them.
            out: array of x's shape to write to, float32, float16 or bfloat16, last dimension
                contiguous; x itself is allowed. None: a new array of x's dtype.

        Returns:
            The new array, or `out`.

        Raises:
            InputError: as `quantize`.
        """
        return self._core.round_trip(
            x, format, group_size, granularity, scale, nonfinite, rounding, seed, out
        )

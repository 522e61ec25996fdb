# SPDX-License-Identifier: Apache-2.0
"""What a transformer needs around attention, as methods of Engine."""

from __future__ import annotations

from typing import Any

from ._checks import _integer, _real
from ._errors import InputError
from ._results import Quantized


class LayerCalls:
    """Mixed into Engine, whose `_core` it uses."""

    _core: Any

    def matmul(
        self,
        x: Any,
        w: Any,
        *,
        transpose: bool | None = None,
        bias: Any = None,
        dtype: str | None = None,
        out: Any = None,
    ) -> Any:
        """x times a matrix, plain or quantised.

        Args:
            x: [..., K], float32, float16 or bfloat16; any strides.
            w: an array [K, N] of x's dtype, any strides; or a Quantized of weights [N, K] in
                "q4_0", "q8_0", "tq1_0", "tq2_0", "mlx_affine4" or "mlx_affine8".
            transpose: True: w is [N, K], as linear layers hold it, and the result x @ w.T. None:
                False for an array, True for quantised weights, which know no other way.
            bias: float32 [N], added to each row.
            dtype: "f32" for a float32 result of 16-bit inputs; None for x's dtype.
            out: array of [..., N], float32 or x's dtype, to write to.

        Returns:
            [..., N]. Quantised weights: x is rounded to int8 block by block, and every backend
            gives the same bits (docs/layers.md).

        Raises:
            InputError: "shape", "dtype"; Error: "unsupported" for another quantised format.
        """
        wanted = "" if dtype is None else str(dtype)
        if isinstance(w, Quantized):
            if transpose is False:
                raise InputError(
                    "quantised weights are [outputs, inputs] and are multiplied transposed: leave "
                    "transpose at None",
                    "invalid_argument",
                )
            codes = w.blocks if w.blocks is not None else w.codes
            return self._core.matmul_quantised(
                x, codes, w.scales, w.biases, w.format, w.group_size, w.shape, bias, wanted, out
            )
        return self._core.matmul(x, w, bool(transpose), bias, wanted, out)

    def rms_norm(self, x: Any, weight: Any = None, *, eps: float = 1e-5, out: Any = None) -> Any:
        """x / sqrt(mean(x**2) + eps) * weight over the last dimension, in x's dtype.

        Args:
            x: [..., D], float32, float16 or bfloat16; any strides.
            weight: [D], float32 or x's dtype; None for 1.
            eps: >= 0.
            out: array like x to write to.
        """
        return self._core.rms_norm(x, weight, _real("eps", eps), out)

    def layer_norm(
        self, x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5, out: Any = None
    ) -> Any:
        """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension.

        Args as for rms_norm; bias like the weight, None for 0.
        """
        return self._core.layer_norm(x, weight, bias, _real("eps", eps), out)

    def swiglu(self, gate: Any, up: Any, *, out: Any = None) -> Any:
        """up * gate / (1 + exp(-gate)), element by element; both of one shape and dtype."""
        return self._core.swiglu(gate, up, out)

    def gelu(self, x: Any, *, approximate: str = "none", out: Any = None) -> Any:
        """x times the normal distribution function at x; approximate="tanh" for the formula that
        some models were trained with."""
        if approximate not in ("none", "tanh"):
            raise InputError(
                f"approximate must be 'none' or 'tanh', not {approximate!r}", "invalid_argument"
            )
        return self._core.gelu(x, approximate == "tanh", out)

    def rope(
        self,
        x: Any,
        *,
        offset: int = 0,
        positions: Any = None,
        interleaved: bool = False,
        rotary: int | None = None,
        base: float = 10000.0,
        scale: float = 1.0,
        frequencies: Any = None,
        out: Any = None,
    ) -> Any:
        """Rotary position embedding.

        Args:
            x: [B, H, L, D], [H, L, D] or [L, D]; float32, float16 or bfloat16, any strides.
            offset: position of the first row, such as the tokens already in a cache.
            positions: int32 [L] or [B, L] instead of the offset.
            interleaved: True: values 2j and 2j + 1 turn together (GPT-J); False: j and j + D / 2
                (GPT-NeoX, Hugging Face's Llama).
            rotary: how many values of a row turn; None for all.
            base: of the frequencies base**(-2j / rotary).
            scale: of positions: 1 / factor for linear interpolation.
            frequencies: float32 [rotary / 2] instead of the base.
            out: array like x to write to.
        """
        return self._core.rope(
            x,
            _integer("offset", offset, 0, 2**40),
            positions,
            bool(interleaved),
            0 if rotary is None else _integer("rotary", rotary, 2, 2**31 - 2),
            _real("base", base),
            _real("scale", scale),
            frequencies,
            out,
        )

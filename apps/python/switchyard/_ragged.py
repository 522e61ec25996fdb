# SPDX-License-Identifier: Apache-2.0
"""Attention of sequences of different lengths that lie one behind the other."""

from __future__ import annotations

import math
from typing import Any

from . import _arrays
from ._checks import _finite, _integer, _positive
from ._errors import InputError
from ._results import remember

# sy_causal of the C interface. True means bottom-right: queries are the last positions.
CAUSAL = {False: 0, True: 2, "none": 0, "top_left": 1, "bottom_right": 2}


def causal_number(causal: Any) -> int:
    if not isinstance(causal, (bool, str)) or causal not in CAUSAL:
        raise InputError(
            f"causal must be False, True, 'top_left' or 'bottom_right', not {causal!r}",
            "invalid_argument",
        )
    return CAUSAL[causal]


class RaggedCalls:
    """Methods of Engine."""

    _core: Any

    def attention_ragged(
        self,
        q: Any,
        k: Any,
        v: Any,
        q_offsets: Any,
        kv_offsets: Any,
        *,
        causal: bool | str = False,
        window: int | None = None,
        softcap: float | None = None,
        scale: float | None = None,
        sinks: Any = None,
        alibi: Any = None,
        return_lse: bool = False,
        out: Any = None,
    ) -> Any:
        """Attention of each sequence by itself.

        Args:
            q: [positions, heads, head_dim]; k and v: [keys, kv_heads, dim], of one dtype.
            q_offsets, kv_offsets: int32 [sequences + 1], ascending from 0: sequence b has the
                queries q_offsets[b] to q_offsets[b + 1] - 1, and keys likewise.
            out: array of [positions, heads, value_dim] and q's dtype to write to.
            Others: as in `attention`.

        Returns:
            The output [positions, heads, value_dim] (or `out`); with return_lse a pair (output, lse
            float32 [positions, heads]).
        """
        torch_out = _arrays.is_torch(q, "q")
        if out is None:
            _arrays.check_bf16_output(_arrays.is_bf16(q), torch_out)
        o, lse, dtype, info = self._core.attention_ragged(
            q,
            k,
            v,
            q_offsets,
            kv_offsets,
            causal_number(causal),
            None if window is None else _integer("window", window, 1, 2**62),
            0.0 if softcap is None else _positive("softcap", softcap),
            math.nan if scale is None else _finite("scale", scale),
            sinks,
            alibi,
            bool(return_lse),
            out,
        )
        remember(info)
        if out is None:
            o = _arrays.wrap(o, dtype, torch_out)
        return (o, _arrays.wrap(lse, "", torch_out)) if return_lse else o

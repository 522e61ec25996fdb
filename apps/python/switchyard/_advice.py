# SPDX-License-Identifier: Apache-2.0
"""Does it pay to hand an attention call to Switchyard? For hosts with attention of their own."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from . import _core
from ._checks import _integer, _real, _text
from ._errors import InputError

_MOST = 2**62
_CAUSAL = {False: "none", True: "bottom_right"}
_CAUSAL |= {word: word for word in ("none", "top_left", "bottom_right", "causal")}
_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class AttentionConfig:
    """An attention call without its data.

    Attributes:
        batch, q_heads, kv_heads, q_len, head_dim: sizes. kv_len: keys, None for q_len; value_dim:
            None for head_dim.
        dtype: "f32", "f16" or "bf16".
        causal: as in Engine.attention; "causal" where it is not known which of "top_left" and
            "bottom_right" is meant.
        window: keys that a query sees, or None.
        mask, alibi, sinks, softcap, return_lse: are they there?
        blhd, blhd_out: inputs, output lie in memory as [batch, length, heads, dim].
        requires_grad, dropout: what the host wants beyond a forward pass.
        expanded: K and V have one head in memory, shown kv_heads times by a stride of 0.
    """

    q_heads: int
    kv_heads: int
    q_len: int
    kv_len: int | None = None
    head_dim: int = 64
    value_dim: int | None = None
    batch: int = 1
    dtype: str = "f32"
    causal: bool | str = False
    window: int | None = None
    mask: bool = False
    alibi: bool = False
    sinks: bool = False
    softcap: bool = False
    return_lse: bool = False
    blhd: bool = False
    blhd_out: bool = False
    requires_grad: bool = False
    dropout: float = 0.0
    expanded: bool = False

    @classmethod
    def of(cls, q: Any, k: Any, v: Any, **others: Any) -> AttentionConfig:
        """Sizes, dtype, layout and gradients of arrays [batch, heads, length, head_dim].

        Args:
            q, k, v: NumPy arrays or torch tensors; nothing of their data is read.
            **others: the attributes that arrays do not show: causal, window, mask, dropout, ...
        """
        shapes = [tuple(int(n) for n in x.shape) for x in (q, k, v)]
        if any(len(s) != 4 for s in shapes):
            raise InputError(
                f"q, k and v have shapes {shapes}; they must be [batch, heads, length, head_dim]",
                "shape",
            )
        (b, hq, lq, d), (_, hkv, lkv, _), (*_, dv) = shapes
        shared = [_strides(x)[1] == 0 and x.shape[1] > 1 for x in (k, v)]
        found = {
            "batch": b,
            "q_heads": hq,
            "kv_heads": hkv,
            "q_len": lq,
            "kv_len": lkv,
            "head_dim": d,
            "value_dim": dv,
            "dtype": _dtype(q),
            "blhd": _is_blhd(q) or (not shared[0] and _is_blhd(k)),
            "requires_grad": _wants_grad(q, k, v),
            "expanded": all(shared),
        }
        return cls(**(found | others))

    @property
    def pattern(self) -> str:
        """ "MHA", "MQA" or "GQA-n:1", of the key heads in memory."""
        return _core.attention_pattern(self._fields())

    def _fields(self) -> tuple:
        if self.causal not in _CAUSAL:
            raise InputError(
                "causal must be False, True, 'top_left', 'bottom_right' or 'causal', not "
                f"{self.causal!r}",
                "invalid_argument",
            )
        named = {
            "batch": self.batch,
            "q_heads": self.q_heads,
            "kv_heads": self.kv_heads,
            "q_len": self.q_len,
            "kv_len": self.q_len if self.kv_len is None else self.kv_len,
            "head_dim": self.head_dim,
            "value_dim": self.head_dim if self.value_dim is None else self.value_dim,
            "window": 0 if self.window is None else self.window,
        }
        sizes = tuple(_integer(name, n, 0, _MOST) for name, n in named.items())
        flags = (self.mask, self.alibi, self.sinks, self.softcap, self.return_lse)
        flags += (self.blhd, self.blhd_out, self.requires_grad, self.expanded)
        return (
            sizes,
            _text("dtype", self.dtype),
            _CAUSAL[self.causal],
            tuple(map(bool, flags)),
            _real("dropout", self.dropout),
        )


class Advice(NamedTuple):
    """An answer. `optimize, reason = advice[:2]`; `kind` is the reason without numbers, `kernel` who
    would answer, expected_ms its time (0: unknown), host_ms the host's own (0: not observed)."""

    optimize: bool
    reason: str
    kind: str
    kernel: str
    expected_ms: float
    host_ms: float


class AttentionAdvisor:
    """Answers from thresholds, from what an engine measured or predicts, and from the host's times.

    Args:
        engine: asked for its evidence; kept alive.
        min_seq_len, max_seq_len: keys; 0 for no limit.
        gqa_ratio_min: query heads per key head.
        min_heads: query heads.
        min_work_us: calls expected to take less are too little work.
    """

    def __init__(
        self,
        engine: Any,
        *,
        min_seq_len: int = 0,
        max_seq_len: int = 0,
        gqa_ratio_min: int = 0,
        min_heads: int = 0,
        min_work_us: float = 5.0,
    ) -> None:
        self._core = _core.AttentionAdvisor(
            engine._core,
            _integer("min_seq_len", min_seq_len, 0, _MOST),
            _integer("max_seq_len", max_seq_len, 0, _MOST),
            _integer("gqa_ratio_min", gqa_ratio_min, 0, _MOST),
            _integer("min_heads", min_heads, 0, _MOST),
            _real("min_work_us", min_work_us),
        )

    def advise(self, config: AttentionConfig) -> Advice:
        """Should the call be handed over, and all that is known of it. Counted in `status`."""
        return Advice(*self._core.should_optimize(config._fields()))

    def should_optimize(self, config: AttentionConfig) -> tuple[bool, str]:
        """(whether to hand the call over, the reason in words). Counted in `status`."""
        return self.advise(config)[:2]

    def observe(self, config: AttentionConfig, host_ms: float) -> None:
        """Tells how long the host's own attention took for such a call; the median of the last nine
        counts, once there are three."""
        self._core.observe(config._fields(), _real("host_ms", host_ms))

    def observed(self, config: AttentionConfig) -> bool:
        """Were enough times told for a call like this?"""
        return self._core.observed(config._fields())

    def status(self) -> dict[str, Any]:
        """asked, optimized, rate (optimized / asked), declined by kind of reason, patterns."""
        return self._core.status()

    def reset_status(self) -> None:
        self._core.reset_status()


@dataclass(frozen=True)
class ModelAttention:
    """The attention of a published model; `window` and `softcap` are 0 where it has none."""

    name: str
    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int
    softcap: float

    def config(
        self, q_len: int, kv_len: int | None = None, *, dtype: str = "bf16", batch: int = 1
    ) -> AttentionConfig:
        """`q_len` new positions over `kv_len` keys (None: q_len), causal."""
        return AttentionConfig(
            batch=batch,
            q_heads=self.q_heads,
            kv_heads=self.kv_heads,
            q_len=q_len,
            kv_len=kv_len,
            head_dim=self.head_dim,
            value_dim=self.value_dim,
            dtype=dtype,
            causal=True,
            window=self.window or None,
            softcap=self.softcap > 0,
        )

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def attention_models() -> dict[str, ModelAttention]:
    """Attention shapes of published models, by name."""
    return {fields[0]: ModelAttention(*fields) for fields in _core.attention_models()}


def _strides(x: Any) -> tuple[int, ...]:
    """In elements."""
    if callable(getattr(x, "stride", None)):
        return tuple(x.stride())
    return tuple(n // x.itemsize for n in x.strides)


def _is_blhd(x: Any) -> bool:
    _, heads, length, _ = x.shape
    strides = _strides(x)
    return heads > 1 and length > 1 and strides[1] != 0 and strides[2] > strides[1]


def _dtype(x: Any) -> str:
    name = str(x.dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise InputError(f"q is {name}; it must be float32, float16 or bfloat16", "dtype")
    return _DTYPES[name]


def _wants_grad(*arrays: Any) -> bool:
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and torch.is_grad_enabled()
        and any(getattr(x, "requires_grad", False) for x in arrays)
    )

# SPDX-License-Identifier: Apache-2.0
"""Key-value caches: what a layer's attention remembers of earlier positions."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from . import _arrays, _core
from ._checks import _finite, _integer, _positive, _text
from ._errors import InputError
from ._results import remember

_MOST = 2**62


class KVBudget:
    """Counts the bytes of the caches that share it, and limits them (cap 0: no limit)."""

    def __init__(self, cap: int = 0) -> None:
        self._core = _core.KVBudget(_integer("cap", cap, 0, _MOST))

    @property
    def cap(self) -> int:
        return self._core.cap()

    @property
    def used(self) -> int:
        return self._core.used()

    @property
    def peak(self) -> int:
        return self._core.peak()


class KVCache:
    """A layer's keys and values. Attention is causal; each query sees the same keys however the
    tokens came, in chunks of any size, before a rotating cache wraps and after.

    Args:
        engine: answers the attention calls.
        kv_heads, head_dim, value_dim (None: head_dim), batch: shape of k [batch, kv_heads, n,
            head_dim] and v.
        kind: "contiguous" grows; "rotating" remembers the first `keep` tokens and the last
            capacity - keep; "paged" grows by pages that forks share until one writes.
        format: "plain", "q8" (blocks of q8_0) or "q4" (mlx_affine4).
        dtype: of k and v: "f32", "f16" or "bf16".
        capacity: rotating: most tokens that a query sees; else tokens to make room for at once.
        keep: rotating: first tokens that stay.
        rewind: rotating: how far `trim` can go back after the wrap.
        page_size: paged: tokens in a page.
        budget: a KVBudget to count in.

    A cache is for one thread at a time.

    Raises:
        InputError: options that do not fit together.
        Error: "out_of_memory", also where the budget is used up.
    """

    def __init__(
        self,
        engine: Any,
        *,
        kv_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        batch: int = 1,
        kind: str = "contiguous",
        format: str = "plain",
        dtype: str = "f32",
        capacity: int = 0,
        keep: int = 0,
        rewind: int = 0,
        page_size: int = 64,
        budget: KVBudget | None = None,
    ) -> None:
        options = _options(
            kind, format, dtype, batch, kv_heads, head_dim, value_dim, capacity, keep, rewind,
            page_size, budget,
        )  # fmt: skip
        self._core = _core.KVCache.create(engine._core, options)

    @classmethod
    def load(
        cls,
        engine: Any,
        path: str | os.PathLike[str],
        *,
        key: str = "",
        kv_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        batch: int = 1,
        kind: str = "contiguous",
        format: str = "plain",
        dtype: str = "f32",
        capacity: int = 0,
        keep: int = 0,
        rewind: int = 0,
        page_size: int = 64,
        budget: KVBudget | None = None,
    ) -> KVCache:
        """A saved cache, if it is the one described; else Error or InputError says what differs."""
        options = _options(
            kind, format, dtype, batch, kv_heads, head_dim, value_dim, capacity, keep, rewind,
            page_size, budget,
        )  # fmt: skip
        return cls._of(_core.KVCache.load(engine._core, os.fspath(path), options, _text("key", key)))

    @classmethod
    def _of(cls, core: Any) -> KVCache:
        cache = object.__new__(cls)
        cache._core = core
        return cache

    def __len__(self) -> int:
        """Positions appended and not trimmed."""
        return self._core.length()

    @property
    def held(self) -> int:
        """Positions in memory."""
        return self._core.held()

    @property
    def trimmable(self) -> int:
        """How many positions the next `trim` may take."""
        return self._core.trimmable()

    def append(self, k: Any, v: Any) -> None:
        """Remembers new positions: k [batch, kv_heads, n, head_dim], v likewise. Quantised caches
        refuse NaN and infinities."""
        self._core.append(k, v)

    def attend(
        self,
        q: Any,
        *,
        window: int | None = None,
        softcap: float | None = None,
        mask: Any = None,
        scale: float | None = None,
        sinks: Any = None,
        alibi: Any = None,
        return_lse: bool = False,
        out: Any = None,
    ) -> Any:
        """Attends with q [batch, heads, n, head_dim] at the last n positions; the other arguments
        are Engine.attention's. A mask is [.., n, len(cache)], not for rotating caches.

        Returns:
            The output [batch, heads, n, value_dim] (or `out`); with return_lse a pair.
        """
        call = _call(window, softcap, mask, scale, sinks, alibi, return_lse)
        return _answer(q, out, return_lse, lambda target: self._core.attend(q, *call, target))

    def update(
        self,
        q: Any,
        k: Any,
        v: Any,
        *,
        window: int | None = None,
        softcap: float | None = None,
        mask: Any = None,
        scale: float | None = None,
        sinks: Any = None,
        alibi: Any = None,
        return_lse: bool = False,
        out: Any = None,
    ) -> Any:
        """append(k, v), then attend with q at the last of the new positions."""
        call = _call(window, softcap, mask, scale, sinks, alibi, return_lse)
        return _answer(q, out, return_lse, lambda target: self._core.update(q, k, v, *call, target))

    @staticmethod
    def attend_all(
        caches: Sequence[KVCache],
        q: Any,
        *,
        window: int | None = None,
        softcap: float | None = None,
        scale: float | None = None,
        sinks: Any = None,
        alibi: Any = None,
        return_lse: bool = False,
        out: Any = None,
    ) -> Any:
        """One sequence for each of several paged caches that share pages (fork, sibling): q
        [len(caches), heads, n, head_dim] at the last n positions of each. Lengths may differ."""
        call = _call(window, softcap, None, scale, sinks, alibi, return_lse)
        cores = [c._core for c in caches]
        return _answer(
            q, out, return_lse, lambda target: _core.KVCache.attend_all(cores, q, *call, target)
        )

    def trim(self, n: int) -> None:
        """Forgets the last n positions, as if they had never been. InputError beyond `trimmable`,
        unless all but kept tokens are forgotten."""
        self._core.trim(_integer("n", n, 0, _MOST))

    def copy(self) -> KVCache:
        return KVCache._of(self._core.copy())

    def fork(self) -> KVCache:
        """A paged cache that shares this one's pages until one of them writes there; else a copy."""
        return KVCache._of(self._core.fork())

    def sibling(self) -> KVCache:
        """An empty paged cache over the same pages."""
        return KVCache._of(self._core.sibling())

    def read(self, begin: int = 0, count: int | None = None) -> tuple[Any, Any]:
        """Keys and values of held positions in order; float32 where they are quantised."""
        begin = _integer("begin", begin, 0, _MOST)
        count = self.held - begin if count is None else count
        k, v, dtype = self._core.read(begin, _integer("count", count, 0, _MOST))
        _arrays.check_bf16_output(dtype == "bf16", False)
        return _arrays.wrap(k, dtype, False), _arrays.wrap(v, dtype, False)

    def memory(self) -> dict[str, int]:
        """Bytes: reserved (of a paged cache: by all its pages), used, shared, per_token."""
        return self._core.memory()

    def save(self, path: str | os.PathLike[str], *, key: str = "") -> None:
        """Replaces the file in one step. `key` says what the tokens are."""
        self._core.save(os.fspath(path), _text("key", key))


def _options(
    kind: str, format: str, dtype: str, batch: int, kv_heads: int, head_dim: int,
    value_dim: int | None, capacity: int, keep: int, rewind: int, page_size: int,
    budget: KVBudget | None,
) -> Any:  # fmt: skip
    if budget is not None and not isinstance(budget, KVBudget):
        raise InputError(f"budget must be a KVBudget, not {budget!r}", "invalid_argument")
    numbers = {
        "batch": batch,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "value_dim": 0 if value_dim is None else value_dim,
        "capacity": capacity,
        "keep": keep,
        "rewind": rewind,
        "page_size": page_size,
    }
    return _core.KVCacheOptions.make(
        _text("kind", kind),
        _text("format", format),
        _text("dtype", dtype),
        *(_integer(name, n, 0, _MOST) for name, n in numbers.items()),
        None if budget is None else budget._core,
    )


def _call(
    window: int | None, softcap: float | None, mask: Any, scale: float | None, sinks: Any,
    alibi: Any, return_lse: bool,
) -> tuple:  # fmt: skip
    return (
        None if window is None else _integer("window", window, 1, _MOST),
        0.0 if softcap is None else _positive("softcap", softcap),
        mask,
        math.nan if scale is None else _finite("scale", scale),
        sinks,
        alibi,
        bool(return_lse),
    )


def _answer(q: Any, out: Any, return_lse: bool, run: Any) -> Any:
    torch_out = _arrays.is_torch(q, "q")
    if out is None:
        _arrays.check_bf16_output(_arrays.is_bf16(q), torch_out)
    o, lse, dtype, info = run(out)
    remember(info)
    if out is None:
        o = _arrays.wrap(o, dtype, torch_out)
    return (o, _arrays.wrap(lse, "", torch_out)) if return_lse else o

# SPDX-License-Identifier: Apache-2.0
"""torch's scaled_dot_product_attention, answered by Switchyard where that is right and pays."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from typing import Any

import torch
from torch.nn.attention.bias import CausalBias, CausalVariant
from torch.overrides import TorchFunctionMode

from ._advice import AttentionAdvisor, AttentionConfig
from ._engine import Engine, default_engine
from ._errors import Error, InputError

#: torch's own function, whatever patches come later.
ORIGINAL = torch.nn.functional.scaled_dot_product_attention

_log = logging.getLogger("switchyard.torch")
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_PAIRS = 3  # calls of a class that are timed both ways
_MOST_REMEMBERED = 1 << 14


class _Decline(Exception):
    """Why a call is left to torch: in words, and without numbers for counting."""

    def __init__(self, reason: str, kind: str | None = None) -> None:
        super().__init__(reason)
        self.kind = reason if kind is None else kind


class _Pairs:
    """Times of one class of calls, Switchyard's and torch's."""

    __slots__ = ("ours", "rounds", "theirs")

    def __init__(self) -> None:
        self.ours = self.theirs = float("inf")
        self.rounds = 0


class Attention(TorchFunctionMode):
    """Context manager: in this thread, calls of scaled_dot_product_attention go through Switchyard.

    Every reference to the function is seen, captured ones too. Blocks nest, the innermost decides;
    one object may serve several threads, each in a block of its own. Leaving a block restores what
    was before, also after an exception. Other torch functions pass through (about a microsecond
    each; `patch` costs them nothing).

    Calls are left to torch, and the reason counted, where they are not supported (gradients,
    dropout, devices, tensor subclasses, compiling), excluded by the limits below, expected to be
    too little work, or - with `compare` - where torch turned out to be faster.

    Args:
        engine: a switchyard.Engine; None for the one that the process shares.
        min_seq_len, max_seq_len: keys that a call has at least, at most; 0: no limit.
        gqa_ratio_min: query heads per key head that a call has at least.
        min_heads: query heads that a call has at least.
        min_work_us: calls expected to take less are too little work.
        compare: time torch beside the first three calls of each class of sizes, and leave the class
            to torch where that was faster. False: results depend on no clock.
        debug: log each call, in words, to standard error.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        min_seq_len: int = 64,
        max_seq_len: int = 0,
        gqa_ratio_min: int = 0,
        min_heads: int = 0,
        min_work_us: float = 5.0,
        compare: bool = True,
        debug: bool = False,
    ) -> None:
        super().__init__()
        if engine is None:
            engine = default_engine()
        if not isinstance(engine, Engine):
            raise InputError(
                f"engine must be a switchyard.Engine, not {engine!r}", "invalid_argument"
            )
        self._engine = engine
        self._advisor = AttentionAdvisor(
            engine,
            min_seq_len=min_seq_len,
            max_seq_len=max_seq_len,
            gqa_ratio_min=gqa_ratio_min,
            min_heads=min_heads,
            min_work_us=min_work_us,
        )
        self._compare = bool(compare)
        self._debug = bool(debug)
        self._lock = threading.Lock()
        self._advice: dict[tuple, tuple[bool, str, str]] = {}
        self._pairs: dict[tuple, _Pairs] = {}
        self._patterns: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    # As a context manager: TorchFunctionMode keeps the stack of the thread.

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is ORIGINAL:
            return self.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        """torch.nn.functional.scaled_dot_product_attention; the arguments are the same."""
        if not torch.compiler.is_compiling():  # which would follow us to where it cannot
            try:
                return self._hand_over(
                    query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
                )
            except _Decline as decline:
                self._count(self._reasons, decline.kind)
                if self._debug:
                    self._tell(f"Falling back: {decline}")
        return ORIGINAL(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )

    def status(self) -> dict[str, Any]:
        """What became of the calls so far.

        Returns:
            dict with calls, optimized (answered by Switchyard), optimization_rate (their share),
            patterns (of the optimised: {"GQA-5:1": count}) and reasons (of the others).
        """
        with self._lock:
            optimized = sum(self._patterns.values())
            calls = optimized + sum(self._reasons.values())
            return {
                "calls": calls,
                "optimized": optimized,
                "optimization_rate": optimized / calls if calls else 0.0,
                "patterns": dict(self._patterns),
                "reasons": dict(self._reasons),
            }

    def reset_status(self) -> None:
        """Counts from zero again; what was learnt of times stays."""
        with self._lock:
            self._patterns.clear()
            self._reasons.clear()

    def _count(self, counter: Counter[str], name: str) -> None:
        with self._lock:
            counter[name] += 1

    def _hand_over(
        self,
        q: Any,
        k: Any,
        v: Any,
        mask: Any,
        dropout: float,
        is_causal: bool,
        scale: float | None,
        enable_gqa: bool,
    ) -> Any:
        _check_tensors(q, k, v, mask)
        _check_state(q)
        causal = _causality(q, k, mask, is_causal)
        if isinstance(mask, CausalBias):
            mask = None
        _check_shapes(q, k, v, mask, enable_gqa)
        key = _key(q, k, v, mask, causal, dropout)
        known = self._advice.get(key) or self._advise(key, q, k, v, mask, causal, dropout)
        optimize, words, kind = known
        if not optimize:
            raise _Decline(words, kind)
        pairs = self._pairs_of(key) if self._compare else None
        if pairs is not None and pairs.rounds >= _PAIRS and pairs.theirs < pairs.ours:
            raise _Decline(
                f"torch takes {pairs.theirs * 1e3:.3g} ms here, Switchyard "
                f"{pairs.ours * 1e3:.3g} ms",
                "torch is faster",
            )
        try:
            if pairs is None or pairs.rounds >= _PAIRS:
                out = self._run(q, k, v, mask, causal, scale)
            else:
                out = self._run_beside(pairs, q, k, v, mask, causal, scale, enable_gqa)
        except Error as error:
            raise _Decline(f"{error.code}: {error}", f"error: {error.code}") from error
        self._count(self._patterns, kind)
        if self._debug:
            self._tell(f"Applying {words}")
        return out

    def _run(self, q: Any, k: Any, v: Any, mask: Any, causal: str, scale: float | None) -> Any:
        # Nobody wants gradients here; DLPack refuses to export whatever might.
        q, k, v = (x.detach() if x.requires_grad else x for x in (q, k, v))
        if mask is not None and mask.requires_grad:
            mask = mask.detach()
        return self._engine.attention(q, k, v, causal=causal, mask=mask, scale=scale)

    def _run_beside(
        self,
        pairs: _Pairs,
        q: Any,
        k: Any,
        v: Any,
        mask: Any,
        causal: str,
        scale: float | None,
        enable_gqa: bool,
    ) -> Any:
        """Runs both, keeps the times and Switchyard's result."""
        start = time.perf_counter()
        out = self._run(q, k, v, mask, causal, scale)
        between = time.perf_counter()
        # A lower-right bias is given to torch as such: what it does with it is what counts.
        bias = mask
        if causal == "bottom_right":
            bias = CausalBias(CausalVariant.LOWER_RIGHT, q.shape[-2], k.shape[-2])
        with torch.no_grad():
            ORIGINAL(
                q,
                k,
                v,
                bias,
                0.0,
                causal == "top_left",
                scale=scale,
                enable_gqa=enable_gqa,
            )
        end = time.perf_counter()
        with self._lock:
            pairs.ours = min(pairs.ours, between - start)
            pairs.theirs = min(pairs.theirs, end - between)
            pairs.rounds += 1
        return out

    def _pairs_of(self, key: tuple) -> _Pairs:
        """Those of the key's class: lengths within a factor of two."""
        lq, lkv, *rest = key
        of_class = (lq.bit_length(), lkv.bit_length(), *rest)
        pairs = self._pairs.get(of_class)
        if pairs is None:
            with self._lock:
                pairs = self._pairs.setdefault(of_class, _Pairs())
        return pairs

    def _advise(
        self, key: tuple, q: Any, k: Any, v: Any, mask: Any, causal: str, dropout: float
    ) -> tuple[bool, str, str]:
        if q.ndim == 3:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
        config = AttentionConfig.of(
            q, k, v, causal=causal, mask=mask is not None, blhd_out=True, dropout=dropout
        )
        advice = self._advisor.advise(config)
        if advice.optimize:
            shape = (
                f"{config.pattern}: batch {config.batch}, {config.q_heads} query heads over "
                f"{config.kv_heads} key heads, {config.q_len} queries, {config.kv_len} keys, "
                f"head_dim {config.head_dim}, {config.dtype}"
            )
            shape += ", causal" if causal != "none" else ", mask" if mask is not None else ""
            answer = True, shape, config.pattern
        else:
            answer = False, advice.reason, advice.kind
        if advice.kind in ("not_verified_yet", "no_backend"):  # it may be another one next time
            return answer
        with self._lock:
            if len(self._advice) >= _MOST_REMEMBERED:
                self._advice.clear()
            self._advice[key] = answer
        return answer

    def _tell(self, text: str) -> None:
        if not _log.isEnabledFor(logging.DEBUG):
            if not _log.handlers:
                _log.addHandler(logging.StreamHandler(sys.stderr))
            _log.setLevel(logging.DEBUG)
        _log.debug(text)


def _check_tensors(q: Any, k: Any, v: Any, mask: Any) -> None:
    for x in (q, k, v):
        if type(x) not in _PLAIN:
            raise _Decline(f"{type(x).__name__} is not a plain tensor", "tensor subclass")
        if x.device.type != "cpu":
            raise _Decline(f"tensors on {x.device.type}", "device")
        if x.layout is not torch.strided:
            raise _Decline("sparse or nested tensors", "layout")
    if q.dtype not in _DTYPES or k.dtype is not q.dtype or v.dtype is not q.dtype:
        raise _Decline(f"dtypes {q.dtype}, {k.dtype} and {v.dtype}", "dtype")
    wanted = q.requires_grad or k.requires_grad or v.requires_grad
    if mask is not None and not isinstance(mask, CausalBias):
        if type(mask) not in _PLAIN:
            raise _Decline(f"a mask of type {type(mask).__name__}", "tensor subclass")
        if mask.device.type != "cpu" or mask.layout is not torch.strided:
            raise _Decline("the mask is no dense tensor in host memory", "device")
        if mask.dtype is not torch.bool and mask.dtype not in (q.dtype, torch.float32):
            raise _Decline(f"a mask of {mask.dtype}", "mask dtype")
        wanted = wanted or mask.requires_grad
    if wanted and torch.is_grad_enabled():
        raise _Decline("gradients are wanted", "requires_grad")


def _check_state(q: Any) -> None:
    """Whoever rewrites torch's calls - tracers, transforms, other modes - gets torch's own."""
    if torch.jit.is_tracing():
        raise _Decline("torch.jit is tracing", "tracing")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise _Decline("a function transform (vmap, grad) is at work", "transform")
    if torch._C._len_torch_dispatch_stack() > 0:
        raise _Decline("a torch dispatch mode is at work", "dispatch mode")
    if torch.is_autocast_enabled("cpu") and q.dtype is not torch.get_autocast_dtype("cpu"):
        raise _Decline("autocast would change the dtype", "autocast")


def _causality(q: Any, k: Any, mask: Any, is_causal: bool) -> str:
    if isinstance(mask, CausalBias):
        lengths = q.shape[-2], k.shape[-2]
        if is_causal or (mask.seq_len_q, mask.seq_len_kv) != lengths:
            raise _Decline("a CausalBias of other lengths, or is_causal beside it", "ambiguous causal")
        if mask.variant == CausalVariant.UPPER_LEFT or lengths[0] == lengths[1]:
            return "top_left"
        if lengths[0] > lengths[1]:
            raise _Decline("a lower-right bias with more queries than keys", "ambiguous causal")
        return "bottom_right"
    if not is_causal:
        return "none"
    if mask is not None:
        raise _Decline("both a mask and is_causal", "ambiguous causal")
    return "top_left"


def _check_shapes(q: Any, k: Any, v: Any, mask: Any, enable_gqa: bool) -> None:
    """Calls that torch would refuse, or answer by broadcasting, are torch's."""
    rank = q.ndim
    if rank not in (3, 4) or k.ndim != rank or v.ndim != rank:
        raise _Decline(f"{q.ndim}, {k.ndim} and {v.ndim} dimensions", "rank")
    qs, ks, vs = q.shape, k.shape, v.shape
    if ks[:-1] != vs[:-1] or qs[-1] != ks[-1] or (rank == 4 and qs[0] != ks[0]):
        raise _Decline(f"shapes {tuple(qs)}, {tuple(ks)} and {tuple(vs)}", "shape")
    heads, shared = qs[-3], ks[-3]
    if heads != shared and (not enable_gqa or shared == 0 or heads % shared != 0):
        raise _Decline(f"{heads} query heads and {shared} key heads", "heads")
    if 0 in qs or 0 in vs:
        raise _Decline("an empty tensor", "empty")
    if mask is None:
        return
    full = (*qs[:-1], ks[-2])
    if mask.ndim > rank or any(m not in (1, n) for m, n in zip(mask.shape[::-1], full[::-1])):
        raise _Decline(f"a mask of shape {tuple(mask.shape)}", "mask shape")


def _key(q: Any, k: Any, v: Any, mask: Any, causal: str, dropout: float) -> tuple:
    """What advice depends on, lengths first."""
    qs = q.shape
    return (
        qs[-2],
        k.shape[-2],
        qs[:-2],
        k.shape[-3],
        qs[-1],
        v.shape[-1],
        q.dtype,
        causal,
        mask is not None,
        dropout > 0.0,
        q.stride()[-3] < qs[-1] * qs[-2],
        k.stride()[-3] == 0,
    )

# SPDX-License-Identifier: Apache-2.0
"""The Engine: names, defaults and documentation around switchyard._core."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Any

from . import _core
from ._checks import _integer, _real, _text
from ._errors import InputError
from ._host import BackendConfig, CallTiming, benchmark
from ._kmeans import KMeansCalls
from ._layers import LayerCalls
from ._quantize import QuantizeCalls
from ._ragged import RaggedCalls
from ._results import KMeansResult


class _Default(str):
    """A default that can be told from the same text given by the caller."""

    __slots__ = ()


_ADAPTIVE = _Default("adaptive")


class Engine(KMeansCalls, LayerCalls, QuantizeCalls, RaggedCalls):
    """Routes calls to verified, measured backends. Thread-safe; the GIL is released while it works.

    Arrays are read where they are, whatever their strides: NumPy arrays, torch tensors, and
    whatever else has DLPack or the buffer protocol, in host memory. Results are torch tensors where
    the first argument is one, otherwise NumPy arrays that own their memory.

    Args:
        preset: "development", "production-cpu", "speed", ...; None for the defaults.
        config: path of a YAML file with an `engine:` section; it overrides the preset.
        threads: most threads a call may use; None for what affinity and cgroup allow.
        pin: operation -> backend, such as {"kmeans": "avx512"}. A pinned operation never falls
            back. "*" pins all; "kmeans" pins "kmeans.step", "kmeans.assign" and "kmeans.seed".
        policy: "adaptive", "benchmark", "thresholds", "fixed" or "frozen".
        cache_dir: where verdicts and timings are kept; None for the user's cache directory, "" to
            keep nothing on disk.
        strict: True makes a failing kernel an error, where another backend would answer.
        verbose: True logs who answered each call, on standard error.
        result_cache: bytes of results kept by the content of their inputs; an equal call gets a
            copy. The least recently used go first; metrics() has the hit rate. None or 0: no cache.
        preferences: (backend, minimum size) pairs in order, for the policy "thresholds".
        backend_config: thresholds by groups of backends; chooses the policy "thresholds" unless
            another is named.

    An engine is pickled as its arguments; copies share it.

    Arguments given here outrank the environment (SWITCHYARD_BACKEND, ...), that outranks `config`,
    and that the preset.

    Raises:
        InputError: unknown preset, policy or option; a bad YAML file, with file, line and column.
        Error: "io" for an unreadable file, "backend" for an unknown or unavailable pinned backend.
    """

    def __init__(
        self,
        preset: str | None = None,
        config: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        pin: dict[str, str] | None = None,
        policy: str = _ADAPTIVE,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        strict: bool | None = None,
        verbose: bool | None = None,
        result_cache: int | None = None,
        preferences: list[tuple[str, int]] | None = None,
        backend_config: BackendConfig | None = None,
    ) -> None:
        self._arguments = {
            "preset": preset,
            "config": config,
            "threads": threads,
            "pin": pin,
            "cache_dir": cache_dir,
            "strict": strict,
            "verbose": verbose,
            "result_cache": result_cache,
            "preferences": preferences,
            "backend_config": backend_config,
        }
        if policy is not _ADAPTIVE:
            self._arguments["policy"] = policy
        if pin is not None and not isinstance(pin, dict):
            raise InputError("pin must be a dict of operation -> backend", "invalid_argument")
        pins = {_text("pin", op): _text("pin", name) for op, name in (pin or {}).items()}
        # A preset or file decides the policy unless the caller names one.
        chosen = None if policy is _ADAPTIVE else _text("policy", policy)
        self._core = _core.Engine(
            "" if preset is None else _text("preset", preset),
            "" if config is None else os.fspath(config),
            0 if threads is None else _integer("threads", threads, 1),
            pins,
            chosen,
            None if cache_dir is None else os.fspath(cache_dir),
            None if strict is None else bool(strict),
            None if verbose is None else bool(verbose),
            None if result_cache is None else _integer("result_cache", result_cache, 0, 2**63 - 1),
            None
            if preferences is None
            else [
                (_text("preferences", name), _integer("preferences", size, 0, 2**63 - 1))
                for name, size in preferences
            ],
            None if backend_config is None else backend_config._fields(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise TypeError("an engine that another one pinned to a backend cannot be pickled")
        return _again, (self._arguments,)

    def __copy__(self) -> Engine:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return self

    def kmeans(
        self,
        x: Any,
        k: int,
        *,
        init: Any = "k-means++",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        seed: int = 0,
        sample_weight: Any = None,
        int8: bool = False,
        spherical: bool = False,
        closest: bool = False,
        batch_size: int = 0,
        progress: Callable[[float], Any] | None = None,
    ) -> KMeansResult:
        """Lloyd's k-means; equal results, bit for bit, from every backend and thread count.

        Ctrl-C stops a fit within a moment and raises KeyboardInterrupt.

        Args:
            x: float32 [n, d], finite.
            k: clusters, 1 <= k <= n.
            init: "k-means++", "k-means||", "random", or the first centroids, floating [k, d] (rounded to
                float32).
            n_init: fits from different starts; the lowest inertia wins.
            max_iter: most centroid updates of a fit.
            tol: stop when the centroids' squared movement is at most tol times the mean variance
                of the columns; 0 stops only when no label changes.
            seed: of the random numbers, 0 <= seed < 2**64.
            sample_weight: float32 [n], >= 0, not all zero; None for equal weights.
            int8: iterate with labels from 8-bit codes: another, coarser result, as reproducible; the
                last labels and the inertia are exact.
            spherical: cluster directions: rows and centroids are scaled to length 1.
            closest: also find the row nearest to each centroid.
            batch_size: above 0, mini-batches of so many rows, drawn at random; `max_iter` counts
                them.
            progress: called with the share done, 0..1, some 50 times a second while the fit
                works; returning False stops it with Error "cancelled".

        Returns:
            KMeansResult, with `.labels` int32 [n], `.centroids` float32 [k, d], `.inertia`,
            `.n_iter`, `.counts` int64 [k] and `.converged`.

        Raises:
            InputError: "shape", "dtype", "nonfinite", or an argument out of its range (k > n).
        """
        start = None
        if not isinstance(init, str):
            init, start = "given", init
        return KMeansResult(
            *self._core.kmeans(
                x,
                _integer("k", k, -(2**63), 2**63 - 1),
                init,
                start,
                _integer("n_init", n_init),
                _integer("max_iter", max_iter),
                _real("tol", tol),
                _integer("seed", seed, 0, 2**64 - 1),
                sample_weight,
                bool(int8),
                bool(spherical),
                bool(closest),
                _integer("batch_size", batch_size, 0, 2**31 - 1),
                progress,
            )
        )

    def attention(
        self,
        q: Any,
        k: Any,
        v: Any,
        *,
        causal: bool | str = False,
        window: int | None = None,
        softcap: float | None = None,
        mask: Any = None,
        scale: float | None = None,
        sinks: Any = None,
        return_lse: bool = False,
        out: Any = None,
        alibi: Any = None,
        kv_lengths: Any = None,
        block_table: Any = None,
        keep: int = 0,
    ) -> Any:
        """softmax(scale * q k^T) v per head, with grouped key-value heads.

        Args:
            q: [batch, heads, length, head_dim], float32, float16 or bfloat16; any strides.
            k: [batch, kv_heads, keys, head_dim], q's dtype; heads a multiple of kv_heads.
            v: [batch, kv_heads, keys, value_dim], q's dtype.
            causal: True or "bottom_right": the queries are the last positions of the keys;
                "top_left": query i sees keys 0..i (torch's is_causal); False: all keys.
            window: each query sees this many keys up to and including its own position.
            softcap: scores become softcap * tanh(score / softcap); > 0.
            mask: bool (True = attend) or float to add, broadcast from the right to
                [batch, heads, length, keys].
            scale: of the scores; None for 1 / sqrt(head_dim).
            sinks: float32 [heads], an extra score per head that takes weight but has no value.
            return_lse: also return the natural log of each row's sum of exponentials.
            out: array of [batch, heads, length, value_dim] and q's dtype to write to; any
                non-overlapping strides. Needed for bfloat16 results outside torch and ml_dtypes.
            alibi: float32 [heads] slopes: scores grow by slope * (key position - query position).
            kv_lengths: int32 [batch], keys that exist per sequence; those behind are never read.
            block_table: int32 [batch, M]: k and v are pages [pages, kv_heads, P, dim], key j of a
                sequence is slot j % P of page block_table[b, j // P]. Needs kv_lengths.
            keep: the first keys, which a window does not hide.

        Returns:
            The output [batch, heads, length, value_dim] in q's dtype (or `out`); with return_lse a
            pair (output, lse float32 [batch, heads, length]). A row that sees no key is 0.

        Raises:
            InputError: "shape", "dtype", or an argument out of its range.
        """
        return self._core.attention(
            q, k, v, causal, window, softcap, mask, scale, sinks, bool(return_lse), out,
            alibi, kv_lengths, block_table, keep,
        )

    def explain(self, op: str, **shape: Any) -> dict[str, Any]:
        """Every candidate for a described call and why one is chosen; measures nothing.

        Args:
            op: "quantize", "dequantize", "kmeans.step", "kmeans.assign", "kmeans.seed",
                "attention", "matmul", "rope", "rms_norm", "layer_norm", "swiglu" or "gelu".
            **shape: the description, as in explain("kmeans.step", n=100000, d=128, k=1024).

        Returns:
            dict with op, shape, policy, chosen, rule, store, reproducer and candidates (a list of
            kernel, backend, supported, reason, verified, estimate and measured times).

        Raises:
            InputError: "usage" for an unknown operation or an item it does not have.
        """
        items = (f"{name}={_item(value)}" for name, value in shape.items())
        return json.loads(self._core.explain(_text("op", op), ",".join(items)))

    def decisions(self) -> list[dict[str, Any]]:
        """The records of `explain`, and `calls`, for every class of calls met so far, the most
        called first; of the candidates those that support the call."""
        return [json.loads(record) for record in self._core.decisions()]

    def metrics(self) -> dict[str, Any]:
        """Counts and times since the engine was made.

        Returns:
            dict with total_operations, backend_summary[name] {count, timed_count, fallbacks,
            total_time_ms, avg_time_ms, p50_ms, p95_ms, bytes, flops}, by_op[op][name] (the same and
            `sizes`: calls by the bytes they move, held against the limits of the machine),
            fallback_reasons, exploration_ms, dispatch_ns, result_cache, devices[name] {kernels,
            kernel_ms, transfer_ms, bytes_to_device, bytes_from_device, programs_built,
            programs_cached, build_ms} of instances with a device of their own, and limits (where
            the limits come from, or why there are none).
        """
        return self._core.metrics()

    def recommend(self) -> list[dict[str, Any]]:
        """What to enable, build or change next: dicts of what, evidence and expected_gain (times
        faster; None where nothing was measured)."""
        return self._core.recommend()

    def benchmark(
        self, op: str, *args: Any, rounds: int = 5, **kwargs: Any
    ) -> tuple[list[CallTiming], Any]:
        """Runs one call on every backend in turns: engine.benchmark("kmeans", x, 8, rounds=3).

        Args:
            op: name of a method: "quantize", "dequantize", "kmeans", "kmeans_assign", "attention".
            *args, **kwargs: of that method.
            rounds: timed runs of each backend, after one that is not timed.

        Returns:
            A list of CallTiming, fastest first and refused ones last, and the fastest's result.
        """
        if op not in ("quantize", "dequantize", "kmeans", "kmeans_assign", "attention"):
            raise InputError(f"{op!r} is no operation that can be timed", "usage")
        engines = {}
        for name in self._core.backends():
            engine = object.__new__(Engine)
            engine._core, engine._arguments = self._core.pinned(name), None
            engines[name] = engine
        run = lambda name: getattr(engines[name], op)(*args, **kwargs)  # noqa: E731
        return benchmark(list(engines), run, _integer("rounds", rounds, 1))

    def backends(self) -> list[str]:
        """Names of the loaded instances, such as "avx512"."""
        return self._core.backends()

    def plugins(self) -> list[dict[str, Any]]:
        """The plugins as the loader saw them: dicts of id, version, path, status, reason,
        instances, devices and kernels."""
        return self._core.plugins()

    @property
    def threads(self) -> int:
        """The most threads a call may use."""
        return self._core.threads()


def _item(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _again(arguments: dict[str, Any]) -> Engine:
    return Engine(**arguments)


_shared_lock = threading.Lock()
_shared: list[Engine] = []


def default_engine() -> Engine:
    """The engine that everything shares which is not given one: made on first use, by default and
    from the environment."""
    if not _shared:
        with _shared_lock:
            if not _shared:
                _shared.append(Engine())
    return _shared[0]

# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Sequence
from typing import Any

from ._results import RunInfo

_Progress = Callable[[float], Any] | None

version: str
recipe_names: tuple[str, ...]

def available_memory() -> int: ...
def last_run() -> RunInfo | None: ...
def remember(
    backend: str,
    kernel: str,
    requested_backend: str,
    verified: str,
    fallback_reason: str,
    time_ms: float,
    reused: bool,
    /,
) -> None: ...
def view_of(x: Any, /) -> tuple[int, tuple[int, ...], tuple[int, ...], str]: ...

class Quantized:
    format: str
    dtype: str
    granularity: str
    group_size: int
    blocks: Any
    codes: Any
    scales: Any
    biases: Any
    @property
    def shape(self) -> tuple[int, ...]: ...
    @shape.setter
    def shape(self, shape: Sequence[int], /) -> None: ...
    @property
    def info(self) -> RunInfo | None: ...
    @property
    def nbytes(self) -> int: ...
    def __init__(
        self,
        format: str,
        shape: Sequence[int],
        *,
        blocks: Any = None,
        codes: Any = None,
        scales: Any = None,
        biases: Any = None,
        dtype: str = "f32",
        group_size: int = 0,
        granularity: str = "tensor",
    ) -> None: ...
    def __getstate__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: tuple[Any, ...], /) -> None: ...

class Engine:
    def __init__(
        self,
        preset: str,
        config: str,
        threads: int,
        pin: dict[str, str],
        policy: str | None,
        cache_dir: str | None,
        strict: bool | None,
        verbose: bool | None,
        result_cache: int | None,
        preferences: Sequence[tuple[str, int]] | None,
        thresholds: tuple[bool, bool, bool, int, int, int] | None,
    ) -> None: ...
    def quantize(
        self,
        x: Any,
        format: str,
        group_size: int | None,
        granularity: str,
        scale: str | None,
        nonfinite: str,
        rounding: str,
        seed: int,
        out: Any,
        /,
    ) -> Quantized: ...
    def dequantize(self, q: Quantized, out: Any, /) -> Any: ...
    def dequantize_part(
        self,
        q: Quantized,
        rows: list[int],
        listed: bool,
        first_column: int,
        columns: int,
        out: Any,
        /,
    ) -> Any: ...
    def round_trip(
        self,
        x: Any,
        format: str,
        group_size: int | None,
        granularity: str,
        scale: str | None,
        nonfinite: str,
        rounding: str,
        seed: int,
        out: Any,
        /,
    ) -> Any: ...
    def kmeans(
        self,
        x: Any,
        k: int,
        init: str,
        init_centroids: Any,
        n_init: int,
        max_iter: int,
        tol: float,
        seed: int,
        sample_weight: Any,
        int8: bool,
        spherical: bool,
        closest: bool,
        batch_size: int,
        progress: _Progress,
        /,
    ) -> tuple[Any, Any, float, int, Any, bool, int, RunInfo, Any]: ...
    def kmeans_assign(self, x: Any, centroids: Any, /) -> Any: ...
    def kmeans_transform(self, x: Any, centroids: Any, /) -> Any: ...
    def kmeans_product(
        self,
        x: Any,
        groups: int,
        k: int,
        init: str,
        max_iter: int,
        tol: float,
        seed: int,
        progress: _Progress,
        /,
    ) -> tuple[Any, Any, float, RunInfo]: ...
    def kmeans_sweep(
        self,
        x: Any,
        ks: list[int],
        init: str,
        max_iter: int,
        tol: float,
        seed: int,
        sample: int,
        progress: _Progress,
        /,
    ) -> tuple[list[tuple[int, float, float, int]], int, int]: ...
    def kmeans_file(
        self,
        path: str,
        k: int,
        init: str,
        init_centroids: Any,
        max_iter: int,
        tol: float,
        seed: int,
        labels: str,
        memory: int,
        progress: _Progress,
        /,
    ) -> tuple[Any, float, int, Any, bool, int, RunInfo]: ...
    def kmeans_assign_file(
        self, path: str, centroids: Any, labels: str, memory: int, progress: _Progress, /
    ) -> float: ...
    def attention(
        self,
        q: Any,
        k: Any,
        v: Any,
        causal: bool | str,
        window: int | None,
        softcap: float | None,
        mask: Any,
        scale: float | None,
        sinks: Any,
        return_lse: bool,
        out: Any,
        alibi: Any,
        kv_lengths: Any,
        block_table: Any,
        keep: int,
        /,
    ) -> Any: ...
    def attention_ragged(
        self,
        q: Any,
        k: Any,
        v: Any,
        q_offsets: Any,
        kv_offsets: Any,
        causal: int,
        window: int | None,
        softcap: float,
        scale: float,
        sinks: Any,
        alibi: Any,
        return_lse: bool,
        out: Any,
        /,
    ) -> Any: ...
    def matmul(
        self, x: Any, w: Any, transpose: bool, add: Any, dtype: str, out: Any, /
    ) -> Any: ...
    def matmul_quantised(
        self,
        x: Any,
        codes: Any,
        scales: Any,
        biases: Any,
        format: str,
        group_size: int,
        shape: Sequence[int],
        add: Any,
        dtype: str,
        out: Any,
        /,
    ) -> Any: ...
    def rms_norm(self, x: Any, weight: Any, eps: float, out: Any, /) -> Any: ...
    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: float, out: Any, /) -> Any: ...
    def swiglu(self, gate: Any, up: Any, out: Any, /) -> Any: ...
    def gelu(self, x: Any, tanh: bool, out: Any, /) -> Any: ...
    def rope(
        self,
        x: Any,
        offset: int,
        positions: Any,
        interleaved: bool,
        rotary: int,
        base: float,
        scale: float,
        frequencies: Any,
        out: Any,
        /,
    ) -> Any: ...
    def explain(self, op: str, shape: str, /) -> str: ...
    def decisions(self) -> list[str]: ...
    def metrics(self) -> dict[str, Any]: ...
    def recommend(self) -> list[dict[str, Any]]: ...
    def plugins(self) -> list[dict[str, Any]]: ...
    def backends(self) -> list[str]: ...
    def pinned(self, backend: str, /) -> Engine: ...
    def search_log(self) -> list[str]: ...
    def threads(self) -> int: ...

def quantize_model(
    engine: Engine,
    in_: str,
    out: str,
    recipe: str,
    rules: str,
    choice: tuple[str, int, str, str] | None,
    decisions: dict[str, tuple[str, int, str, str]],
    target_bits: float | None,
    dtype: str,
    nonfinite: str,
    flags: Sequence[bool],
    shard_bytes: int,
    progress: Any,
    /,
) -> str: ...
def dequantize_model(
    engine: Engine, in_: str, out: str, dtype: str, resume: bool, progress: Any, /
) -> str: ...

_Config = tuple[tuple[int, ...], str, str, tuple[bool, ...], float]

def attention_pattern(config: _Config, /) -> str: ...
def attention_models() -> list[tuple[str, int, int, int, int, int, int, float]]: ...

class AttentionAdvisor:
    def __init__(
        self,
        engine: Engine,
        min_seq_len: int,
        max_seq_len: int,
        gqa_ratio_min: int,
        min_heads: int,
        min_work_us: float,
        /,
    ) -> None: ...
    def should_optimize(self, config: _Config, /) -> tuple[bool, str, str, str, float, float]: ...
    def observe(self, config: _Config, host_ms: float, /) -> None: ...
    def observed(self, config: _Config, /) -> bool: ...
    def status(self) -> dict[str, Any]: ...
    def reset_status(self) -> None: ...

class KVBudget:
    def __init__(self, cap: int, /) -> None: ...
    def cap(self) -> int: ...
    def used(self) -> int: ...
    def peak(self) -> int: ...

class KVCacheOptions:
    @staticmethod
    def make(
        kind: str,
        format: str,
        dtype: str,
        batch: int,
        kv_heads: int,
        head_dim: int,
        value_dim: int,
        capacity: int,
        keep: int,
        rewind: int,
        page_size: int,
        budget: KVBudget | None,
        /,
    ) -> KVCacheOptions: ...

class KVCache:
    @staticmethod
    def create(engine: Engine, options: KVCacheOptions, /) -> KVCache: ...
    @staticmethod
    def load(engine: Engine, path: str, options: KVCacheOptions, key: str, /) -> KVCache: ...
    def save(self, path: str, key: str, /) -> None: ...
    def length(self) -> int: ...
    def held(self) -> int: ...
    def trimmable(self) -> int: ...
    def append(self, k: Any, v: Any, /) -> None: ...
    def attend(self, q: Any, *call: Any) -> tuple[Any, Any, str, tuple]: ...
    def update(self, q: Any, k: Any, v: Any, *call: Any) -> tuple[Any, Any, str, tuple]: ...
    @staticmethod
    def attend_all(caches: list[KVCache], q: Any, *call: Any) -> tuple[Any, Any, str, tuple]: ...
    def trim(self, n: int, /) -> None: ...
    def copy(self) -> KVCache: ...
    def fork(self) -> KVCache: ...
    def sibling(self) -> KVCache: ...
    def read(self, begin: int, count: int, /) -> tuple[Any, Any, str]: ...
    def memory(self) -> dict[str, int]: ...

# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from typing import Any

version: str
recipe_names: tuple[str, ...]

def available_memory() -> int: ...
def view_of(x: Any, /) -> tuple[int, tuple[int, ...], tuple[int, ...], str]: ...

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
        group_size: int,
        granularity: str,
        scale: str,
        nonfinite: str,
        rounding: str,
        seed: int,
        codes_out: Any,
        scales_out: Any,
        biases_out: Any,
        /,
    ) -> tuple[Any, Any, Any, bool, str, int, str, tuple[int, ...], str, tuple]: ...
    def dequantize(
        self,
        codes: Any,
        scales: Any,
        biases: Any,
        format: str,
        group_size: int,
        granularity: str,
        shape: Sequence[int],
        dtype: str,
        out: Any,
        /,
    ) -> tuple[Any, tuple]: ...
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
        /,
    ) -> tuple[Any, Any, float, int, Any, bool, int, Any, tuple]: ...
    def kmeans_assign(self, x: Any, centroids: Any, /) -> tuple[Any, tuple]: ...
    def kmeans_transform(self, x: Any, centroids: Any, /) -> tuple[Any, tuple]: ...
    def kmeans_product(
        self, x: Any, groups: int, k: int, init: str, max_iter: int, tol: float, seed: int, /
    ) -> tuple[Any, Any, float, tuple]: ...
    def kmeans_sweep(
        self,
        x: Any,
        ks: list[int],
        init: str,
        max_iter: int,
        tol: float,
        seed: int,
        sample: int,
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
        /,
    ) -> tuple[Any, float, int, Any, bool, int, tuple]: ...
    def kmeans_assign_file(
        self, path: str, centroids: Any, labels: str, memory: int, /
    ) -> float: ...
    def attention(
        self,
        q: Any,
        k: Any,
        v: Any,
        causal: int,
        window: int | None,
        softcap: float,
        mask: Any,
        scale: float,
        sinks: Any,
        return_lse: bool,
        out: Any,
        /,
    ) -> tuple[Any, Any, str, tuple]: ...
    def explain(self, op: str, shape: str, /) -> str: ...
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

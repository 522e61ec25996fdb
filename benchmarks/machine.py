# SPDX-License-Identifier: Apache-2.0
"""Equal threads for every library, facts about the machine, and its limits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_PEERS = (
    "numpy",
    "scikit-learn",
    "scikit-learn-intelex",
    "faiss-cpu",
    "torch",
    "mlx",
    "gguf",
    "onnxruntime",
)


def _core_of(cpu: int) -> tuple[str, str]:
    base = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return (base / "physical_package_id").read_text(), (base / "core_id").read_text()
    except OSError:
        return "", str(cpu)


def use_threads(count: int) -> list[int]:
    """Binds the process to `count` processors, one per core where possible, and tells every thread
    pool about it. Call before the libraries are imported: most read the environment only once."""
    allowed = sorted(os.sched_getaffinity(0))
    first: dict[tuple[str, str], int] = {}
    for cpu in allowed:
        first.setdefault(_core_of(cpu), cpu)
    chosen = sorted(first.values())[:count]
    chosen += [c for c in allowed if c not in chosen][: count - len(chosen)]
    os.sched_setaffinity(0, chosen)
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(count)
    return chosen


def facts(threads: int, cpus: list[int]) -> dict[str, object]:
    """What a reader needs to judge the figures."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    versions = {}
    for name in _PEERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "threads": threads,
        "bound_to": cpus,
        "load_average": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
    }


class Limits:
    """Measured in the same run as the cases, so that a busy or slow hour shows."""

    def __init__(self, threads: int, repeats: int) -> None:
        self._threads = threads
        self._repeats = repeats
        self._copies: dict[int, float] = {}
        self._gemm: float | None = None

    def copy_bandwidth(self, working_set: float) -> float:
        """Bytes read plus written a second by plain copies whose two arrays take `working_set`
        bytes in all, every thread copying its own part."""
        import numpy as np

        part = max(int(working_set / 2 / self._threads), 4096)
        if part in self._copies:
            return self._copies[part]
        loops = max(1, int(4e6 // part))
        arrays = [
            (np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(self._threads)
        ]

        def work(pair: tuple) -> None:
            source, target = pair
            for _ in range(loops):
                np.copyto(target, source)

        best = 0.0
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in range(3 * self._repeats):
                start = time.perf_counter()
                list(pool.map(work, arrays))
                took = time.perf_counter() - start
                best = max(best, 2.0 * part * self._threads * loops / took)
        self._copies[part] = best
        return best

    def gemm_peak(self) -> float:
        """FLOP a second of NumPy's f32 matrix product of 2048 x 2048."""
        if self._gemm is None:
            import numpy as np

            rng = np.random.default_rng(0)
            a = rng.standard_normal((2048, 2048), np.float32)
            b = rng.standard_normal((2048, 2048), np.float32)
            out = np.empty_like(a)
            best = float("inf")
            for _ in range(1 + 2 * self._repeats):
                start = time.perf_counter()
                np.matmul(a, b, out=out)
                best = min(best, time.perf_counter() - start)
            self._gemm = 2.0 * 2048**3 / best
        return self._gemm

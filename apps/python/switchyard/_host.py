# SPDX-License-Identifier: Apache-2.0
"""What hosts bring from other dispatchers: thresholds, an engine without configuration, timing a
call on every backend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

from ._errors import Error, InputError
from ._results import last_run

# Errors that say "not this backend" rather than "not this call".
_REFUSALS = ("backend", "unsupported", "verification", "out_of_memory")


@dataclass
class BackendConfig:
    """Thresholds: the first group that is preferred and whose minimum size the call reaches answers.

    Sizes are elements of the largest input. `gpu`: backends with a device of their own; `cpp`:
    vectorised and threaded code on the processor; `c`: plain loops. Give it to Engine, which then
    follows the policy "thresholds" unless another is named.
    """

    prefer_gpu: bool = True
    prefer_cpp: bool = True
    prefer_c: bool = True
    min_size_for_gpu: int = 1_000_000
    min_size_for_cpp: int = 0
    min_size_for_c: int = 0

    def _fields(self) -> tuple[bool, bool, bool, int, int, int]:
        fields = astuple(self)
        for name, size in zip(("gpu", "cpp", "c"), fields[3:]):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise InputError(
                    f"min_size_for_{name} must be an integer of at least 0, not {size!r}",
                    "invalid_argument",
                )
        return tuple(map(bool, fields[:3])) + fields[3:]


@dataclass(frozen=True)
class CallTiming:
    """One backend's times for a call; `refused` says why it was not timed, else it is ""."""

    backend: str
    kernel: str = ""
    verified: str = ""
    refused: str = ""
    samples: int = 0
    min_ms: float = 0.0
    median_ms: float = 0.0
    p95_ms: float = 0.0


def benchmark(
    backends: list[str], run: Callable[[str], Any], rounds: int
) -> tuple[list[CallTiming], Any]:
    """Times run(backend) for each in turns; the timings, fastest first, and the fastest's result."""
    if rounds < 1:
        raise InputError(f"rounds must be at least 1, not {rounds}", "invalid_argument")
    timings, times, results = {}, {}, {}
    for name in backends:
        try:
            results[name] = run(name)  # decides, verifies where needed, warms up
        except Error as error:
            if error.code not in _REFUSALS:
                raise
            timings[name] = CallTiming(name, refused=str(error))
            continue
        info = last_run()
        timings[name] = CallTiming(name, info.kernel, info.verified)
        times[name] = []
    for _ in range(rounds):
        for name, spent in times.items():
            start = time.perf_counter()
            results[name] = run(name)
            spent.append((time.perf_counter() - start) * 1e3)
    for name, spent in times.items():
        spent.sort()
        t = timings[name]
        timings[name] = CallTiming(
            name,
            t.kernel,
            t.verified,
            samples=rounds,
            min_ms=spent[0],
            median_ms=spent[math.ceil(rounds / 2) - 1],
            p95_ms=spent[math.ceil(0.95 * rounds) - 1],
        )
    ordered = sorted(timings.values(), key=lambda t: (bool(t.refused), t.median_ms))
    best = results.get(ordered[0].backend) if ordered else None
    return ordered, best

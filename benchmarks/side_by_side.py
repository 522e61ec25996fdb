# SPDX-License-Identifier: Apache-2.0
"""The timing method, once: contenders in one process, in turns, on the same data.

A turn of a contender is a pause (so that threads another library left spinning go to sleep), an
untimed call (so that its own threads and data are warm), and timed calls. Turns go A B A B until
the time is used up. Results are checked for agreement before anything is timed: a contender whose
answer is wrong is not timed, and the run fails.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAUSE_S = 0.01
SHORT_S = 100e-6  # calls shorter than this are timed several at a time
LONG_S = 0.2  # calls longer than this need no untimed call before each timed one
ROUND_LIMIT = 300
LEARNING = 4  # times as long a warm-up for the side that chooses


class Disagreement(Exception):
    """Two contenders gave different answers."""


@dataclass
class Side:
    """A contender: `call` does the work once and returns its answer."""

    name: str
    call: Callable[[], Any]
    note: str = ""
    who: Callable[[], str] | None = None  # asked after each timed call: which kernel answered


@dataclass
class Case:
    """One problem. `check(ours, theirs)` says in words how they agree, or raises Disagreement."""

    group: str
    name: str
    sides: list[Side]
    check: Callable[[Any, Any], str]
    bytes: float  # least memory traffic of a call
    flops: float  # arithmetic of a call, 0 where it is not the limit
    working_set: float  # bytes of all arrays together
    time: float = 1.0  # of what a case is given


@dataclass
class Timing:
    name: str
    note: str
    seconds: list[float] = field(default_factory=list)
    kernels: Counter = field(default_factory=Counter)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _once(call: Callable[[], Any], loops: int = 1) -> float:
    start = time.perf_counter_ns()
    for _ in range(loops):
        call()
    return (time.perf_counter_ns() - start) * 1e-9 / loops


def settle(side: Side, seconds: float) -> float:
    """Warms up for about that long (Switchyard tries its candidates meanwhile); a call's time."""
    best = math.inf
    end = time.perf_counter() + seconds
    calls = 0
    while calls < 2 or time.perf_counter() < end:
        best = min(best, _once(side.call))
        calls += 1
    return best


def measure(sides: list[Side], *, seconds: float, warm_up: float) -> list[Timing]:
    """Times the sides in turns for about `seconds` in all, five rounds at least, three where
    one takes more than five seconds."""
    # Who chooses among kernels verifies and tries them first: that is not what is compared.
    once = [settle(side, warm_up * (LEARNING if side.who else 1)) for side in sides]
    loops = [max(1, math.ceil(SHORT_S / t)) for t in once]
    cost = sum(
        PAUSE_S + t * (loop + (t < LONG_S)) for t, loop in zip(once, loops)
    )
    rounds = max(5 if cost < 5 else 3, min(ROUND_LIMIT, int(seconds / cost)))
    timings = [Timing(side.name, side.note) for side in sides]
    for _ in range(rounds):
        for side, timing, t, loop in zip(sides, timings, once, loops):
            time.sleep(PAUSE_S)
            if t < LONG_S:
                side.call()
            timing.seconds.append(_once(side.call, loop))
            if side.who is not None:
                timing.kernels[side.who()] += 1
    return timings


def run_case(case: Case, limits: Any, *, seconds: float, warm_up: float) -> dict[str, Any]:
    """Checks, times, and describes one case. The first side is Switchyard."""
    ours, *others = case.sides
    answer = ours.call()
    agreement = {}
    wrong = {}
    for side in others:
        try:
            agreement[side.name] = case.check(answer, side.call())
        except Disagreement as error:
            wrong[side.name] = str(error)
    kept = [s for s in others if s.name in agreement]
    del answer
    result: dict[str, Any] = {
        "group": case.group,
        "case": case.name,
        "agreement": agreement,
        "disagreement": wrong,
        "sides": [],
        "ratios": {},
    }
    if others and not kept:
        return result  # nothing vouches for our own answer: it is not timed either
    copy = limits.copy_bandwidth(case.working_set)
    timings = measure(
        [ours, *kept], seconds=seconds * case.time, warm_up=warm_up * max(case.time, 0.4)
    )
    base = timings[0]
    for timing in timings:
        result["sides"].append(
            {
                "name": timing.name,
                "note": timing.note,
                "min_ms": timing.minimum * 1e3,
                "median_ms": timing.median * 1e3,
                "rounds": len(timing.seconds),
                "kernels": dict(timing.kernels),
            }
        )
        if timing is not base:
            result["ratios"][timing.name] = {
                "of_medians": timing.median / base.median,
                "of_minima": timing.minimum / base.minimum,
            }
    result["limits"] = {
        "gb_per_s": case.bytes / base.median * 1e-9,
        "best_gb_per_s": case.bytes / base.minimum * 1e-9,
        "copy_gb_per_s": copy * 1e-9,
        "working_set_mb": case.working_set * 1e-6,
    }
    if case.flops:
        result["limits"]["gflop_per_s"] = case.flops / base.median * 1e-9
        result["limits"]["gemm_gflop_per_s"] = limits.gemm_peak() * 1e-9
    return result


def text_of(result: dict[str, Any]) -> str:
    """The lines printed for a case."""
    lines = [f"{result['group']}: {result['case']}"]
    for side in result["sides"]:
        line = (
            f"  {side['name']:<22} min {side['min_ms']:10.4f} ms"
            f"   median {side['median_ms']:10.4f} ms   ({side['rounds']} rounds)"
        )
        ratio = result["ratios"].get(side["name"])
        if ratio:
            line += (
                f"   Switchyard is {ratio['of_medians']:.2f}x by medians,"
                f" {ratio['of_minima']:.2f}x by minima; {result['agreement'][side['name']]}"
            )
        if side["kernels"]:
            line += "   " + ", ".join(f"{k} ({n})" for k, n in side["kernels"].items())
        if side["note"]:
            line += f"   [{side['note']}]"
        lines.append(line)
    limits = result.get("limits")
    if limits:
        line = (
            f"  limits: {limits['gb_per_s']:.1f} GB/s of {limits['copy_gb_per_s']:.1f} GB/s copied"
            f" at {limits['working_set_mb']:.1f} MB ({limits['gb_per_s'] / limits['copy_gb_per_s']:.0%};"
            f" fastest call {limits['best_gb_per_s'] / limits['copy_gb_per_s']:.0%})"
        )
        if "gflop_per_s" in limits:
            line += (
                f"; {limits['gflop_per_s']:.0f} GFLOP/s of {limits['gemm_gflop_per_s']:.0f}"
                " GFLOP/s in an f32 GEMM"
            )
        lines.append(line)
    for name, why in result["disagreement"].items():
        lines.append(f"  {name}: NOT TIMED, the answers differ: {why}")
    return "\n".join(lines)

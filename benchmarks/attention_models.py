#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model's attention over sequence lengths, beside PyTorch where it is installed, with the advice
(does it pay to hand the call over, and why) for each.

    python benchmarks/attention_models.py [--model qwen3-14b] [--lengths 128,512,2048]
        [--step prefill|decode] [--dtype f32|f16|bf16] [--threads N] [--seconds S] [--json FILE]

Exit status: 0; 1 when answers disagree; 2 for bad usage or a missing module.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import machine
from run import module
from side_by_side import Side, measure

# |difference| of outputs that average standard normal values.
BOUNDS = {"f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="qwen3-14b", help="'list' names them")
    parser.add_argument("--lengths", default="32,128,512,1024,2048", help="comma-separated")
    parser.add_argument("--step", choices=("prefill", "decode"), default="prefill")
    parser.add_argument("--dtype", choices=tuple(BOUNDS), default="f32")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each length")
    parser.add_argument("--min-seq-len", type=int, default=0, help="threshold of the advice")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    try:
        options.lengths = [int(n) for n in options.lengths.split(",")]
    except ValueError:
        parser.error(f"--lengths {options.lengths!r} is no list of numbers")
    if not options.lengths or min(options.lengths) < 1:
        parser.error("--lengths must be at least 1")
    return options


def arrays(model: Any, queries: int, keys: int, dtype: str, torch: Any) -> tuple[Any, Any, Any]:
    """q, k, v: torch tensors, or NumPy arrays where there is no torch."""
    shapes = (
        (1, model.q_heads, queries, model.head_dim),
        (1, model.kv_heads, keys, model.head_dim),
        (1, model.kv_heads, keys, model.value_dim),
    )
    if torch is None:
        import numpy as np

        rng = np.random.default_rng(1)
        kind = {"f32": np.float32, "f16": np.float16}[dtype]
        return tuple(rng.standard_normal(s, np.float32).astype(kind) for s in shapes)
    torch.manual_seed(1)
    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    return tuple(torch.randn(s).to(kind) for s in shapes)


def one_length(sy: Any, engine: Any, advisor: Any, model: Any, length: int, o: Any, torch: Any):
    """Figures of one length; the advice is asked once the host's times are known."""
    queries = length if o.step == "prefill" else 1
    q, k, v = arrays(model, queries, length, o.dtype, torch)
    window = model.window or None
    config = sy.AttentionConfig.of(
        q, k, v, causal=True, window=window, softcap=model.softcap > 0, blhd_out=torch is not None
    )
    softcap = model.softcap or None
    ours = lambda: engine.attention(  # noqa: E731
        q, k, v, causal=True, window=window, softcap=softcap
    )
    sides = [Side("switchyard", ours, who=lambda: sy.last_run().kernel)]
    agreement = None
    # torch's call has neither softcap nor window: it is no peer where these matter.
    if torch is not None and not softcap and not (window and window < length):
        from torch.nn.functional import scaled_dot_product_attention

        def theirs() -> Any:
            with torch.no_grad():
                return scaled_dot_product_attention(
                    q, k, v, is_causal=queries > 1, enable_gqa=model.q_heads != model.kv_heads
                )

        agreement = float((ours().float() - theirs().float()).abs().max())
        sides.append(Side("torch", theirs))
    timings = measure(sides, seconds=o.seconds, warm_up=o.seconds / 4)
    for seconds in timings[1].seconds if len(timings) > 1 else ():
        advisor.observe(config, seconds * 1e3)
    advice = advisor.advise(config)
    figures: dict[str, Any] = {
        "length": length,
        "queries": queries,
        "pattern": config.pattern,
        "optimize": advice.optimize,
        "reason": advice.reason,
        "kernels": dict(timings[0].kernels),
        "agreement": agreement,
    }
    for timing in timings:
        figures[timing.name] = {
            "min_ms": timing.minimum * 1e3,
            "median_ms": timing.median * 1e3,
            "rounds": len(timing.seconds),
        }
    if len(timings) > 1:
        figures["times_faster"] = timings[1].minimum / timings[0].minimum
    return figures


def main() -> int:
    options = arguments()
    cpus = machine.use_threads(options.threads)  # before NumPy and torch are imported
    sy = module()
    models = sy.attention_models()
    if options.model == "list":
        print("\n".join(models))
        return 0
    if options.model not in models:
        print(f"no model is called {options.model}; --model list names them")
        return 2
    try:
        import torch

        torch.set_num_threads(options.threads)
    except ImportError:
        torch = None
        if options.dtype == "bf16":
            print("bf16 needs torch, which is not installed")
            return 2
    model = models[options.model]
    engine = sy.Engine(threads=options.threads, cache_dir="")
    advisor = sy.AttentionAdvisor(engine, min_seq_len=options.min_seq_len)
    print(
        f"{model.name}: {model.q_heads} query heads, {model.kv_heads} key heads, head dim "
        f"{model.head_dim}, {options.step}, {options.dtype}, {options.threads} threads"
    )
    results, wrong = [], False
    for length in options.lengths:
        r = one_length(sy, engine, advisor, model, length, options, torch)
        results.append(r)
        line = f"  {length:>7} {r['switchyard']['min_ms']:>10.3f} ms"
        if "torch" in r:
            line += f"  torch {r['torch']['min_ms']:>10.3f} ms  {r['times_faster']:>5.2f}x"
        print(f"{line}  {'yes' if r['optimize'] else 'no'}: {r['reason']}", flush=True)
        if r["agreement"] is not None and not r["agreement"] <= BOUNDS[options.dtype]:
            print(f"  {length}: the answers differ by {r['agreement']:.1e}")
            wrong = True
    status = advisor.status()
    print(f"advice: {status['optimized']} of {status['asked']} are worth it, {status['declined']}")
    if options.json:
        report = {
            "schema_version": 1,
            "machine": machine.facts(options.threads, cpus),
            "model": model.asdict(),
            "step": options.step,
            "dtype": options.dtype,
            "lengths": results,
            "advice": status,
        }
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: Switchyard beside its peers in one process, and the cost of dispatch.

    python benchmarks/run.py [NAME]... [--json FILE] [--quick]
    python benchmarks/run.py --all [--quick]     every group; also the report page and the table

NAME: quantize, kmeans, attention, matmul, dropin, torch_models, convert, devices, dispatch; all by
default.

docs/benchmarks.md says how the figures come about. Exit status: 0; 1 when answers disagree or a
benchmark fails; 2 for bad usage or a missing module.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import machine
import markdown
import smallest_call

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("SWITCHYARD_BUILD", ROOT / "build"))
GROUPS = (
    "quantize",
    "kmeans",
    "attention",
    "matmul",
    "dropin",
    "torch_models",
    "convert",
    "devices",
    "dispatch",
)
ALONE = ("convert", "devices", "dispatch")  # not cases of ours beside a peer's


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="|".join(GROUPS), help="default: all")
    parser.add_argument(
        "--all", action="store_true", help="every group, a report page and a Markdown table"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too ('-': stdout)")
    parser.add_argument("--quick", action="store_true", help="small cases, little time")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (2)")
    parser.add_argument("--backend", help="pin every operation to this backend")
    parser.add_argument("--policy", default="adaptive", help="of Switchyard's engine (adaptive)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds it")
    parser.add_argument("--skip", metavar="TEXT", help="no cases whose name holds it")
    parser.add_argument("--seconds", type=float, help="to spend on each case (4; quick: 0.5)")
    options = parser.parse_args()
    if options.all and options.names:
        parser.error("--all means every benchmark: name none")
    for name in options.names:
        if name not in GROUPS:
            parser.error(f"unknown benchmark {name!r}; known: {', '.join(GROUPS)}")
    if not 1 <= options.threads <= len(os.sched_getaffinity(0)):
        parser.error("--threads must be between 1 and the number of processors")
    return options


def module():
    if (BUILD / "python" / "switchyard").is_dir():
        sys.path.insert(0, str(BUILD / "python"))
    try:
        return importlib.import_module("switchyard")
    except ImportError as error:
        sys.exit(
            f"benchmarks: no switchyard module ({error}); build it with -DSWITCHYARD_PYTHON=ON in "
            f"{BUILD}, or pip install ."
        )


def dispatch(options: argparse.Namespace) -> tuple[dict, bool]:
    """The Google Benchmark program; its medians, and the overheads they give."""
    program = BUILD / "bin" / "dispatch_bench"
    if not program.exists():
        print(f"dispatch: {program} is not built (-DSWITCHYARD_BENCHMARKS=ON)")
        return {}, False
    command = [
        str(program),
        "--benchmark_format=json",
        f"--benchmark_repetitions={3 if options.quick else 9}",
        f"--benchmark_min_time={0.02 if options.quick else 0.2}",
        "--benchmark_enable_random_interleaving=true",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"dispatch: {program.name} ended with status {done.returncode}")
        return {}, False
    runs: dict[str, list[float]] = {}
    for entry in json.loads(done.stdout)["benchmarks"]:
        if entry.get("error_occurred"):
            print(f"dispatch: {entry['run_name']}: {entry['error_message']}")
            return {}, False
        if entry["run_type"] == "iteration":
            # Processor time: one thread that never waits, on a machine that may be busy.
            runs.setdefault(entry["run_name"], []).append(entry["cpu_time"])
    figures = {}
    direct_min, direct_median = summary(runs["direct"])
    for name, times in runs.items():
        low, median = summary(times)
        figures[name] = {"min_ns": low, "median_ns": median, "from": "C++"}
        if name != "direct":
            figures[name]["over_direct_ns"] = low - direct_min
            figures[name]["over_direct_median_ns"] = median - direct_median
    smallest, wrong = smallest_call.measure(module(), options.quick)
    ours = smallest[smallest_call.OURS] if smallest else {}
    for name, entry in smallest.items():
        figures[name] = entry | {"from": "Python", "times_ours": entry["min_ns"] / ours["min_ns"]}
        if name.startswith("switchyard"):
            figures[name]["over_cpp_ns"] = entry["min_ns"] - figures["engine_quantize"]["min_ns"]
    print(dispatch_table(figures))
    for text in wrong:
        print(f"  {text}")
    return figures, not wrong


DISPATCHED = {
    "direct": "the kernel itself, one q8_0 block of 32 values",
    "bound": "Bound::run",
    "engine_run": "Engine::run, adaptive, decided",
    "engine_run_pinned": "Engine::run, pinned",
    "engine_run_unremembered": "Engine::run, more calls in turn than a thread remembers",
    "engine_quantize": "Engine::quantize, the typed call that Python makes",
}


def dispatch_table(figures: dict) -> str:
    """Processor time of one call; each language's rows beside each other."""
    lines = [
        "dispatch: processor time of the smallest call, one thread, outputs given where possible",
        f"  {'from':<7} {'call':<56} {'min':>10} {'median':>10} {'over the kernel':>16}"
        f" {'x ours':>7}",
    ]
    for name, f in figures.items():
        text = DISPATCHED.get(name, f"{name}, {f.get('work', '')}")
        over = f"{f['over_direct_ns']:.1f} ns" if "over_direct_ns" in f else "-"
        if "over_cpp_ns" in f:
            over = f"{f['over_cpp_ns']:.0f} ns*"
        times = f"{f['times_ours']:.2f}" if "times_ours" in f else "-"
        lines.append(
            f"  {f['from']:<7} {text:<56} {f['min_ns']:>7.1f} ns {f['median_ns']:>7.1f} ns "
            f"{over:>16} {times:>7}"
        )
    lines.append("  * over the same call from C++, Engine::quantize")
    return "\n".join(lines)


def summary(times: list[float]) -> tuple[float, float]:
    times = sorted(times)
    return times[0], times[len(times) // 2]


def publish(report: dict, given: str | None) -> bool:
    """The figures as JSON, as a page and, printed, as a table; into the build folder."""
    folder = BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    figures, page = folder / "all.json", folder / "report.html"
    if given not in (None, "-"):
        figures = Path(given)
    figures.write_text(json.dumps(report, indent=2) + "\n")
    print("\n" + markdown.table(report, report["command_line"]))
    done = subprocess.run(
        [str(BUILD / "bin" / "switchyard"), "report", str(figures), "-o", str(page)],
        stdout=subprocess.PIPE,
        text=True,
    )
    print(f"{done.stdout}figures: {figures}")
    print(f"into README.md: python benchmarks/markdown.py {figures} --into README.md")
    return done.returncode == 0


def keep(report: dict, options: argparse.Namespace) -> None:
    """Writes what is measured so far to the file that was asked for."""
    if options.json not in (None, "-"):
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def main() -> int:
    options = arguments()
    names = options.names or list(GROUPS)
    cpus = machine.use_threads(options.threads)  # before NumPy, torch and the rest are imported
    report: dict = {
        "schema_version": 1,
        "date": datetime.date.today().isoformat(),
        "command_line": "./dev bench " + " ".join(sys.argv[1:]),
        "cases": [],
    }
    good = True
    compared = [n for n in names if n not in ALONE]
    if [n for n in names if n != "dispatch"]:
        sy = module()
        from side_by_side import run_case, text_of

        report["machine"] = machine.facts(options.threads, cpus)
        for key, value in report["machine"].items():
            print(f"{key}: {value}")
        print(f"switchyard: {sy.__version__}, policy {options.policy}, pin {options.backend}\n")
        engine = sy.Engine(
            threads=options.threads,
            policy=options.policy,
            pin={"*": options.backend} if options.backend else None,
            cache_dir="",
        )
        limits = machine.Limits(options.threads, 1 if options.quick else 3)
        seconds = options.seconds or (0.5 if options.quick else 4.0)
        for name in compared:
            group = importlib.import_module(name)
            for case in group.cases(engine, sy.last_run, options.quick):
                if options.only not in case.name or (options.skip and options.skip in case.name):
                    continue
                result = run_case(
                    case, limits, seconds=seconds, warm_up=0.2 if options.quick else 1.0
                )
                good = good and not result["disagreement"]
                report["cases"].append(result)
                keep(report, options)  # whatever ends the run
                print(text_of(result), flush=True)
        if "convert" in names:
            report["convert"] = importlib.import_module("convert").run(sy, engine, options.quick)
        if "devices" in names:
            report["devices"], fine = importlib.import_module("devices").run(
                sy, options.quick, options.threads, limits, seconds / 2
            )
            good = good and fine
    if "dispatch" in names:
        report["dispatch"], fine = dispatch(options)
        good = good and fine
    if options.all:
        good = publish(report, options.json) and good
    if options.json and (options.json == "-" or not options.all):
        text = json.dumps(report, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

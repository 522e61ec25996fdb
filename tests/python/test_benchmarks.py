# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, and time no wrong answer. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from side_by_side import Case, Disagreement, Side, run_case, text_of  # noqa: E402


class NoLimits:
    def copy_bandwidth(self, working_set):
        return 1e9

    def gemm_peak(self):
        return 1e9


def case(ours, theirs):
    def check(a, b):
        if a != b:
            raise Disagreement(f"{a} and {b}")
        return "equal"

    sides = [Side("ours", ours, who=lambda: "kernel@here"), Side("theirs", theirs, "a note")]
    return Case("group", "name", sides, check, bytes=8.0, flops=2.0, working_set=8.0)


def test_equal_answers_are_timed_in_turns():
    order = []
    result = run_case(
        case(lambda: order.append("a"), lambda: order.append("b")),
        NoLimits(),
        seconds=0.01,
        warm_up=0.0,
    )
    assert [s["name"] for s in result["sides"]] == ["ours", "theirs"]
    assert all(s["rounds"] >= 5 and 0 < s["min_ms"] <= s["median_ms"] for s in result["sides"])
    assert result["sides"][0]["kernels"] == {"kernel@here": result["sides"][0]["rounds"]}
    assert set(result["ratios"]) == {"theirs"}
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["a", "b"] * (len(turns) // 2) and len(turns) >= 14
    assert "a note" in text_of(result) and "equal" in text_of(result)


def test_a_wrong_answer_is_not_timed():
    calls = []
    result = run_case(
        case(lambda: 1, lambda: calls.append(1) or 2), NoLimits(), seconds=0.01, warm_up=0.0
    )
    assert calls == [1]
    assert result["sides"] == [] and result["disagreement"] == {"theirs": "1 and 2"}
    assert "NOT TIMED" in text_of(result)


def run(*arguments):
    from conftest import BUILD

    return subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"SWITCHYARD_BUILD": str(BUILD)},
    )


def test_the_program_runs(tmp_path):
    report = tmp_path / "report.json"
    done = run("quantize", "--quick", "--seconds", "0.05", "--threads", "1", "--json", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(report.read_text())["cases"]
    ternary = [c for c in cases if c["case"].startswith("ternary")]
    assert len(ternary) == 4  # two sizes, outputs given and fresh
    for c in ternary:
        assert "codes agree" in c["agreement"]["numpy"]
        assert sum(c["sides"][0]["kernels"].values()) == c["sides"][0]["rounds"]


def test_the_smallest_calls_are_right_before_they_are_timed(monkeypatch):
    import numpy as np
    import smallest_call
    import switchyard as sy

    right = smallest_call.Contender("right", "nothing", lambda: None, lambda: True)
    wrong = smallest_call.Contender("wrong", "nothing", lambda: None, lambda: False)

    def missing(np):
        raise ImportError("no module named peer")

    monkeypatch.setattr(smallest_call, "_torch", lambda np: [right, wrong])
    monkeypatch.setattr(smallest_call, "_torch_inputs", lambda sy, np: [])
    monkeypatch.setattr(smallest_call, "_onnxruntime", missing)
    figures, complaints = smallest_call.measure(sy, quick=True)
    own = {c.name for c in smallest_call._switchyard(sy, np)}
    assert set(figures) == own | {c.name for c in smallest_call._numpy(np)} | {"right"}
    assert all(0 < f["min_ns"] <= f["median_ns"] for f in figures.values())
    assert len(complaints) == 2 and "peer" in complaints[0] and "wrong answer" in complaints[1]
    assert smallest_call._switchyard(sy, np)[0].name in figures


@pytest.mark.parametrize("arguments", [["quantise"], ["--threads", "0"], ["--frobnicate"]])
def test_bad_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr


def scaling_case(axis, size, times):
    return {
        "scaling": {"axis": axis, "limit_ms": 0.5} | size,
        "sides": [
            {"name": name, "min_ms": ms, "kernels": {"kmeans.step.f32_i32.boxes@openmp": 5}}
            for name, ms in times.items()
        ],
        "disagreement": {},
    }


def test_scaling_is_drawn_with_limit_and_kernels():
    import xml.etree.ElementTree as tree

    import kmeans_scaling

    cases = [
        scaling_case(axis, kmeans_scaling.BASE | {axis: value}, {"switchyard": ms, "FAISS": 3 * ms})
        for axis in ("n", "d", "k")
        for value, ms in ((10, 1.0), (1000, 20.0))
    ]
    report = {"machine": {"cpu": "some & processor", "threads": 2}, "cases": cases}
    text = kmeans_scaling.line(cases[0], 1.0)
    assert "3.0x the fastest peer (FAISS)" in text and "limit 0.5 ms" in text
    drawn = tree.fromstring(kmeans_scaling.svg(report))
    lines = [e for e in drawn.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 3 * 5  # in each panel four contenders, of whom two have points, and the limit
    assert sum(len(e.get("points").split()) == 2 for e in lines) == 3 * 3
    words = [e.text for e in drawn.iter() if e.tag.endswith("text")]
    assert words.count("boxes") == 6


def test_devices_have_to_agree():
    np = pytest.importorskip("numpy")
    import devices

    assert devices.agree("quantize q4_0", [np.arange(4)], [np.arange(4)])
    assert not devices.agree("quantize q4_0", [np.arange(4)], [np.arange(1, 5)])
    assert not devices.agree("quantize q4_0", [], [])
    near = np.float32([1.0, 2.0])
    assert devices.agree("attention, float32", [near], [near + np.float32(1e-6)])
    assert not devices.agree("attention, float32", [near], [near + np.float32(1e-3)])
    out = np.zeros(3)
    kept = devices.answer(out)
    out += 1
    assert kept[0].sum() == 0

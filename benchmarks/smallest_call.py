# SPDX-License-Identifier: Apache-2.0
"""What the smallest call costs from Python: Switchyard beside NumPy, torch and ONNX Runtime.

Each contender works on 32 floats that lie ready, with its output given where its interface has a way
to: what is timed is the way from the caller to the kernel and back, not the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VALUES = 32
OURS = "switchyard engine.quantize"


@dataclass
class Contender:
    name: str
    work: str  # what the kernel does, in a few words
    call: Callable[[], Any]
    right: Callable[[], bool]  # after a call


def _switchyard(sy: Any, np: Any) -> list[Contender]:
    engine = sy.Engine(threads=1, cache_dir="")
    x = np.arange(VALUES, dtype=np.float32)
    out = np.zeros(34, np.uint8)
    pinned = sy.Engine(threads=1, cache_dir="", pin={"*": "reference"})
    want = pinned.quantize(x, "q8_0").blocks.tobytes()
    fresh = {}

    def new_output() -> None:
        fresh["q"] = engine.quantize(x, "q8_0")

    return [
        Contender(
            OURS,
            "one q8_0 block",
            lambda: engine.quantize(x, "q8_0", out=out),
            lambda: out.tobytes() == want,
        ),
        Contender(
            "switchyard, a new output",
            "one q8_0 block",
            new_output,
            lambda: fresh["q"].blocks.tobytes() == want,
        ),
    ]


def _numpy(np: Any) -> list[Contender]:
    x, y = np.arange(VALUES, dtype=np.float32), np.zeros(VALUES, np.float32)
    return [
        Contender("numpy.negative(out=)", f"{VALUES} negations", lambda: np.negative(x, out=y),
                  lambda: np.array_equal(y, -np.arange(VALUES))),
        Contender("numpy.clip(out=)", f"{VALUES} values clipped",
                  lambda: np.clip(x, 0.0, 1.0, out=y), lambda: y.max() <= 1.0),
    ]


def _torch_inputs(sy: Any, np: Any) -> list[Contender]:
    import torch

    engine = sy.Engine(threads=1, cache_dir="")
    x, out = torch.arange(VALUES, dtype=torch.float32), torch.zeros(34, dtype=torch.uint8)
    want = engine.quantize(x.numpy(), "q8_0").blocks.tobytes()
    return [
        Contender("switchyard, torch tensors", "one q8_0 block",
                  lambda: engine.quantize(x, "q8_0", out=out),
                  lambda: out.numpy().tobytes() == want)
    ]


def _torch(np: Any) -> list[Contender]:
    import torch

    torch.set_num_threads(1)
    x, y = torch.arange(VALUES, dtype=torch.float32), torch.zeros(VALUES)
    want = -x.numpy()
    return [
        Contender(
            "torch.neg(out=)",
            f"{VALUES} negations",
            lambda: torch.neg(x, out=y),
            lambda: np.array_equal(y.numpy(), want),
        )
    ]


def _onnxruntime(np: Any) -> list[Contender]:
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [VALUES]) for n in ("x", "y")]
    node = helper.make_node("Neg", ["x"], ["y"])
    graph = helper.make_graph([node], "smallest", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x, y = np.arange(VALUES, dtype=np.float32), np.zeros(VALUES, np.float32)
    binding = session.io_binding()
    for bind, array in ((binding.bind_input, x), (binding.bind_output, y)):
        name = "x" if array is x else "y"
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    answers = {}

    def run() -> None:
        answers["run"] = session.run(None, {"x": x})[0]

    return [
        Contender("onnxruntime session.run", f"{VALUES} negations", run,
                  lambda: np.array_equal(answers["run"], -x)),
        Contender("onnxruntime run_with_iobinding", f"{VALUES} negations",
                  lambda: session.run_with_iobinding(binding), lambda: np.array_equal(y, -x)),
    ]


def measure(sy: Any, quick: bool) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """{name: {min_ns, median_ns, work}} and what was wrong or is missing, in words."""
    import numpy as np

    contenders, wrong = _switchyard(sy, np) + _numpy(np), []
    for name, make in (
        ("torch", lambda: _torch(np)),
        ("torch", lambda: _torch_inputs(sy, np)),
        ("onnxruntime", lambda: _onnxruntime(np)),
    ):
        try:
            contenders += make()
        except ImportError as error:
            wrong.append(f"{name} is not installed ({error})")
    ready = []
    for c in contenders:
        end = time.perf_counter() + (0.2 if quick else 1.0)  # warm; adaptive engines decide
        while time.perf_counter() < end:
            c.call()
        if c.right():
            ready.append(c)
        else:
            wrong.append(f"{c.name}: wrong answer, not timed")
    loops = 2000
    spent: dict[str, list[float]] = {c.name: [] for c in ready}
    for _ in range(9 if quick else 51):
        for c in ready:
            call = c.call
            start = time.thread_time_ns()
            for _ in range(loops):
                call()
            spent[c.name].append((time.thread_time_ns() - start) / loops)
    figures = {}
    for c in ready:
        times = sorted(spent[c.name])
        figures[c.name] = {"min_ns": times[0], "median_ns": times[len(times) // 2], "work": c.work}
    return figures, wrong

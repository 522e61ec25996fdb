# SPDX-License-Identifier: Apache-2.0
"""Attention in other libraries, on the same arrays: each maker returns a contender or None where its
library is not installed."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from side_by_side import Side


def onnxruntime_side(q: Any, k: Any, v: Any, causal: bool) -> Side | None:
    """The operator Attention of ONNX 23, inputs and output bound to the arrays."""
    try:
        import onnxruntime as ort
        from onnx import TensorProto, helper
    except ImportError:
        print("attention: onnx or onnxruntime is not installed; left out")
        return None
    arrays = {"q": q.numpy(), "k": k.numpy(), "v": v.numpy()}
    y = np.zeros(q.shape, np.float32)
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in arrays.items()]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, y.shape)]
    node = helper.make_node("Attention", list(arrays), ["y"], is_causal=int(causal))
    graph = helper.make_graph([node], "attention", inputs, output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between calls would take the processors from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - older versions do not know the operator
        print(f"attention: onnxruntime {ort.__version__} is left out: {error}")
        return None
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return y

    return Side("onnxruntime", call, "Attention-23, bound arrays")


def mlx_side(q: Any, k: Any, v: Any, causal: bool) -> Side | None:
    try:
        import mlx.core as mx
    except ImportError:
        print("attention: mlx is not installed; left out")
        return None
    mx.set_default_device(mx.cpu)
    x, y, z = (mx.array(t.numpy()) for t in (q, k, v))
    mx.eval(x, y, z)
    scale = 1 / math.sqrt(q.shape[-1])

    def call() -> Any:
        out = mx.fast.scaled_dot_product_attention(
            x, y, z, scale=scale, mask="causal" if causal else None
        )
        mx.eval(out)
        return out

    return Side("mlx", call, "CPU; its number of threads cannot be set")


def numpy_side(q: Any, k: Any, v: Any, causal: bool) -> Side | None:
    """As a user writes it."""
    x, y, z = (t.numpy() for t in (q, k, v))
    groups = x.shape[1] // y.shape[1]
    scale = np.float32(1 / math.sqrt(x.shape[-1]))
    hidden = np.triu(np.ones((x.shape[2], y.shape[2]), bool), 1) if causal else None

    def call() -> Any:
        out = np.empty_like(x)
        for h in range(x.shape[1]):
            scores = x[:, h] @ y[:, h // groups].swapaxes(-1, -2) * scale
            if hidden is not None:
                scores[..., hidden] = -np.inf
            scores -= scores.max(-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(-1, keepdims=True)
            out[:, h] = scores @ z[:, h // groups]
        return out

    return Side("numpy", call, "a loop over heads; products by its BLAS")


def others(q: Any, k: Any, v: Any, causal: bool, small: bool) -> list[Side]:
    """NumPy only where the work is `small`: it takes seconds otherwise."""
    # MLX on a processor takes a hundred times as long: minutes for the larger ones.
    makers = (onnxruntime_side, mlx_side, numpy_side) if small else (onnxruntime_side,)
    return [side for side in (make(q, k, v, causal) for make in makers) if side is not None]

# SPDX-License-Identifier: Apache-2.0
"""Quantisation's rounding in training, with gradients that pass straight through."""

from __future__ import annotations

from typing import Any

import torch

from ._engine import Engine, default_engine


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, engine: Engine, format: str, options: dict[str, Any]) -> Any:
        values = x.detach()
        if values.shape and values.stride(-1) != 1:
            values = values.contiguous()
        return engine.round_trip(values, format, **options)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad, None, None, None


def fake_quantize(
    x: torch.Tensor, format: str, *, engine: Engine | None = None, **options: Any
) -> torch.Tensor:
    """What x [..., K] becomes by quantising and dequantising; its gradient is passed on unchanged
    (a straight-through estimator).

    Args:
        x: float32, float16 or bfloat16 in host memory, K a multiple of the format's block or group.
        format, options: as Engine.quantize takes them.
        engine: None for the shared one.

    Returns:
        A new tensor of x's shape and dtype.
    """
    return _StraightThrough.apply(x, engine or default_engine(), format, options)

# SPDX-License-Identifier: Apache-2.0
"""torch in, torch out, without importing torch unless the caller has. The extension does the same for
its own calls, and calls attention_out."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ._errors import InputError


def is_torch(x: Any, name: str = "x") -> bool:
    """Is this a torch tensor? One that a gradient is wanted for is refused: none is computed."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return False
    if x.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"{name} requires grad, and Switchyard computes no gradients: pass {name}.detach() or "
            "call under torch.no_grad()",
            "invalid_argument",
        )
    return True


def check_bf16_output(bf16: bool, torch_out: bool) -> None:
    """NumPy has no bfloat16 of its own: refused before any work is done."""
    if bf16 and not torch_out and "ml_dtypes" not in sys.modules:
        raise InputError(
            "the result is bfloat16, which NumPy lacks: pass out=, use torch tensors, or import "
            "ml_dtypes first",
            "dtype",
        )


def wrap(array: Any, dtype: str, torch_out: bool) -> Any:
    """A NumPy array of the core (bf16 as uint16 bits) as the caller's kind of array; no copy."""
    if array is None:
        return None
    if torch_out:
        torch = sys.modules["torch"]
        tensor = torch.from_numpy(array)
        return tensor.view(torch.bfloat16) if dtype == "bf16" else tensor
    if dtype == "bf16":
        return array.view(sys.modules["ml_dtypes"].bfloat16)
    return array


def is_bf16(x: Any) -> bool:
    """Is this bfloat16, of whatever library?"""
    dtype = getattr(x, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.isbuiltin == 1:
        return False  # the common case, cheaply
    return "bfloat16" in str(dtype)


def attention_out(q: Any, v: Any) -> Any:
    """torch's own layout: [batch, length, heads, dim] in memory, seen as [batch, heads, ...]."""
    torch = sys.modules["torch"]
    if q.ndim != 4 or v.ndim != 4:
        return None  # the core says what is wrong with the shapes
    batch, heads, length, _ = q.shape
    return torch.empty((batch, length, heads, v.shape[3]), dtype=q.dtype).transpose(1, 2)


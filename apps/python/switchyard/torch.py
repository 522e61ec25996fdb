# SPDX-License-Identifier: Apache-2.0
"""Switchyard under torch: attention handed over where that pays, linear layers with quantised weights.

    import switchyard.torch

    switchyard.torch.patch(debug=True)              # every thread, until unpatch()
    with switchyard.torch.Attention() as attention: # this thread, inside the block
        model(tokens)
    print(attention.status())

    report = switchyard.torch.quantize_linear(model, "QUALITY_8BIT")

docs/torch.md has the whole story.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"switchyard.torch needs PyTorch: pip install 'switchyard[torch]' ({error})"
    ) from error

from ._torch_attention import Attention
from ._torch_fake import fake_quantize
from ._torch_linear import LinearReport, QuantizedLinear, quantize_linear
from ._torch_patch import Patch, patch, status, unpatch

__all__ = [
    "Attention",
    "LinearReport",
    "Patch",
    "QuantizedLinear",
    "fake_quantize",
    "patch",
    "quantize_linear",
    "status",
    "unpatch",
]

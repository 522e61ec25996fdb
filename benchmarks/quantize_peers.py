# SPDX-License-Identifier: Apache-2.0
"""What quantisation is compared with, and how answers are compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side import Disagreement, Side


def numpy_ternary(w: Any) -> tuple[Any, Any]:
    m = max(np.abs(w).mean(), 1e-5)
    return np.clip(np.rint(w * (1 / m)), -1, 1).astype(np.int8), m


def numpy_ternary_into(w: Any, codes: Any, temporary: Any) -> tuple[Any, Any]:
    m = max(np.abs(w, out=temporary).mean(), 1e-5)
    np.multiply(w, 1 / m, out=temporary)
    np.rint(temporary, out=temporary)
    np.clip(temporary, -1, 1, out=temporary)
    np.copyto(codes, temporary, casting="unsafe")
    return codes, m


def torch_ternary(w: Any, given: bool) -> list[Side]:
    """torch's operations one by one, on its threads."""
    try:
        import torch
    except ImportError:
        print("quantize: torch is not installed; left out")
        return []
    x = torch.from_numpy(w)
    if not given:

        def fresh() -> tuple[Any, Any]:
            m = max(x.abs().mean().item(), 1e-5)
            return (x * (1 / m)).round().clamp(-1, 1).to(torch.int8).numpy(), m

        return [Side("torch", fresh)]
    codes, temporary = torch.zeros(x.shape, dtype=torch.int8), torch.zeros_like(x)

    def into() -> tuple[Any, Any]:
        m = max(torch.abs(x, out=temporary).mean().item(), 1e-5)
        torch.mul(x, 1 / m, out=temporary).round_().clamp_(-1, 1)
        return codes.copy_(temporary).numpy(), m

    return [Side("torch", into, "temporary given too")]


def check_ternary(w: Any):
    def check(ours: Any, theirs: Any) -> str:
        codes, m = theirs
        if abs(float(ours.scales[0]) - float(m)) > 1e-5 * float(m):
            raise Disagreement(f"scales {ours.scales[0]} and {m}")
        differ = np.flatnonzero((ours.codes != codes).ravel())
        # The order of the mean's sum decides its last bits, and those the values next to a half.
        away = np.abs(np.abs(w.ravel()[differ] / m) - 0.5)
        if differ.size and away.max() > 1e-5:
            raise Disagreement(f"{differ.size} codes differ, one {away.max():.1e} from a tie")
        return f"codes agree but for {differ.size} ties" if differ.size else "codes agree"

    return check


def check_bytes(ours: Any, theirs: Any) -> str:
    for mine, other in zip(ours, theirs, strict=True):
        other = np.asarray(other)
        if mine.tobytes() != other.tobytes():
            raise Disagreement(f"bytes differ ({mine.dtype} {mine.shape})")
    return "bytes agree"


def check_ggml(name: str):
    """Bytes; of ggml built with its own flags (products and sums contracted) nearly all of them."""

    def check(ours: Any, theirs: Any) -> str:
        mine, other = np.asarray(ours[0]).ravel(), np.asarray(theirs[0]).ravel()
        if mine.size != other.size:
            raise Disagreement(f"{mine.size} and {other.size} values")
        if mine.dtype != np.uint8:
            if not np.allclose(mine, other, rtol=1e-6, atol=1e-6):
                raise Disagreement(f"values of {name} differ")
            equal = float(np.mean(mine == other))
            return "values agree" if equal == 1 else f"{100 * equal:.3f} % of the values are equal"
        differ = float(np.mean(mine != other))
        if differ > 0.01:
            raise Disagreement(f"{100 * differ:.2f} % of the bytes of {name} differ")
        return "bytes agree" if differ == 0 else f"{100 * (1 - differ):.3f} % of the bytes agree"

    return check


class MlxAffine:
    """MLX's quantisation of w to 4 bits in groups of 64 on the CPU, and back."""

    def __init__(self, mx: Any, w: Any) -> None:
        mx.set_default_device(mx.cpu)
        self._mx, self._x = mx, mx.array(w)
        self._arrays = self.quantize()

    def quantize(self) -> Any:
        arrays = self._mx.quantize(self._x, group_size=64, bits=4)
        self._mx.eval(*arrays)
        return arrays

    def dequantize(self) -> Any:
        y = self._mx.dequantize(*self._arrays, group_size=64, bits=4)
        self._mx.eval(y)
        return (y,)


def mlx_affine(w: Any) -> MlxAffine | None:
    try:
        import mlx.core as mx
    except ImportError:
        print("quantize: mlx is not installed; its cases are left out")
        return None
    return MlxAffine(mx, w)


def gguf_side(name: str, w: Any) -> list[Side]:
    try:
        import gguf
    except ImportError:
        print("quantize: gguf is not installed; left out")
        return []
    kind = gguf.GGMLQuantizationType[name.upper()]
    return [
        Side("gguf-py", lambda: (gguf.quants.quantize(w, kind),), "NumPy code, one thread"),
    ]


def ggml() -> Any:
    """ggml's C code, where SWITCHYARD_GGML names a library of benchmarks/build_ggml.sh."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "peers"))
    from ggml import Ggml

    return Ggml.from_environment("SWITCHYARD_GGML")

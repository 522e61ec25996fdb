# SPDX-License-Identifier: Apache-2.0
"""torch.nn.Linear with weights that stay quantised."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ._engine import Engine, default_engine
from ._errors import Error, InputError
from ._models import decide
from ._results import Quantized

_scratch = threading.local()
_PARTS = ("blocks", "codes", "scales", "biases")
_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is a Quantized; values are restored when it is used.

    Takes float32, float16 and bfloat16; gradients reach the input and the bias, not the weight.
    `to(dtype)` changes the bias only: the stored scales are part of the format. Its arrays are
    buffers, so state_dict has them.
    """

    def __init__(self, quantized: Quantized, bias: Any = None, engine: Engine | None = None) -> None:
        super().__init__()
        if len(quantized.shape) != 2:
            raise InputError(f"a weight has two dimensions, not shape {quantized.shape}", "shape")
        self.out_features, self.in_features = quantized.shape
        self._meta = {
            "format": quantized.format,
            "shape": tuple(quantized.shape),
            "dtype": quantized.dtype,
            "group_size": quantized.group_size,
            "granularity": quantized.granularity,
        }
        for part in _PARTS:
            array = getattr(quantized, part)
            if array is not None and not isinstance(array, torch.Tensor):
                array = torch.from_numpy(array)
            if array is not None and array.dtype is torch.uint32:
                array = array.view(torch.int32)  # which torch can save
            self.register_buffer(part, array)
        self.bias = bias
        self.engine = engine

    @classmethod
    def of(
        cls, linear: nn.Linear, format: str, engine: Engine | None = None, **options: Any
    ) -> QuantizedLinear:
        """From a Linear; `format` and options are Engine.quantize's."""
        who = default_engine() if engine is None else engine
        with torch.no_grad():
            quantized = who.quantize(linear.weight.detach(), format, **options)
        layer = cls(quantized, linear.bias, engine)
        layer.train(linear.training)
        return layer

    @property
    def quantized(self) -> Quantized:
        """The weight, its arrays not copied."""
        meta, parts = dict(self._meta), {p: getattr(self, p) for p in _PARTS}
        if parts["codes"] is not None and parts["codes"].dtype is torch.int32:
            parts["codes"] = parts["codes"].view(torch.uint32)
        return Quantized(meta.pop("format"), meta.pop("shape"), **meta, **parts)

    def weight_values(self, dtype: Any = torch.float32) -> torch.Tensor:
        """The restored weight, a new tensor [out_features, in_features]."""
        return self._restore(torch.empty(self._meta["shape"], dtype=dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored weight."""
        return self.quantized.nbytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in _DTYPES:
            raise InputError(f"the input is {x.dtype}; it must be a float of 16 or 32 bits", "dtype")
        bias = self.bias
        if bias is not None and bias.dtype is not x.dtype:
            bias = bias.to(x.dtype)
        if torch.is_grad_enabled() and x.requires_grad:
            return nn.functional.linear(x, self.weight_values(x.dtype), bias)  # kept for backward
        return nn.functional.linear(x, self._restore(self._room(x.dtype)), bias)

    def _restore(self, out: torch.Tensor) -> torch.Tensor:
        engine = default_engine() if self.engine is None else self.engine
        with torch.no_grad():
            return engine.dequantize(self.quantized, out=out)

    def _room(self, dtype: Any) -> torch.Tensor:
        """Memory for the values that all layers used by this thread share: they live for one
        product only."""
        rooms = _scratch.__dict__
        need = self.out_features * self.in_features
        room = rooms.get(dtype)
        if room is None or room.numel() < need:
            room = rooms[dtype] = torch.empty(need, dtype=dtype)
        return room[:need].view(self.out_features, self.in_features)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> QuantizedLinear:
        kept = {p: self._buffers.pop(p) for p in _PARTS}
        try:
            super()._apply(fn, recurse)
        finally:
            self._buffers.update(kept)
        return self

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, {self._meta['format']}"


@dataclass(frozen=True)
class LayerReport:
    """What became of one nn.Linear: `format` "" where it was kept, `rule` says why; errors are those
    of the restored weight, `relative_error` the root of the squared error over the squared weight."""

    name: str
    shape: tuple[int, int]
    format: str
    rule: str
    bytes_before: int
    bytes_after: int
    relative_error: float
    max_error: float


@dataclass
class LinearReport:
    """What `quantize_linear` did; `print(report)` is a table."""

    layers: list[LayerReport] = field(default_factory=list)

    @property
    def quantized(self) -> int:
        """Layers that were replaced."""
        return sum(1 for layer in self.layers if layer.format)

    @property
    def bytes_before(self) -> int:
        """Bytes of all Linear weights before."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes of the same weights after."""
        return sum(layer.bytes_after for layer in self.layers)

    def __str__(self) -> str:
        wide = max([5, *(len(layer.name) for layer in self.layers)])
        lines = [f"{'layer':{wide}}  {'shape':>13}  {'format':12} {'MB':>15}  {'error':>8}"]
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            size = f"{layer.bytes_before / 1e6:.2f} -> {layer.bytes_after / 1e6:.2f}"
            what = f"{layer.relative_error:8.1e}" if layer.format else layer.rule
            lines.append(f"{layer.name:{wide}}  {shape:>13}  {layer.format:12} {size:>15}  {what}")
        ratio = self.bytes_before / max(1, self.bytes_after)
        lines.append(
            f"{self.quantized} of {len(self.layers)} layers, {self.bytes_before / 1e6:.2f} MB -> "
            f"{self.bytes_after / 1e6:.2f} MB ({ratio:.2f} times smaller)"
        )
        return "\n".join(lines)


def quantize_linear(
    model: nn.Module,
    recipe: str | os.PathLike[str] | None = "QUALITY_8BIT",
    *,
    rules: Mapping[str, Any] | str | None = None,
    format: str | Mapping[str, Any] | None = None,
    skip: Iterable[str] = (),
    engine: Engine | None = None,
) -> LinearReport:
    """Replaces each nn.Linear of the model by one with quantised weights, in place.

    Args:
        model: its weights lie in host memory.
        recipe, rules, format: decide about each weight by its name ("layers.0.q_proj.weight") as in
            quantize_model: a name of RECIPES or a recipe file; {pattern: choice}; the choice for all
            others. recipe=None: rules and format alone.
        skip: names of modules that stay as they are, everything below them too.
        engine: who quantises and restores; None for the one that the process shares.

    Returns:
        A LinearReport: sizes and errors, layer by layer. Weights that another module shares (an
        output head tied to the embedding) are kept.

    Raises:
        InputError: unknown recipe or format, a format that does not fit a weight, NaN in a weight.
    """
    skipped = tuple(skip)
    found = _linears(model)
    owners: dict[int, int] = {}
    for _, module in model.named_modules(remove_duplicate=True):
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    wanted, kept = {}, {}
    for name, _, _, linear in found:
        if any(name == s or name.startswith(s + ".") for s in skipped):
            kept[name] = None, "kept: skipped"
        elif owners.get(id(linear.weight), 0) > 1:
            kept[name] = None, "kept: the weight is shared with another module"
        elif linear.weight.dtype not in _DTYPES or linear.weight.device.type != "cpu":
            kept[name] = None, "kept: dtype or device"
        else:
            wanted[f"{name}.weight"] = tuple(linear.weight.shape), _DTYPES[linear.weight.dtype]
    choices = decide(wanted, recipe, rules=rules, format=format, engine=engine)
    report = LinearReport()
    for name, parent, attribute, linear in found:
        choice, rule = kept[name] if name in kept else choices[f"{name}.weight"]
        size = linear.weight.numel() * linear.weight.element_size()
        shape = tuple(linear.weight.shape)
        if choice is None:
            report.layers.append(LayerReport(name, shape, "", rule, size, size, 0.0, 0.0))
            continue
        options = {k: v for k, v in choice.items() if k in ("group_size", "granularity") and v}
        if choice.get("scale", "default") != "default":
            options["scale"] = choice["scale"]
        try:
            layer = QuantizedLinear.of(linear, choice["format"], engine, **options)
        except Error as error:
            error.args = (f"{name}.weight: {error}",)
            raise
        relative, largest = _errors(linear.weight.detach(), layer)
        setattr(parent, attribute, layer)
        report.layers.append(
            LayerReport(
                name, shape, choice["format"], rule, size, layer.nbytes, relative, largest
            )
        )
    return report


def _linears(model: nn.Module) -> list[tuple[str, nn.Module, str, nn.Linear]]:
    """(name, parent, attribute, layer) of every plain nn.Linear below the model."""
    found = []
    for parent_name, parent in model.named_modules():
        for attribute, child in parent.named_children():
            if type(child) is nn.Linear:
                name = f"{parent_name}.{attribute}" if parent_name else attribute
                found.append((name, parent, attribute, child))
    return found


def _errors(weight: torch.Tensor, layer: QuantizedLinear) -> tuple[float, float]:
    """Relative and largest error of the restored weight, by blocks of rows."""
    restored = layer.weight_values(torch.float32)
    error = signal = largest = 0.0
    rows = max(1, (1 << 22) // max(1, layer.in_features))
    for begin in range(0, layer.out_features, rows):
        want = weight[begin : begin + rows].double()
        apart = restored[begin : begin + rows].double() - want
        error += float(apart.square().sum())
        signal += float(want.square().sum())
        largest = max(largest, float(apart.abs().max()))
    return (math.sqrt(error / signal) if signal > 0 else 0.0), largest

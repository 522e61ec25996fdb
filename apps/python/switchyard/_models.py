# SPDX-License-Identifier: Apache-2.0
"""Whole models: recipes, dry runs and conversions."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from . import _core
from ._checks import _integer, _real, _text
from ._engine import Engine, default_engine
from ._errors import Error, InputError

#: Names of the built-in recipes.
RECIPES: tuple[str, ...] = _core.recipe_names


def _engine(engine: Engine | None) -> Any:
    if engine is None:
        engine = default_engine()
    if not isinstance(engine, Engine):
        raise InputError(f"engine must be a switchyard.Engine, not {engine!r}", "invalid_argument")
    return engine._core


def _choice(name: str, value: Any) -> tuple[str, int, str, str]:
    """False keeps; "FORMAT" or "FORMAT:GROUP"; or a mapping as recipe files have it."""
    if value is False:
        return "", 0, "tensor", "default"
    if isinstance(value, str):
        form, _, group = value.partition(":")
        if group and not group.isdecimal():
            raise InputError(f"{name}: expected FORMAT or FORMAT:GROUP, not {value!r}", "usage")
        return form, int(group or 0), "tensor", "default"
    if isinstance(value, Mapping):
        unknown = set(value) - {"format", "group_size", "granularity", "scale"}
        if unknown or "format" not in value:
            wrong = f"unknown {sorted(map(str, unknown))}" if unknown else "no format"
            raise InputError(f"{name}: {wrong} in {dict(value)!r}", "usage")
        return (
            _text("format", value["format"]),
            _integer("group_size", value.get("group_size", 0), 0),
            _text("granularity", value.get("granularity", "tensor")),
            _text("scale", value.get("scale", "default")),
        )
    raise InputError(
        f"{name}: expected False, a format or a mapping, not {value!r}", "invalid_argument"
    )


def _rules(rules: Any) -> str:
    if rules is None:
        return ""
    if isinstance(rules, str):
        return rules
    if isinstance(rules, Mapping):  # JSON is YAML
        return json.dumps({"version": 1, "rules": dict(rules)})
    raise InputError(f"rules must be a mapping or a YAML text, not {rules!r}", "invalid_argument")


def quantize_model(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    recipe: str | os.PathLike[str] | None = None,
    *,
    rules: Mapping[str, Any] | str | None = None,
    format: str | Mapping[str, Any] | None = None,
    target_bits: float | None = None,
    predicate: Callable[[str, tuple[int, ...], str], Any] | None = None,
    dtype: str | None = None,
    nonfinite: str = "error",
    dry_run: bool = False,
    resume: bool = True,
    quality: bool = True,
    bench: bool = False,
    shard_bytes: int = 5 << 30,
    progress: Callable[[str, float], Any] | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Converts a model, tensor by tensor in bounded memory.

    Args:
        source: a Hugging Face folder, a .safetensors file or index, or a .gguf file.
        out: a .gguf or .safetensors file, or else a folder in MLX's layout. None: decide only.
        recipe: one of RECIPES, or the path of a recipe file (.yaml).
        rules: {glob pattern: choice}, the first match wins; or a recipe file's text. A choice is
            False (keep), "FORMAT", "FORMAT:GROUP", a mapping {format, group_size, granularity,
            scale}, or a list of which the first that fits is taken.
        format: the choice for every tensor that nothing else decides.
        target_bits: stored bits per value on average; formats are chosen by measured error.
        predicate: called as predicate(name, shape, dtype) for each floating tensor of two or more
            dimensions, before the recipe; returns a choice (no list), or None for the recipe's.
        dtype: "f32", "f16" or "bf16": cast on load.
        nonfinite: "error" or "saturate".
        dry_run: decide only; nothing is written.
        resume: continue an interrupted conversion with the same plan.
        quality: measure the error of every tensor and count its codes.
        bench: also time each format alone, for the report's "speed".
        shard_bytes: most bytes of a shard of a folder.
        progress: called as progress(what, done) with done in 0..1; False stops.
        engine: who computes; None for one that all such calls share.

    Returns:
        The report as a dict; docs/models.md lists its keys.

    Raises:
        InputError: unknown recipe, format or rule; a format that does not fit a tensor; NaN.
        Error: "io", "cancelled", ...
    """
    core = _engine(engine)
    dry_run = bool(dry_run) or out is None
    common = (
        "" if recipe is None else os.fspath(recipe),
        _rules(rules),
        None if format is None else _choice("format", format),
    )
    paths = os.fspath(source), "" if out is None else os.fspath(out)
    decisions = {}
    if predicate is not None:
        plain = json.loads(
            _core.quantize_model(
                core, paths[0], "", "", "", ("", 0, "tensor", "default"), {}, None, "", "error",
                [True, True, False, False], 1 << 40, None,
            )
        )
        for tensor in plain["tensors"]:
            if not tensor["candidate"]:
                continue
            answer = predicate(tensor["name"], tuple(tensor["shape"]), tensor["dtype"])
            if answer is not None:
                decisions[tensor["name"]] = _choice(tensor["name"], answer)
    return json.loads(
        _core.quantize_model(
            core,
            *paths,
            *common,
            decisions,
            None if target_bits is None else _real("target_bits", target_bits),
            "" if dtype is None else _text("dtype", dtype),
            _text("nonfinite", nonfinite),
            [dry_run, bool(resume), bool(quality), bool(bench)],
            _integer("shard_bytes", shard_bytes, 1, 2**62),
            progress,
        )
    )


def dequantize_model(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    resume: bool = True,
    progress: Callable[[str, float], Any] | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Restores every quantised tensor of a model to plain values; other tensors are copied.

    Reads what `quantize_model` writes, folders that MLX wrote, and GGUF files. `dtype` None keeps
    the original dtypes (GGUF: f32). The other arguments and the result are quantize_model's.
    """
    return json.loads(
        _core.dequantize_model(
            _engine(engine),
            os.fspath(source),
            os.fspath(out),
            "" if dtype is None else _text("dtype", dtype),
            bool(resume),
            progress,
        )
    )


_STORED = {"f32": ("F32", 4), "f16": ("F16", 2), "bf16": ("BF16", 2)}


def decide(
    tensors: Mapping[str, tuple[tuple[int, ...], str]],
    recipe: str | os.PathLike[str] | None = None,
    *,
    rules: Mapping[str, Any] | str | None = None,
    format: str | Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> dict[str, tuple[dict[str, Any] | None, str]]:
    """What a recipe makes of tensors {name: (shape, dtype)}: {name: (choice or None, rule)}.

    They need not exist: what is asked about is a file with a header and a hole for the data.
    """
    header, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        stored, size = _STORED[dtype]
        begin = end
        for n in shape:
            size *= n
        end += size
        header[name] = {"dtype": stored, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
        path = os.path.join(folder, "model.safetensors")
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
        try:
            report = quantize_model(path, None, recipe, rules=rules, format=format, engine=engine)
        except Error as error:
            error.args = (str(error).replace(f"{path}: ", ""),)
            raise
    return {t["name"]: (t["choice"], t["rule"]) for t in report["tensors"]}

# SPDX-License-Identifier: Apache-2.0
"""Arrays larger than memory, in batches of whole rows."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import _core
from ._errors import Error, InputError
from ._results import Quantized

# A batch whose inputs and outputs take more gains nothing; less is not worth a call.
_MOST, _LEAST = 1 << 30, 16 << 20
_BY_SCALE = ("ternary", "tern2", "int8")  # formats in which one scale may depend on all values
_FLAT_SCALES = ("ternary", "int8")  # scales by row, whatever the leading dimensions


@dataclass(frozen=True)
class BatchProgress:
    """How far process_in_batches is: rows done and in all (None for an iterable), the rows of the
    next batch, seconds since the start."""

    done: int
    total: int | None
    batch_rows: int
    seconds: float


def available_memory() -> int:
    """Bytes that this process may still take: what the system has available, or less where a
    control group leaves less; 0 where neither can be read."""
    return _core.available_memory()


def batch_rows(bytes_per_row: int, memory: int | None = None) -> int:
    """Rows that fit `memory` bytes (None: a quarter of available_memory(), 16 MiB to 1 GiB)."""
    if bytes_per_row <= 0:
        raise InputError(f"bytes_per_row must be above 0, not {bytes_per_row}", "invalid_argument")
    if memory is None:
        memory = min(max(available_memory() // 4, _LEAST), _MOST)
    return max(1, int(memory) // int(bytes_per_row))


def process_in_batches(
    engine: Any,
    op: str | Callable[[Any], Any],
    x: Any,
    *,
    out: Any = None,
    batch_rows: int | None = None,
    memory: int | None = None,
    progress: Callable[[BatchProgress], Any] | None = None,
    **options: Any,
) -> Any:
    """Runs an operation over an array that need not fit memory; the result equals that of one call.

    Args:
        engine: an Engine.
        op: "quantize" (options as for Engine.quantize; rows are x's leading dimensions),
            "dequantize" (x is a Quantized), "kmeans.assign" (`centroids=`; labels of x's rows),
            "attention" (x is (q, k, v), split along the batch axis; options as for
            Engine.attention), or a function of a batch that returns an array of as many rows.
        x: an array, the path of a .npy file (read through a memory map), or an iterable of arrays,
            such as a generator, each a batch of its own. For "dequantize" and "attention" the
            arrays in it may be memory maps, or paths.
        out: path of a .npy file to write, or a dict of them where a result has several arrays
            ("codes" or "blocks", "scales", "biases"). The result then holds memory maps of them.
            None collects in memory. Not for iterables.
        batch_rows: rows of a batch; None takes as many as fit `memory`, asked again each time.
        memory: bytes for a batch's inputs and outputs; None for a quarter of what is available.
        progress: called with a BatchProgress before the first batch and after each; returning
            False stops with an Error "cancelled".

    Returns:
        What the operation returns; for an iterable, an iterator over the batches' results.

    Raises:
        InputError: options that need the whole array at once, such as one scale for a tensor.
    """
    if batch_rows is not None and batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, not {batch_rows}", "invalid_argument")
    work = _WORK.get(op, None) if isinstance(op, str) else _Function
    if work is None:
        raise InputError(
            f"op must be a function or one of {', '.join(_WORK)}, not {op!r}", "usage"
        )
    job = work(engine, op, options)
    if _is_iterable(x):
        if out is not None:
            raise InputError("out needs an array or a file, not an iterable", "invalid_argument")
        return _stream(job, x, progress)
    return _whole(job, x, out, batch_rows, memory, progress)


def _is_iterable(x: Any) -> bool:
    if isinstance(x, Iterator):
        return True
    whole = hasattr(x, "shape") or isinstance(x, (str, os.PathLike, tuple))
    return isinstance(x, Iterable) and not whole


def _load(x: Any) -> Any:
    import numpy as np

    if isinstance(x, (str, os.PathLike)):
        try:
            return np.load(x, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise Error(f"{os.fspath(x)}: {error}", "io") from None
    return x


class _Clock:
    def __init__(self, progress: Callable[[BatchProgress], Any] | None, total: int | None) -> None:
        self._progress, self._total, self._start = progress, total, time.monotonic()

    def tell(self, done: int, rows: int) -> None:
        if self._progress is None:
            return
        state = BatchProgress(done, self._total, rows, time.monotonic() - self._start)
        if self._progress(state) is False:
            raise Error(f"stopped after {done} rows", "cancelled")


def _stream(job: Any, batches: Iterable[Any], progress: Any) -> Iterator[Any]:
    clock, done = _Clock(progress, None), 0
    for batch in batches:
        source = job.open(batch)
        clock.tell(done, source.rows)
        yield job.finish(job.run(source, 0, source.rows), source)
        done += source.rows
    clock.tell(done, 0)


def _whole(job: Any, x: Any, out: Any, fixed: int | None, memory: int | None, progress: Any) -> Any:
    source = job.open(x)
    clock = _Clock(progress, source.rows)
    target, done = None, 0
    while True:
        rows = fixed or batch_rows(source.bytes_per_row, memory)
        rows = min(rows, source.rows - done)
        clock.tell(done, rows)
        if rows == 0 and target is not None:
            break
        part = job.run(source, done, rows)
        if target is None:
            target = _Target(part, source, out)
        target.store(done, rows, part)
        done += rows
        if rows == 0:
            break
    return job.finish(target.arrays(), source)


class _Target:
    """The whole result: arrays by name, in memory or in files, filled batch by batch."""

    def __init__(self, part: dict[str, Any], source: Any, out: Any) -> None:
        import numpy as np

        names = [name for name, array in part.items() if array is not None]
        if out is not None and not isinstance(out, dict):
            if len(names) != 1:
                raise InputError(
                    f"out must be a dict of paths: {', '.join(names)}", "invalid_argument"
                )
            out = {names[0]: out}
        if out is not None and set(out) != set(names):
            raise InputError(
                f"out must have the keys {', '.join(names)}, not {', '.join(map(str, out))}",
                "invalid_argument",
            )
        self._arrays = {}
        for name in names:
            first = np.asarray(part[name])
            shape = (source.rows, *first.shape[1:])
            if out is None:
                self._arrays[name] = np.empty(shape, first.dtype)
            else:
                self._arrays[name] = np.lib.format.open_memmap(
                    os.fspath(out[name]), "w+", first.dtype, shape
                )

    def store(self, first: int, rows: int, part: dict[str, Any]) -> None:
        for name, array in self._arrays.items():
            if len(part[name]) != rows:
                raise InputError(
                    f"a batch of {rows} rows gave {len(part[name])}", "shape"
                )
            array[first : first + rows] = part[name]

    def arrays(self) -> dict[str, Any]:
        for array in self._arrays.values():
            if hasattr(array, "flush"):
                array.flush()
        return self._arrays


class _Source:
    """Rows of one or more arrays; `bytes_per_row` counts inputs and a like amount of outputs."""

    def __init__(self, arrays: list[Any], rows: int, extra: Any = None) -> None:
        self.arrays, self.rows, self.extra = arrays, rows, extra
        size = sum(_bytes(a) for a in arrays if a is not None)
        self.bytes_per_row = max(1, 2 * size // max(rows, 1))

    def take(self, first: int, rows: int) -> list[Any]:
        return [None if a is None else a[first : first + rows] for a in self.arrays]


def _bytes(array: Any) -> int:
    itemsize = getattr(array, "itemsize", 4)  # torch: a method before 2.1
    return math.prod(array.shape) * int(itemsize() if callable(itemsize) else itemsize)


class _Function:
    def __init__(self, engine: Any, op: Any, options: dict[str, Any]) -> None:
        self._run, self._options = op, options

    def open(self, x: Any) -> _Source:
        x = _load(x)
        return _Source([x], len(x))

    def run(self, source: _Source, first: int, rows: int) -> dict[str, Any]:
        return {"out": self._run(source.take(first, rows)[0], **self._options)}

    def finish(self, arrays: dict[str, Any], source: _Source) -> Any:
        return arrays["out"]


class _Quantize:
    def __init__(self, engine: Any, op: str, options: dict[str, Any]) -> None:
        self._engine, self._options = engine, options
        name = str(options.get("format", "")).lower()
        if name == "i2_s":
            raise InputError("i2_s has one scale: it cannot be split", "invalid_argument")
        if name in _BY_SCALE and options.get("granularity", "tensor") not in ("row", "group"):
            raise InputError(
                f"{name} with one scale for the tensor or a channel needs all of it at once; give "
                "granularity='row' or 'group'",
                "invalid_argument",
            )
        if options.get("rounding", "nearest") != "nearest":
            raise InputError(
                "stochastic rounding draws by position in the array: it cannot be split",
                "invalid_argument",
            )

    def open(self, x: Any) -> _Source:
        x = _load(x)
        if len(x.shape) == 0:
            raise InputError("x has no dimensions", "shape")
        rows = math.prod(x.shape[:-1])
        flat = x.reshape(rows, x.shape[-1])
        return _Source([flat], rows, tuple(x.shape))

    def run(self, source: _Source, first: int, rows: int) -> dict[str, Any]:
        q = self._engine.quantize(source.take(first, rows)[0], **self._options)
        source.quantized = q
        name = "blocks" if q.blocks is not None else "codes"
        parts = {name: q.blocks if q.blocks is not None else q.codes}
        return parts | {"scales": q.scales, "biases": q.biases}

    def finish(self, arrays: dict[str, Any], source: _Source) -> Quantized:
        q, lead = source.quantized, source.extra[:-1]

        def shaped(name: str) -> Any:
            array = arrays.get(name)
            if array is None or (name == "scales" and q.format in _FLAT_SCALES):
                return array
            return array.reshape(*lead, *array.shape[1:])

        # The last piece's own object: what it says of the format and of who answered stays true.
        q.shape = source.extra
        for name in ("blocks", "codes", "scales", "biases"):
            setattr(q, name, shaped(name))
        return q


class _Dequantize:
    def __init__(self, engine: Any, op: str, options: dict[str, Any]) -> None:
        self._engine = engine
        if options:
            raise InputError(f"unknown option {next(iter(options))!r}", "usage")

    def open(self, q: Any) -> _Source:
        if not isinstance(q, Quantized):
            raise InputError(f"x must be a Quantized, not {type(q).__name__}", "invalid_argument")
        if q.format == "i2_s" or q.granularity == "channel":
            raise InputError(
                f"{q.format} with scales by {q.granularity} cannot be split", "invalid_argument"
            )
        rows = math.prod(q.shape[:-1])
        parts = [_load(a) for a in (q.blocks, q.codes, q.scales, q.biases)]
        if q.granularity == "tensor" and q.format in _FLAT_SCALES:
            self._shared, parts[2] = parts[2], None
        else:
            self._shared = None
        flat = [None if a is None else a.reshape(rows, -1) for a in parts]
        if q.format in _FLAT_SCALES and q.granularity == "row":
            flat[2] = parts[2].reshape(rows)
        source = _Source(flat, rows, q)
        source.bytes_per_row = max(1, source.bytes_per_row // 2 + 4 * q.shape[-1])
        return source

    def run(self, source: _Source, first: int, rows: int) -> dict[str, Any]:
        blocks, codes, scales, biases = source.take(first, rows)
        q = source.extra
        part = Quantized(
            q.format,
            (rows, q.shape[-1]),
            blocks=blocks,
            codes=codes,
            scales=self._shared if scales is None else scales,
            biases=biases,
            dtype=q.dtype,
            group_size=q.group_size,
            granularity=q.granularity,
        )
        return {"out": self._engine.dequantize(part)}

    def finish(self, arrays: dict[str, Any], source: _Source) -> Any:
        return arrays["out"].reshape(source.extra.shape)


class _Assign(_Function):
    def __init__(self, engine: Any, op: str, options: dict[str, Any]) -> None:
        if set(options) != {"centroids"}:
            raise InputError("kmeans.assign takes centroids=, and nothing else", "usage")
        super().__init__(engine, engine.kmeans_assign, options)


class _Attention:
    def __init__(self, engine: Any, op: str, options: dict[str, Any]) -> None:
        self._engine, self._options = engine, options
        mask = options.get("mask")
        if mask is not None and len(mask.shape) == 4 and mask.shape[0] != 1:
            raise InputError("a mask for each batch entry cannot be split", "invalid_argument")

    def open(self, x: Any) -> _Source:
        if not isinstance(x, tuple) or len(x) != 3:
            raise InputError("x must be the tuple (q, k, v)", "invalid_argument")
        arrays = [_load(a) for a in x]
        if len({len(a) for a in arrays}) != 1:
            raise InputError("q, k and v must have the same batch size", "shape")
        return _Source(arrays, len(arrays[0]))

    def run(self, source: _Source, first: int, rows: int) -> dict[str, Any]:
        o = self._engine.attention(*source.take(first, rows), **self._options)
        return {"out": o[0], "lse": o[1]} if isinstance(o, tuple) else {"out": o}

    def finish(self, arrays: dict[str, Any], source: _Source) -> Any:
        return (arrays["out"], arrays["lse"]) if "lse" in arrays else arrays["out"]


_WORK = {
    "quantize": _Quantize,
    "dequantize": _Dequantize,
    "kmeans.assign": _Assign,
    "attention": _Attention,
}

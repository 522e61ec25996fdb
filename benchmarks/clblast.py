# SPDX-License-Identifier: Apache-2.0
"""CLBlast's f32 matrix product on the first OpenCL device, through its C interface."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import numpy as np

_ALL_DEVICES = 0xFFFFFFFF
_READ_WRITE, _USE_HOST_PTR = 1 << 0, 1 << 3
_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112


class Failed(RuntimeError):
    """A call that did not return 0."""


class Product:
    """c[m, n] = a[m, k] times b[n, k] transposed; a, b and c contiguous f32 arrays."""

    def __init__(self, a: Any, b: Any, c: Any) -> None:
        cl_name, blas_name = (ctypes.util.find_library(n) for n in ("OpenCL", "clblast"))
        if cl_name is None or blas_name is None:
            raise Failed("CLBlast is not installed (Debian: libclblast1)")
        self._cl, self._blas = ctypes.CDLL(cl_name), ctypes.CDLL(blas_name)
        for name in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
            getattr(self._cl, name).restype = ctypes.c_void_p
        self._arrays = (a, b, c)
        platform, self._device = ctypes.c_void_p(), ctypes.c_void_p()
        _good(self._cl.clGetPlatformIDs(1, ctypes.byref(platform), None))
        _good(
            self._cl.clGetDeviceIDs(
                platform, ctypes.c_uint64(_ALL_DEVICES), 1, ctypes.byref(self._device), None
            )
        )
        code = ctypes.c_int()
        out = ctypes.byref(code)
        self._context = ctypes.c_void_p(
            self._cl.clCreateContext(None, 1, ctypes.byref(self._device), None, None, out)
        )
        _good(code.value)
        self._queue = ctypes.c_void_p(
            self._cl.clCreateCommandQueue(self._context, self._device, ctypes.c_uint64(0), out)
        )
        _good(code.value)
        flags = ctypes.c_uint64(_READ_WRITE | _USE_HOST_PTR)
        self._buffers = []
        for array in self._arrays:
            size, start = ctypes.c_size_t(array.nbytes), ctypes.c_void_p(array.ctypes.data)
            made = self._cl.clCreateBuffer(self._context, flags, size, start, out)
            _good(code.value)
            self._buffers.append(ctypes.c_void_p(made))

    def __call__(self) -> None:
        (m, k), n = self._arrays[0].shape, self._arrays[1].shape[0]
        size, real = ctypes.c_size_t, ctypes.c_float
        a, b, c = self._buffers
        _good(
            self._blas.CLBlastSgemm(
                _ROW_MAJOR, _AS_IT_IS, _TRANSPOSED, size(m), size(n), size(k), real(1),
                a, size(0), size(k), b, size(0), size(k), real(0), c, size(0), size(n),
                ctypes.byref(self._queue), None,
            )
        )  # fmt: skip
        _good(self._cl.clFinish(self._queue))


def _good(code: int) -> None:
    if code != 0:
        raise Failed(f"OpenCL or CLBlast answered {code}")


def check(product: Product) -> bool:
    a, b, c = product._arrays
    product()
    return bool(np.allclose(c[:16], a[:16] @ b.T, atol=1e-3))

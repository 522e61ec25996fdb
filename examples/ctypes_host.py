#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C interface from a language without bindings, here Python's ctypes and nothing else:

    python3 examples/ctypes_host.py PREFIX/lib/libswitchyard.so
"""

import array
import ctypes as c
import json
import sys


class Tensor(c.Structure):  # sy_tensor, frozen
    _fields_ = [("handle", c.c_void_p), ("byte_offset", c.c_uint64), ("byte_size", c.c_uint64),
                ("shape", c.c_int64 * 8), ("strides", c.c_int64 * 8),
                ("code", c.c_uint8), ("bits", c.c_uint8), ("format", c.c_uint16),
                ("rank", c.c_int32), ("device_kind", c.c_int32), ("device_index", c.c_int32),
                ("flags", c.c_uint32), ("reserved", c.c_uint32)]


class DType(c.Structure):
    _fields_ = [("code", c.c_uint8), ("bits", c.c_uint8), ("format", c.c_uint16)]


class Error(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("code", c.c_int32), ("index", c.c_int64),
                ("message", c.c_char * 256)]


PROGRESS = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.c_double)


class KMeansOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("n_init", c.c_int32), ("k", c.c_int64),
                ("init", c.c_char_p), ("init_centroids", c.c_void_p), ("sample_weight", c.c_void_p),
                ("max_iter", c.c_int32), ("spherical", c.c_int32), ("tol", c.c_double),
                ("seed", c.c_uint64), ("batch_size", c.c_int64), ("progress", PROGRESS),
                ("progress_arg", c.c_void_p)]


lib = c.CDLL(sys.argv[1])
lib.sy_code_name.restype = lib.sy_result_json.restype = c.c_char_p
lib.sy_result_json.argtypes = lib.sy_result_destroy.argtypes = [c.c_void_p]
lib.sy_engine_destroy.argtypes = lib.sy_string_free.argtypes = [c.c_void_p]
error = Error(c.sizeof(Error))


def check(code):
    if code:
        raise SystemExit(f"{lib.sy_code_name(code).decode()}: {error.message.decode()}")


engine = c.c_void_p()
check(lib.sy_engine_create(None, c.byref(engine), c.byref(error)))

points = array.array("f", (((i * 2654435761) % 1000) / 10 + 500 * (i // 2 % 4) for i in range(8000)))
x = Tensor()
check(lib.sy_tensor_init(c.byref(x), c.c_void_p(points.buffer_info()[0]), DType(0, 32, 0), 2,
                         (c.c_int64 * 2)(4000, 2)))
options = KMeansOptions()
lib.sy_kmeans_options_init(c.byref(options), c.sizeof(options))
options.k = 4
fit = c.c_void_p()
check(lib.sy_kmeans(engine, c.byref(x), c.byref(options), c.byref(fit), c.byref(error)))
print("who answered:", json.loads(lib.sy_result_json(fit))["kernel"])
labels = Tensor()
check(lib.sy_result_array(fit, b"labels", c.byref(labels), c.byref(error)))
values = (c.c_int32 * 4000).from_address(labels.handle)
print("rows by cluster:", sorted(list(values).count(k) for k in range(4)))
lib.sy_result_destroy(fit)

text = c.c_void_p()
check(lib.sy_metrics(engine, c.byref(text), c.byref(error)))
print("calls:", json.loads(c.cast(text, c.c_char_p).value)["total_operations"])
lib.sy_string_free(text)
lib.sy_engine_destroy(engine)

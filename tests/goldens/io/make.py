# SPDX-License-Identifier: Apache-2.0
"""Writes the array files that tests/io reads: python3 make.py (NumPy 2, safetensors).

Array `name` holds 0, 1, 2, ... in C order (bool: i % 3 == 0), less 3 for signed types.
versions.txt records what wrote them.
"""
import io
import pathlib
import platform
import warnings
import zipfile

import numpy as np
import safetensors
import safetensors.numpy

here = pathlib.Path(__file__).parent
NUMERIC = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def values(dtype, shape):
    n = int(np.prod(shape))
    if dtype == "b1":
        return (np.arange(n) % 3 == 0).reshape(shape)
    return (np.arange(n) - (0 if dtype[0] == "u" else 3)).astype(dtype).reshape(shape)


def save(name, array, version=None):
    with open(here / name, "wb") as f, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(f, array, version=version)


for dtype in [*NUMERIC, "b1"]:
    save(f"c_{dtype}.npy", values(dtype, (2, 3)))
for dtype in ["f2", "f4", "f8", "i2", "u4", "i8"]:
    save(f"big_{dtype}.npy", values(dtype, (2, 3)).astype(">" + dtype))
save("fortran_f4.npy", np.asfortranarray(values("f4", (3, 5))))
save("fortran_i2_3d.npy", np.asfortranarray(values("i2", (2, 3, 4))))
save("fortran_big_f8.npy", np.asfortranarray(values("f8", (4, 3)).astype(">f8")))
save("fortran_vector_i4.npy", np.asfortranarray(values("i4", (5,))))
save("version2_f4.npy", values("f4", (2, 3)), (2, 0))
save("version3_f4.npy", values("f4", (2, 3)), (3, 0))
save("scalar_f4.npy", values("f4", ()))
save("empty_f4.npy", values("f4", (0, 3)))
save("empty_3d_i8.npy", values("i8", (2, 0, 3)))
save("vector_u1.npy", values("u1", (7,)))
save("complex.npy", np.zeros(3, "c8"))
save("text.npy", np.array("caf\u00e9 \U0001d11e"))
save("big_text.npy", np.array("caf\u00e9").astype(">U4"))
save("bytes.npy", np.array(b"plain"))
save("objects.npy", np.array([None, 1], dtype=object))
save("records.npy", np.zeros(2, [("a", "f4"), ("b", "i4")]))
save("dates.npy", np.array(["2026-01-01"], "M8[D]"))

arrays = {
    "points": values("f4", (3, 4)),
    "labels": values("i4", (5,)),
    "fortran": np.asfortranarray(values("f8", (3, 2))),
    "none": values("f4", (0,)),
    "meta": np.array('{"format": "q4_0"}'),
}
np.savez(here / "stored.npz", **arrays)
np.savez_compressed(here / "deflated.npz", **arrays)
zipfile.ZIP64_LIMIT = 0  # every size and offset in zip64 fields
np.savez(here / "zip64.npz", **arrays)
zipfile.ZIP64_LIMIT = (1 << 31) - 1
with zipfile.ZipFile(here / "bzip2.npz", "w", zipfile.ZIP_BZIP2) as z:
    buffer = io.BytesIO()
    np.save(buffer, values("f4", (64,)))
    z.writestr("points.npy", buffer.getvalue())

safetensors.numpy.save_file(
    {
        "layer.weight": values("f4", (2, 3)),
        "layer.half": values("f2", (3,)),
        "layer.mask": values("b1", (5,)),
        "step": values("i8", ()),
        "none": values("u1", (0, 4)),
    },
    here / "small.safetensors",
    metadata={"format": "np", "note": "caf\u00e9"},
)
(here / "versions.txt").write_text(
    f"python {platform.python_version()}, numpy {np.__version__}, "
    f"safetensors {safetensors.__version__}\n"
)

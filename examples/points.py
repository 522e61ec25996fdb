# SPDX-License-Identifier: Apache-2.0
"""Writes points.npy, f32 [20000, 64] around sixteen centres; needs nothing but Python."""

import array
import random
import sys

rng = random.Random(0)
centres = [[rng.uniform(-10, 10) for _ in range(64)] for _ in range(16)]
values = array.array("f")
for i in range(20000):
    values.extend(c + rng.gauss(0, 1) for c in centres[i % 16])
if sys.byteorder == "big":
    values.byteswap()
header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (20000, 64), }"
header += b" " * (-(len(header) + 11) % 64) + b"\n"
with open("points.npy", "wb") as file:
    file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    file.write(values.tobytes())

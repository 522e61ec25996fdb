// SPDX-License-Identifier: Apache-2.0
// What the device makes of f32 numbers: products and sums (denormals), quotients, square roots,
// fused multiply-adds. Four results for each case; the host knows what they should be.

KERNEL void try_out(ulong first, ulong end, global const float *a, long a_at, global const float *b,
                    long b_at, global const float *c, long c_at, global float *out) {
  FOR_TILES(i) {
    const float x = a[i], y = b[i], z = c[i];
    out[4 * i + 0] = x * y + z;
    out[4 * i + 1] = x / y;
    out[4 * i + 2] = sqrt(fabs(x));
    out[4 * i + 3] = fma(x, y, z);
  }
}

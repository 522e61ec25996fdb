// SPDX-License-Identifier: Apache-2.0
// What k-means adds up once rows have labels: inertia, 64-bit sums of rows, counts.

#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable

// Rows 8192 b .. of partial b: eight lanes, row i in lane i mod 8, then 4, 2, 1.
KERNEL void inertia(ulong first, ulong end, ulong blocks, long n, global const float *distances,
                    int weighted, global const float *w_all, long w_at, global double *out_all,
                    long out_at) {
  global const float *w = (global const float *)((global const uchar *)w_all + w_at);
  global double *out = (global double *)((global uchar *)out_all + out_at);
  FOR_TILES(t) {
    const ulong b = t * GROUP + get_local_id(0);
    if (b >= blocks) continue;
    const long i0 = (long)b * 8192, last = SMALLER(i0 + 8192, n);
    double8 lanes = 0.0;
    long i = i0;
    for (; i + 8 <= last; i += 8) {
      double8 term = convert_double8(vload8(0, distances + i));
      if (weighted) term = convert_double8(vload8(0, w + i)) * term;
      lanes += term;
    }
    double rest[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int l = 0; i + l < last; ++l)
      rest[l] = weighted ? (double)w[i + l] * (double)distances[i + l] : (double)distances[i + l];
    lanes += vload8(0, rest);
    const double4 c = lanes.lo + lanes.hi;
    const double2 e = c.lo + c.hi;
    out[b] = e.x + e.y;
  }
}

// |v| <= 2^50: adding 1.5 * 2^52 leaves the nearest integer (ties to even) in the low bits.
#define FIXED 0x1.8p52
double power_of_2(int s) { return as_double((ulong)(s + 1023) << 52); }

#ifdef ON_CPU
// Sums of slice s of the rows, columns 16 q .. 16 q + 15: tile s * strips + q owns them.
KERNEL void sums(ulong first, ulong end, long n, int k, int d, long row_stride, int slices,
                 global const float *x_all, long x_at, int weighted, global const float *w_all,
                 long w_at, global const int *shifts_all, long shifts_at,
                 global const int *labels_all, long labels_at, global long *out_all, long out_at) {
  global const float *x = (global const float *)((global const uchar *)x_all + x_at);
  global const float *w = (global const float *)((global const uchar *)w_all + w_at);
  global const int *shifts = (global const int *)((global const uchar *)shifts_all + shifts_at);
  global const int *labels = (global const int *)((global const uchar *)labels_all + labels_at);
  global long *out = (global long *)((global uchar *)out_all + out_at);
  const int strips = (d + 15) / 16;
  const long per_slice = (n + slices - 1) / slices;
  FOR_TILES(t) {
    const long slice = (long)t / strips, i0 = slice * per_slice;
    const long last = SMALLER(i0 + per_slice, n);
    const int m0 = (int)((long)t % strips) * 16, columns = SMALLER(d - m0, 16);
    global long *mine = out + slice * k * d + m0;
    for (int j = 0; j < k; ++j)
      for (int m = 0; m < columns; ++m) mine[(long)j * d + m] = 0;
    double factors[16];
    for (int m = 0; m < 16; ++m) factors[m] = m < columns ? power_of_2(shifts[m0 + m]) : 0.0;
    const double16 factor = vload16(0, factors);
    for (long i = i0; i < last; ++i) {
      global const float *row = x + i * row_stride + m0;
      global long *sum = mine + (long)labels[i] * d;
      const double weight = weighted ? (double)w[i] : 1.0;
      if (columns == 16) {
        const double16 v = weight * convert_double16(vload16(0, row)) * factor;
        vstore16(vload16(0, sum) + (as_long16(v + FIXED) - as_long(FIXED)), 0, sum);
      } else {
        for (int m = 0; m < columns; ++m)
          sum[m] += as_long(weight * (double)row[m] * factors[m] + FIXED) - as_long(FIXED);
      }
    }
  }
}

// Rows, weights and changed labels of each slice: k counts, k weights, one number.
KERNEL void counts(ulong first, ulong end, long n, int k, int slices, int weighted,
                   int weight_shift, int has_previous, global const float *w_all, long w_at,
                   global const int *previous_all, long previous_at, global const int *labels_all,
                   long labels_at, global long *out) {
  global const float *w = (global const float *)((global const uchar *)w_all + w_at);
  global const int *previous =
      (global const int *)((global const uchar *)previous_all + previous_at);
  global const int *labels = (global const int *)((global const uchar *)labels_all + labels_at);
  const long per_slice = (n + slices - 1) / slices;
  const double factor = power_of_2(weight_shift);
  FOR_TILES(t) {
    const long i0 = (long)t * per_slice, last = SMALLER(i0 + per_slice, n);
    global long *mine = out + (long)t * (2 * (long)k + 1);
    for (int j = 0; j < 2 * k; ++j) mine[j] = 0;
    long changed = 0;
    for (long i = i0; i < last; ++i) {
      const int j = labels[i];
      ++mine[j];
      if (weighted) mine[k + j] += as_long((double)w[i] * factor + FIXED) - as_long(FIXED);
      changed += !has_previous || previous[i] != j;
    }
    mine[2 * k] = changed;
  }
}

// out[e] = the slices' e-th numbers added up; slices lie `stride` numbers apart.
KERNEL void add_slices(ulong first, ulong end, long count, int slices, long stride,
                       global const long *from, long from_at, global long *out_all, long out_at) {
  global long *out = (global long *)((global uchar *)out_all + out_at);
  FOR_TILES(t) {
    const long last = SMALLER((long)(t + 1) * 4096, count);
    for (long e = (long)t * 4096; e < last; ++e) {
      long sum = 0;
      for (int s = 0; s < slices; ++s) sum += from[from_at + s * stride + e];
      out[e] = sum;
    }
  }
}
#else
KERNEL void sums(ulong first, ulong end, long n, int k, int d, long row_stride, int slices,
                 global const float *x_all, long x_at, int weighted, global const float *w_all,
                 long w_at, global const int *shifts_all, long shifts_at,
                 global const int *labels_all, long labels_at, volatile global long *out_all,
                 long out_at) {
  global const float *x = (global const float *)((global const uchar *)x_all + x_at);
  global const float *w = (global const float *)((global const uchar *)w_all + w_at);
  global const int *shifts = (global const int *)((global const uchar *)shifts_all + shifts_at);
  global const int *labels = (global const int *)((global const uchar *)labels_all + labels_at);
  volatile global long *out = (volatile global long *)((volatile global uchar *)out_all + out_at);
  FOR_TILES(t) {  // a tile is 16 rows: neighbouring work-items take neighbouring columns
    const long r0 = (long)t * 16;
    const long cells = SMALLER(n - r0, 16L) * d;
    for (long c = (long)get_local_id(0); c < cells; c += GROUP) {
      const long i = r0 + c / d;
      const int m = (int)(c % d);
      const double weight = weighted ? (double)w[i] : 1.0;
      const double v = weight * (double)x[i * row_stride + m] * power_of_2(shifts[m]);
      atom_add(&out[(long)labels[i] * d + m], as_long(v + FIXED) - as_long(FIXED));
    }
  }
}

KERNEL void counts(ulong first, ulong end, long n, int k, int slices, int weighted,
                   int weight_shift, int has_previous, global const float *w_all, long w_at,
                   global const int *previous_all, long previous_at, global const int *labels_all,
                   long labels_at, volatile global long *out) {
  global const float *w = (global const float *)((global const uchar *)w_all + w_at);
  global const int *previous =
      (global const int *)((global const uchar *)previous_all + previous_at);
  global const int *labels = (global const int *)((global const uchar *)labels_all + labels_at);
  const double factor = power_of_2(weight_shift);
  FOR_TILES(t) {
    const long i = (long)t * GROUP + (long)get_local_id(0);
    if (i >= n) continue;
    const int j = labels[i];
    atom_inc(&out[j]);
    if (weighted) atom_add(&out[k + j], as_long((double)w[i] * factor + FIXED) - as_long(FIXED));
    if (!has_previous || previous[i] != j) atom_inc(&out[2 * k]);
  }
}

KERNEL void add_slices(ulong first, ulong end, long count, int slices, long stride,
                       global const long *from, long from_at, global long *out_all, long out_at) {
  global long *out = (global long *)((global uchar *)out_all + out_at);
  FOR_TILES(t) {
    const long e = (long)t * GROUP + (long)get_local_id(0);
    if (e < count) out[e] = from[from_at + e];
  }
}
#endif

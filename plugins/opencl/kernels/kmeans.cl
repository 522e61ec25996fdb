// SPDX-License-Identifier: Apache-2.0
// k-means by the canonical distance itself: sixteen running sums of fused squares, then the tree
// 8, 4, 2, 1. Tiles of rows meet one panel of centroids after the other; only the best so far is
// kept. On a processor W centroids lie in the lanes of a vector; elsewhere a work-item has a row.
// ACC: running sums that d can fill (2, 4, 8 or 16). ROWS: of a tile.

#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable

#if W == 16
typedef float16 vec;
typedef int16 ivec;
typedef uint16 uvec;
#define LOAD(p) vload16(0, p)
#define STORE(v, p) vstore16(v, 0, p)
#define LANES LANES16
#else
typedef float8 vec;
typedef int8 ivec;
#define LOAD(p) vload8(0, p)
#define STORE(v, p) vstore8(v, 0, p)
#define LANES ((int8)(0, 1, 2, 3, 4, 5, 6, 7))
#endif

#ifdef ON_CPU
// Centroids as panels [panel][padded d][W]; centroids that are not there are infinitely far.
KERNEL void pack(ulong first, ulong end, int k, int d, int padded, global const float *c_all,
                 long c_at, global float *panels) {
  global const float *c = (global const float *)((global const uchar *)c_all + c_at);
  FOR_TILES(p) {
    for (int m = 0; m < padded; ++m)
      for (int l = 0; l < W; ++l) {
        const int j = (int)p * W + l;
        panels[(p * (ulong)padded + (ulong)m) * W + (ulong)l] =
            j >= k ? INFINITY : m < d ? c[(long)j * d + m] : 0.0f;
      }
  }
}

#if ACC == 16
#define STRIP 8  // sums at a time: more would not fit the registers
#else
#define STRIP ACC
#endif
#define BLOCKED (W == 16 ? 2 : 1)  // rows that share what is loaded of a panel

// Running sums s .. s + STRIP - 1 of BLOCKED rows. Squares do not mind the difference's sign.
void sums_of(global const float *const *rows, const float *tails, global const float *panel,
             int whole, int padded, int s, vec a[BLOCKED][STRIP]) {
#pragma unroll
  for (int r = 0; r < BLOCKED; ++r)
#pragma unroll
    for (int i = 0; i < STRIP; ++i) a[r][i] = 0.0f;
  for (int m = s; m < whole; m += ACC) {
#pragma unroll
    for (int i = 0; i < STRIP; ++i) {
      const vec c = LOAD(panel + (long)(m + i) * W);
#pragma unroll
      for (int r = 0; r < BLOCKED; ++r) {
        const vec t = c - rows[r][m + i];
        a[r][i] = fma(t, t, a[r][i]);
      }
    }
  }
  if (whole == padded) return;
#pragma unroll
  for (int i = 0; i < STRIP; ++i) {
    const vec c = LOAD(panel + (long)(whole + s + i) * W);
#pragma unroll
    for (int r = 0; r < BLOCKED; ++r) {
      const vec t = c - tails[r * ACC + s + i];
      a[r][i] = fma(t, t, a[r][i]);
    }
  }
}

KERNEL void assign(ulong first, ulong end, long n, int k, int d, int padded, long row_stride,
                   global const float *x_all, long x_at, global const float *panels,
                   global const float *unused, long unused_at, global int *labels_all,
                   long labels_at, global float *distances) {
  global const float *x = (global const float *)((global const uchar *)x_all + x_at);
  global int *labels = (global int *)((global uchar *)labels_all + labels_at);
  const int whole = d / ACC * ACC, panel_count = (k + W - 1) / W;
  FOR_TILES(t) {
    const long r0 = (long)t * ROWS;
    const int rows = (int)SMALLER(n - r0, (long)ROWS);
    vec best[ROWS];
    ivec at[ROWS];
    float tails[ROWS * ACC];
    for (int r = 0; r < ROWS; ++r) {
      best[r] = INFINITY;
      at[r] = LANES;
    }
    if (whole != padded)
      for (int r = 0; r < rows; ++r)
        for (int m = 0; m < ACC; ++m)
          tails[r * ACC + m] = whole + m < d ? x[(r0 + r) * row_stride + whole + m] : 0.0f;
    for (int p = 0; p < panel_count; ++p) {
      global const float *panel = panels + (long)p * padded * W;
      const ivec j = LANES + p * W;
      for (int r = 0; r < rows; r += BLOCKED) {
        global const float *mine[BLOCKED];
        float ends[BLOCKED * ACC];
        for (int b = 0; b < BLOCKED; ++b) {
          const int row = SMALLER(r + b, rows - 1);
          mine[b] = x + (r0 + row) * row_stride;
          if (whole != padded)
            for (int m = 0; m < ACC; ++m) ends[b * ACC + m] = tails[row * ACC + m];
        }
        vec a[BLOCKED][STRIP];
        sums_of(mine, ends, panel, whole, padded, 0, a);
#if ACC == 16
        vec high[BLOCKED][STRIP];
        sums_of(mine, ends, panel, whole, padded, STRIP, high);
#endif
#pragma unroll
        for (int b = 0; b < BLOCKED; ++b) {
#if ACC == 16
#pragma unroll
          for (int i = 0; i < 8; ++i) a[b][i] += high[b][i];
#endif
#pragma unroll
          for (int step = STRIP / 2; step > 0; step /= 2)
#pragma unroll
            for (int i = 0; i < step; ++i) a[b][i] += a[b][i + step];
          const int row = SMALLER(r + b, rows - 1);
          const ivec better = a[b][0] < best[row];
          best[row] = better ? a[b][0] : best[row];
          at[row] = better ? j : at[row];
        }
      }
    }
    for (int r = 0; r < rows; ++r) {
      float dist[W];
      int place[W];
      STORE(best[r], dist);
      STORE(at[r], place);
      float least = dist[0];
      int label = place[0];
      for (int l = 1; l < W; ++l)
        if (dist[l] < least || (dist[l] == least && place[l] < label)) {
          least = dist[l];
          label = place[l];
        }
      labels[r0 + r] = label;
      distances[r0 + r] = least;
    }
  }
}
#else
// A row for each work-item; every work-item of a group reads the same centroid.
KERNEL void assign(ulong first, ulong end, long n, int k, int d, int padded, long row_stride,
                   global const float *x_all, long x_at, global const float *panels,
                   global const float *c_all, long c_at, global int *labels_all, long labels_at,
                   global float *distances) {
  global const float *x = (global const float *)((global const uchar *)x_all + x_at);
  global const float *c = (global const float *)((global const uchar *)c_all + c_at);
  global int *labels = (global int *)((global uchar *)labels_all + labels_at);
  const int whole = d & ~15;
  FOR_TILES(t) {
    const long i = (long)t * GROUP + (long)get_local_id(0);
    if (i >= n) continue;
    global const float *row = x + i * row_stride;
    float tail[16], least = INFINITY;
    for (int m = 0; m < 16; ++m) tail[m] = whole + m < d ? row[whole + m] : 0.0f;
    const float16 x_end = vload16(0, tail);
    int label = 0;
    for (int j = 0; j < k; ++j) {
      global const float *centroid = c + (long)j * d;
      float16 a = 0.0f;
      for (int m = 0; m < whole; m += 16) {
        const float16 s = vload16(0, row + m) - vload16(0, centroid + m);
        a = fma(s, s, a);
      }
      if (whole != d) {
        for (int m = 0; m < 16; ++m) tail[m] = whole + m < d ? centroid[whole + m] : 0.0f;
        const float16 s = x_end - vload16(0, tail);
        a = fma(s, s, a);
      }
      const float8 b = a.lo + a.hi;
      const float4 e = b.lo + b.hi;
      const float2 f = e.lo + e.hi;
      const float distance = f.x + f.y;
      if (distance < least) {
        least = distance;
        label = j;
      }
    }
    labels[i] = label;
    distances[i] = least;
  }
}
#endif

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

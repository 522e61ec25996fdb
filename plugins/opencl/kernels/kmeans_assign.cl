// SPDX-License-Identifier: Apache-2.0
// k-means by the canonical distance itself: sixteen running sums of fused squares, then the tree
// 8, 4, 2, 1. Tiles of rows meet one panel of centroids after the other; only the best so far is
// kept. On a processor W centroids lie in the lanes of a vector; elsewhere a work-item has a row.
// ACC: running sums that d can fill (2, 4, 8 or 16). ROWS: of a tile.

#if W == 16
typedef float16 vec;
typedef int16 ivec;
typedef uint16 uvec;
#define LOAD(p) vload16(0, p)
#define STORE(v, p) vstore16(v, 0, p)
#define LANES LANES16
#define SMALLEST(v) smallest_of(v)
#define SMALLEST_INT(v) smallest_int(v)
#else
typedef float8 vec;
typedef int8 ivec;
#define LOAD(p) vload8(0, p)
#define STORE(v, p) vstore8(v, 0, p)
#define LANES ((int8)(0, 1, 2, 3, 4, 5, 6, 7))
#define SMALLEST(v) smallest_of((float16)(v, v))
#define SMALLEST_INT(v) smallest_int((int16)(v, v))
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
#define STRIP 4  // sums at a time: more rows share what is loaded of a panel
#else
#define STRIP ACC
#endif
#define BLOCKED (W == 8 ? 1 : STRIP == 8 ? 2 : 4)  // rows at a time

// Adds the squares of STRIP columns to the running sums of BLOCKED rows; X(r, i): the rows' values.
// Squares do not mind the difference's sign.
#define ADD_SQUARES(PANEL, X)                      \
  _Pragma("unroll") for (int i = 0; i < STRIP; ++i) {     \
    const vec c = LOAD((PANEL) + i * W);                  \
    _Pragma("unroll") for (int r = 0; r < BLOCKED; ++r) { \
      const vec t = c - X(r, i);                          \
      a[r][i] = fma(t, t, a[r][i]);                       \
    }                                                     \
  }
#define OF_ROW(r, i) rows[r][m + i]
#define OF_TAIL(r, i) tails[(r) * ACC + s + i]

// Running sums s .. s + STRIP - 1 of BLOCKED rows. Inlined, so that they stay in registers.
__attribute__((always_inline)) void sums_of(global const float *const *rows, const float *tails,
                                            global const float *panel, int whole, int padded,
                                            int s, vec a[BLOCKED][STRIP]) {
#pragma unroll
  for (int r = 0; r < BLOCKED; ++r)
#pragma unroll
    for (int i = 0; i < STRIP; ++i) a[r][i] = 0.0f;
  for (int m = s; m < whole; m += ACC) ADD_SQUARES(panel + (long)m * W, OF_ROW)
  if (whole != padded) ADD_SQUARES(panel + (long)(whole + s) * W, OF_TAIL)
}

#define ADD_SUMS(x, y)                                  \
  _Pragma("unroll") for (int b = 0; b < BLOCKED; ++b)   \
      _Pragma("unroll") for (int i = 0; i < STRIP; ++i) \
          x[b][i] += y[b][i];

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
    float tails[(ROWS + BLOCKED) * ACC];  // of the last row again: rows come BLOCKED at a time
    for (int r = 0; r < ROWS; ++r) {
      best[r] = INFINITY;
      at[r] = LANES;
    }
    if (whole != padded)
      for (int r = 0; r < rows + BLOCKED; ++r)
        for (int m = 0; m < ACC; ++m)
          tails[r * ACC + m] =
              whole + m < d ? x[(r0 + SMALLER(r, rows - 1)) * row_stride + whole + m] : 0.0f;
    // As many panels at a time as the nearest cache holds.
    const int together = LARGER(256 / padded, 1);
    for (int p0 = 0; p0 < panel_count; p0 += together) {
      const int p1 = SMALLER(p0 + together, panel_count);
      for (int r = 0; r < rows; r += BLOCKED) {
        global const float *mine[BLOCKED];
        vec least[BLOCKED];
        ivec of[BLOCKED];
#pragma unroll
        for (int b = 0; b < BLOCKED; ++b) {
          mine[b] = x + (r0 + SMALLER(r + b, rows - 1)) * row_stride;
          least[b] = best[r + b];
          of[b] = at[r + b];
        }
        for (int p = p0; p < p1; ++p) {
          global const float *panel = panels + (long)p * padded * W;
          vec a[BLOCKED][STRIP];
          sums_of(mine, tails + r * ACC, panel, whole, padded, 0, a);
#if ACC == 16
          vec other[BLOCKED][STRIP], last[BLOCKED][STRIP];
          sums_of(mine, tails + r * ACC, panel, whole, padded, 8, other);
          ADD_SUMS(a, other)
          sums_of(mine, tails + r * ACC, panel, whole, padded, 4, other);
          sums_of(mine, tails + r * ACC, panel, whole, padded, 12, last);
          ADD_SUMS(other, last)
          ADD_SUMS(a, other)
#endif
#pragma unroll
          for (int b = 0; b < BLOCKED; ++b) {
#pragma unroll
            for (int step = STRIP / 2; step > 0; step /= 2)
#pragma unroll
              for (int i = 0; i < step; ++i) a[b][i] += a[b][i + step];
            const ivec better = a[b][0] < least[b];
            least[b] = better ? a[b][0] : least[b];
            of[b] = better ? LANES + p * W : of[b];
          }
        }
#pragma unroll
        for (int b = 0; b < BLOCKED; ++b) {
          best[r + b] = least[b];
          at[r + b] = of[b];
        }
      }
    }
    // Of equal distances the lowest number.
    for (int r = 0; r < rows; ++r) {
      const float least = SMALLEST(best[r]);
      labels[r0 + r] = SMALLEST_INT(best[r] == least ? at[r] : (ivec)INT_MAX);
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

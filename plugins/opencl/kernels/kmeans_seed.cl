// SPDX-License-Identifier: Apache-2.0
// Greedy k-means++: chances in fixed point, added up by blocks of BLOCK rows; the host draws from the
// blocks' sums. A work-item has a block, so that sums need no order among work-items.
// TRIALS: rows that are considered at a time, at most.

// The row's and another row's tails, padded with zeros; whole: columns before them.
float distance_to(global const float *row, float16 row_end, global const float *other,
                  float16 other_end, int whole) {
  float16 a = 0.0f;
  for (int m = 0; m < whole; m += 16) {
    const float16 t = vload16(0, row + m) - vload16(0, other + m);
    a = fma(t, t, a);
  }
  const float16 t = row_end - other_end;
  const float sum = sum_of(fma(t, t, a));
  return sum < MAXFLOAT ? sum : MAXFLOAT;
}

float16 end_of(global const float *row, int whole, int d) {
  float tail[16];
  for (int m = 0; m < 16; ++m) tail[m] = whole + m < d ? row[whole + m] : 0.0f;
  return vload16(0, tail);
}

double weight_of(int weighted, global const float *w, long i) { return weighted ? (double)w[i] : 1.0; }

ulong chance(double weight, float near, double scale) {
  return (ulong)(weight * (double)near * scale);
}

#define AS_FLOATS(p, at) ((global const float *)((global const uchar *)(p) + (at)))

// Each block's largest weight times distance, after the row `row` was taken: of step 0 (`fresh`)
// distances to it are all there is; -1: no row was taken.
KERNEL void take(ulong first, ulong end, long n, int d, long row_stride, global const float *x_all,
                 long x_at, long row, int fresh, int weighted, global const float *w_all, long w_at,
                 global float *nearest, global double *largest) {
  global const float *x = AS_FLOATS(x_all, x_at), *w = AS_FLOATS(w_all, w_at);
  const int whole = d & ~15;
  FOR_TILES(t) {
    const long block = (long)t * GROUP + (long)get_local_id(0), i0 = block * BLOCK;
    if (i0 >= n) continue;
    float16 taken = 0.0f;
    if (row >= 0) taken = end_of(x + row * row_stride, whole, d);
    double most = 0.0;
    for (long i = i0; i < SMALLER(i0 + BLOCK, n); ++i) {
      float near = nearest[i];
      if (row >= 0) {
        global const float *mine = x + i * row_stride;
        const float D =
            distance_to(mine, end_of(mine, whole, d), x + row * row_stride, taken, whole);
        near = fresh || D < near ? D : near;
        nearest[i] = near;
      }
      const double product = weight_of(weighted, w, i) * (double)near;
      most = product > most ? product : most;
    }
    largest[block] = most;
  }
}

// The sum of each block's chances.
KERNEL void chances(ulong first, ulong end, long n, double scale, int weighted,
                    global const float *w_all, long w_at, global const float *nearest,
                    global ulong *sums) {
  global const float *w = AS_FLOATS(w_all, w_at);
  FOR_TILES(t) {
    const long block = (long)t * GROUP + (long)get_local_id(0), i0 = block * BLOCK;
    if (i0 >= n) continue;
    ulong sum = 0;
    for (long i = i0; i < SMALLER(i0 + BLOCK, n); ++i)
      sum += chance(weight_of(weighted, w, i), nearest[i], scale);
    sums[block] = sum;
  }
}

// The rows that the points fall on, each within the block that begins at rows[trial].
KERNEL void draw(ulong first, ulong end, int trials, long n, double scale, int weighted,
                 global const float *w_all, long w_at, global const float *nearest,
                 global const ulong *points, global long *rows) {
  global const float *w = AS_FLOATS(w_all, w_at);
  FOR_TILES(t) {
    const int trial = (int)(t * GROUP + get_local_id(0));
    if (trial >= trials) continue;
    ulong point = points[trial];
    long i = rows[trial];
    for (; i + 1 < n; ++i) {
      const ulong of_row = chance(weight_of(weighted, w, i), nearest[i], scale);
      if (point < of_row) break;
      point -= of_row;
    }
    rows[trial] = i;
  }
}

// What would be left of each block's chances with each of the rows: potentials [trial][block].
KERNEL void consider(ulong first, ulong end, long n, int d, long row_stride,
                     global const float *x_all, long x_at, int trials, double scale, int weighted,
                     global const float *w_all, long w_at, global const float *nearest,
                     global const long *rows, long blocks, global ulong *potentials) {
  global const float *x = AS_FLOATS(x_all, x_at), *w = AS_FLOATS(w_all, w_at);
  const int whole = d & ~15;
  FOR_TILES(t) {
    const long block = (long)t * GROUP + (long)get_local_id(0), i0 = block * BLOCK;
    if (i0 >= n) continue;
    ulong sums[TRIALS];
    float16 ends[TRIALS];
    for (int s = 0; s < trials; ++s) {
      sums[s] = 0;
      ends[s] = end_of(x + rows[s] * row_stride, whole, d);
    }
    for (long i = i0; i < SMALLER(i0 + BLOCK, n); ++i) {
      global const float *mine = x + i * row_stride;
      const float16 mine_end = end_of(mine, whole, d);
      const double weight = weight_of(weighted, w, i);
      const float near = nearest[i];
      for (int s = 0; s < trials; ++s) {
        const float D = distance_to(mine, mine_end, x + rows[s] * row_stride, ends[s], whole);
        sums[s] += chance(weight, D < near ? D : near, scale);
      }
    }
    for (int s = 0; s < trials; ++s) potentials[s * blocks + block] = sums[s];
  }
}

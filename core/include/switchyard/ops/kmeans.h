/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/kmeans.h - the operations "kmeans.step", "kmeans.assign" and "kmeans.seed".
 *
 * A fit (iterations, empty clusters, stopping) is driven by the host, once for
 * every backend; plugins offer these primitives. All results
 * are defined bit by bit (docs/kmeans.md), so that backends may be exchanged
 * from one iteration to the next:
 *
 * Distance D*(x, c) of a row x and a centroid c, both f32 [d]: sixteen f32
 *   accumulators a[0..15] = 0; for m = 0..d-1: t = x[m] - c[m] (rounded);
 *   a[m & 15] = fma(t, t, a[m & 15]); then a[i] += a[i + 8] for i < 8, then 4, 2, 1.
 * Label: the lowest j that minimises D*(x, centroid j).
 * Sums: q(i, m) = rint(x[i][m] * 2^shift[m]), weighted rint((double)w * x * 2^shift),
 *   accumulated in int64 (no overflow: the host chose the shifts so).
 * Inertia partial b: rows 8192 b .. 8192 (b+1) - 1; eight f64 lanes, row i adds
 *   (double)D* (times w where weighted) to lane i mod 8; then lanes i += i + 4, 2, 1.
 *
 * With SY_KMEANS_INT8 (kmeans.step only) labels come from 8-bit codes instead:
 *   r = 127.0 / (double)largest, 0 where `largest` is 0;
 *   code(v) = rint((double)v * r), ties to even, limited to -127..127; the
 *   label is the lowest j that minimises, in integers without overflow,
 *   sum over m of code(c_j[m])^2 - 2 code(x[m]) code(c_j[m]).
 *   Distances and inertia stay D* to the label's centroid, sums those of x.
 *
 * Tensors: x f32 [n, d], any row stride, element stride 1; centroids f32 [k, d]
 * contiguous; everything else contiguous. n, k, d >= 1. Values are finite.
 */
#ifndef SWITCHYARD_OPS_KMEANS_H
#define SWITCHYARD_OPS_KMEANS_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_KMEANS_STEP "kmeans.step"
#define SY_OP_KMEANS_ASSIGN "kmeans.assign"
#define SY_OP_KMEANS_SEED "kmeans.seed"

#define SY_KMEANS_INERTIA_BLOCK 8192

enum {
  SY_KMEANS_IN_X = 0,
  SY_KMEANS_IN_CENTROIDS = 1,
  SY_KMEANS_IN_WEIGHTS = 2, /* f32 [n], >= 0; optional */
  SY_KMEANS_IN_SHIFTS = 3,  /* i32 [d]; step only */
  SY_KMEANS_IN_PREVIOUS_LABELS =
      4, /* i32 [n]; step only, optional: without it every row counts as changed */
  SY_KMEANS_STEP_INPUTS = 5,
  SY_KMEANS_ASSIGN_INPUTS = 3
};

/* kmeans.step: one Lloyd pass. All but distances and weight totals are required. */
enum {
  SY_KMEANS_STEP_OUT_LABELS = 0, /* i32 [n] */
  SY_KMEANS_STEP_OUT_SUMS = 1,   /* i64 [k, d], overwritten */
  SY_KMEANS_STEP_OUT_COUNTS = 2, /* i64 [k], rows per cluster, overwritten */
  SY_KMEANS_STEP_OUT_WEIGHTS =
      3, /* i64 [k], sums of rint((double)w * 2^weight_shift); NULL unweighted */
  SY_KMEANS_STEP_OUT_INERTIA_PARTIALS = 4, /* f64 [ceil(n / 8192)] */
  SY_KMEANS_STEP_OUT_CHANGED = 5,   /* i64 [1], rows whose label differs from the previous one */
  SY_KMEANS_STEP_OUT_DISTANCES = 6, /* f32 [n], D* to the row's own centroid; optional */
  SY_KMEANS_STEP_OUTPUTS = 7
};

/* kmeans.assign: labels for given centroids (prediction). Each output is optional, one must be
 * there. */
enum {
  SY_KMEANS_ASSIGN_OUT_LABELS = 0,
  SY_KMEANS_ASSIGN_OUT_DISTANCES = 1,
  SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS = 2,
  SY_KMEANS_ASSIGN_OUTPUTS = 3
};

/* Flags of kmeans.step; kmeans.assign has none. A kernel refuses, in `supports`, flags that it does
 * not know. */
#define SY_KMEANS_INT8 0x1u /* labels from 8-bit codes; `largest` is there. Since 1.1 */

/* Parameters of both. Append-only; callers of version 1.0 end with `reserved`. */
typedef struct sy_kmeans_params {
  uint32_t struct_size;
  uint32_t flags;       /* SY_KMEANS_* */
  int32_t weight_shift; /* step with weights: the shift of the weight totals */
  uint32_t reserved;
  float largest; /* with SY_KMEANS_INT8: max |x| of the data, finite, >= 0; equal in all calls of a
                    fit */
  uint32_t reserved_2;
} sy_kmeans_params;

/* kmeans.seed: k rows drawn by greedy k-means++. With the functions of kmeans_exact.h, exactly:
 *
 *   nearest[i] = 1; steps j = 0..k-1:
 *     s = sy_kmeans_shift(max_i (double)w[i] * nearest[i], n), w[i] = 1 without weights
 *     chance(i, D) = (uint64_t)((double)w[i] * (double)D * 2^s), rounded down
 *     total = sum_i chance(i, nearest[i]); 64 bits suffice
 *     trials t = 0..T-1, T = 1 at step 0, else 2 + floor(ln k): with the draws of {seed, run,
 *       step j, trial t}, p = sy_kmeans_below(total), and the row drawn is the lowest i with
 *       chance(0, nearest[0]) + ... + chance(i, nearest[i]) > p; if total is 0, the row is
 *       sy_kmeans_below(n)
 *     the step's row is the drawn row r with the least sum_i chance(i, min(nearest[i], D(i, r))),
 *       D(i, r) = min(D*(x[i], x[r]), FLT_MAX), the first trial among equals; the first trial if
 *       total is 0
 *     nearest[i] = D(i, row) after step 0, else min(nearest[i], D(i, row))
 */
enum {
  SY_KMEANS_SEED_IN_X = 0,       /* as above */
  SY_KMEANS_SEED_IN_WEIGHTS = 1, /* f32 [n], >= 0; optional */
  SY_KMEANS_SEED_INPUTS = 2
};
enum {
  SY_KMEANS_SEED_OUT_ROWS = 0, /* i64 [k], in the order of the steps; 1 <= k <= n */
  SY_KMEANS_SEED_OUTPUTS = 1
};

/* Parameters of kmeans.seed. Append-only. */
typedef struct sy_kmeans_seed_params {
  uint32_t struct_size;
  uint32_t flags; /* zero */
  uint64_t seed;
  uint32_t run; /* of several with the same seed */
  uint32_t reserved;
} sy_kmeans_seed_params;

#ifdef __cplusplus
}
#endif
#endif

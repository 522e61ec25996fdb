/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/kmeans_exact.h - what k-means draws and rounds, as code.
 *
 * Random numbers, the number of trials and the fixed-point shifts belong to the
 * meaning of the k-means operations: backends must agree on them bit by bit.
 * Plain functions without state, for C11 and C++; hosts and plugins share them.
 */
#ifndef SWITCHYARD_OPS_KMEANS_EXACT_H
#define SWITCHYARD_OPS_KMEANS_EXACT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

__extension__ typedef unsigned __int128 sy_kmeans_wide;

/* Philox4x32-10 (Salmon et al., 2011), a counter-based generator, in place. */
static inline void sy_philox4x32(uint32_t counter[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = (uint64_t)0xD2511F53u * counter[0];
    const uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
    const uint32_t c1 = counter[1], c3 = counter[3];
    counter[0] = (uint32_t)(b >> 32) ^ c1 ^ key0;
    counter[1] = (uint32_t)b;
    counter[2] = (uint32_t)(a >> 32) ^ c3 ^ key1;
    counter[3] = (uint32_t)a;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

/* The draws of one decision of a fit: key = seed, counter = {index, trial, step, run}. */
typedef struct sy_kmeans_draws {
  uint64_t seed;
  uint32_t run, step, trial;
  uint32_t index; /* of the next draw; begins at 0 */
} sy_kmeans_draws;

/* The next 64 bits. */
static inline uint64_t sy_kmeans_next(sy_kmeans_draws *draws) {
  uint32_t counter[4] = {draws->index++, draws->trial, draws->step, draws->run};
  sy_philox4x32(counter, (uint32_t)draws->seed, (uint32_t)(draws->seed >> 32));
  return (uint64_t)counter[0] | (uint64_t)counter[1] << 32;
}

/* Uniform in [0, n) without bias (multiply-high, rejecting the uneven rest); n >= 1. */
static inline uint64_t sy_kmeans_below(sy_kmeans_draws *draws, uint64_t n) {
  const uint64_t uneven = (0 - n) % n; /* 2^64 mod n */
  for (;;) {
    const sy_kmeans_wide product = (sy_kmeans_wide)sy_kmeans_next(draws) * n;
    if ((uint64_t)product >= uneven) return (uint64_t)(product >> 64);
  }
}

/* floor(ln k) for k >= 1, from a table rather than a library's logarithm. */
static inline int sy_kmeans_floor_ln(int64_t k) {
  /* ceil(e^i): the least k with floor(ln k) = i. */
  static const int64_t least[] = {3,         8,         21,        55,      149,      404,
                                  1097,      2981,      8104,      22027,   59875,    162755,
                                  442414,    1202605,   3269018,   8886111, 24154953, 65659970,
                                  178482301, 485165196, 1318815735};
  int result = 0;
  while (result < (int)(sizeof(least) / sizeof(least[0])) && k >= least[result]) ++result;
  return result;
}

static inline int sy_kmeans_bit_length(sy_kmeans_wide v) {
  int bits = 0;
  for (; v != 0; v >>= 1) ++bits;
  return bits;
}

/* The largest s with M 2^s <= 2^50 and n M 2^s < 2^62, exactly; 0 when M is 0. M >= 0 is finite,
 * n >= 1. */
static inline int sy_kmeans_shift(double M, int64_t n) {
  uint64_t bits, mantissa;
  int exponent, single, total;
  if (!(M > 0)) return 0;
  __builtin_memcpy(&bits, &M, sizeof bits);
  exponent = (int)(bits >> 52); /* M = mantissa 2^exponent */
  mantissa = bits & (((uint64_t)1 << 52) - 1);
  if (exponent == 0)
    exponent = 1;
  else
    mantissa |= (uint64_t)1 << 52;
  exponent -= 1075;
  single = 50 - sy_kmeans_bit_length((sy_kmeans_wide)mantissa - 1);
  total = 62 - sy_kmeans_bit_length((sy_kmeans_wide)mantissa * (uint64_t)n);
  return (single < total ? single : total) - exponent;
}

#ifdef __cplusplus
}
#endif
#endif

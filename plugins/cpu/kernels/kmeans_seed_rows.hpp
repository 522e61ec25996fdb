// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Seeds by rows: a row is compared with a candidate only if the triangle inequality allows the
/// candidate to be nearer than what the row has. Part of the kernel sources (needs SY_ISA).
///
/// Let c be a row's nearest seed, r = |x - c|, e = |c - q| for a candidate q. If e >= 2 r then
/// |x - q| >= e - r >= r. With D* in place of squares, each off by a factor 1 +- theta and an
/// underflow eta, theta = gamma(ceil(d/16) + 6), eta <= (d + 15) 2^-149:
///   D*(c, q) >= 4 (1 + 8 theta) D*(x, c) + 64 eta   implies   D*(x, q) >= D*(x, c).
/// Proof: e^2 >= (D*(c, q) - eta) / (1 + theta), r^2 <= (D*(x, c) + eta) / (1 - theta); then
/// e >= 2 (1 + 2 theta) r + slack, so |x - q|^2 >= (1 + 4 theta) r^2 + slack', whose D* is at least
/// D*(x, c). The coefficient's own roundings are inside another 2^-20.

#include "kmeans_seed.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct SeedRows {
  float *seeds;      // [k][d]: rows chosen so far
  float *candidate;  // [kMostTrials][d]
  float *apart;      // [k][kMostTrials]: D* of a seed and a candidate
  int32_t *owner;    // [n]: nearest seed
  float factor, slack;

  static void carve(Carver &carver, const SeedCall &s, uint32_t, SeedRows &r) {
    const auto k = static_cast<uint64_t>(s.rows.k), d = static_cast<uint64_t>(s.rows.d);
    r.seeds = carver.take<float>(k * d);
    r.candidate = carver.take<float>(kMostTrials * d);
    r.apart = carver.take<float>(k * kMostTrials);
    r.owner = carver.take<int32_t>(static_cast<uint64_t>(s.rows.n));
  }
  static int64_t unit_rows(const SeedCall &s) {
    const int64_t rows = (int64_t{1} << 21) / s.rows.d / kSeedBlock * kSeedBlock;
    return rows < kSeedBlock ? kSeedBlock : rows > 4096 ? 4096 : rows;
  }
  static int64_t units(const SeedCall &s) { return ceil_of(s.rows.n, unit_rows(s)); }

  void start(const Context &, const SeedCall &s, uint32_t) {
    const double roundings = static_cast<double>((s.rows.d + 15) / 16) + 6;
    const double theta = roundings * 0x1p-24 / (1 - roundings * 0x1p-24);
    factor = static_cast<float>(4 * (1 + 8 * theta) * (1 + 0x1p-20));
    slack = static_cast<float>(static_cast<double>(s.rows.d + 32) * 0x1p-125);
    // With so many columns nothing is ruled out.
    if (s.rows.d > (int64_t{1} << 24)) factor = __builtin_inff();
  }

  void candidates(const Context &ctx, const SeedCall &s, const int64_t *rows, int count,
                  int64_t step, uint32_t threads) {
    const int64_t d = s.rows.d;
    for (int c = 0; c < count; ++c)
      memcpy(candidate + c * d, s.rows.row(rows[c]), static_cast<size_t>(d) * sizeof(float));
    const int64_t batch = 1 + 65536 / (d * count);
    auto measure = [&](uint64_t index) {
      const int64_t begin = static_cast<int64_t>(index) * batch;
      for (int64_t j = begin; j < min_of(step, begin + batch); ++j)
        for (int c = 0; c < kMostTrials; ++c)
          apart[j * kMostTrials + c] = c < count
                                           ? canonical_distance(seeds + j * d, candidate + c * d, d)
                                           : __builtin_inff();  // never a hit
    };
    for_each(ctx, static_cast<uint64_t>(ceil_of(step, batch)), threads, measure);
  }

  /// No candidate whose distance to the row's seed is at least this can be nearer.
  float reach(float nearest) const { return nearest * factor + slack; }
  /// Where that overflows, everything is compared.
  bool may_hit(float apart_from_owner, float limit) const {
    return apart_from_owner < limit || limit > kFarthest;
  }

  HWY_NOINLINE void gains(const SeedCall &s, const Seeding &z, int64_t unit, int count,
                          uint64_t *gain) const {
    const Lanes lanes;
    constexpr int kStep = hn::MaxLanes(Lanes());
    const int64_t begin = unit * unit_rows(s), end = min_of(z.n, begin + unit_rows(s));
    for (int64_t i = begin; i < end; ++i) {
      const float nearest = z.nearest[i], largest = reach(nearest);
      const auto limit = hn::Set(lanes, largest);
      const float *far = apart + owner[i] * kMostTrials;
      for (int c = 0; c < count; c += kStep) {
        uint64_t hits = 0;
        hn::StoreMaskBits(lanes, hn::Lt(hn::Load(lanes, far + c), limit),
                          reinterpret_cast<uint8_t *>(&hits));
        if (largest > kFarthest) hits = (uint64_t{1} << min_of(kStep, count - c)) - 1;
        for (; hits != 0; hits &= hits - 1) {
          const int which = c + __builtin_ctzll(hits);
          const float distance =
              canonical_distance(s.rows.row(i), candidate + which * s.rows.d, s.rows.d);
          if (distance < nearest) gain[which] += z.chance(i, nearest) - z.chance(i, distance);
        }
      }
    }
  }

  HWY_NOINLINE void accept(const SeedCall &s, Seeding &z, int64_t unit, int which,
                           int64_t step) const {
    const int64_t d = s.rows.d;
    const float *mine = candidate + which * d;
    const int64_t begin = unit * unit_rows(s), end = min_of(z.n, begin + unit_rows(s));
    if (unit == 0) memcpy(seeds + step * d, mine, static_cast<size_t>(d) * sizeof(float));
    for (int64_t i = begin; i < end; ++i) {
      float nearest = z.nearest[i];
      if (step == 0)
        nearest = __builtin_inff();
      else if (!may_hit(apart[owner[i] * kMostTrials + which], reach(nearest)))
        continue;
      const float distance = canonical_distance(s.rows.row(i), mine, d);
      if (!(distance < nearest) && step > 0) continue;
      z.nearest[i] = distance > kFarthest ? kFarthest : distance;
      owner[i] = static_cast<int32_t>(step);
      z.dirty[i / kSeedBlock] = 1;
    }
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

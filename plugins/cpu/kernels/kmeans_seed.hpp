// SPDX-License-Identifier: Apache-2.0
#pragma once
/// kmeans.seed: what is known of every row, drawing rows, and the loop over the steps. A method
/// says which rows a candidate comes nearer to; all others keep their chances without being looked
/// at. Part of the kernel sources (needs SY_ISA).
///
/// A method is a struct with
///   static void carve(Carver &, const SeedCall &, uint32_t threads, Method &)
///   void start(const Context &, const SeedCall &, uint32_t threads)    once, before the first step
///   void candidates(const Context &, const SeedCall &, const int64_t *rows, int count, int64_t
///   step,
///                   uint32_t threads)                                  before gains and accept
///   int64_t units(const SeedCall &); int64_t unit_rows(const SeedCall &)
///   void gains(const SeedCall &, const Seeding &, int64_t unit, int count, uint64_t *gain)
///   void accept(const SeedCall &, Seeding &, int64_t unit, int which, int64_t step)

#include <switchyard/ops/kmeans_exact.h>

#include "kmeans_pass.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr int kMostTrials = 32;
constexpr int64_t kSeedBlock = 256;  // rows whose chances are summed together
constexpr float kFarthest = 0x1.fffffep127f;

struct SeedCall {
  KMeansCall rows;  // n, d, k, x, stride and weights
  int64_t *chosen;
  uint64_t seed;
  uint32_t run;
};

inline SeedCall seed_call(const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_SEED_IN_X];
  SeedCall s{};
  s.rows.n = x.shape[0];
  s.rows.d = x.shape[1];
  s.rows.stride = x.strides[0];
  s.rows.x = tensor_data<const float>(&x);
  s.rows.weights = tensor_data<const float>(call.inputs[SY_KMEANS_SEED_IN_WEIGHTS]);
  s.rows.k = call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0];
  s.chosen = tensor_data<int64_t>(call.outputs[SY_KMEANS_SEED_OUT_ROWS]);
  if (call.params != nullptr) {
    const auto &p = *static_cast<const sy_kmeans_seed_params *>(call.params);
    s.seed = p.seed;
    s.run = p.run;
  }
  return s;
}

inline int trial_count(int64_t k) { return 2 + sy_kmeans_floor_ln(k); }

/// The sum of all lanes modulo 2^64: chances of many rows go beyond 2^63.
template <class D, class V>
HWY_INLINE uint64_t add_lanes(D i64, V v) {
  alignas(64) int64_t lane[hn::MaxLanes(D())];
  hn::Store(v, i64, lane);
  uint64_t sum = 0;
  for (const int64_t l : lane) sum += static_cast<uint64_t>(l);
  return sum;
}

/// floor(v) of 0 <= v <= 2^50 as integers.
template <class V>
HWY_INLINE auto whole(V v) {
  const hn::DFromV<V> f64;
  const hn::RebindToSigned<decltype(f64)> i64;
  const auto magic = hn::Set(f64, 0x1p52);
  return hn::Sub(hn::BitCast(i64, hn::Add(hn::Floor(v), magic)), hn::BitCast(i64, magic));
}

using Doubles = hn::CappedTag<double, 8>;

struct Seeding {
  float *nearest;        // [n]: D* to the nearest row chosen so far
  const float *weights;  // [n] or null
  uint64_t *sums;        // [blocks]: of the chances
  double *most;          // [blocks]: largest weighted distance
  uint8_t *dirty;        // [blocks]: sums and most are out of date
  int64_t n, blocks;
  int32_t shift;
  double scale;

  static void carve(Carver &carver, const SeedCall &s, Seeding &z) {
    z.n = s.rows.n;
    z.blocks = ceil_of(s.rows.n, kSeedBlock);
    z.weights = s.rows.weights;
    z.nearest = carver.take<float>(static_cast<uint64_t>(z.n));
    z.sums = carver.take<uint64_t>(static_cast<uint64_t>(z.blocks));
    z.most = carver.take<double>(static_cast<uint64_t>(z.blocks));
    z.dirty = carver.take<uint8_t>(static_cast<uint64_t>(z.blocks));
  }

  uint64_t chance(int64_t i, float distance) const {
    const double w = weights != nullptr ? static_cast<double>(weights[i]) : 1.0;
    return static_cast<uint64_t>(w * static_cast<double>(distance) * scale);
  }

  HWY_NOINLINE void refresh(int64_t block) {
    const Doubles f64;
    const hn::Rebind<float, Doubles> f32;
    const hn::RebindToSigned<Doubles> i64;
    const auto lanes = static_cast<int64_t>(hn::MaxLanes(Doubles()));
    auto largest = hn::Zero(f64);
    auto sum = hn::Zero(i64);
    const auto factor = hn::Set(f64, scale);
    const int64_t end = min_of(n, (block + 1) * kSeedBlock);
    for (int64_t i = block * kSeedBlock; i < end; i += lanes) {
      const auto some = hn::FirstN(f32, static_cast<size_t>(end - i));
      auto v = hn::PromoteTo(f64, hn::MaskedLoad(some, f32, nearest + i));
      if (weights != nullptr)
        v = hn::Mul(hn::PromoteTo(f64, hn::MaskedLoad(some, f32, weights + i)), v);
      largest = hn::Max(largest, v);
      sum = hn::Add(sum, whole(hn::Mul(v, factor)));
    }
    most[block] = hn::GetLane(hn::MaxOfLanes(f64, largest));
    sums[block] = add_lanes(i64, sum);
    dirty[block] = 0;
  }

  void refresh_dirty(const Context &ctx, uint32_t threads) {
    constexpr int64_t kBatch = 64;
    auto batch = [&](uint64_t index) {
      const int64_t begin = static_cast<int64_t>(index) * kBatch;
      for (int64_t b = begin; b < min_of(blocks, begin + kBatch); ++b)
        if (dirty[b] != 0) refresh(b);
    };
    for_each(ctx, static_cast<uint64_t>(ceil_of(blocks, kBatch)), threads, batch);
  }

  /// Brings everything up to date; the sum of all chances.
  uint64_t total(const Context &ctx, uint32_t threads) {
    refresh_dirty(ctx, threads);
    double largest = 0;
    for (int64_t b = 0; b < blocks; ++b) largest = most[b] > largest ? most[b] : largest;
    const int32_t wanted = sy_kmeans_shift(largest, n);
    if (wanted != shift) {
      shift = wanted;
      scale = power_of_two(shift);
      memset(dirty, 1, static_cast<size_t>(blocks));
      refresh_dirty(ctx, threads);
    }
    uint64_t sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += sums[b];
    return sum;
  }

  int64_t find(uint64_t point) const {
    int64_t block = 0;
    for (; point >= sums[block]; ++block) point -= sums[block];
    int64_t i = block * kSeedBlock;
    for (;; ++i) {
      const uint64_t mine = chance(i, nearest[i]);
      if (point < mine) return i;
      point -= mine;
    }
  }
};

struct SeedTask {
  uint64_t gain[kMostTrials];
};

template <class Method>
struct SeedWork {
  Seeding seeding;
  Method method;
  SeedTask *tasks;
};

template <class Method>
uint64_t carve_seed(uintptr_t base, const SeedCall &s, uint32_t threads, SeedWork<Method> &work) {
  Carver carver{base, 0};
  Seeding::carve(carver, s, work.seeding);
  work.tasks = carver.take<SeedTask>(threads);
  Method::carve(carver, s, threads, work.method);
  return carver.used;
}

template <class Method>
uint64_t seed_workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  SeedWork<Method> work;
  return carve_seed(0, seed_call(call), thread_count(ctx, call), work);
}

/// fn(task, unit) for all units; false when the host asked to stop.
template <class F>
bool for_units(const Context &ctx, int64_t units, int64_t unit_rows, uint32_t threads, Poll &poll,
               const F &fn) {
  int64_t next = 0;
  auto task = [&](uint64_t t) {
    for (;;) {
      const int64_t u = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (u >= units || poll.stop(unit_rows)) return;
      fn(t, u);
    }
  };
  for_each(ctx, threads, threads, task);
  return __atomic_load_n(&poll.stopped, __ATOMIC_RELAXED) == 0;
}

template <class Method>
int32_t run_seed(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const SeedCall s = seed_call(call);
  const uint32_t threads = thread_count(ctx, call);
  SeedWork<Method> work;
  if (call.workspace_size < carve_seed(0, s, threads, work))
    return failure(error, SY_E_INVALID_ARGUMENT, "the workspace is smaller than was asked for");
  carve_seed(reinterpret_cast<uintptr_t>(call.workspace), s, threads, work);
  Seeding &z = work.seeding;
  Method &method = work.method;
  for (int64_t i = 0; i < z.n; ++i) z.nearest[i] = 1;
  z.shift = 0;
  z.scale = 1;
  memset(z.dirty, 1, static_cast<size_t>(z.blocks));
  method.start(ctx, s, threads);
  const int64_t units = method.units(s), unit_rows = method.unit_rows(s);
  Poll poll{call, units, 2 * units * unit_rows * s.rows.k};
  for (int64_t step = 0; step < s.rows.k; ++step) {
    const uint64_t total = z.total(ctx, threads);
    int64_t rows[kMostTrials];
    int count = 0;
    for (int t = 0; t < (step == 0 ? 1 : trial_count(s.rows.k)); ++t) {
      sy_kmeans_draws draws{s.seed, s.run, static_cast<uint32_t>(step), static_cast<uint32_t>(t),
                            0};
      const int64_t row =
          total > 0 ? z.find(sy_kmeans_below(&draws, total))
                    : static_cast<int64_t>(sy_kmeans_below(&draws, static_cast<uint64_t>(z.n)));
      bool known = false;  // a second draw of a row cannot be better than the first
      for (int r = 0; r < count; ++r) known |= rows[r] == row;
      if (!known) rows[count++] = row;
      if (total == 0) break;
    }
    method.candidates(ctx, s, rows, count, step, threads);
    int best = 0;
    if (count > 1) {
      for (uint32_t t = 0; t < threads; ++t) memset(&work.tasks[t], 0, sizeof(SeedTask));
      const bool done = for_units(ctx, units, unit_rows, threads, poll, [&](uint64_t t, int64_t u) {
        method.gains(s, z, u, count, work.tasks[t].gain);
      });
      if (!done) return failure(error, SY_E_CANCELLED, "kmeans.seed was cancelled");
      uint64_t gain[kMostTrials] = {};
      for (uint32_t t = 0; t < threads; ++t)
        for (int c = 0; c < count; ++c) gain[c] += work.tasks[t].gain[c];
      for (int c = 1; c < count; ++c)
        if (gain[c] > gain[best]) best = c;
    }
    s.chosen[step] = rows[best];
    if (step + 1 == s.rows.k) break;
    const bool done = for_units(ctx, units, unit_rows, threads, poll,
                                [&](uint64_t, int64_t u) { method.accept(s, z, u, best, step); });
    if (!done) return failure(error, SY_E_CANCELLED, "kmeans.seed was cancelled");
  }
  return SY_OK;
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

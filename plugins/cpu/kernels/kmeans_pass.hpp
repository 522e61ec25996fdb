// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One pass over the rows: tasks that claim units of rows, assign them by some method, and add up
/// sums, counts, inertia and changes. Part of the kernel sources (needs SY_ISA).
///
/// A method is a struct with
///   static void carve_shared(Carver &, const KMeansCall &, Method *)      once a call
///   static void carve_task(Carver &, const KMeansCall &, Task *)          once a task
///   void setup(const Context &, const KMeansCall &, const KMeansState *, uint32_t threads)
///                                                    the state's labels and distances are those of
///                                                    its centroids; null = none
///   void assign(const KMeansCall &, Task &, int64_t begin, int64_t end, const int32_t *hints,
///               int32_t *labels, float *distances)   of rows begin..end-1; hints may be null
///   static int64_t unit(const KMeansCall &)          rows that `assign` likes to get at once
///   static constexpr bool kFixedUnits                it must get them so, whatever the threads
///   static constexpr bool kUsesDistances             `setup` wants the last pass's distances too
///   struct State; static void carve_state(Carver &, const KMeansCall &, State &);
///   static void start_state(const KMeansCall &, State &)   what the method itself keeps between
///   void attach(State *)                                   calls; null = nothing; before setup

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "failure.hpp"
#include "kmeans_canonical.hpp"
#include "parallel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// Kept between the steps of a fit: what the last pass found, for its centroids. Only rows whose
/// label changed have to be moved from sum to sum.
struct KMeansState {
  int64_t n, d, k;
  bool valid;
  int32_t *labels;                  // [n]
  float *distances;                 // [n], or null if the method does not use them
  float *centroids;                 // [k, d]
  int64_t *sums, *counts, *totals;  // [k, padded d], [k], [k]
};

template <class Method>
struct MethodState {
  KMeansState pass;
  typename Method::State method;
};

constexpr int64_t kInertiaBlock = SY_KMEANS_INERTIA_BLOCK;

inline int64_t padded(int64_t d) { return (d + 7) & ~int64_t{7}; }

/// What one task adds up.
struct TaskTotals {
  int64_t *sums, *counts, *totals;
  int32_t *labels;   // a unit's, where the caller wants none
  float *distances;  // a unit's, where no array of all distances exists
  int64_t changed;
  bool touched;  // sums, counts and totals hold something
};

/// How rows are cut into units: inertia blocks when there are plenty, else smaller pieces, and then
/// all distances are kept until the inertia is added up.
struct Units {
  int64_t rows = kInertiaBlock, count = 0;
  bool whole_blocks = true;  // inertia blocks
  bool keep_distances = false;
};

template <class Method>
Units cut_units(const KMeansCall &k, uint32_t threads) {
  Units u;
  const int64_t wanted = 8 * static_cast<int64_t>(threads);
  const int64_t unit = Method::unit(k);
  if (Method::kFixedUnits)
    u.rows = unit;
  else if (threads > 1 && ceil_of(k.n, kInertiaBlock) < wanted)
    u.rows = unit * ceil_of(ceil_of(k.n, wanted), unit);
  u.count = ceil_of(k.n, u.rows);
  u.whole_blocks = u.rows % kInertiaBlock == 0;
  u.keep_distances = !u.whole_blocks && k.partials != nullptr && k.distances == nullptr;
  return u;
}

template <class Method>
struct Pass {
  Method method;
  Units units;
  double *scale;                   // [padded d], step only
  float *all_distances;            // [n] or null
  TaskTotals *tasks;               // [threads]
  typename Method::Task *scratch;  // [threads]
};

template <class Method>
uint64_t carve(uintptr_t base, const KMeansCall &k, uint32_t threads, Pass<Method> *pass) {
  Carver carver{base, 0};
  Pass<Method> local;
  Pass<Method> &p = pass != nullptr ? *pass : local;
  p.units = cut_units<Method>(k, threads);
  Method::carve_shared(carver, k, p.method);
  p.scale = carver.take<double>(k.step ? static_cast<uint64_t>(padded(k.d)) : 0);
  p.all_distances = carver.take<float>(p.units.keep_distances ? static_cast<uint64_t>(k.n) : 0);
  p.tasks = carver.take<TaskTotals>(threads);
  p.scratch = carver.take<typename Method::Task>(threads);
  const uint64_t clusters = static_cast<uint64_t>(k.k);
  for (uint32_t t = 0; t < threads; ++t) {
    TaskTotals totals{};
    if (k.step) {
      totals.sums = carver.take<int64_t>(clusters * static_cast<uint64_t>(padded(k.d)));
      totals.counts = carver.take<int64_t>(clusters);
      totals.totals = carver.take<int64_t>(k.weights != nullptr ? clusters : 0);
    }
    totals.labels =
        carver.take<int32_t>(k.labels == nullptr ? static_cast<uint64_t>(p.units.rows) : 0);
    totals.distances = carver.take<float>(static_cast<uint64_t>(p.units.rows));
    typename Method::Task task;
    Method::carve_task(carver, k, task);
    if (base != 0) {
      p.tasks[t] = totals;
      p.scratch[t] = task;
    }
  }
  return carver.used;
}

template <class Method>
uint64_t pass_workspace(const Context &ctx, const sy_call &call, bool step) {
  return carve<Method>(0, kmeans_call(call, step), thread_count(ctx, call), nullptr);
}

/// Adds row i to cluster `to`; kMove: and takes it from another one, `from`.
template <bool kMove>
inline void move_row(const KMeansCall &k, TaskTotals &t, const double *scale, double weight_scale,
                     int64_t i, int32_t from, int32_t to) {
  const double w = k.weights == nullptr ? 1.0 : static_cast<double>(k.weights[i]);
  const int64_t stride = padded(k.d);
  add_row<kMove>(k.row(i), k.d, scale, w, t.sums + from * stride, t.sums + to * stride);
  ++t.counts[to];
  if constexpr (kMove) --t.counts[from];
  if (k.weights == nullptr) return;
  const int64_t q = quantised_weight(k.weights[i], weight_scale);
  t.totals[to] += q;
  if constexpr (kMove) t.totals[from] -= q;
}

constexpr int64_t kListed = 64;  // labels compared at once

/// Lists where `rows` <= kListed labels differ; `list` has room for 16 more. Returns how many do.
/// A branch for each row would be guessed wrong too often.
HWY_INLINE int64_t list_changes(const int32_t *HWY_RESTRICT a, const int32_t *HWY_RESTRICT b,
                                int64_t rows, int32_t *HWY_RESTRICT list) {
  const hn::RebindToSigned<Lanes> i32;
  constexpr int64_t kStep = hn::MaxLanes(i32);
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i += kStep) {
    const auto present = hn::FirstN(i32, static_cast<size_t>(min_of(kStep, rows - i)));
    const auto differ =
        hn::Ne(hn::MaskedLoad(present, i32, a + i), hn::MaskedLoad(present, i32, b + i));
    hn::StoreU(hn::Compress(hn::Iota(i32, static_cast<int32_t>(i)), differ), i32, list + count);
    count += static_cast<int64_t>(hn::CountTrue(i32, differ));
  }
  return count;
}

/// Sums, counts and changes of the rows begin..end-1.
inline void add_unit(const KMeansCall &k, TaskTotals &t, const double *scale, KMeansState *state,
                     const float *distances, int64_t begin, int64_t end) {
  if (k.previous == nullptr) {
    t.changed += end - begin;
  } else {
    int64_t changed = 0;
    for (int64_t i = begin; i < end; ++i) changed += k.previous[i] != k.labels[i];
    t.changed += changed;
  }
  const auto touch = [&] {
    if (t.touched) return;
    t.touched = true;
    const size_t clusters = static_cast<size_t>(k.k) * sizeof(int64_t);
    memset(t.sums, 0, clusters * static_cast<size_t>(padded(k.d)));
    memset(t.counts, 0, clusters);
    if (k.weights != nullptr) memset(t.totals, 0, clusters);
  };
  const double weight_scale = power_of_two(k.weight_shift);
  const bool delta = state != nullptr && state->valid;
  if (!delta) {
    touch();
    for (int64_t i = begin; i < end; ++i)
      move_row<false>(k, t, scale, weight_scale, i, 0, k.labels[i]);
  }
  for (int64_t b = begin; delta && b < end; b += kListed) {
    // Mostly nothing changes: ask for all of them at once.
    const int64_t rows = min_of(kListed, end - b);
    int32_t differ = 0, list[kListed + 16];
    for (int64_t i = b; i < b + rows; ++i) differ |= state->labels[i] ^ k.labels[i];
    if (differ == 0) continue;
    touch();
    const int64_t count = list_changes(state->labels + b, k.labels + b, rows, list);
    for (int64_t c = 0; c < count; ++c) {
      const int64_t i = b + list[c];
      move_row<true>(k, t, scale, weight_scale, i, state->labels[i], k.labels[i]);
      state->labels[i] = k.labels[i];
    }
  }
  if (state == nullptr) return;
  const auto bytes = static_cast<size_t>(end - begin) * 4;
  if (!delta) memcpy(state->labels + begin, k.labels + begin, bytes);
  if (state->distances != nullptr) memcpy(state->distances + begin, distances, bytes);
}

/// Adds up all tasks' (and the state's) sums, counts and totals of clusters begin..end-1.
inline void reduce_clusters(const KMeansCall &k, const TaskTotals *tasks, uint32_t threads,
                            KMeansState *state, bool delta, int64_t begin, int64_t end) {
  const int64_t stride = padded(k.d);
  const auto reduce = [&](int64_t *out, int64_t *kept, auto member, int64_t at, int64_t count) {
    for (int64_t c = 0; c < count; ++c) out[c] = delta ? kept[at + c] : 0;
    for (uint32_t t = 0; t < threads; ++t)
      if (tasks[t].touched)
        for (int64_t c = 0; c < count; ++c) out[c] += (tasks[t].*member)[at + c];
    if (kept != nullptr)
      for (int64_t c = 0; c < count; ++c) kept[at + c] = out[c];
  };
  for (int64_t j = begin; j < end; ++j)
    reduce(k.sums + j * k.d, state != nullptr ? state->sums : nullptr, &TaskTotals::sums,
           j * stride, k.d);
  reduce(k.counts + begin, state != nullptr ? state->counts : nullptr, &TaskTotals::counts, begin,
         end - begin);
  if (k.weights != nullptr)
    reduce(k.totals + begin, state != nullptr ? state->totals : nullptr, &TaskTotals::totals, begin,
           end - begin);
}

/// The partials of the rows begin..end-1, begin being the first of a block.
inline void add_inertia(const KMeansCall &k, const float *distances, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; b += kInertiaBlock)
    k.partials[b / kInertiaBlock] =
        inertia_partial(distances + (b - begin), k.weights != nullptr ? k.weights + b : nullptr,
                        min_of(end, b + kInertiaBlock) - b);
}

/// Asks the host whether to stop; one thread at a time, others skip.
struct Poll {
  const sy_call &call;
  int64_t units, rows_total;
  uint8_t asking = 0;
  uint8_t stopped = 0;
  int64_t done = 0;

  bool stop(int64_t rows) {
    __atomic_fetch_add(&done, rows, __ATOMIC_RELAXED);
    if (call.progress == nullptr) return false;
    if (__atomic_load_n(&stopped, __ATOMIC_RELAXED) != 0) return true;
    if (__atomic_exchange_n(&asking, 1, __ATOMIC_ACQUIRE) != 0) return false;
    const double share = static_cast<double>(__atomic_load_n(&done, __ATOMIC_RELAXED)) /
                         static_cast<double>(rows_total);
    const bool stop_now = call.progress(call.progress_arg, share) != 0;
    if (stop_now) __atomic_store_n(&stopped, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&asking, 0, __ATOMIC_RELEASE);
    return stop_now;
  }
};

template <class Method>
int32_t run_pass(const Context &ctx, const sy_call &call, bool step, sy_error *error) {
  const KMeansCall k = kmeans_call(call, step);
  const uint32_t threads = thread_count(ctx, call);
  Pass<Method> pass;
  const auto base = reinterpret_cast<uintptr_t>(call.workspace);
  if (call.workspace_size < carve<Method>(0, k, threads, nullptr))
    return failure(error, SY_E_INVALID_ARGUMENT, "the workspace is smaller than was asked for");
  carve(base, k, threads, &pass);
  auto *both = step ? static_cast<MethodState<Method> *>(call.state) : nullptr;
  if (both != nullptr && (both->pass.n != k.n || both->pass.d != k.d || both->pass.k != k.k))
    both = nullptr;
  KMeansState *state = both != nullptr ? &both->pass : nullptr;
  const bool delta = state != nullptr && state->valid;
  if (step)
    for (int64_t m = 0; m < padded(k.d); ++m)
      pass.scale[m] = m < k.d ? power_of_two(k.shifts[m]) : 0;
  pass.method.attach(both != nullptr ? &both->method : nullptr);
  pass.method.setup(ctx, k, delta ? state : nullptr, threads);

  const Units &units = pass.units;
  float *all = k.distances != nullptr ? k.distances
               : units.keep_distances ? pass.all_distances
                                      : nullptr;
  const bool fused_inertia = k.partials != nullptr && units.whole_blocks;
  // Rows between polls: about a millisecond of work.
  const int64_t unit = Method::unit(k);
  const int64_t piece = Method::kFixedUnits ? unit : unit * (1 + 40'000'000 / k.d / k.k / unit);
  Poll poll{call, units.count, k.n};
  int64_t next = 0;
  auto work = [&](uint64_t t) {
    TaskTotals &totals = pass.tasks[t];
    for (;;) {
      const int64_t u = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (u >= units.count) return;
      const int64_t begin = u * units.rows, end = min_of(k.n, begin + units.rows);
      int32_t *labels = k.labels != nullptr ? k.labels + begin : totals.labels;
      float *distances = all != nullptr ? all + begin : totals.distances;
      for (int64_t b = begin; b < end; b += piece) {
        const int64_t e = min_of(end, b + piece);
        pass.method.assign(k, pass.scratch[t], b, e,
                           k.previous != nullptr ? k.previous + b : nullptr, labels + (b - begin),
                           distances + (b - begin));
        if (poll.stop(e - b)) return;
      }
      if (step) add_unit(k, totals, pass.scale, state, distances, begin, end);
      if (fused_inertia) add_inertia(k, distances, begin, end);
    }
  };
  for_each(ctx, threads, threads, work);
  if (poll.stopped != 0) {
    if (state != nullptr) state->valid = false;
    return failure(error, SY_E_CANCELLED,
                   step ? "kmeans.step was cancelled" : "kmeans.assign was cancelled");
  }
  if (k.partials != nullptr && !fused_inertia) {
    auto block = [&](uint64_t b) {
      const int64_t begin = static_cast<int64_t>(b) * kInertiaBlock;
      add_inertia(k, all + begin, begin, min_of(k.n, begin + kInertiaBlock));
    };
    for_each(ctx, static_cast<uint64_t>(ceil_of(k.n, kInertiaBlock)), threads, block);
  }
  if (!step) return SY_OK;
  const int64_t chunk = 1 + 16384 / k.d;
  auto reduce = [&](uint64_t c) {
    const int64_t begin = static_cast<int64_t>(c) * chunk;
    reduce_clusters(k, pass.tasks, threads, state, delta, begin, min_of(k.k, begin + chunk));
  };
  for_each(ctx, static_cast<uint64_t>(ceil_of(k.k, chunk)), threads, reduce);
  *k.changed = 0;
  for (uint32_t t = 0; t < threads; ++t) *k.changed += pass.tasks[t].changed;
  if (state != nullptr) {
    memcpy(state->centroids, k.centroids, static_cast<size_t>(k.k * k.d) * sizeof(float));
    state->valid = true;
  }
  return SY_OK;
}

/// A state is worth having when x, the weights and the shifts stay what they are.
template <class Method>
int32_t prepare_pass(const sy_call &call, uint64_t constant_inputs, void **out, sy_error *error) {
  *out = nullptr;
  const KMeansCall k = kmeans_call(call, true);
  const uint64_t needed = (1u << SY_KMEANS_IN_X) | (1u << SY_KMEANS_IN_SHIFTS) |
                          (k.weights != nullptr ? 1u << SY_KMEANS_IN_WEIGHTS : 0u);
  if ((constant_inputs & needed) != needed) return SY_OK;
  const uint64_t clusters = static_cast<uint64_t>(k.k);
  const auto carve_state = [&](uintptr_t base, MethodState<Method> *&state) {
    Carver carver{base, 0};
    KMeansState s{k.n, k.d, k.k, false, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
    state = carver.take<MethodState<Method>>(1);
    s.sums = carver.take<int64_t>(clusters * static_cast<uint64_t>(padded(k.d)));
    s.counts = carver.take<int64_t>(clusters);
    s.totals = carver.take<int64_t>(clusters);
    s.labels = carver.take<int32_t>(static_cast<uint64_t>(k.n));
    if (Method::kUsesDistances) s.distances = carver.take<float>(static_cast<uint64_t>(k.n));
    s.centroids = carver.take<float>(clusters * static_cast<uint64_t>(k.d));
    typename Method::State method{};
    Method::carve_state(carver, k, method);
    if (state != nullptr) *state = {s, method};
    return carver.used;
  };
  MethodState<Method> *state = nullptr;
  // Large pages for large states: the first pass touches all of it.
  constexpr uint64_t kLargePage = uint64_t{2} << 20;
  uint64_t bytes = carve_state(0, state);
  const bool large = bytes >= 4 * kLargePage;
  if (large) bytes = (bytes + kLargePage - 1) & ~(kLargePage - 1);
  void *memory = aligned_alloc(large ? kLargePage : 64, bytes);
#ifdef MADV_HUGEPAGE
  if (large && memory != nullptr) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  if (memory == nullptr)
    return failure(error, SY_E_OUT_OF_MEMORY, "no memory for the labels and sums of the last pass");
  carve_state(reinterpret_cast<uintptr_t>(memory), state);
  Method::start_state(k, state->method);
  *out = state;
  return SY_OK;
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

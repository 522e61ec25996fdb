// SPDX-License-Identifier: Apache-2.0
#pragma once
/// An attention call unpacked, which keys a query sees, and the loop that spreads tasks over
/// threads. Scalar code shared by the prefill and the decode kernel (needs SY_ISA).

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../attention_params.hpp"
#include "../failure.hpp"
#include "../parallel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div64(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up64(int64_t a, int64_t b) { return ceil_div64(a, b) * b; }

inline constexpr int64_t kCachedBytes = 1 << 20;  ///< what a core's own cache holds, about

struct Call {
  const sy_tensor *q, *k, *v, *mask, *sinks, *alibi, *lengths, *table, *o, *lse;
  const sy_tensor *k_scales, *k_biases, *v_scales, *v_biases;
  int64_t batch, hq, hkv, lq, lkv, dk, dv;
  int64_t group;  ///< query heads per key head
  int64_t rows;   ///< group * lq: the queries that share keys; row = position * group + head
  uint32_t causal;
  int64_t left, right;  ///< window; -1 = unlimited
  float scale, softcap;
  int64_t keep;     ///< keys before it are not hidden by `left`
  int64_t gap;      ///< and that much further away for ALiBi
  uint32_t format;  ///< of k and v: SY_QUANT_*
  int64_t kv_group;
  int64_t page;  ///< keys in a page; 0 = not paged
};

inline const sy_tensor *slot(const sy_tensor *const *slots, uint32_t count, uint32_t index) {
  return index < count ? slots[index] : nullptr;
}

/// The call was validated: the three main tensors have rank 4 and fit together.
inline Call unpack(const sy_call &call) {
  Call c;
  c.q = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_Q);
  c.k = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_K);
  c.v = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_V);
  c.mask = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_MASK);
  c.sinks = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_SINKS);
  c.alibi = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_ALIBI);
  c.lengths = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_KV_LENGTHS);
  c.table = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_BLOCK_TABLE);
  c.k_scales = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_K_SCALES);
  c.k_biases = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_K_BIASES);
  c.v_scales = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_V_SCALES);
  c.v_biases = slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_V_BIASES);
  c.o = slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_O);
  c.lse = slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_LSE);
  c.batch = c.q->shape[0];
  c.hq = c.q->shape[1];
  c.lq = c.q->shape[2];
  c.dk = c.q->shape[3];
  c.hkv = c.k->shape[1];
  c.lkv = c.k->shape[2];
  c.dv = c.o->shape[3];
  c.page = 0;
  if (c.table != nullptr) {
    c.page = c.lkv;
    c.lkv *= c.table->shape[1];
  }
  // Expanded MQA: all key heads are one.
  bool shared = c.hkv > 1;
  for (const sy_tensor *t : {c.k, c.v, c.k_scales, c.k_biases, c.v_scales, c.v_biases})
    shared = shared && (t == nullptr || t->strides[1] == 0);
  if (shared) c.hkv = 1;
  c.group = c.hkv > 0 ? c.hq / c.hkv : 0;
  c.rows = c.group * c.lq;
  const sy_attention_kv_params p = attention_params(call);
  c.causal = p.base.causal;
  c.scale = p.base.scale;
  c.softcap = p.base.softcap;
  c.keep = p.keep;
  c.gap = p.gap;
  c.format = p.kv_format;
  c.kv_group = p.kv_group;
  // Beyond 2^40 a window hides nothing, and sums of positions stay far from overflow.
  const int64_t wide = int64_t{1} << 40;
  c.left = p.base.window_left < 0 ? -1 : min64(p.base.window_left, wide);
  c.right = p.base.window_right < 0 ? -1 : min64(p.base.window_right, wide);
  return c;
}

/// Address of element (a, b, c, 0).
template <class T>
inline T *element(const sy_tensor &t, int64_t a, int64_t b, int64_t c) {
  return reinterpret_cast<T *>(static_cast<char *>(t.handle) + t.byte_offset) + a * t.strides[0] +
         b * t.strides[1] + c * t.strides[2];
}

template <class T>
inline T *vector_element(const sy_tensor &t, int64_t i) {
  return reinterpret_cast<T *>(static_cast<char *>(t.handle) + t.byte_offset) + i * t.strides[0];
}

/// Keys that exist in sequence b.
inline int64_t key_count(const Call &c, int64_t b) {
  if (c.lengths == nullptr || c.lengths->handle == nullptr) return c.lkv;
  return max64(0, min64(c.lkv, *vector_element<const int32_t>(*c.lengths, b)));
}

/// The position of query 0 on the axis of the keys.
inline int64_t position_offset(const Call &c, int64_t keys) {
  return c.causal == SY_CAUSAL_TOP_LEFT ? 0 : keys - c.lq;
}

/// Where row j of k or v lies, or of what belongs to it.
struct Place {
  int64_t outer, slot;
};

inline Place place_of(const Call &c, int64_t b, int64_t j) {
  if (c.table == nullptr) return {b, j};
  const int32_t page =
      *(vector_element<const int32_t>(*c.table, b) + j / c.page * c.table->strides[1]);
  const bool exists = page >= 0 && page < c.k->shape[0];  // whatever the table came to hold
  return {exists ? page : 0, j % c.page};
}

/// Rows from j on that lie one stride apart.
inline int64_t run_length(const Call &c, int64_t j) {
  return c.table == nullptr ? INT64_MAX : c.page - j % c.page;
}

/// The first element of row j of k or v.
template <class T>
inline const T *key_row(const Call &c, const sy_tensor &t, int64_t b, int64_t head, int64_t j) {
  const Place at = place_of(c, b, j);
  return element<const T>(t, at.outer, head, at.slot);
}

/// Bytes of a value of k or v, with its part of a scale.
inline double bytes_of_value(const Call &c) {
  if (c.format == SY_QUANT_Q8_0) return 34.0 / 32;
  if (c.format == SY_QUANT_NONE) return static_cast<double>(c.k->dtype.bits) / 8;
  return 0.5 + 2.0 * c.k_scales->dtype.bits / 8 / static_cast<double>(c.kv_group);
}

/// Keys up to `high` that lie at or behind `low`, or before Call::keep.
struct Range {
  int32_t low, high;
};

inline bool sees_any(const Call &c, Range r) {
  return r.high >= r.low || (c.keep > 0 && r.high >= 0);
}
/// The first key it sees, and the end of those, of a range that sees any.
inline int32_t first_seen(const Call &c, Range r) { return c.keep > 0 ? 0 : r.low; }
inline int32_t end_seen(const Call &c, Range r) {
  return r.high >= r.low ? r.high + 1 : static_cast<int32_t>(min64(c.keep, r.high + 1));
}

/// What query position i sees of `keys` keys, masks aside.
inline Range visible(const Call &c, int64_t keys, int64_t i) {
  const int64_t at = i + position_offset(c, keys);
  int64_t low = 0, high = keys - 1;
  if (c.causal != SY_CAUSAL_NONE) high = min64(high, at);
  if (c.left >= 0) low = max64(low, at - c.left);
  if (c.right >= 0) high = min64(high, at + c.right);
  if (high < 0 || (high < low && c.keep == 0)) return {0, -1};
  return {static_cast<int32_t>(low), static_cast<int32_t>(high)};
}

/// The most keys any one block of queries may have to look at; depends on shapes only.
inline int64_t most_keys(const Call &c, int64_t positions) {
  int64_t n = c.lkv;
  const int64_t right = c.causal != SY_CAUSAL_NONE ? 0 : c.right;
  if (c.left >= 0 && right >= 0) n = min64(n, c.left + right + positions);
  return n;
}

/// Task counter, cancellation and progress shared by the workers of one call.
struct Progress {
  const sy_call *call;
  uint64_t tasks;
  uint64_t next = 0;
  uint32_t stopped = 0, asking = 0;
};

/// A worker's view of it. About once a millisecond of its work it asks the hook, unless another
/// worker is just doing so.
struct Worker {
  Progress *progress;
  uint32_t index;
  double flops = 0;

  bool stopped() const { return __atomic_load_n(&progress->stopped, __ATOMIC_RELAXED) != 0; }
  /// Counts finished work; false = stop.
  bool go_on(double more_flops) {
    if (progress->call->progress != nullptr && (flops += more_flops) > 3e7) {
      flops = 0;
      ask();
    }
    return !stopped();
  }
  void ask() const {
    if (__atomic_exchange_n(&progress->asking, 1u, __ATOMIC_ACQUIRE) != 0) return;
    if (!stopped()) {
      const auto begun = static_cast<double>(__atomic_load_n(&progress->next, __ATOMIC_RELAXED));
      const double share = begun / static_cast<double>(progress->tasks);
      if (progress->call->progress(progress->call->progress_arg, share < 1 ? share : 1.0) != 0)
        __atomic_store_n(&progress->stopped, 1u, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&progress->asking, 0u, __ATOMIC_RELEASE);
  }
};

inline uint32_t worker_count(const Context &ctx, const sy_call &call, uint64_t tasks) {
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint32_t>(tasks < threads ? (tasks > 0 ? tasks : 1) : threads);
}

/// fn(worker, task) for each task; each worker takes the next free one, so that its scratch memory
/// is its own whatever the executor does. SY_OK or SY_E_CANCELLED.
template <class F>
inline int32_t run_tasks(const Context &ctx, const sy_call &call, uint64_t tasks, F &fn) {
  Progress progress{&call, tasks};
  const uint32_t workers = worker_count(ctx, call, tasks);
  auto body = [&](uint64_t w) {
    Worker worker{&progress, static_cast<uint32_t>(w)};
    while (!worker.stopped()) {
      const uint64_t t = __atomic_fetch_add(&progress.next, 1, __ATOMIC_RELAXED);
      if (t >= tasks) break;
      fn(worker, t);
    }
  };
  for_each(ctx, workers, workers, body);
  return progress.stopped != 0 ? SY_E_CANCELLED : SY_OK;
}

/// Cuts 64-byte aligned pieces from a workspace; with a null base it only measures.
struct Arena {
  char *base;
  uint64_t used = 0;

  template <class T>
  T *take(int64_t count) {
    char *p = base == nullptr ? nullptr : base + used;
    used += (static_cast<uint64_t>(count) * sizeof(T) + 63) & ~uint64_t{63};
    return reinterpret_cast<T *>(p);
  }
};

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu

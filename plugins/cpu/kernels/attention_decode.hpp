// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Attention for few query rows over many keys: a task is one key head and one share of the keys;
/// vectors run along the head dimension, and each line of k and v is read once for all rows of
/// the head's group. Shares are merged in their order (needs SY_ISA).

#include "attention_decode_block.hpp"
#include "attention_keys.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

inline constexpr int64_t kMaxDecodeRows = 64;
inline constexpr int64_t kLeastChunk = 256;
inline constexpr int64_t kQuantisedBlock = 64;  ///< keys that are dequantised at a time
inline constexpr int64_t kDecodeTasks = 128;    ///< wanted, where keys allow

struct DecodePlan {
  int64_t splits;
  uint64_t tasks;
  int64_t block;        ///< keys at a time
  bool copy_k, copy_v;  ///< quantised, or the last dimension is not contiguous
  bool prefetch;        ///< too many values for a core's own caches
};

inline DecodePlan make_decode_plan(const Call &c) {
  DecodePlan plan;
  const int64_t groups = c.batch * c.hkv;
  const int64_t most = ceil_div64(most_keys(c, c.lq), kLeastChunk);
  plan.splits = groups > 0 ? max64(1, min64(ceil_div64(kDecodeTasks, groups), most)) : 1;
  plan.tasks = c.rows > 0 ? static_cast<uint64_t>(groups * plan.splits) : 0;
  const bool quantised = c.format != SY_QUANT_NONE;
  plan.block = quantised ? kQuantisedBlock : kBlockKeys;
  plan.copy_k = quantised || (c.dk > 1 && c.k->strides[3] != 1);
  plan.copy_v = quantised || (c.dv > 1 && c.v->strides[3] != 1);
  const int64_t bytes = groups * c.lkv * (c.dk + c.dv) * (c.q->dtype.bits / 8);
  plan.prefetch = !plan.copy_v && bytes > kCachedBytes;
  return plan;
}

/// One row's results: max, sum, then dv (padded) values.
inline int64_t result_floats(const Call &c) { return kLanes + round_up64(c.dv, kLanes); }

struct DecodeScratch {
  Rows rows;
  float *results;
  void *k, *v;
};

inline DecodeScratch take_decode_scratch(const Call &c, const DecodePlan &plan, Arena &arena) {
  DecodeScratch s{};
  s.rows.q_stride = round_up64(c.dk, kLanes);
  s.rows.q = arena.take<float>(c.rows * s.rows.q_stride);
  s.rows.s = arena.take<float>(c.rows * kBlockKeys);
  s.rows.alpha = arena.take<float>(c.rows);
  s.rows.bias = c.mask != nullptr ? arena.take<float>(kBlockKeys) : nullptr;
  s.results = arena.take<float>(c.rows * result_floats(c));
  s.k = plan.copy_k ? arena.take<float>(plan.block * c.dk) : nullptr;
  s.v = plan.copy_v ? arena.take<float>(plan.block * c.dv) : nullptr;
  return s;
}

inline uint64_t decode_parts_bytes(const Call &c, const DecodePlan &plan) {
  if (plan.splits <= 1) return 0;
  return plan.tasks * static_cast<uint64_t>(c.rows * result_floats(c)) * sizeof(float);
}

inline uint64_t decode_workspace(const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const DecodePlan plan = make_decode_plan(c);
  Arena arena{nullptr};
  take_decode_scratch(c, plan, arena);
  return arena.used * worker_count(ctx, call, plan.tasks) + decode_parts_bytes(c, plan);
}

template <class T>
class Decode {
 public:
  Decode(const Call &c, const DecodePlan &plan, float *parts) : c_(c), plan_(plan), parts_(parts) {}

  void run(Worker &worker, DecodeScratch &s, uint64_t task) const {
    const auto t = static_cast<int64_t>(task);
    const int64_t split = t % plan_.splits, b = t / plan_.splits / c_.hkv,
                  head = t / plan_.splits % c_.hkv;
    const int64_t keys = key_count(c_, b);
    float *results = plan_.splits > 1 ? part(t) : s.results;
    start(s, results, b, head);
    int64_t begin = INT64_MAX, end = 0, window_begin = INT64_MAX;
    for (int64_t i = 0; i < c_.lq; ++i) {
      const Range range = visible(c_, keys, i);
      if (!sees_any(c_, range)) continue;
      begin = min64(begin, first_seen(c_, range));
      end = max64(end, end_seen(c_, range));
      window_begin = min64(window_begin, range.low);
    }
    if (begin < end) {
      const int64_t share =
          max64(kLeastChunk, round_up64(ceil_div64(end - begin, plan_.splits), kBlockKeys / 4));
      const int64_t last = min64(end, begin + (split + 1) * share);
      for (int64_t j = begin + split * share, count = 0; j < last; j += count) {
        count = min64(plan_.block, last - j);
        if (j >= c_.keep && j < window_begin) {  // between kept keys and windows
          count = min64(window_begin, last) - j;
          continue;
        }
        // Keys that are read in place must be one stride apart.
        if (!plan_.copy_k || !plan_.copy_v) count = min64(count, run_length(c_, j));
        if (c_.format != SY_QUANT_NONE)
          add_block<float>(s, results, b, head, keys, j, count);
        else
          add_block<T>(s, results, b, head, keys, j, count);
        if (!worker.go_on(2.0 * static_cast<double>(count * c_.rows * (c_.dk + c_.dv)))) return;
      }
    }
    if (plan_.splits == 1) finish(results, 1, b, head);
  }

  /// Joins the shares of one key head.
  void merge(uint64_t group) const {
    const auto g = static_cast<int64_t>(group);
    finish(part(g * plan_.splits), plan_.splits, g / c_.hkv, g % c_.hkv);
  }

 private:
  float *part(int64_t task) const { return parts_ + task * c_.rows * result_floats(c_); }

  void start(DecodeScratch &s, float *results, int64_t b, int64_t head) const {
    for (int64_t r = 0; r < c_.rows; ++r) {
      float *q = s.rows.q + r * s.rows.q_stride;
      widen_row(element<const T>(*c_.q, b, head * c_.group + r % c_.group, r / c_.group),
                c_.q->strides[3], c_.dk, q);
      for (int64_t e = c_.dk; e < s.rows.q_stride; ++e) q[e] = 0;
      float *result = results + r * result_floats(c_);
      memset(result, 0, static_cast<size_t>(result_floats(c_)) * sizeof(float));
      result[0] = -__builtin_inff();
    }
  }

  /// E: what the block's keys and values are held as, T or, if they are quantised, float.
  template <class E>
  void add_block(DecodeScratch &s, float *results, int64_t b, int64_t head, int64_t keys,
                 int64_t first, int64_t count) const {
    Keys<E> block;
    block.first = first;
    block.count = count;
    block.prefetch = plan_.prefetch;
    place(plan_.copy_k, false, b, head, first, count, static_cast<E *>(s.k), block.k,
          block.k_stride);
    if (!plan_.copy_v)  // known early, so that it can be asked for
      place(false, true, b, head, first, count, static_cast<E *>(nullptr), block.v, block.v_stride);
    score_rows(c_, s.rows, block);
    for (int64_t r = 0; r < c_.rows; ++r) {
      const int64_t i = r / c_.group, h = head * c_.group + r % c_.group;
      float *scores = s.rows.s + r * kBlockKeys;
      adjust_row(c_, b, h, i, keys, first, count, s.rows.bias, scores);
      s.rows.alpha[r] = softmax_row(scores, count, results + r * result_floats(c_));
    }
    if (plan_.copy_v)
      place(true, true, b, head, first, count, static_cast<E *>(s.v), block.v, block.v_stride);
    add_values(c_, s.rows, block, results + kLanes, result_floats(c_));
  }

  /// Where a block's keys or values can be read: in place, or from a copy in `memory`.
  template <class E>
  void place(bool copied, bool values, int64_t b, int64_t head, int64_t first, int64_t count,
             E *memory, const E *&from, int64_t &stride) const {
    const sy_tensor &t = values ? *c_.v : *c_.k;
    const int64_t n = values ? c_.dv : c_.dk;
    if (!copied) {
      from = key_row<E>(c_, t, b, head, first);
      stride = t.strides[2];
      return;
    }
    for (int64_t j = 0; j < count; ++j) {
      if constexpr (__is_same(E, float)) {
        read_key<T>(c_, values, b, head, first + j, memory + j * n);
      } else {
        const E *row = key_row<E>(c_, t, b, head, first + j);
        for (int64_t e = 0; e < n; ++e)
          memcpy(memory + j * n + e, row + e * t.strides[3], sizeof(E));
      }
    }
    from = memory;
    stride = n;
  }

  /// Weighs `count` parts of each row, closes it and writes it.
  void finish(float *parts, int64_t count, int64_t b, int64_t head) const {
    const DF df;
    const int64_t stride = c_.rows * result_floats(c_);
    for (int64_t r = 0; r < c_.rows; ++r) {
      float *first = parts + r * result_floats(c_);
      float max = -__builtin_inff(), sum = 0;
      for (int64_t i = 0; i < count; ++i)
        if (first[i * stride] > max) max = first[i * stride];
      float *o = first + kLanes;
      for (int64_t i = 0; i < count; ++i) {
        const float *part = first + i * stride;
        const bool nothing = part[1] == 0;  // its values may be 0 * NaN
        const float weight = nothing ? 0.0f : expf(part[0] - max);
        sum += part[1] * weight;
        for (int64_t d = 0; d < c_.dv; d += kLanes) {
          const VF x = hn::LoadU(df, part + kLanes + d);
          const VF before = i == 0 ? hn::Zero(df) : hn::LoadU(df, o + d);
          hn::StoreU(nothing ? before : hn::MulAdd(x, hn::Set(df, weight), before), df, o + d);
        }
      }
      const int64_t h = head * c_.group + r % c_.group, i = r / c_.group;
      const float *sink = c_.sinks != nullptr ? vector_element<const float>(*c_.sinks, h) : nullptr;
      const Closing closing = close_row(max, sum, sink);
      for (int64_t d = 0; d < c_.dv; d += kLanes) {
        const VF x = hn::Mul(hn::LoadU(df, o + d), hn::Set(df, closing.factor));
        hn::StoreU(sum == 0 ? hn::Zero(df) : x, df, o + d);
      }
      store_row(o, c_.dv, element<T>(*c_.o, b, h, i), c_.o->strides[3]);
      if (c_.lse != nullptr) *element<float>(*c_.lse, b, h, i) = closing.lse;
    }
  }

  const Call &c_;
  const DecodePlan &plan_;
  float *parts_;
};

template <class T>
int32_t run_decode(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const Call c = unpack(call);
  const DecodePlan plan = make_decode_plan(c);
  if (plan.tasks == 0) return SY_OK;
  if (call.workspace_size < decode_workspace(ctx, call))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  Arena measure{nullptr};
  take_decode_scratch(c, plan, measure);
  char *base = static_cast<char *>(call.workspace) + decode_parts_bytes(c, plan);
  const Decode<T> decode(c, plan, static_cast<float *>(call.workspace));
  auto compute = [&](Worker &w, uint64_t task) {
    Arena arena{base + w.index * measure.used};
    DecodeScratch s = take_decode_scratch(c, plan, arena);
    decode.run(w, s, task);
  };
  int32_t status = run_tasks(ctx, call, plan.tasks, compute);
  if (status == SY_OK && plan.splits > 1) {
    auto join = [&](Worker &, uint64_t group) { decode.merge(group); };
    status = run_tasks(ctx, call, plan.tasks / static_cast<uint64_t>(plan.splits), join);
  }
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu

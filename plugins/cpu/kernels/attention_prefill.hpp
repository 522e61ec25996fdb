// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Flash attention for many query rows. A task is one key head, a block of panels, and, where
/// there are few blocks, a share of the keys. Tiles that no row sees are never touched
/// (needs SY_ISA).

#include "attention_keys.hpp"
#include "attention_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

inline constexpr int kMaxPanels = 8;      ///< panels that share tiles of keys, by AMX
inline constexpr int kVectorPanels = 4;   ///< by vectors
inline constexpr int64_t kFewTasks = 64;  ///< below, keys are split so that threads have work
inline constexpr int64_t kLeastSplit = 512;

/// How a call is cut up; depends on shapes alone, so results do not depend on threads.
struct Plan {
  int64_t panels, per_task, blocks, splits;
  uint64_t tasks;
  bool convert;  ///< keys or values are not contiguous f32
};

inline Plan make_plan(const Call &c, Way way = Way::widen) {
  Plan plan;
  plan.convert = c.q->dtype.bits != 32 || c.format != SY_QUANT_NONE ||
                 (c.dk > 1 && c.k->strides[3] != 1) || (c.dv > 1 && c.v->strides[3] != 1);
  plan.panels = ceil_div64(c.rows, kPanelRows);
  // A tile serves several panels where reading it is dear: when it has to be converted, and more so
  // when the head's keys and values do not stay in a core's own cache.
  const bool cached = c.lkv * (c.dk + c.dv) * 4 <= kCachedBytes;
  const int64_t groups = c.batch * c.hkv;
  int64_t most = !cached ? kVectorPanels : plan.convert ? 2 : 1;
  if (way == Way::amx) {
    // Products take so little time that turning values over would show.
    most = kMaxPanels;
    while (most > kVectorPanels && groups * ceil_div64(plan.panels, most) < kFewTasks) most /= 2;
  }
  plan.per_task = max64(1, min64(plan.panels, most));
  plan.blocks = ceil_div64(plan.panels, plan.per_task);
  const int64_t base = groups * plan.blocks;
  const int64_t keys = most_keys(c, ceil_div64(kPanelRows * plan.per_task, max64(c.group, 1)));
  plan.splits = 1;
  if (base > 0 && base < kFewTasks)
    plan.splits = max64(1, min64(ceil_div64(kFewTasks, base), keys / kLeastSplit));
  plan.tasks = static_cast<uint64_t>(base * plan.splits);
  return plan;
}

struct PrefillScratch {
  Panel panels[kMaxPanels];
  float *rows, *s, *alpha, *bias, *k, *v;
  float *v_pairs;  ///< [kTileKeys / 2][dv]: on their way into v, for AMX
};

/// Words between rows of values for AMX: pairs of a tile's keys, and zeros.
inline constexpr int64_t kValueWords = kTileKeys / 2 + kTileWords;

inline PrefillScratch take_scratch(const Call &c, const Plan &plan, Way way, Arena &arena) {
  PrefillScratch s{};
  for (int64_t i = 0; i < plan.per_task; ++i) take_panel(c, arena, s.panels[i]);
  s.rows = arena.take<float>(kPanelRows * max64(c.dk, c.dv));
  s.s = arena.take<float>(kTileKeys * kPanelRows);
  s.alpha = arena.take<float>(kPanelRows);
  s.bias = c.mask != nullptr ? arena.take<float>(kTileKeys * kPanelRows) : nullptr;
  if (way == Way::amx) {
    s.k = arena.take<float>((kTileKeys + kTileHeight) * tile_words(c));
    s.v = arena.take<float>(round_up64(c.dv, kTileHeight) * kValueWords);
    s.v_pairs = arena.take<float>(kTileKeys / 2 * c.dv);
    return s;
  }
  s.k = plan.convert ? arena.take<float>(kTileKeys * c.dk) : nullptr;
  s.v = plan.convert ? arena.take<float>(kTileKeys * c.dv) : nullptr;
  return s;
}

inline uint64_t parts_bytes(const Call &c, const Plan &plan) {
  if (plan.splits <= 1) return 0;
  const int64_t floats = round_up64(plan.per_task * part_floats(c), 16);
  return plan.tasks * static_cast<uint64_t>(floats) * sizeof(float);
}

inline uint64_t prefill_workspace(const Context &ctx, const sy_call &call, Way way) {
  const Call c = unpack(call);
  const Plan plan = make_plan(c, way);
  Arena arena{nullptr};
  take_scratch(c, plan, way, arena);
  return arena.used * worker_count(ctx, call, plan.tasks) + parts_bytes(c, plan);
}

template <class T, Way kWay>
class Prefill {
  static constexpr bool kPairs = kWay != Way::widen;

 public:
  Prefill(const Call &c, const Plan &plan, float *parts) : c_(c), plan_(plan), parts_(parts) {
    constexpr int64_t kWhole = kWay == Way::amx ? 2 * kTileWords : 2;
    in_place_ = kPairs && c.k->strides[3] == 1 && c.dk % kWhole == 0 && c.table == nullptr;
  }

  /// Block `block` of key head (b, head); tasks count heavy causal blocks first.
  void run(Worker &worker, PrefillScratch &s, uint64_t task) const {
    [[maybe_unused]] const Scope<kWay> scope;
    int64_t b, head, block, split;
    locate(task, b, head, block, split);
    const int64_t panels = describe(s, b, head, block);
    int32_t begin = INT32_MAX, end = 0;
    for (int64_t i = 0; i < panels; ++i) {
      Panel &p = s.panels[i];
      place_results(p, plan_.splits > 1 ? part(task, i) : p.max);
      start_panel<T, kWay>(c_, b, head, s.rows, p);
      if (p.key_end > p.key_begin) {
        begin = p.key_begin < begin ? p.key_begin : begin;
        end = p.key_end > end ? p.key_end : end;
      }
    }
    if (begin < end && !add_keys(worker, s, b, head, panels, begin, end, split)) return;
    if (plan_.splits > 1) return;
    for (int64_t i = 0; i < panels; ++i) finish_panel<T>(c_, b, head, s.rows, s.panels[i]);
  }

  /// Joins the splits of one block.
  void merge(PrefillScratch &s, uint64_t group_block) const {
    int64_t b, head, block, split;
    locate(group_block * static_cast<uint64_t>(plan_.splits), b, head, block, split);
    const int64_t panels = describe(s, b, head, block);
    for (int64_t i = 0; i < panels; ++i) {
      Panel &p = s.panels[i];
      place_results(p, p.max);
      merge_parts(c_, part(group_block * static_cast<uint64_t>(plan_.splits), i),
                  plan_.per_task * part_floats(c_), plan_.splits, p);
      finish_panel<T>(c_, b, head, s.rows, p);
    }
  }

 private:
  void locate(uint64_t task, int64_t &b, int64_t &head, int64_t &block, int64_t &split) const {
    const int64_t groups = c_.batch * c_.hkv;
    auto t = static_cast<int64_t>(task);
    split = t % plan_.splits;
    t /= plan_.splits;
    block = plan_.blocks - 1 - t / groups;
    b = t % groups / c_.hkv;
    head = t % groups % c_.hkv;
  }

  int64_t describe(PrefillScratch &s, int64_t b, int64_t head, int64_t block) const {
    const int64_t first = block * plan_.per_task;
    const int64_t panels = min64(plan_.per_task, plan_.panels - first);
    for (int64_t i = 0; i < panels; ++i)
      describe_panel(c_, b, head, (first + i) * kPanelRows, s.panels[i]);
    return panels;
  }

  float *part(uint64_t task, int64_t panel) const {
    return parts_ + (static_cast<int64_t>(task) * plan_.per_task + panel) * part_floats(c_);
  }

  bool add_keys(Worker &worker, PrefillScratch &s, int64_t b, int64_t head, int64_t panels,
                int32_t begin, int32_t end, int64_t split) const {
    const int32_t tile_begin = begin / kTileKeys;
    const int64_t tiles = ceil_div64(end, kTileKeys) - tile_begin;
    const int64_t share = ceil_div64(tiles, plan_.splits);
    const auto from = static_cast<int32_t>(min64(split * share, tiles));
    const auto to = static_cast<int32_t>(min64((split + 1) * share, tiles));
    for (int32_t i = from; i < to; ++i) {
      const int32_t tile = (tile_begin + i) * kTileKeys;
      const int32_t last = tile + kTileKeys < end ? tile + kTileKeys : end;
      int32_t keys = 0;
      for (int32_t j = tile < begin ? begin : tile; j < last;) {
        // Keys that are read in place must be one stride apart.
        const int64_t run = plan_.convert ? INT64_MAX : run_length(c_, j);
        const auto stop = static_cast<int32_t>(min64(last, run < last - j ? j + run : last));
        keys += add_tile_to_panels(s, b, head, panels, j, stop);
        j = stop;
      }
      if (!worker.go_on(2.0 * static_cast<double>(keys) * kPanelRows *
                        static_cast<double>(c_.dk + c_.dv)))
        return false;
    }
    return true;
  }

  /// Keys begin..end-1 of one tile; returns how many (panel, key) pairs it computed.
  int32_t add_tile_to_panels(PrefillScratch &s, int64_t b, int64_t head, int64_t panels,
                             int32_t begin, int32_t end) const {
    bool converted = false;
    int32_t done = 0;
    for (int64_t n = 0; n < panels; ++n) {
      Panel &p = s.panels[n];
      int32_t first = p.key_begin > begin ? p.key_begin : begin;
      if (kPairs) first -= (first - begin) % 2;  // values are in pairs from `begin` on
      const int32_t last = p.key_end < end ? p.key_end : end;
      if (first >= last || (first >= c_.keep && last <= p.window_begin)) continue;
      Tile t{};
      t.first = first;
      t.count = last - first;
      t.s = s.s;
      t.alpha = s.alpha;
      if (c_.mask != nullptr) {
        const uint32_t kind = with_mask_type(*c_.mask, [&]<class M>(const M *) {
          return mask_tile<M>(c_, p, b, head, first, t.count, s.bias);
        });
        if (kind == kHidden) continue;
        t.bias = kind == kMixed ? s.bias : nullptr;
      }
      if (plan_.convert) {
        if (!converted) convert(s, b, head, begin, end);
        converted = true;
        const int64_t skipped = first - begin;
        t.k_bytes = key_bytes();
        t.k = reinterpret_cast<const char *>(s.k) + skipped * t.k_bytes;
        t.v_stride = kWay == Way::amx ? kValueWords : c_.dv;
        t.v = s.v + (kWay == Way::amx     ? skipped / 2
                     : kWay == Way::pairs ? skipped / 2 * c_.dv
                                          : skipped * c_.dv);
        if (in_place_) {
          t.k_bytes = c_.k->strides[2] * 2;
          t.k = reinterpret_cast<const char *>(key_row<T>(c_, *c_.k, b, head, first));
          if (kWay == Way::amx) t.last_keys = reinterpret_cast<char *>(s.k);
        }
      } else {
        t.k = reinterpret_cast<const char *>(key_row<float>(c_, *c_.k, b, head, first));
        t.v = key_row<float>(c_, *c_.v, b, head, first);
        t.k_bytes = c_.k->strides[2] * 4;
        t.v_stride = c_.v->strides[2];
      }
      if (p.vectors == 3)
        add_tile<kWay, 3>(c_, p, t);
      else if (p.vectors == 2)
        add_tile<kWay, 2>(c_, p, t);
      else
        add_tile<kWay, 1>(c_, p, t);
      done += t.count;
    }
    return done;
  }

  void convert(const PrefillScratch &s, int64_t b, int64_t head, int32_t begin, int32_t end) const {
    if constexpr (kPairs) {
      const int64_t bytes = key_bytes(), real = (c_.dk + 1) / 2 * 4;
      for (int32_t j = begin; j < end && !in_place_; ++j) {
        char *to = reinterpret_cast<char *>(s.k) + (j - begin) * bytes;
        copy_pairs(key_row<T>(c_, *c_.k, b, head, j), c_.k->strides[3], c_.dk, to);
        memset(to + real, 0, static_cast<size_t>(bytes - real));
      }
      auto *pairs = reinterpret_cast<uint32_t *>(kWay == Way::amx ? s.v_pairs : s.v);
      for (int32_t j = begin; j < end; j += 2)
        interleave_pairs(key_row<T>(c_, *c_.v, b, head, j),
                         j + 1 < end ? key_row<T>(c_, *c_.v, b, head, j + 1) : nullptr,
                         c_.v->strides[3], c_.dv, pairs + (j - begin) / 2 * c_.dv);
      if constexpr (kWay == Way::amx) turn_values(s, (end - begin + 1) / 2);
      return;
    }
    for (int32_t j = begin; j < end; ++j) {
      read_key<T>(c_, false, b, head, j, s.k + (j - begin) * c_.dk);
      read_key<T>(c_, true, b, head, j, s.v + (j - begin) * c_.dv);
    }
  }

  /// Bytes of a converted row of keys.
  int64_t key_bytes() const {
    return 4 * (kWay == Way::widen ? c_.dk : kWay == Way::amx ? tile_words(c_) : (c_.dk + 1) / 2);
  }

  /// Values in rows of a column's pairs of keys; zeros beyond the last pair, so that what lies
  /// there cannot meet a weight of 0 and give NaN.
  void turn_values(const PrefillScratch &s, int64_t pairs) const {
    transpose(s.v_pairs, c_.dv, pairs, c_.dv, s.v, kValueWords);
    const auto gap = static_cast<size_t>(kValueWords - pairs) * sizeof(float);
    for (int64_t d = 0; d < c_.dv; ++d) memset(s.v + d * kValueWords + pairs, 0, gap);
    const int64_t more = round_up64(c_.dv, kTileHeight) - c_.dv;
    memset(s.v + c_.dv * kValueWords, 0, static_cast<size_t>(more * kValueWords) * sizeof(float));
  }

  const Call &c_;
  const Plan &plan_;
  float *parts_;
  bool in_place_ = false;  ///< pairs of keys are read where they lie
};

template <class T, Way kWay = Way::widen>
int32_t run_prefill(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const Call c = unpack(call);
  const Plan plan = make_plan(c, kWay);
  if (plan.tasks == 0) return SY_OK;
  if (call.workspace_size < prefill_workspace(ctx, call, kWay))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  Arena measure{nullptr};
  take_scratch(c, plan, kWay, measure);
  char *base = static_cast<char *>(call.workspace) + parts_bytes(c, plan);
  const Prefill<T, kWay> prefill(c, plan, static_cast<float *>(call.workspace));
  const auto scratch_of = [&](const Worker &w) {
    Arena arena{base + w.index * measure.used};
    return take_scratch(c, plan, kWay, arena);
  };
  auto compute = [&](Worker &w, uint64_t task) {
    PrefillScratch s = scratch_of(w);
    prefill.run(w, s, task);
  };
  int32_t status = run_tasks(ctx, call, plan.tasks, compute);
  if (status == SY_OK && plan.splits > 1) {
    auto join = [&](Worker &w, uint64_t task) {
      PrefillScratch s = scratch_of(w);
      prefill.merge(s, task);
    };
    status = run_tasks(ctx, call, plan.tasks / static_cast<uint64_t>(plan.splits), join);
  }
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu

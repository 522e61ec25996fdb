// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Matmul with plain weights (needs SY_ISA). `dots` for few rows of x: weights are read once, where
/// they lie. `gemm` for more: panels of weights are packed and multiplied with tiles of rows.

#include <switchyard/ops/matmul.h>

#include "attention_keys.hpp"
#include "attention_pairs.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {

namespace hn = hwy::HWY_NAMESPACE;
using attention::Arena;
using attention::ceil_div64;
using attention::copy_pairs;
using attention::DF;
using attention::interleave_pairs;
using attention::kLanes;
using attention::min64;
using attention::needs_pairs;
using attention::pair_tiles;
using attention::round_up64;
using attention::run_tasks;
using attention::Scope;
using attention::store_row;
using attention::VF;
using attention::Way;
using attention::widen_row;
using attention::Worker;
using attention::worker_count;
using hwy::bfloat16_t;
using hwy::float16_t;
using quant::load_f32;
using quant::load_scalar;

/// A call with its tensors and sizes by name.
struct Call {
  const sy_tensor *x, *w, *y;
  const float *add;  ///< [n] or NULL
  int64_t m, n, k;
};

inline const char *data_of(const sy_tensor &t) {
  return static_cast<const char *>(t.handle) + t.byte_offset;
}

inline Call unpack(const sy_call &call) {
  Call c;
  c.x = call.inputs[SY_MATMUL_IN_X];
  c.w = call.inputs[SY_MATMUL_IN_W];
  c.y = call.outputs[SY_MATMUL_OUT_Y];
  const sy_tensor *add = call.inputs[SY_MATMUL_IN_ADD];
  c.add = add != nullptr ? reinterpret_cast<const float *>(data_of(*add)) : nullptr;
  c.m = c.x->shape[0];
  c.n = c.w->shape[0];
  c.k = c.x->shape[1];
  return c;
}

template <class T>
inline T *element(const sy_tensor &t, int64_t i, int64_t j) {
  return reinterpret_cast<T *>(static_cast<char *>(t.handle) + t.byte_offset) + i * t.strides[0] +
         j * t.strides[1];
}

/// y[i, first .. first + count - 1] = values (+ add). `values` are changed.
inline void store_outputs(const Call &c, int64_t i, int64_t first, int64_t count, float *values) {
  if (c.add != nullptr)
    for (int64_t j = 0; j < count; ++j) values[j] += c.add[first + j];
  const int64_t stride = c.y->strides[1];
  if (c.y->dtype.bits == 32)
    store_row(values, count, element<float>(*c.y, i, first), stride);
  else if (c.y->dtype.code == SY_TYPE_BFLOAT)
    store_row(values, count, element<bfloat16_t>(*c.y, i, first), stride);
  else
    store_row(values, count, element<float16_t>(*c.y, i, first), stride);
}

// ------------------------------------------------------------------------------------------ dots

inline constexpr int64_t kMostDotRows = 8;  ///< of x
inline constexpr int64_t kDotOutputs = 64;  ///< most outputs of a row that one task computes

/// out[r * 8 + c] = w row r . x row c, for NR rows of weights and MR of x, k values each.
template <class T, int NR, int MR>
HWY_INLINE void dot_tile(const T *w, int64_t w_stride, const float *x, int64_t k, float *out) {
  const DF df;
  VF acc[NR][MR];
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < MR; ++c) acc[r][c] = hn::Zero(df);
  int64_t e = 0;
  for (; e + kLanes <= k; e += kLanes) {
    VF v[MR];
#pragma GCC unroll 4
    for (int c = 0; c < MR; ++c) v[c] = hn::LoadU(df, x + c * k + e);
#pragma GCC unroll 4
    for (int r = 0; r < NR; ++r) {
      const VF weights = load_f32(w + r * w_stride + e);
#pragma GCC unroll 4
      for (int c = 0; c < MR; ++c) acc[r][c] = hn::MulAdd(weights, v[c], acc[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < MR; ++c) {
      float sum = hn::GetLane(hn::SumOfLanes(df, acc[r][c]));
      for (int64_t t = e; t < k; ++t) sum += load_scalar(w + r * w_stride + t) * x[c * k + t];
      out[r * kMostDotRows + c] = sum;
    }
}

template <class T, int NR>
HWY_INLINE void dot_rows(const T *w, int64_t w_stride, const float *x, int64_t k, int64_t rows,
                         float *out) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) dot_tile<T, NR, 4>(w, w_stride, x + m * k, k, out + m);
  for (; m < rows; ++m) dot_tile<T, NR, 1>(w, w_stride, x + m * k, k, out + m);
}

inline uint64_t dots_workspace(const sy_call &call) {
  const Call c = unpack(call);
  return static_cast<uint64_t>(c.m * c.k) * sizeof(float) + 64;
}

template <class T>
int32_t run_dots(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const Call c = unpack(call);
  if (c.m == 0 || c.n == 0) return SY_OK;
  auto *x = static_cast<float *>(call.workspace);
  for (int64_t i = 0; i < c.m; ++i)
    widen_row(element<const T>(*c.x, i, 0), c.x->strides[1], c.k, x + i * c.k);
  const int64_t share = ceil_div64(c.n, 4 * thread_count(ctx, call));
  const int64_t width = round_up64(min64(share, kDotOutputs), 4);
  auto compute = [&](Worker &worker, uint64_t task) {
    const int64_t first = static_cast<int64_t>(task) * width, count = min64(width, c.n - first);
    float out[kDotOutputs * kMostDotRows];
    const T *w = element<const T>(*c.w, first, 0);
    const int64_t stride = c.w->strides[0];
    int64_t r = 0;
    for (; r + 4 <= count; r += 4)
      dot_rows<T, 4>(w + r * stride, stride, x, c.k, c.m, out + r * kMostDotRows);
    for (; r < count; ++r)
      dot_rows<T, 1>(w + r * stride, stride, x, c.k, c.m, out + r * kMostDotRows);
    float values[kDotOutputs];
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < count; ++j) values[j] = out[j * kMostDotRows + i];
      store_outputs(c, i, first, count, values);
    }
    worker.go_on(2.0 * static_cast<double>(count * c.m * c.k));
  };
  const int32_t status =
      run_tasks(ctx, call, static_cast<uint64_t>(ceil_div64(c.n, width)), compute);
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

// ------------------------------------------------------------------------------------------ gemm

inline constexpr int kPanelVectors = kLanes >= 16 ? 3 : 2;
inline constexpr int kTileRows = kLanes >= 16 ? 8 : 6;  ///< with the panel's vectors: registers
inline constexpr int64_t kPanel = kPanelVectors * kLanes;
inline constexpr int64_t kDepth = 256;     ///< products added up before the next panel is packed
inline constexpr int64_t kMostRows = 240;  ///< of x in a task
/// By AMX: products take so little time that packing weights would show.
inline constexpr int64_t kMostTileRows = 2 * kMostRows;
inline constexpr int64_t kMostPanels = 144 / kPanel;

/// c[r][0 .. kPanel - 1] (+)= x[r][0 .. depth - 1] . panel[depth][kPanel] for MR rows.
template <int MR>
HWY_NOINLINE void multiply_panel(const float *HWY_RESTRICT x, int64_t x_stride,
                                 const float *HWY_RESTRICT panel, int64_t depth, bool first,
                                 float *HWY_RESTRICT c, int64_t c_stride) {
  const DF df;
  VF acc[MR][kPanelVectors];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kPanelVectors; ++v)
      acc[r][v] = first ? hn::Zero(df) : hn::LoadU(df, c + r * c_stride + v * kLanes);
  for (int64_t e = 0; e < depth; ++e) {
    VF b[kPanelVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kPanelVectors; ++v) b[v] = hn::LoadU(df, panel + e * kPanel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const VF a = hn::Set(df, x[r * x_stride + e]);
#pragma GCC unroll 3
      for (int v = 0; v < kPanelVectors; ++v) acc[r][v] = hn::MulAdd(a, b[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kPanelVectors; ++v)
      hn::StoreU(acc[r][v], df, c + r * c_stride + v * kLanes);
}

/// How the outputs are cut into tasks; of shapes and the number of threads only.
struct Plan {
  int64_t rows, panels;  ///< of a task
  int64_t row_blocks, column_blocks;
};

inline Plan make_plan(const Call &c, uint32_t threads, Way way) {
  Plan p;
  p.row_blocks = ceil_div64(c.m, way == Way::amx ? kMostTileRows : kMostRows);
  const int64_t unit = way == Way::amx ? kTileHeight : kTileRows;
  p.rows = p.row_blocks == 0 ? 0 : round_up64(ceil_div64(c.m, p.row_blocks), unit);
  p.panels = kMostPanels;
  const auto tasks = [&] { return p.row_blocks * ceil_div64(c.n, p.panels * kPanel); };
  while (p.panels > 1 && tasks() < 4 * static_cast<int64_t>(threads)) --p.panels;
  p.column_blocks = ceil_div64(c.n, p.panels * kPanel);
  return p;
}

struct Scratch {
  float *panels;  ///< [panels][kDepth][kPanel]
  float *rows;    ///< [rows][kDepth]: x, where it must be converted
  float *wide;    ///< [kPanel][kDepth]: weights on their way into a panel
  float *tile;    ///< [rows][panels * kPanel]: sums
};

inline Scratch take_scratch(const Plan &p, Arena &arena) {
  return {arena.take<float>(p.panels * kDepth * kPanel), arena.take<float>(p.rows * kDepth),
          arena.take<float>(kPanel * kDepth), arena.take<float>(p.rows * p.panels * kPanel)};
}

inline uint64_t gemm_workspace(const Context &ctx, const sy_call &call, Way way) {
  const Plan p = make_plan(unpack(call), thread_count(ctx, call), way);
  Arena arena{nullptr};
  take_scratch(p, arena);
  const auto tasks = static_cast<uint64_t>(p.row_blocks * p.column_blocks);
  return arena.used * worker_count(ctx, call, tasks);
}

/// In pairs bf16 is multiplied as it is, twice as many values in the same words.
template <class T, Way kWay>
struct Gemm {
  static constexpr bool kPairs = kWay != Way::widen;
  static constexpr int64_t kValues = kPairs ? 2 * kDepth : kDepth;  ///< between packings
  const Call &c;
  const Plan &plan;

  static int64_t words_of(int64_t depth) { return kPairs ? (depth + 1) / 2 : depth; }
  /// With the zeros that tiles need behind them.
  static int64_t padded_words(int64_t depth) {
    return kWay == Way::amx ? round_up64(words_of(depth), kTileWords) : words_of(depth);
  }

  /// Values k0 .. k0 + depth - 1 of `count` rows of weights from `first` on; the panel's other
  /// columns are zero.
  void pack(int64_t first, int64_t count, int64_t k0, int64_t depth, const Scratch &s,
            float *panel) const {
    const int64_t across = c.w->strides[0], along = c.w->strides[1], words = words_of(depth);
    const int64_t zeros = count < kPanel ? 0 : words;  // from there on
    memset(panel + zeros * kPanel, 0,
           static_cast<size_t>((padded_words(depth) - zeros) * kPanel) * sizeof(float));
    if constexpr (kPairs) {
      if (across == 1 && along != 1) {
        auto *to = reinterpret_cast<uint32_t *>(panel);
        for (int64_t e = 0; e < depth; e += 2, to += kPanel)
          interleave_pairs(element<const T>(*c.w, first, k0 + e),
                           e + 1 < depth ? element<const T>(*c.w, first, k0 + e + 1) : nullptr, 1,
                           count, to);
        return;
      }
      for (int64_t r = 0; r < count; ++r)
        copy_pairs(element<const T>(*c.w, first + r, k0), along, depth,
                   reinterpret_cast<char *>(s.wide + r * kDepth));
      attention::transpose(s.wide, kDepth, count, words, panel, kPanel);
      return;
    }
    if (across == 1 && along != 1) {
      for (int64_t e = 0; e < depth; ++e)
        widen_row(element<const T>(*c.w, first, k0 + e), 1, count, panel + e * kPanel);
      return;
    }
    if constexpr (sizeof(T) == sizeof(float)) {
      if (along == 1) {
        attention::transpose(element<const float>(*c.w, first, k0), across, count, depth, panel,
                             kPanel);
        return;
      }
    }
    for (int64_t r = 0; r < count; ++r)
      widen_row(element<const T>(*c.w, first + r, k0), along, depth, s.wide + r * kDepth);
    attention::transpose(s.wide, kDepth, count, depth, panel, kPanel);
  }

  /// Rows of x as they are multiplied, converted where they must be; `stride` in bytes.
  const char *rows_of_x(int64_t first, int64_t count, int64_t k0, int64_t depth, const Scratch &s,
                        int64_t &stride) const {
    constexpr int64_t kWhole = kWay == Way::amx ? 2 * kTileWords : kPairs ? 2 : 1;
    if constexpr (kPairs || sizeof(T) == sizeof(float)) {
      if (c.x->strides[1] == 1 && depth % kWhole == 0) {
        stride = c.x->strides[0] * static_cast<int64_t>(sizeof(T));
        return reinterpret_cast<const char *>(element<const T>(*c.x, first, k0));
      }
    }
    for (int64_t r = 0; r < count; ++r) {
      const T *from = element<const T>(*c.x, first + r, k0);
      float *to = s.rows + r * kDepth;
      if constexpr (kPairs)
        copy_pairs(from, c.x->strides[1], depth, reinterpret_cast<char *>(to));
      else
        widen_row(from, c.x->strides[1], depth, to);
      memset(to + words_of(depth), 0,
             static_cast<size_t>(padded_words(depth) - words_of(depth)) * sizeof(float));
    }
    stride = kDepth * static_cast<int64_t>(sizeof(float));
    return reinterpret_cast<const char *>(s.rows);
  }

  void multiply(const char *x, int64_t stride, int64_t rows, const float *panel, int64_t depth,
                bool first, float *tile, int64_t width) const {
    const auto *values = reinterpret_cast<const float *>(x);
    const int64_t step = stride / static_cast<int64_t>(sizeof(float));
    int64_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows)
      multiply_panel<kTileRows>(values + r * step, step, panel, depth, first, tile + r * width,
                                width);
    for (; r + 2 <= rows; r += 2)
      multiply_panel<2>(values + r * step, step, panel, depth, first, tile + r * width, width);
    if (r < rows)
      multiply_panel<1>(values + r * step, step, panel, depth, first, tile + r * width, width);
  }

  void multiply_pairs(const char *x, int64_t stride, int64_t rows, const float *panel,
                      int64_t depth, bool first, float *tile, int64_t width) const {
    const DF df;
    constexpr int kRows = 8;
    float sums[kRows * kPanel];
    for (int64_t r = 0; r < rows; r += kRows) {
      const int64_t real = min64(kRows, rows - r);
      const char *from[kRows];  // past the end: the last row again
      for (int64_t i = 0; i < kRows; ++i) from[i] = x + (r + min64(i, real - 1)) * stride;
      pair_tiles()->score[kPanelVectors - 1](reinterpret_cast<const uint32_t *>(panel), from,
                                             words_of(depth), 1.0f, sums);
      for (int64_t i = 0; i < real; ++i)
        for (int64_t j = 0; j < kPanel; j += kLanes) {
          float *to = tile + (r + i) * width + j;
          const VF sum = hn::LoadU(df, sums + i * kPanel + j);
          hn::StoreU(first ? sum : hn::Add(hn::LoadU(df, to), sum), df, to);
        }
    }
  }

  /// 16 rows at a time; the last few are brought to where as many can be read.
  void multiply_tiles(const char *x, int64_t stride, int64_t rows, const float *panel,
                      int64_t depth, bool first, float *tile, int64_t width,
                      const Scratch &s) const {
    constexpr int64_t kRow = kPanel * static_cast<int64_t>(sizeof(float));
    const int64_t steps = padded_words(depth) / kTileWords;
    const auto blocks = [&](const char *from, int64_t row, int64_t count, float *to) {
      tile_products()->pairs[kPanelVectors - 1](
          {.a = from,
           .a_row = row,
           .a_step = 4 * kTileWords,
           .a_block = kTileHeight * row,
           .b = panel,
           .b_row = kRow,
           .b_step = kTileWords * kRow,
           .c = to,
           .c_row = width * static_cast<int64_t>(sizeof(float)),
           .blocks = count,
           .steps = steps,
           .add = !first});
    };
    const bool converted = x == reinterpret_cast<const char *>(s.rows);
    const int64_t whole = converted ? ceil_div64(rows, kTileHeight) : rows / kTileHeight;
    blocks(x, stride, whole, tile);
    const int64_t done = whole * kTileHeight;
    if (done >= rows) return;
    constexpr int64_t kBytes = kDepth * static_cast<int64_t>(sizeof(float));
    auto *copies = reinterpret_cast<char *>(s.rows);
    for (int64_t r = done; r < rows; ++r)
      memcpy(copies + (r - done) * kBytes, x + r * stride, static_cast<size_t>(2 * depth));
    blocks(copies, kBytes, 1, tile + done * width);
  }

  void run(Worker &worker, const Scratch &s, uint64_t task) const {
    [[maybe_unused]] const Scope<kWay> scope;
    const auto at = static_cast<int64_t>(task);
    const int64_t i0 = at % plan.row_blocks * plan.rows, rows = min64(plan.rows, c.m - i0);
    const int64_t j0 = at / plan.row_blocks * plan.panels * kPanel;
    const int64_t columns = min64(plan.panels * kPanel, c.n - j0);
    const int64_t panels = ceil_div64(columns, kPanel), width = plan.panels * kPanel;
    if (rows <= 0) return;
    if (c.k == 0) memset(s.tile, 0, static_cast<size_t>(rows * width) * sizeof(float));
    for (int64_t k0 = 0; k0 < c.k; k0 += kValues) {
      const int64_t depth = min64(kValues, c.k - k0);
      int64_t stride = 0;
      const char *x = rows_of_x(i0, rows, k0, depth, s, stride);
      for (int64_t p = 0; p < panels; ++p) {
        float *panel = s.panels + p * kDepth * kPanel;
        pack(j0 + p * kPanel, min64(kPanel, columns - p * kPanel), k0, depth, s, panel);
        if constexpr (kWay == Way::amx)
          multiply_tiles(x, stride, rows, panel, depth, k0 == 0, s.tile + p * kPanel, width, s);
        else if constexpr (kPairs)
          multiply_pairs(x, stride, rows, panel, depth, k0 == 0, s.tile + p * kPanel, width);
        else
          multiply(x, stride, rows, panel, depth, k0 == 0, s.tile + p * kPanel, width);
      }
      if (!worker.go_on(2.0 * static_cast<double>(rows * columns * depth))) return;
    }
    for (int64_t r = 0; r < rows; ++r) store_outputs(c, i0 + r, j0, columns, s.tile + r * width);
  }
};

template <class T, Way kWay>
int32_t run_gemm(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const Call c = unpack(call);
  const Plan plan = make_plan(c, thread_count(ctx, call), kWay);
  const auto tasks = static_cast<uint64_t>(plan.row_blocks * plan.column_blocks);
  if (tasks == 0) return SY_OK;
  if (call.workspace_size < gemm_workspace(ctx, call, kWay))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  Arena measure{nullptr};
  take_scratch(plan, measure);
  const Gemm<T, kWay> gemm{c, plan};
  auto compute = [&](Worker &w, uint64_t task) {
    Arena arena{static_cast<char *>(call.workspace) + w.index * measure.used};
    gemm.run(w, take_scratch(plan, arena), task);
  };
  const int32_t status = run_tasks(ctx, call, tasks, compute);
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

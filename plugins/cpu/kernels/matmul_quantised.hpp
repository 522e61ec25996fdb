// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Matmul with quantised weights: x becomes int8, a few rows at a time; then tasks of weight rows
/// (needs SY_ISA).

#include "matmul_gemm.hpp"
#include "matmul_int8.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {

inline constexpr int64_t kRowsAtOnce = 32;     ///< of x
inline constexpr int64_t kOutputsAtOnce = 64;  ///< of a row, in a task
inline constexpr int64_t kLargestBlock = 256;

/// Values of a step; see Activations.
inline int64_t step_values(const Int8Format &f) { return f.block == 32 ? 64 : f.block; }

inline Activations take_activations(const Call &c, const Int8Format &f, Arena &arena) {
  const int64_t rows = min64(c.m, kRowsAtOnce), steps = ceil_div64(c.k, step_values(f));
  Activations a;
  a.steps = steps;
  a.codes = arena.take<int8_t>(rows * steps * step_values(f));
  a.sums = arena.take<int32_t>(rows * steps * 16);
  a.scales = arena.take<float>(rows * steps * 16);
  a.products = f.affine ? arena.take<float>(rows * steps * 16) : nullptr;
  return a;
}

inline uint64_t quantised_workspace(const sy_call &call, const Int8Format &f) {
  Arena arena{nullptr};
  take_activations(unpack(call), f, arena);
  return arena.used;
}

/// The block's codes in order; returns its scale.
inline float quantise_block(const float *x, int64_t n, int8_t *codes) {
  const DF df;
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<int8_t, DF> d8;
  auto largest = hn::Zero(du);
  for (int64_t i = 0; i < n; i += kLanes)
    largest = hn::Max(largest, hn::BitCast(du, hn::Abs(hn::LoadU(df, x + i))));
  const uint32_t bits = hn::GetLane(hn::MaxOfLanes(du, largest));
  if (bits >= quant::kInfBits) {
    memset(codes, 0, static_cast<size_t>(n));
    return __builtin_nanf("");
  }
  const float scale = quant::float_of(bits) / 127.0f;
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  const VF id = hn::Set(df, quant::bits_of(inverse) >= quant::kInfBits ? 0.0f : inverse);
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto code = hn::NearestInt(hn::Mul(hn::LoadU(df, x + i), id));
    hn::StoreU(hn::DemoteTo(d8, code), d8, codes + i);
  }
  return scale;
}

inline void arrange(Order order, const int8_t *from, int64_t n, int8_t *to) {
  if (order == Order::natural) {
    memcpy(to, from, static_cast<size_t>(n));
  } else if (order == Order::even_odd) {
    for (int i = 0; i < 16; ++i) {
      to[i] = from[2 * i];
      to[16 + i] = from[2 * i + 1];
    }
  } else {
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < 4; ++part)
        memcpy(to + 64 * part + 32 * half, from + 128 * half + 32 * part, 32);
  }
}

/// Row `row` of x as row `slot` of the activations.
template <class T>
inline void quantise_row(const Call &c, const Int8Format &f, int64_t row, int64_t slot,
                         const Activations &a) {
  const int64_t values = step_values(f), lanes = f.block == 32 ? 8 : 16;
  const int64_t blocks = c.k / f.block, room = a.steps * values / f.block;
  for (int64_t b = 0; b < room; ++b) {
    int8_t *codes = a.codes + slot * a.steps * values + b * f.block;
    const int64_t lane = slot * a.steps * 16 + b * lanes;
    float scale = 0;
    if (b < blocks) {
      float x[kLargestBlock];
      int8_t ordered[kLargestBlock];
      widen_row(element<const T>(*c.x, row, b * f.block), c.x->strides[1], f.block, x);
      scale = quantise_block(x, f.block, ordered);
      arrange(f.order, ordered, f.block, codes);
    } else {
      memset(codes, 0, static_cast<size_t>(f.block));
    }
    for (int64_t l = 0; l < lanes; ++l) {
      int32_t sum = 0;
      for (int64_t i = 4 * l; i < f.block; i += 4 * lanes)
        sum += codes[i] + codes[i + 1] + codes[i + 2] + codes[i + 3];
      a.sums[lane + l] = f.offset * sum;
      a.scales[lane + l] = scale;
      if (f.affine) a.products[lane + l] = scale * static_cast<float>(sum);
    }
  }
}

inline Weights weights_of(const sy_call &call, const Call &c, const Int8Format &f) {
  Weights w{};
  w.codes = reinterpret_cast<const uint8_t *>(data_of(*c.w));
  w.blocks = c.k / f.block;
  w.row_bytes = w.blocks * f.block_bytes;
  if (!f.affine) return w;
  const sy_tensor &scales = *call.inputs[SY_MATMUL_IN_SCALES];
  w.scales = reinterpret_cast<const uint8_t *>(data_of(scales));
  w.biases = reinterpret_cast<const uint8_t *>(data_of(*call.inputs[SY_MATMUL_IN_BIASES]));
  w.groups = scales.shape[1];
  const uint32_t group = static_cast<const sy_matmul_params *>(call.params)->group_size;
  w.blocks_shift = group == 32 ? 0 : group == 64 ? 1 : 2;
  w.type = scales.dtype.code;
  w.bits = scales.dtype.bits;
  return w;
}

inline int32_t run_quantised(const Context &ctx, const sy_call &call, const Int8Format &f,
                             sy_error *error) {
  const Call c = unpack(call);
  if (c.m == 0 || c.n == 0) return SY_OK;
  if (call.workspace_size < quantised_workspace(call, f))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  Arena arena{static_cast<char *>(call.workspace)};
  const Activations a = take_activations(c, f, arena);
  const Weights w = weights_of(call, c, f);
  const int64_t share = ceil_div64(c.n, 4 * thread_count(ctx, call));
  const int64_t width = round_up64(min64(share, kOutputsAtOnce), 2);
  for (int64_t first_row = 0; first_row < c.m; first_row += kRowsAtOnce) {
    const int64_t rows = min64(kRowsAtOnce, c.m - first_row);
    auto quantise = [&](Worker &, uint64_t i) {
      const auto slot = static_cast<int64_t>(i);
      if (c.x->dtype.bits == 32)
        quantise_row<float>(c, f, first_row + slot, slot, a);
      else if (c.x->dtype.code == SY_TYPE_BFLOAT)
        quantise_row<bfloat16_t>(c, f, first_row + slot, slot, a);
      else
        quantise_row<float16_t>(c, f, first_row + slot, slot, a);
    };
    auto multiply = [&](Worker &worker, uint64_t task) {
      const int64_t first = static_cast<int64_t>(task) * width, count = min64(width, c.n - first);
      float out[kOutputsAtOnce * kRowsAtOnce], values[kOutputsAtOnce];
      f.rows(w, a, rows, first, first + count, out);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < count; ++j) values[j] = out[j * rows + i];
        store_outputs(c, first_row + i, first, count, values);
      }
      worker.go_on(2.0 * static_cast<double>(count * rows * c.k));
    };
    int32_t status = run_tasks(ctx, call, static_cast<uint64_t>(rows), quantise);
    if (status == SY_OK)
      status = run_tasks(ctx, call, static_cast<uint64_t>(ceil_div64(c.n, width)), multiply);
    if (status != SY_OK) return failure(error, status, "cancelled by the progress hook");
  }
  return SY_OK;
}

}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

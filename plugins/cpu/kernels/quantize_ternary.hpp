// SPDX-License-Identifier: Apache-2.0
#pragma once
/// BitNet ternary: a mean of magnitudes in f64 in a fixed order, then codes -1, 0, 1.
///
/// The order: blocks of 4,096 values; within a block 32 running sums, sum j adding values j, j +
/// 32,
/// ...; these folded in halves (j += j + 16, then 8, 4, 2, 1); block sums pairwise, the left part
/// of n > 1 blocks having the largest power of two of blocks below n.

#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

inline constexpr int64_t kSumBlock = 4096;
inline constexpr int kRunning = 32;
inline constexpr int64_t kMostPartials = 1024;

// Half a register of doubles where registers have 64 bytes: the conversion to f64 is what costs,
// and it has no wider units (Zen 4: 58 GB/s so, 48 GB/s with whole registers).
using DD = hn::CappedTag<double, 4>;
using VD = hn::Vec<DD>;
inline constexpr int kDoubles = static_cast<int>(hn::MaxLanes(DD()));

/// Adds 32 values to the running sums.
template <class T>
HWY_INLINE void add_magnitudes(const T *x, VD *sums) {
  const DD dd;
  const hn::Rebind<float, DD> df;
  for (int i = 0; i < kRunning; i += kDoubles) {
    hn::Vec<decltype(df)> v;
    if constexpr (sizeof(T) == 4) {
      v = hn::LoadU(df, x + i);
    } else {
      v = hn::PromoteTo(df, hn::LoadU(hn::Rebind<T, DD>(), x + i));
    }
    VD &sum = sums[i / kDoubles];
    sum = hn::Add(sum, hn::Abs(hn::PromoteTo(dd, v)));
  }
}

/// Sum of |x| over at most 4,096 values. NaN and infinities pass through.
template <class T>
HWY_INLINE double block_sum(const T *x, int64_t n) {
  const DD dd;
  constexpr int kSums = kRunning / kDoubles;
  VD sums[kSums];
  for (int j = 0; j < kSums; ++j) sums[j] = hn::Zero(dd);
  int64_t i = 0;
  for (; i + kRunning <= n; i += kRunning) add_magnitudes(x + i, sums);
  if (i < n) {  // absent values count as zero, which changes no sum
    float rest[kRunning] = {};
    gather_f32(x + i, n - i, false, rest);
    add_magnitudes(rest, sums);
  }
  for (int half = kSums / 2; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) sums[j] = hn::Add(sums[j], sums[j + half]);
  double lanes[kDoubles];
  hn::StoreU(sums[0], dd, lanes);
  for (int half = kDoubles / 2; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  return lanes[0];
}

HWY_INLINE bool is_finite(double v) {
  return (__builtin_bit_cast(uint64_t, v) >> 52 & 0x7FF) != 0x7FF;
}

/// Sums pairwise as they arrive: after n sums one partial stands for each bit set in n.
struct PairwiseSum {
  double partials[48];
  uint64_t n = 0;

  void add(double sum) {
    int top = __builtin_popcountll(n);
    for (uint64_t carry = n; carry % 2 != 0; carry /= 2) sum = partials[--top] + sum;
    partials[top] = sum;
    ++n;
  }
  double total() const {
    int top = __builtin_popcountll(n);
    if (top == 0) return 0;
    double sum = partials[--top];
    while (top > 0) sum = partials[--top] + sum;
    return sum;
  }
};

/// The sum over one block of the logical order, wherever its values lie. Reports non-finite values;
/// with `saturate` it sums what they saturate to.
template <class T>
inline double sum_block_at(const Rows &rows, int64_t block, bool saturate, FirstError *first) {
  const int64_t begin = block * kSumBlock, total = rows.values();
  const int64_t n = total - begin < kSumBlock ? total - begin : kSumBlock;
  double sum;
  if (rows.count == 1) {
    sum = block_sum(reinterpret_cast<const T *>(rows.base) + begin, n);
    if (HWY_LIKELY(is_finite(sum))) return sum;
  }
  float buf[kSumBlock];
  for_runs<const T>(rows, 1, begin, begin + n, [&](const T *p, int64_t u, int64_t m) {
    gather_f32(p, m, saturate, buf + (u - begin));
    return true;
  });
  sum = block_sum(buf, n);
  if (!is_finite(sum)) first->report(begin + first_nonfinite(buf, n), false);
  return sum;
}

HWY_INLINE float scale_of(double sum, int64_t n) {
  const float mean = n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.0f;
  return mean > 1e-5f ? mean : 1e-5f;
}

/// What turns values into codes: t = clamp(even(x * inv), -1, 1).
struct CodeRule {
  float inv;
  /// Every product is finite and fits 32 bits: no magnitude exceeds the sum of all, so none exceeds
  /// their number times the mean.
  bool small;
};

inline CodeRule code_rule(float m, int64_t values, bool saturate) {
  return {1.0f / m, !saturate && values < int64_t{1} << 30};
}

inline constexpr int kCodes = 4 * kLanes;  ///< codes that fill a register

/// kCodes codes of any products: the sign where the magnitude exceeds one half, 0 for NaN.
template <class T>
HWY_INLINE void compare_codes(const T *x, VF inv, uint8_t *out) {
  const DF df;
  for (int i = 0; i < kCodes; i += kLanes) {
    const VF v = hn::Mul(load_f32(x + i), inv);
    const VU up = hn::BitCast(DU(), hn::VecFromMask(df, hn::Gt(v, hn::Set(df, 0.5f))));
    const VU down = hn::BitCast(DU(), hn::VecFromMask(df, hn::Lt(v, hn::Set(df, -0.5f))));
    store_bytes(hn::Sub(down, up), out + i);
  }
}

/// Narrowing works within 16 bytes: of the result, 32-bit lane 4b + k holds four codes of vector k,
/// part b. This puts them in order.
struct LaneOrder {
  int32_t lanes[kLanes];
};
constexpr LaneOrder order_of_narrowed() {
  LaneOrder order{};
  constexpr int kParts = kLanes / 4;
  for (int k = 0; k < 4; ++k)
    for (int b = 0; b < kParts; ++b) order.lanes[k * kParts + b] = 4 * b + k;
  return order;
}
alignas(64) inline constexpr LaneOrder kNarrowed = order_of_narrowed();

/// kCodes codes of small products: integers that saturate as they are narrowed.
template <class T>
HWY_INLINE void narrow_codes(const T *x, VF inv, uint8_t *out) {
#if HWY_ARCH_X86
  const hn::Repartition<int16_t, DF> d16;
  const hn::Repartition<int8_t, DF> d8;
  const auto rounded = [&](int i) HWY_ATTR {
    const VF v = hn::Mul(load_f32(x + i * kLanes), inv);
#if HWY_TARGET <= HWY_AVX3
    return hn::Vec<DI>{_mm512_cvtps_epi32(v.raw)};
#else
    return hn::Vec<DI>{_mm256_cvtps_epi32(v.raw)};
#endif
  };
  const auto low = hn::ReorderDemote2To(d16, rounded(0), rounded(1));
  const auto high = hn::ReorderDemote2To(d16, rounded(2), rounded(3));
#if HWY_TARGET <= HWY_AVX3
  hn::Vec<decltype(d8)> codes{_mm512_packs_epi16(low.raw, high.raw)};
#else
  hn::Vec<decltype(d8)> codes{_mm256_packs_epi16(low.raw, high.raw)};
#endif
  codes = hn::Min(hn::Max(codes, hn::Set(d8, -1)), hn::Set(d8, 1));
  const auto order = hn::SetTableIndices(DI(), kNarrowed.lanes);
  const auto lanes = hn::TableLookupLanes(hn::BitCast(DI(), codes), order);
  hn::StoreU(hn::BitCast(hn::Repartition<uint8_t, DF>(), lanes), hn::Repartition<uint8_t, DF>(),
             out);
#else
  compare_codes(x, inv, out);
#endif
}

/// Fewer than kCodes codes.
template <class T>
HWY_INLINE void few_codes(const T *x, int64_t n, VF inv, uint8_t *out) {
  float padded[kCodes] = {};
  uint8_t bytes[kCodes];
  gather_f32(x, n, false, padded);
  compare_codes(padded, inv, bytes);
  memcpy(out, bytes, static_cast<size_t>(n));
}

template <class T>
HWY_INLINE void ternary_codes(const T *x, int64_t n, CodeRule rule, int8_t *codes) {
  const VF inv = hn::Set(DF(), rule.inv);
  auto *out = reinterpret_cast<uint8_t *>(codes);
  int64_t i = 0;
  const auto past = reinterpret_cast<uintptr_t>(x) % 64;
  if (n >= 4096 && past != 0) {  // loads that straddle cache lines cost more than a short start
    i = static_cast<int64_t>((64 - past) / sizeof(T));
    few_codes(x, i, inv, out);
  }
  if (rule.small)
    for (; i + kCodes <= n; i += kCodes) narrow_codes(x + i, inv, out + i);
  else
    for (; i + kCodes <= n; i += kCodes) compare_codes(x + i, inv, out + i);
  if (i < n) few_codes(x + i, n - i, inv, out + i);
}

/// Where one scale's values lie within the whole call.
struct TernaryPart {
  int64_t first_index;  ///< of the values, in the call's logical order
  double done, share;   ///< of the call's progress
};

/// One scale over all of `rows`. False when cancelled; errors go to `first`.
template <class T>
bool ternary_tensor(const Context &ctx, const sy_call &call, const Rows &rows, bool saturate,
                    const TernaryPart &part, int8_t *codes, float *scale, FirstError *first) {
  const int64_t n = rows.values();
  const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
  // Partial sums over aligned powers of two of blocks are nodes of the tree.
  int64_t per_partial = 16;
  while (blocks > per_partial * kMostPartials) per_partial *= 2;
  double partials[kMostPartials];
  FirstError local;
  auto sum_piece = [&](int64_t p0, int64_t p1) {
    for (int64_t p = p0; p < p1; ++p) {
      PairwiseSum sum;
      const int64_t end = (p + 1) * per_partial < blocks ? (p + 1) * per_partial : blocks;
      for (int64_t b = p * per_partial; b < end; ++b)
        sum.add(sum_block_at<T>(rows, b, saturate, &local));
      partials[p] = sum.total();
    }
  };
  const int64_t n_partials = (blocks + per_partial - 1) / per_partial;
  const int64_t partial_bytes = per_partial * kSumBlock * static_cast<int64_t>(sizeof(T));
  if (!for_units(ctx, call, n_partials, partial_bytes, 1, part.done, part.share / 2, sum_piece))
    return false;
  if (local.key != ~uint64_t{0}) {
    first->report(part.first_index + static_cast<int64_t>(local.key / 2), false);
    return true;
  }
  PairwiseSum sum;
  for (int64_t p = 0; p < n_partials; ++p) sum.add(partials[p]);
  const float m = scale_of(sum.total(), n);
  *scale = m;
  const bool stream = static_cast<uint64_t>(n) > kStreamBytes;
  const CodeRule rule = code_rule(m, n, saturate);
  auto code_piece = [&](int64_t u0, int64_t u1) {
    // From the end: what the sums read last is still in the cache.
    const int64_t begin = n - u1, end = n - u0;
    for_runs<const T>(rows, 1, begin, end, [&](const T *p, int64_t u, int64_t count) {
      write_units<4096>(reinterpret_cast<uint8_t *>(codes), stream, 1, u, count,
                        [&](int64_t at, int64_t k, uint8_t *to) {
                          ternary_codes(p + at, k, rule, reinterpret_cast<int8_t *>(to));
                          return true;
                        });
      return true;
    });
    if (stream) hwy::FlushStream();
  };
  return for_units(ctx, call, n, static_cast<int64_t>(sizeof(T)), kSumBlock,
                   part.done + part.share / 2, part.share / 2, code_piece);
}

/// One scale per `unit` values that lie together.
template <class T>
bool ternary_units(const Context &ctx, const sy_call &call, const Rows &rows, int64_t unit,
                   bool saturate, int8_t *codes, float *scales, FirstError *first) {
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first->before(u0 * unit)) return;
    for_runs<const T>(rows, unit, u0, u1, [&](const T *p, int64_t u, int64_t count) {
      for (int64_t k = 0; k < count; ++k) {
        const T *x = p + k * unit;
        PairwiseSum sum;
        for (int64_t i = 0; i < unit; i += kSumBlock) {
          const int64_t n = unit - i < kSumBlock ? unit - i : kSumBlock;
          double s = block_sum(x + i, n);
          if (HWY_UNLIKELY(!is_finite(s))) {
            if (!saturate) {
              first->report((u + k) * unit + i + first_nonfinite(x + i, n), false);
              return false;
            }
            float buf[kSumBlock];
            gather_f32(x + i, n, true, buf);
            s = block_sum(buf, n);
          }
          sum.add(s);
        }
        scales[u + k] = scale_of(sum.total(), unit);
        ternary_codes(x, unit, code_rule(scales[u + k], unit, saturate), codes + (u + k) * unit);
      }
      return true;
    });
  };
  return for_units(ctx, call, unit > 0 ? rows.values() / unit : 0,
                   unit * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece);
}

/// A view of one row.
inline sy_tensor row_of(const sy_tensor &x, const Rows &rows, int64_t row) {
  sy_tensor view = x;
  view.handle = rows.row(row);
  view.byte_offset = 0;
  view.rank = 1;
  view.shape[0] = x.shape[x.rank - 1];
  view.strides[0] = 1;
  return view;
}

template <class T>
int32_t quantize_ternary(const KernelDef &, const Context &ctx, const sy_call &call,
                         sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
  const Rows rows(x);
  auto *codes = reinterpret_cast<int8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_CODES]));
  auto *scales = reinterpret_cast<float *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_SCALES]));
  const bool saturate = params.nonfinite == SY_NONFINITE_SATURATE;
  FirstError first;
  bool finished = true;
  if (params.granularity == SY_GRANULARITY_TENSOR) {
    finished = ternary_tensor<T>(ctx, call, rows, saturate, {0, 0, 1}, codes, scales, &first);
  } else if (params.granularity == SY_GRANULARITY_GROUP) {
    finished =
        ternary_units<T>(ctx, call, rows, params.group_size, saturate, codes, scales, &first);
  } else {
    const int64_t cols = x.shape[x.rank - 1];
    const int64_t n = call.outputs[SY_QUANTIZE_OUT_SCALES]->shape[0];
    constexpr int64_t kLongRow = 1 << 20;
    if (cols == 0) {
      for (int64_t r = 0; r < n; ++r) scales[r] = scale_of(0, 0);
    } else if (cols < kLongRow) {
      finished = ternary_units<T>(ctx, call, rows, cols, saturate, codes, scales, &first);
    } else {
      Rows each = rows;  // rows one by one, threads within each
      each.count = n;
      for (int64_t r = 0; r < n && finished && first.key == ~uint64_t{0}; ++r) {
        const sy_tensor view = row_of(x, each, r);
        const double share = 1.0 / static_cast<double>(n);
        finished = ternary_tensor<T>(ctx, call, Rows(view), saturate,
                                     {r * cols, static_cast<double>(r) * share, share},
                                     codes + r * cols, scales + r, &first);
        // Rows of a few megabytes are done between two polls of their own.
        if (call.progress != nullptr &&
            call.progress(call.progress_arg, static_cast<double>(r + 1) * share) != 0)
          finished = false;
      }
    }
  }
  if (!finished) return cancelled(error);
  return first.status(error, "");
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Ternary codes of tensors beyond the caches in one pass over memory instead of two. The mean is
/// guessed from a sample; codes are written along with the sums, and values so near the threshold
/// that the true mean may decide otherwise are kept. Once it is known they are corrected. What a
/// guess gets wrong is computed again, so that no result depends on it.

#include "quantize_ternary.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

inline constexpr uint64_t kGuessBytes = 32 << 20;  ///< of values; fewer stay in the caches
inline constexpr int64_t kMostKept = 1024;         ///< doubtful values of a partial sum
inline constexpr int64_t kMostSampled = 4096;      ///< blocks
/// Doubtful magnitudes may lie so far from the threshold, as a part of it.
inline constexpr double kWidest = 1.0 / 64;

/// A value that the true mean decides.
struct Doubtful {
  float value;
  uint32_t at;  ///< from the first value of its partial sum
};

/// Room for all this: bounded, whatever the tensor's size.
struct GuessSpace {
  double *sampled;   ///< [kMostSampled]
  uint32_t *counts;  ///< [kMostPartials] doubtful values, kNotCoded where there were too many
  Doubtful *kept;    ///< [partials, kMostKept]
};
inline constexpr uint32_t kNotCoded = ~0u;

inline uint64_t guess_bytes(int64_t partials) {
  return kMostSampled * sizeof(double) + kMostPartials * sizeof(uint32_t) +
         static_cast<uint64_t>(partials) * kMostKept * sizeof(Doubtful);
}
inline GuessSpace guess_space(void *workspace) {
  auto *sampled = static_cast<double *>(workspace);
  auto *counts = reinterpret_cast<uint32_t *>(sampled + kMostSampled);
  return {sampled, counts, reinterpret_cast<Doubtful *>(counts + kMostPartials)};
}

/// Blocks of values under one partial sum: a power of two, so that partial sums are nodes of the
/// tree.
inline int64_t blocks_of_partial(int64_t blocks) {
  int64_t n = blocks < 1024 ? 4 : 16;
  while (blocks > n * kMostPartials) n *= 2;
  return n;
}

/// Codes as integers: magnitudes are scaled so that the threshold is 2^14, in 16 bits.
struct Guess {
  float factor;            ///< 0: there is no guess
  float low, high;         ///< magnitudes between these are doubtful
  uint16_t least, span;    ///< the same scaled, with room for its rounding
  double least_m, most_m;  ///< means that leave all other codes as they are

  bool made() const { return factor != 0.0f; }
  bool allows(float m) const { return least_m < m && m < most_m; }
};

/// From the sums of sampled blocks; partial sums are over `values`.
inline Guess guess_from(const double *sums, int64_t count, int64_t values) {
  const auto n = static_cast<double>(count);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < count; ++i) mean += sums[i] / kSumBlock;
  mean /= n;
  for (int64_t i = 0; i < count; ++i) {
    const double off = sums[i] / kSumBlock - mean;
    square += off * off;
  }
  Guess guess{};
  if (!is_finite(square) || mean < 1e-4 || mean > 1e30) return guess;
  const double error = __builtin_sqrt(square / (n * (n - 1)));
  const double width = 4 * error / mean + 1e-4;
  // Near the threshold, densities times it are about 0.3 for the usual distributions.
  const double doubtful = 0.6 * width * static_cast<double>(values);
  if (width > kWidest || doubtful > 0.75 * kMostKept) return guess;
  guess.factor = static_cast<float>(32768 / mean);
  guess.low = static_cast<float>(mean / 2 * (1 - width));
  guess.high = static_cast<float>(mean / 2 * (1 + width));
  guess.least = static_cast<uint16_t>(16384 * (1 - width) - 1);
  guess.span = static_cast<uint16_t>(16384 * 2 * width + 4);
  guess.least_m = mean * (1 - width + 1e-5);
  guess.most_m = mean * (1 + width - 1e-5);
  return guess;
}

/// Makes codes by a guess; keeps the doubtful values of one partial sum.
template <class T>
struct Guesser {
  const Guess &guess;
  const T *first;  ///< value of the partial sum
  Doubtful *kept;
  uint32_t count = 0;

  /// The doubtful ones of kCodes values, which stand at `at`: zeros are not.
  template <class V>
  [[gnu::noinline]] void keep(const V *x, const T *at) {
    const DF df;
    if (count > kMostKept - kCodes) count = kNotCoded;
    if (count == kNotCoded) return;
    const auto offset = static_cast<uint32_t>(at - first);
    uint64_t bits = 0;
    for (int i = 0; i < kCodes; i += kLanes) {
      const VF size = hn::Abs(load_f32(x + i));
      const auto doubtful =
          hn::And(hn::Ge(size, hn::Set(df, guess.low)), hn::Le(size, hn::Set(df, guess.high)));
      bits |= static_cast<uint64_t>(mask_bits(doubtful)) << i;
    }
    for (; bits != 0; bits &= bits - 1) {
      const int k = __builtin_ctzll(bits);
      kept[count++] = {load_scalar(x + k), offset + static_cast<uint32_t>(k)};
    }
  }
};

/// kCodes codes; true if any is doubtful. Products fit 32 bits.
template <class T>
HWY_INLINE bool guess_codes(const T *x, const Guess &guess, VF factor, uint8_t *out) {
  const hn::Repartition<int16_t, DF> d16;
  const hn::Repartition<uint16_t, DF> du16;
  const auto scaled = [&](int i)
                          HWY_ATTR { return to_int(hn::Mul(load_f32(x + i * kLanes), factor)); };
  const auto low = hn::ReorderDemote2To(d16, scaled(0), scaled(1));
  const auto high = hn::ReorderDemote2To(d16, scaled(2), scaled(3));
  const auto one = hn::Set(d16, 1);  // (v + 2^14) >> 15
  hn::StoreU(narrow16<true>(hn::MulFixedPoint15(low, one), hn::MulFixedPoint15(high, one)), D8(),
             out);
  const auto doubtful = [&](auto v) HWY_ATTR {
    const auto above = hn::Sub(hn::BitCast(du16, hn::Abs(v)), hn::Set(du16, guess.least));
    return hn::Lt(above, hn::Set(du16, guess.span));
  };
  return !hn::AllFalse(du16, hn::Or(doubtful(low), doubtful(high)));
}

template <class T>
HWY_INLINE void ternary_codes(const T *x, int64_t n, Guesser<T> *by, int8_t *codes) {
  const VF factor = hn::Set(DF(), by->guess.factor);
  auto *out = reinterpret_cast<uint8_t *>(codes);
  const auto few = [&](int64_t at, int64_t count) HWY_ATTR {
    float padded[kCodes] = {};
    uint8_t bytes[kCodes];
    gather_f32(x + at, count, false, padded);
    if (guess_codes(padded, by->guess, factor, bytes)) by->keep(padded, x + at);
    memcpy(out + at, bytes, static_cast<size_t>(count));
  };
  int64_t i = values_to_line(x, n);
  if (i > 0) few(0, i);
  for (; i + kCodes <= n; i += kCodes) {
    // Memory goes on working for the next block's sum.
    for (int64_t line = 0; line < kCodes * static_cast<int64_t>(sizeof(T)); line += 64)
      hwy::Prefetch(reinterpret_cast<const char *>(x + i + kSumBlock) + line);
    if (HWY_UNLIKELY(guess_codes(x + i, by->guess, factor, out + i))) by->keep(x + i, x + i);
  }
  if (i < n) few(i, n - i);
}

/// Sums the sampled blocks of a contiguous tensor on the call's threads and guesses from them.
template <class T>
inline Guess make_guess(const Context &ctx, const sy_call &call, const T *x, int64_t blocks,
                        double *sums) {
  int64_t count = blocks / 32;
  if (count < 128) count = 128;
  if (count > kMostSampled) count = kMostSampled;
  auto sample = [&](uint64_t i) {
    sums[i] = block_sum(x + static_cast<int64_t>(i) * (blocks - 1) / count * kSumBlock, kSumBlock);
  };
  for_each(ctx, static_cast<uint64_t>(count), thread_count(ctx, call), sample);
  return guess_from(sums, count, blocks_of_partial(blocks) * kSumBlock);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu

// SPDX-License-Identifier: Apache-2.0
#include "models/quality.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "io/cast.hpp"

namespace switchyard {

void TensorQuality::add(const TensorQuality &other) {
  squared_error += other.squared_error;
  squared_signal += other.squared_signal;
  max_error = std::max(max_error, other.max_error);
  values += other.values;
}

double TensorQuality::mse() const noexcept {
  return values > 0 ? squared_error / static_cast<double>(values) : 0;
}

double TensorQuality::snr_db() const noexcept {
  return 10 * std::log10(squared_signal / squared_error);
}

namespace models {
namespace {

constexpr std::size_t kLanes = 8;

/// Sums in lanes: independent chains that the compiler can keep in vectors.
template <class Load>
void accumulate(std::int64_t count, const float *restored, Load load, TensorQuality &q) {
  std::array<double, kLanes> error{}, signal{};
  std::array<float, kLanes> most{};
  const auto one = [&](std::int64_t i, std::size_t lane) {
    const float x = load(i);
    const double difference = static_cast<double>(x) - static_cast<double>(restored[i]);
    error[lane] += difference * difference;
    signal[lane] += static_cast<double>(x) * static_cast<double>(x);
    most[lane] = std::max(most[lane], static_cast<float>(std::fabs(difference)));
  };
  std::int64_t i = 0;
  for (; i + static_cast<std::int64_t>(kLanes) <= count; i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      one(i + static_cast<std::int64_t>(lane), lane);
  for (; i < count; ++i) one(i, 0);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    q.squared_error += error[lane];
    q.squared_signal += signal[lane];
    q.max_error = std::max(q.max_error, static_cast<double>(most[lane]));
  }
  q.values += count;
}

/// All f16 values: a table is faster than taking each one apart.
const float *f16_table() {
  static const std::unique_ptr<const float[]> table = [] {
    auto all = std::make_unique<float[]>(65'536);
    for (std::uint32_t i = 0; i < 65'536; ++i) all[i] = f16_to_f32(static_cast<std::uint16_t>(i));
    return std::unique_ptr<const float[]>(std::move(all));
  }();
  return table.get();
}

using Bytes = std::span<const std::byte>;
using Counts = std::span<std::uint64_t>;

std::uint32_t at(Bytes bytes, std::size_t i) noexcept {
  return std::to_integer<std::uint32_t>(bytes[i]);
}

/// Counts bytes [first, first + length) of every block, then what each byte value stands for.
template <class Expand>
void fold_bytes(Bytes codes, std::size_t block, std::size_t first, std::size_t length,
                Expand expand) {
  std::array<std::array<std::uint64_t, 256>, 4> seen{};  // four, so that runs do not wait
  for (std::size_t b = 0; b + block <= codes.size(); b += block)
    for (std::size_t i = 0; i < length; ++i) ++seen[i % 4][at(codes, b + first + i)];
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const std::uint64_t n = seen[0][byte] + seen[1][byte] + seen[2][byte] + seen[3][byte];
    if (n > 0) expand(byte, n);
  }
}

void fold_fields(Bytes codes, std::size_t block, std::size_t first, std::size_t length,
                 unsigned bits, Counts out) {
  fold_bytes(codes, block, first, length, [&](std::uint32_t byte, std::uint64_t n) {
    for (unsigned shift = 0; shift < 8; shift += bits) out[byte >> shift & ((1u << bits) - 1)] += n;
  });
}

/// A bit stream, low bits first: eight codes in `bits` bytes.
void count_stream(Bytes codes, unsigned bits, Counts out) {
  if (8 % bits == 0) return fold_fields(codes, 1, 0, 1, bits, out);
  for (std::size_t i = 0; i + bits <= codes.size(); i += bits) {
    std::uint64_t word = 0;
    for (unsigned k = 0; k < bits; ++k) word |= std::uint64_t{at(codes, i + k)} << 8 * k;
    for (unsigned k = 0; k < 8; ++k) ++out[word >> k * bits & ((1u << bits) - 1)];
  }
}

void count_fives(Bytes codes, std::size_t block, std::size_t high, Counts out) {
  for (std::size_t b = 0; b + block <= codes.size(); b += block)
    for (std::size_t i = 0; i < 32; ++i) {
      const std::uint32_t low = at(codes, b + high + 4 + i % 16) >> (i < 16 ? 0 : 4) & 15u;
      ++out[low | (at(codes, b + high + i / 8) >> i % 8 & 1u) << 4];
    }
}

void count_q6_k(Bytes codes, Counts out) {
  for (std::size_t b = 0; b + 210 <= codes.size(); b += 210)
    for (std::size_t i = 0; i < 256; ++i) {
      const std::size_t h = i / 128, quarter = i % 128 / 32, l = i % 32;
      const std::uint32_t low = at(codes, b + 64 * h + (quarter & 1) * 32 + l);
      const std::uint32_t high = at(codes, b + 128 + 32 * h + l);
      ++out[(low >> (quarter < 2 ? 0 : 4) & 15u) | (high >> 2 * quarter & 3u) << 4];
    }
}

void count_tq1_0(Bytes codes, Counts out) {
  const auto digits = [&](unsigned count) {
    return [&out, count](std::uint32_t byte, std::uint64_t n) {
      for (unsigned i = 0, power = 1; i < count; ++i, power *= 3)
        out[(byte * power & 255u) * 3 >> 8] += n;
    };
  };
  fold_bytes(codes, 54, 0, 48, digits(5));
  fold_bytes(codes, 54, 48, 4, digits(4));
}

void count_bytes(Bytes codes, int lowest, Counts out) {
  fold_bytes(codes, 1, 0, 1, [&](std::uint32_t byte, std::uint64_t n) {
    const int slot = static_cast<std::int8_t>(byte) - lowest;
    if (slot >= 0 && static_cast<std::size_t>(slot) < out.size())
      out[static_cast<std::size_t>(slot)] += n;
  });
}

/// Bins of a format's histogram; 0 = its codes are not counted.
std::size_t bins_of(const QuantFormat &f) noexcept {
  switch (f.id) {
    case SY_QUANT_TERNARY:
    case SY_QUANT_TQ1_0:
      return 3;
    default:
      return std::size_t{1} << f.bits;
  }
}

void count_by_format(const QuantFormat &f, Bytes codes, Counts out) {
  const auto block = static_cast<std::size_t>(f.block_bytes);
  switch (f.id) {
    case SY_QUANT_Q4_0:
    case SY_QUANT_Q4_1:
    case SY_QUANT_MXFP4_GGML:
      return fold_fields(codes, block, block - 16, 16, 4, out);
    case SY_QUANT_Q4_K:
      return fold_fields(codes, block, 16, 128, 4, out);
    case SY_QUANT_Q5_0:
      return count_fives(codes, block, 2, out);
    case SY_QUANT_Q5_1:
      return count_fives(codes, block, 4, out);
    case SY_QUANT_Q6_K:
      return count_q6_k(codes, out);
    case SY_QUANT_TQ1_0:
      return count_tq1_0(codes, out);
    case SY_QUANT_TQ2_0:
      return fold_fields(codes, block, 0, 64, 2, out);
    case SY_QUANT_Q2_0:
      return fold_fields(codes, block, 2, 16, 2, out);
    case SY_QUANT_I2_S:  // the scale follows the codes
      return fold_fields(codes.first(codes.size() - 32), 1, 0, 1, 2, out);
    case SY_QUANT_TERNARY:
      return count_bytes(codes, -1, out);
    case SY_QUANT_INT8:
      return count_bytes(codes, -128, out);
    case SY_QUANT_MXFP4:
      return count_stream(codes, 4, out);
    case SY_QUANT_Q8_0:
      return fold_bytes(codes, block, 2, 32, [&](std::uint32_t byte, std::uint64_t n) {
        out[byte ^ 128u] += n;  // from -128 on
      });
    default:
      return;
  }
}

}  // namespace

void add_errors(const TensorView &values, const float *restored, TensorQuality &quality) {
  const std::int64_t n = values.elements();
  if (same(values.dtype(), dtypes::f32)) {
    const float *x = values.data<const float>();
    return accumulate(
        n, restored, [x](std::int64_t i) { return x[i]; }, quality);
  }
  const auto *x = values.data<const std::uint16_t>();
  if (same(values.dtype(), dtypes::bf16))
    return accumulate(
        n, restored, [x](std::int64_t i) { return bf16_to_f32(x[i]); }, quality);
  const float *table = f16_table();
  accumulate(
      n, restored, [x, table](std::int64_t i) { return table[x[i]]; }, quality);
}

void count_codes(const QuantFormat &f, std::span<const std::byte> codes,
                 std::vector<std::uint64_t> &histogram) {
  if (histogram.empty()) histogram.resize(bins_of(f));
  const Counts out(histogram);
  if (f.family == QuantFamily::affine)
    count_stream(codes, static_cast<unsigned>(f.bits), out);
  else
    count_by_format(f, codes, out);
}

}  // namespace models
}  // namespace switchyard

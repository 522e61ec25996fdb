// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the drivers of quantised matmul and its inner loops share: rows of x in int8, rows of
/// weights, and the table of inner loops, one for each way to multiply bytes (needs SY_ISA).

#include <stdint.h>
#include <switchyard/ops/quantize.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {

/// How the codes of x are ordered, so that they meet the weights' as those lie in memory.
enum class Order : uint8_t {
  natural,
  even_odd,  ///< in blocks of 32: values 0, 2, .., 30, then 1, 3, .., 31
  halves,    ///< in blocks of 256: 32 values of either half of 128 in turns
};

/// A few rows of x. A step is 64 values, or 256 for the ternary formats; each has 16 lanes. What is
/// past the end of a row is zero.
struct Activations {
  int8_t *codes;    ///< [rows][steps][64 or 256]
  int32_t *sums;    ///< [rows][steps][16]: the lane's codes, summed, times the table's `offset`
  float *scales;    ///< [rows][steps][16]: of the lane's block
  float *products;  ///< [rows][steps][16]: scale times sum; affine formats only
  int64_t steps;
};

struct Weights {
  const uint8_t *codes;
  int64_t row_bytes;
  int64_t blocks;  ///< of 32 values, or of 256, in a row
  // Affine formats only:
  const uint8_t *scales, *biases;
  int64_t groups;        ///< in a row
  int32_t blocks_shift;  ///< a group is 2^blocks_shift blocks
  uint8_t type, bits;    ///< of scales and biases
};

/// out[(n - n0) * rows + m] for n0 <= n < n1 and all rows of x.
using Int8Rows = void (*)(const Weights &w, const Activations &a, int64_t rows, int64_t n0,
                          int64_t n1, float *out);

struct Int8Format {
  uint32_t format;
  int32_t offset;  ///< what `sums` are multiplied with; 0: they are not read
  int32_t block;   ///< values of x that share a scale: 32 or 256
  int32_t block_bytes;
  Order order;
  bool affine;
  Int8Rows rows;
};

inline constexpr int kInt8Formats = 6;
/// Bytes multiplied by what every processor of this build has.
const Int8Format *int8_formats() noexcept;
/// By VNNI; nullptr where this build has none.
const Int8Format *vnni_formats() noexcept;

}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

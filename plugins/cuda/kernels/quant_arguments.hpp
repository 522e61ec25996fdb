// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the kernels of quantize and dequantize are told. Shared by host and device.

#include <cstdint>

namespace switchyard::cuda {

enum class ValueType : std::int32_t { f32, f16, bf16 };

/// Values in logical order; `flat`: adjacent and 16-byte aligned.
struct Values {
  char *data;
  std::int64_t shape[8], strides[8];
  std::int64_t total;
  std::int32_t rank, flat;
  ValueType type;
};

struct QuantArguments {
  Values values;
  std::uint8_t *codes;
  char *scales, *biases;
  std::uint64_t *error;     ///< lowest index * 2, + 1 for an overflow
  float *part_scale;        ///< of parts that share a scale
  std::uint32_t *part_max;  ///< bits of their largest magnitude
  double *sums;             ///< [parts][blocks of 4096]
  std::int64_t part_size, parts, part_blocks;
  std::uint64_t seed;
  std::int32_t group, absmean, rceil, saturate, stochastic;
  std::int32_t codes_aligned;  ///< `codes` is a multiple of 16
  ValueType scale_type;
};

/// Chunks of 32 values that a thread takes; values of a tile.
inline constexpr int kQuantThreads = 256, kTileValues = kQuantThreads * 32;
/// In shared memory 32 values take 36 words: 16-byte reads of neighbours meet no bank twice.
inline constexpr int kChunkWords = 36;
inline constexpr unsigned kQuantValuesBytes = kQuantThreads * kChunkWords * 4;
/// Values, flags of bad chunks, then at most 34 bytes of codes a chunk.
inline constexpr unsigned kQuantFlagsBytes = kQuantThreads;
inline constexpr unsigned quant_shared(unsigned code_bytes_of_tile) {
  return kQuantValuesBytes + kQuantFlagsBytes + (code_bytes_of_tile + 15) / 16 * 16;
}

}  // namespace switchyard::cuda

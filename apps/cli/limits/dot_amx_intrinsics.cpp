// SPDX-License-Identifier: Apache-2.0
// Products of AMX tiles, 16 rows of 64 bytes each: four accumulators, two left and two right
// factors. The caller has been granted tile data by the operating system.
#include <immintrin.h>

#include "kernels.hpp"

namespace switchyard::limits {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

void load_factors(TileConfig &config, const uint8_t *bytes) noexcept {
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, bytes, 64);
  _tile_loadd(5, bytes, 64);
  _tile_loadd(6, bytes, 64);
  _tile_loadd(7, bytes, 64);
}

void store_and_release(float *sink) noexcept {
  alignas(64) static thread_local float out[16 * 16];
  _tile_stored(0, out, 64);
  _tile_release();
  *sink = out[0];
}

void bf16(uint64_t rounds, float *sink) noexcept {
  TileConfig config;
  alignas(64) uint8_t zeros[1024] = {};
  load_factors(config, zeros);
  for (uint64_t r = 0; r < rounds; ++r) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  store_and_release(sink);
}

void int8(uint64_t rounds, float *sink) noexcept {
  TileConfig config;
  alignas(64) uint8_t zeros[1024] = {};
  load_factors(config, zeros);
  for (uint64_t r = 0; r < rounds; ++r) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  store_and_release(sink);
}

}  // namespace

// A tile product is [16, 64 bytes] by [64 bytes, 16].
const ComputeKernel bf16_amx = {"bf16", "amx", 4 * 2.0 * 16 * 16 * 32, bf16};
const ComputeKernel int8_amx = {"int8", "amx", 4 * 2.0 * 16 * 16 * 64, int8};

}  // namespace switchyard::limits

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The eight tile registers of AMX. As text: the compiler's intrinsics want their numbers spelled
/// out. tests/tiles/emulated_tiles.hpp defines the same names in plain C++. The caller has asked
/// for the feature and for the system's permission. Part of the kernel sources (needs SY_ISA).

#include <stdint.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// What ldtilecfg reads.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

[[gnu::always_inline]] inline void configure_tiles(const TileConfig &config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}
[[gnu::always_inline]] inline void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

template <int kTile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
/// Rows `stride` bytes apart, the first `kOffset` bytes behind `from`.
template <int kTile, int kOffset>
[[gnu::always_inline]] inline void load_tile(const void *from, int64_t stride) {
  asm volatile("tileloadd %c2(%0,%1,1), %%tmm%c3"
               :
               : "r"(from), "r"(stride), "i"(kOffset), "i"(kTile)
               : "memory");
}
template <int kTile, int kOffset>
[[gnu::always_inline]] inline void store_tile(void *to, int64_t stride) {
  asm volatile("tilestored %%tmm%c3, %c2(%0,%1,1)"
               :
               : "r"(to), "r"(stride), "i"(kOffset), "i"(kTile)
               : "memory");
}
/// c += a b, of signed bytes.
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void multiply_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}
/// c += a b, of pairs of bf16.
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void multiply_pairs() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

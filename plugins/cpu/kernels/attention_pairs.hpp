// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The two products of attention on pairs of bf16: two multiply-adds a lane, where a processor has
/// the instruction (needs SY_ISA). A pair is a 32-bit word, the earlier value in its low half.

#include <stdint.h>

#include "../failure.hpp"
#include "../kernel.hpp"
#include "tile_products.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

/// Register tiles for panels of 1, 2 or 3 vectors of query rows; `width` is the panel's rows.
struct PairTiles {
  /// s[a][row] = scale * sum over pairs of k[a][e] * q_t[e][row] for the 8 rows of keys, which may
  /// lie at any address.
  using Score = void (*)(const uint32_t *q_t, const char *const *keys, int64_t pairs, float scale,
                         float *s);
  /// o_t[a][row] = o_t[a][row] * alpha[row] + sum over pairs of v[i][a] * p[i][row]; v's rows of
  /// pairs are v_stride words apart.
  using Value = void (*)(const uint32_t *p, int32_t pairs, const uint32_t *v, int64_t v_stride,
                         const float *alpha, float *o_t);
  Score score[3];
  Value value[3];      ///< 8 columns of v
  Value value_one[3];  ///< one column
};

/// NULL in builds for instruction sets that have no such processors.
const PairTiles *pair_tiles() noexcept;

/// Refuses where they are missing, or their instruction.
[[gnu::always_inline]] static inline int32_t needs_pairs(const Context &ctx, sy_error *reason) {
  if (pair_tiles() != nullptr && (ctx.features & kFeatureBf16) != 0) return SY_OK;
  return failure(reason, SY_E_HARDWARE, "this processor or the isa setting offers no AVX512-BF16");
}

/// How elements are multiplied: as f32, or bf16 in pairs by vectors or by AMX.
enum class Way { widen, pairs, amx };

/// Holds a worker's AMX tiles while it computes, where kWay needs them.
template <Way kWay>
struct Scope {
  Scope() {}
};
template <>
struct Scope<Way::amx> {
  Tiles tiles{kTileWords};
};

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu

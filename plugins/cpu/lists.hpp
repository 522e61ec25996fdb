// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The lists of kernels that every plugin built from this folder ships. Each kernel source defines
/// one list function, in `namespace switchyard::cpu { inline namespace SY_ISA { ... } }`; a new one
/// is a line here.

#include "kernel.hpp"

#define SY_CPU_LISTS(LIST, ISA) \
  LIST(ISA, quantize)           \
  LIST(ISA, dequantize)         \
  LIST(ISA, kmeans)             \
  LIST(ISA, kmeans_seed)        \
  LIST(ISA, attention)          \
  LIST(ISA, matmul)             \
  LIST(ISA, norm)               \
  LIST(ISA, activation)         \
  LIST(ISA, rope)

#define SY_CPU_DECLARE_LIST(ISA, NAME) KernelList NAME##_kernels() noexcept;
#define SY_CPU_CALL_LIST(ISA, NAME) ISA::NAME##_kernels(),

namespace switchyard::cpu {
inline namespace avx2 {
SY_CPU_LISTS(SY_CPU_DECLARE_LIST, avx2)
}
inline namespace avx512 {
SY_CPU_LISTS(SY_CPU_DECLARE_LIST, avx512)
}
}  // namespace switchyard::cpu

/// All lists of a build, for the initialiser of an array.
#define SY_CPU_ALL_LISTS(ISA) SY_CPU_LISTS(SY_CPU_CALL_LIST, ISA)

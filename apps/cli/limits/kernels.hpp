// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Kernels that do nothing but reach a limit of the machine. Each instruction set is one build of
/// its own; who calls a kernel has made sure that the processor has that instruction set.

#include <stddef.h>
#include <stdint.h>

namespace switchyard::limits {

/// Sizes are multiples of kChunk bytes, pointers are aligned to it.
inline constexpr size_t kChunk = 512;

struct MemoryKernels {
  const char *isa;
  uint64_t (*read)(const void *from, size_t bytes) noexcept;  ///< returns something of all of it
  void (*write)(void *to, size_t bytes, uint64_t value) noexcept;
  void (*copy)(void *to, const void *from, size_t bytes) noexcept;
  /// Past the caches: the lines are not read before they are written.
  void (*stream)(void *to, size_t bytes, uint64_t value) noexcept;
  void (*stream_copy)(void *to, const void *from, size_t bytes) noexcept;
};

struct ComputeKernel {
  const char *kind;  ///< "f32", "f64", "bf16", "int8": of the factors
  const char *isa;
  double ops_per_round;  ///< a multiply-add counts two
  /// Writes something that depends on all of the work.
  void (*run)(uint64_t rounds, float *sink) noexcept;
};

// Baseline, and where the compiler targets x86-64 the wider builds.
extern const MemoryKernels memory_baseline, memory_avx2, memory_avx512;
extern const ComputeKernel f32_baseline, f32_avx2, f32_avx512;
extern const ComputeKernel f64_baseline, f64_avx2, f64_avx512;
extern const ComputeKernel bf16_avx512, int8_avx512, bf16_amx, int8_amx;

}  // namespace switchyard::limits

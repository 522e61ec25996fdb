// SPDX-License-Identifier: Apache-2.0
// Quantised matmul with AVX512-VNNI: four products and their sum at once. All functions of this
// file are compiled for it, so all have internal linkage but the one that hands out the table.
#include <stdint.h>

#include "matmul_int8.hpp"

#if defined(__AVX512BW__)
#include <immintrin.h>
#include <string.h>
#pragma GCC push_options
#pragma GCC target("avx512vnni")
#include "matmul_int8_loops.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {
namespace {

struct Vnni {
  static constexpr bool kFull = true;  ///< any unsigned byte
  SY_ALWAYS Ints dot(Ints sum, Bytes u, Bytes s) { return _mm512_dpbusd_epi32(sum, u, s); }
};

const Int8Format *const kTable = kFormatTable<Vnni>;

}  // namespace
}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu
#pragma GCC pop_options
#endif

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {

const Int8Format *vnni_formats() noexcept {
#if defined(__AVX512BW__)
  return kTable;
#else
  return nullptr;
#endif
}

}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

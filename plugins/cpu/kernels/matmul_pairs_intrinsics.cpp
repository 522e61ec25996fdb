// SPDX-License-Identifier: Apache-2.0
// Quantised matmul with products of bytes as every AVX2 or AVX-512 processor forms them.
#include "matmul_int8_loops.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {

const Int8Format *int8_formats() noexcept { return kFormatTable<Pairs>; }

}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

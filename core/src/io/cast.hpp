// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Conversions between element types when arrays are loaded, correctly rounded (nearest, ties to
/// even; one rounding, also from f64 and 64-bit integers). Too large values become infinite.

#include <cstdint>
#include <span>
#include <switchyard/tensor.hpp>

namespace switchyard {

std::uint16_t f32_to_f16(float value) noexcept;
std::uint16_t f32_to_bf16(float value) noexcept;
float f16_to_f32(std::uint16_t bits) noexcept;
float bf16_to_f32(std::uint16_t bits) noexcept;

/// A C-contiguous copy as f64, f32, f16 or bf16, from any numeric dtype (bool: 0 and 1) and any
/// strides. Other targets than the source's own dtype are a dtype error.
Result<Tensor> cast(const TensorView &array, DType dtype);

/// A C-contiguous copy, same dtype.
Result<Tensor> contiguous_copy(const TensorView &array);

}  // namespace switchyard

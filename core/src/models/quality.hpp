// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How far quantised values are from the original ones, and which codes occur.

#include <switchyard/models.hpp>

#include "models/quant_spec.hpp"

namespace switchyard::models {

/// Compares values (f32, f16 or bf16) with restored ones (f32), both contiguous and of the same
/// count, in f64; adds to `quality`.
void add_errors(const TensorView &values, const float *restored, TensorQuality &quality);

/// Counts the codes of whole rows in the codes array of a format; adds to `histogram`, which is
/// sized for the format on first use. Formats without a counter leave it empty.
void count_codes(const QuantFormat &format, std::span<const std::byte> codes,
                 std::vector<std::uint64_t> &histogram);

}  // namespace switchyard::models

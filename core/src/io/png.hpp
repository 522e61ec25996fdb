// SPDX-License-Identifier: Apache-2.0
#pragma once
/// 8-bit RGB images, as arrays u8 [height, width, 3].

#include <string>
#include <switchyard/tensor.hpp>

namespace switchyard {

/// dtype or shape: not u8 [height, width, 3] with 1 to 2^24 rows and columns. Any strides. Atomic.
Status write_png(const std::string &path, const TensorView &image);

/// io: missing or corrupt; unsupported: a PNG file that is not 8-bit RGB.
Result<Tensor> read_png(const std::string &path);

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Pictures as points for k-means: one row [red, green, blue] in 0..255 for each pixel.

#include <string>
#include <switchyard/tensor.hpp>

namespace switchyard::cli {

/// Is this the name of a PNG file?
bool is_picture(const std::string &name);

/// The pixels of a PNG file (8-bit RGB) as f32 [height * width, 3]; of any other file the array
/// (arrays.hpp, load_input).
Result<Tensor> load_points(const std::string &name, const std::string &dtype);

/// Writes the picture `in` with each pixel in the colour of its cluster: labels i32
/// [height * width], centroids f32 [k, 3], rounded to nearest. Usage error if `in` is no PNG file.
Status write_clustered_picture(const std::string &out, const std::string &in,
                               const TensorView &labels, const TensorView &centroids);

/// Usage error unless `out` is empty, or a PNG name while `in` is a picture too.
Status check_picture(const std::string &out, const std::string &in);

}  // namespace switchyard::cli

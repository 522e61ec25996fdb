// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One array in a file, whatever the kind of file. All errors carry Error::file.

#include <string>
#include <switchyard/tensor.hpp>

#include "io/cast.hpp"

namespace switchyard {

/// "dir/file.npz:key" taken apart. The key is split off only after an extension that can hold
/// several arrays (.npz, .safetensors), so other colons in names are left alone.
struct ArrayName {
  std::string path;
  std::string key;  ///< "" = none given
};
ArrayName parse_array_name(const std::string &name);

/// Reads `FILE.npy`, `FILE.npz[:KEY]`, `FILE.safetensors[:NAME]` or an 8-bit RGB `FILE.png` (u8
/// [height, width, 3]) into a C-contiguous, little-endian array. Without a key the file must hold
/// exactly one array. The content decides the format; an unknown extension is fine if the content
/// is known. Errors: io (missing, corrupt), shape (more than 8 dimensions), dtype (not numeric),
/// usage (no such key, or several arrays and no key).
Result<Tensor> read_array(const std::string &name);

/// The same, with the elements cast to `dtype` (rounded to nearest, ties to even).
Result<Tensor> read_array_as(const std::string &name, DType dtype);

/// Writes by extension: .npy, .npz (key `KEY`, default "data"), .safetensors (likewise) or .png (u8
/// [height, width, 3]). Atomic. bf16 fits .safetensors only (dtype error). Any strides.
Status write_array(const std::string &name, const TensorView &array);

}  // namespace switchyard

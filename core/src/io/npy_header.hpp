// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The header of a .npy file: a Python dictionary in text.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <switchyard/tensor.hpp>
#include <vector>

namespace switchyard {

struct NpyHeader {
  char order = '|';        ///< '<' little-endian, '>' big-endian, '|' does not matter
  char kind = 0;           ///< NumPy's letter: b i u f c S U V M m O
  std::uint64_t size = 0;  ///< bytes an element; characters for U
  bool fortran = false;
  std::vector<std::int64_t> shape;
};

/// Parses the text after the length field. `path` is for messages.
Result<NpyHeader> parse_npy_header(const std::string &path, std::string_view text);

/// The numeric dtype, or a dtype error that says what the file holds instead.
Result<DType> npy_dtype(const std::string &path, const NpyHeader &header);

/// Bytes of an array, or nullopt if its size or its strides do not fit 63 bits.
std::optional<std::uint64_t> array_bytes(DType dtype, std::span<const std::int64_t> shape);

}  // namespace switchyard

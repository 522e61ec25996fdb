// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The JSON header of a safetensors file.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.hpp"

namespace switchyard {

struct SafetensorsHeader {
  std::vector<SafetensorInfo> tensors;  ///< by `begin`
  SafetensorsMetadata metadata;
};

/// Parses and checks a header against `data_bytes` of data.
Result<SafetensorsHeader> parse_safetensors_header(const std::string &path, std::string_view json,
                                                   std::uint64_t data_bytes);

/// The format's name of a type; "" if it has none.
std::string_view safetensors_dtype_name(DType dtype) noexcept;

/// `weight_map` of an index file: tensor name -> shard file name, both unchecked.
Result<std::map<std::string, std::string, std::less<>>> parse_shard_index(const std::string &path,
                                                                          std::string_view json);

}  // namespace switchyard

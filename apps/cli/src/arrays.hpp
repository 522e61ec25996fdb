// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Reading inputs and writing outputs for the commands.

#include <initializer_list>
#include <utility>

#include "program.hpp"

namespace switchyard::cli {

/// Reads an array (io/array_file.hpp); a floating one is cast to `dtype` where that is not empty.
/// An f64 array that stays f64 is a dtype error that names the cure.
Result<Tensor> load_input(const std::string &name, const std::string &dtype);

/// Reads an optional array; absent for "". No cast.
Result<Tensor> load_optional(const std::string &name);

/// Usage error unless `path` is empty or has one of these extensions; io error if its directory is
/// missing. Called before anything is computed.
Status check_output(const std::string &path, std::initializer_list<std::string_view> extensions);

/// Lower-case extension with the dot, of the path without a ":KEY".
std::string extension_of(const std::string &path);

struct OutputArray {
  std::string slot;  ///< "labels"
  std::string path;  ///< "" = not wanted
  TensorView view;
};

/// Writes what is wanted, unless interrupted before the first file. Adds slot -> path to `written`.
Status write_outputs(const std::vector<OutputArray> &outputs, Json &written);

Json shape_json(std::span<const std::int64_t> shape);

}  // namespace switchyard::cli

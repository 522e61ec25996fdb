// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Files of quantised arrays. One array: keys `blocks` or `codes`, `scales`, `biases`, and `meta`,
/// a JSON object {format, shape, dtype, group_size, granularity} (.npz: a text array; .safetensors:
/// an entry of the metadata); .gguf: one tensor `data` of a ggml type. docs/cli.md describes them.

#include <functional>

#include "program.hpp"

namespace switchyard::cli {

/// Names of the arrays of one quantised tensor in a file.
struct ArrayNames {
  std::string codes, scales, biases;
};
ArrayNames array_names(bool blocks);  ///< of a single array

/// Usage and invalid_argument errors of the options alone.
Status check_quantize_options(const QuantizeOptions &options);

/// The metadata of one tensor.
Json quantized_meta(const Quantized &q);

/// Writes one array to .npz, .safetensors or (block formats) .gguf. Atomic.
Status write_quantized(const std::string &path, const Quantized &q);

/// Reads one array. io if `meta` is missing or does not fit the arrays.
Result<Quantized> read_quantized(const std::string &path);

/// Arrays by name, for `assemble`.
using ReadArray = std::function<Result<Tensor>(const std::string &name)>;

/// A quantised tensor from its metadata and arrays, fully checked; `path` is for messages.
Result<Quantized> assemble(const std::string &path, const Json &meta, const ArrayNames &names,
                           const ReadArray &read);

}  // namespace switchyard::cli

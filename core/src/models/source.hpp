// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Models to read: their tensors, plain or quantised, row by row.

#include <memory>
#include <nlohmann/json.hpp>

#include "io/gguf.hpp"
#include "io/safetensors.hpp"
#include "models/quant_spec.hpp"

namespace switchyard::models {

using Json = nlohmann::ordered_json;

/// A growing block of memory that is used again and again: no page is faulted in twice.
class Scratch {
 public:
  /// A C-contiguous array in the block; what it held before is lost.
  Result<TensorView> array(DType dtype, std::span<const std::int64_t> shape);

 private:
  Tensor block_;
};

struct SourceTensor {
  ModelTensor info;
  std::optional<DType> dtype;      ///< of the values; nullopt: can only be copied as it is
  std::optional<QuantSpec> quant;  ///< quantised in the file
  const GgmlType *type = nullptr;  ///< of a GGUF file

  bool floating() const noexcept { return dtype && is_value_dtype(*dtype); }
};

/// Where the arrays of a quantised tensor lie in a safetensors file.
struct ArrayNames {
  std::string codes, scales, biases;
};
/// "x.weight", "x.scales", "x.biases": MLX's names.
ArrayNames model_names(const std::string &name);

/// One opened model. Reads may come from any thread; scratch memory is the caller's.
class Source {
 public:
  virtual ~Source() = default;
  const std::string &path() const noexcept { return path_; }
  const std::vector<SourceTensor> &tensors() const noexcept { return tensors_; }
  /// config.json, or null.
  const Json &config() const noexcept { return config_; }
  /// Files of the folder that belong to the model and hold no tensors, relative to it.
  const std::vector<std::string> &companions() const noexcept { return companions_; }
  const std::string &folder() const noexcept { return folder_; }  ///< "" = not a folder
  /// The header of a GGUF file; empty otherwise.
  virtual std::span<const GgufEntry> entries() const noexcept { return {}; }
  /// Changes when the input does: files' names, sizes and times of change.
  std::string identity() const;

  /// Bytes as stored, of a tensor that is not quantised, or (GGUF) whatever it is.
  virtual Status read_bytes(const SourceTensor &tensor, std::uint64_t offset,
                            std::span<std::byte> out) const = 0;
  /// Arrays of rows [first, first + count) of a quantised tensor taken as rows of `cols` values
  /// (whole units of its format; all of the tensor where its spec is not by rows), in `memory`'s
  /// three blocks.
  virtual Result<Quantized> read_quantized(const SourceTensor &tensor, std::int64_t first,
                                           std::int64_t count, std::int64_t cols,
                                           Scratch (&memory)[3]) const = 0;

 protected:
  std::string path_, folder_;
  std::vector<std::string> files_;  ///< that hold tensors, full paths
  std::vector<SourceTensor> tensors_;
  Json config_;
  std::vector<std::string> companions_;
};

/// By what is there: a folder, .gguf, .safetensors or an index. Errors: io, dtype, shape, usage (no
/// kind of model).
Result<std::unique_ptr<Source>> open_source(const std::string &path);
Result<std::unique_ptr<Source>> open_gguf_source(const std::string &path);
/// `file`: the .safetensors file or index; `folder`: "" or where config.json and the rest lie.
Result<std::unique_ptr<Source>> open_safetensors_source(const std::string &path,
                                                        const std::string &file,
                                                        const std::string &folder);

/// Small files beside the weights, in a fixed order. Links to files count, links to folders don't.
std::vector<std::string> find_companions(const std::string &folder);

/// The metadata that describes one quantised tensor, {format, shape, dtype, group_size,
/// granularity}, and back; nullopt unless all are there and of the right kind.
Json quantized_meta(const TensorChoice &choice, std::span<const std::int64_t> shape, DType dtype);
struct QuantizedMeta {
  TensorChoice choice;
  std::vector<std::int64_t> shape;
  DType dtype{};
};
std::optional<QuantizedMeta> parse_quantized_meta(const Json &meta);

}  // namespace switchyard::models

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where everything goes in the files of an output, and what their headers say.

#include <map>

#include "models/plan.hpp"
#include "models/work.hpp"

namespace switchyard::models {

/// One array of one tensor.
struct OutputArray {
  std::string name;
  std::size_t file = 0;
  std::uint64_t offset = 0, bytes = 0;
};

/// Array -> checksum, 16 hexadecimal digits.
using Checksums = std::map<std::string, std::string, std::less<>>;

class Output {
 public:
  /// `hints`: what suits this machine, for the metadata. Errors: those of the containers.
  static Result<Output> make(const Source &source, const Plan &plan, const std::string &out,
                             const Json &hints, std::uint64_t shard_bytes);

  const std::vector<WorkFolder::File> &files() const noexcept { return files_; }
  /// Arrays of a tensor of the plan: codes, scales, biases; or the one plain array.
  const std::vector<OutputArray> &arrays(std::size_t tensor) const { return arrays_[tensor]; }

  /// Headers of all files, of the same length whatever the checksums.
  Result<std::vector<std::string>> headers(const Checksums &checksums) const;
  /// config.json of a folder, and of a sharded one the index.
  std::string config() const;
  std::optional<std::string> index() const;

 private:
  Status place_safetensors(const Plan &plan, const std::string &out, std::uint64_t shard_bytes);
  Status place_gguf(const Plan &plan);
  SafetensorsMetadata metadata(std::size_t shard, const Checksums &checksums) const;
  std::vector<GgufEntry> entries(const Checksums &checksums) const;

  const Source *source_ = nullptr;
  const Plan *plan_ = nullptr;
  std::string out_;
  Json hints_, quantization_;
  std::vector<WorkFolder::File> files_;
  std::vector<std::vector<OutputArray>> arrays_;
  std::vector<std::vector<SafetensorSpec>> shards_;
  std::vector<GgufSpec> specs_;
};

/// `quantization` of config.json as MLX has it: the most common choice for all, others by name;
/// null where MLX knows none of the formats.
Json mlx_quantization(const Plan &plan);

}  // namespace switchyard::models

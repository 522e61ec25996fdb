// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Whole models: deciding how each tensor is stored, and converting between containers tensor by
/// tensor in bounded memory.
///
///     switchyard::ModelOptions options;
///     options.recipe = "MIXED_PRECISION";
///     options.dry_run = true;
///     auto report = switchyard::quantize_model(engine, "model/", "model-4bit/", options);
///
/// In: a Hugging Face folder (model.safetensors, or shards with an index, and config.json), one
/// .safetensors file or index, or a .gguf file; quantised ones too. Out: by name a .gguf file, a
/// .safetensors file, or else a folder in MLX's layout. docs/models.md says what is written.
///
/// Memory: beside what the engine and its plugins hold, at most 256 MiB for the data of a tensor,
/// whatever its size; formats with one scale for a whole tensor (granularity tensor, i2_s) hold
/// that tensor, at most ModelOptions::whole_tensor_bytes.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <switchyard/engine.hpp>
#include <utility>
#include <vector>

namespace switchyard {

/// How a tensor is stored.
struct TensorChoice {
  std::string format;                  ///< a quantised format, or "" = kept as it is
  int group_size = 0;                  ///< 0 = the format's default
  std::string granularity = "tensor";  ///< as QuantizeOptions
  std::string scale = "default";

  bool operator==(const TensorChoice &) const = default;
  SY_API std::string text() const;  ///< "mlx_affine4:64", "tern2:128 by group", "keep"
};

/// A tensor of a model as a rule sees it.
struct ModelTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype;        ///< of the values: "f32"; quantised input: what it restores to
  std::string stored;       ///< as in the file: "BF16", "Q4_K", "mlx_affine4"
  std::uint64_t bytes = 0;  ///< as stored, scales included
  std::int64_t values = 0;
};

/// Decides about a tensor; nullopt leaves it to the recipe. Only floating tensors of two or more
/// dimensions are asked about.
using TensorPredicate = std::function<std::optional<TensorChoice>(const ModelTensor &)>;
/// What is being done and how much is done, in 0..1; return false to cancel.
using ModelProgress = std::function<bool(const std::string &what, double done)>;

struct ModelOptions {
  /// A built-in recipe (recipe_names(), in any case), the path of a recipe file (.yaml, .yml), or
  /// "": nothing but what predicate, rules and target say.
  std::string recipe;
  std::string rules;                   ///< a recipe file's text, in place of a path
  TensorPredicate predicate{};         ///< asked first
  std::optional<TensorChoice> choice;  ///< for every tensor that nothing above decides
  std::optional<double> target_bits;   ///< stored bits per value on average, at the least error
  std::string nonfinite = "error";     ///< error | saturate
  std::string dtype;                   ///< "": as stored; else f32, f16 or bf16: cast on load
  bool dry_run = false;                ///< decide only; nothing is written
  bool resume = true;                  ///< go on where an interrupted run of the same plan stopped
  bool quality = true;                 ///< measure the error of every tensor
  bool bench = false;                  ///< also time the formats alone, on the largest tensor
  int repeat = 1;                      ///< runs of each operation, the median time counts
  std::uint64_t shard_bytes = std::uint64_t{5} << 30;  ///< most bytes of a shard of a folder
  std::uint64_t whole_tensor_bytes = std::uint64_t{1} << 30;
  ModelProgress progress{};
};

struct TensorQuality {
  double squared_error = 0, squared_signal = 0, max_error = 0;
  std::int64_t values = 0;
  /// How often each code occurs, from the lowest; empty where codes are not counted.
  std::vector<std::uint64_t> histogram;

  SY_API void add(const TensorQuality &other);  ///< totals only; histograms are not joined
  SY_API double mse() const noexcept;
  SY_API double snr_db() const noexcept;  ///< infinite for no error at all
};

/// One way to store a tensor, measured.
struct CandidateError {
  TensorChoice choice;
  std::uint64_t bytes = 0;
  double squared_error = 0;  ///< of all values, from the sample
  bool chosen = false;
};

struct TensorReport {
  ModelTensor tensor;
  TensorChoice choice;
  std::string rule;  ///< what decided, in words
  std::uint64_t bytes_after = 0;
  std::vector<CandidateError> candidates;  ///< where target_bits chose
  // After the conversion:
  bool resumed = false;                  ///< taken over from an interrupted run
  std::optional<TensorQuality> quality;  ///< of quantised tensors
  RunInfo info;                          ///< of quantising (or restoring) the last piece
  double compute_ms = 0;
  std::vector<std::pair<std::string, std::string>> checksums;  ///< array -> XXH3 in hex

  bool quantized() const noexcept { return !choice.format.empty(); }
};

/// How fast a format was quantised, against the same kernel alone on data that stay in place.
struct FormatSpeed {
  std::string choice;
  std::uint64_t bytes = 0;  ///< of values
  double compute_ms = 0;
  double gb_per_s = 0;        ///< of values
  double bench_gb_per_s = 0;  ///< 0 = not measured
};

struct ModelReport {
  std::string in, out, recipe;
  bool dry_run = false;
  std::vector<TensorReport> tensors;  ///< in the order of the input
  /// Patterns that matched no tensor, with "did you mean".
  std::vector<std::string> unused_rules;
  std::vector<std::string> files;  ///< written
  double target_bits = 0;          ///< 0 = none
  double target_gap = 0;  ///< share by which the error may exceed the best possible for the budget
  double decide_ms = 0;   ///< reading headers, measuring candidates
  double read_ms = 0, compute_ms = 0, quality_ms = 0, write_ms = 0, total_ms = 0;
  std::vector<FormatSpeed> speeds;

  SY_API std::uint64_t bytes_before() const noexcept;
  SY_API std::uint64_t bytes_after() const noexcept;
  SY_API std::size_t quantized() const noexcept;
  /// Stored bits per value of the tensors that rules decide about (floating, two or more
  /// dimensions).
  SY_API double bits_per_value() const noexcept;
  SY_API TensorQuality quality() const;
  /// Of the quantised tensor with the most values; nullptr if there is none.
  SY_API const TensorReport *largest() const noexcept;
  /// The largest one's, with the time of all and the weakest verification.
  SY_API RunInfo info() const;
  /// One document; docs/models.md lists its keys.
  SY_API std::string json() const;
};

/// SPEED_4BIT, BALANCED_5BIT, QUALITY_8BIT, MIXED_PRECISION, TERNARY_158.
SY_API std::span<const std::string_view> recipe_names() noexcept;

/// Decides, and unless it is a dry run converts; `out` "" = nothing is written. `out` appears whole
/// or not at all; an interrupted run leaves OUT.partial, which the next one of the same plan
/// continues. Errors: usage and config (recipe), io, shape (a rule's format does not fit a tensor:
/// the formats that would are named), dtype, nonfinite and overflow (tensor and index), cancelled;
/// those of the backend. [any-thread]
SY_API Result<ModelReport> quantize_model(Engine &engine, const std::string &in,
                                          const std::string &out, const ModelOptions &options);

/// Restores every quantised tensor to plain values of its original dtype (GGUF: f32, or
/// options.dtype); other tensors are copied. Of the options, predicate, dtype, resume, shard_bytes
/// and progress count; where the predicate is given, tensors that it answers nullopt are left out.
SY_API Result<ModelReport> dequantize_model(Engine &engine, const std::string &in,
                                            const std::string &out, const ModelOptions &options);

}  // namespace switchyard

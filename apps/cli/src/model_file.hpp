// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Quantising and restoring whole models, tensor by tensor, so that memory holds one at a time.

#include "io/safetensors.hpp"
#include "quantized_file.hpp"

namespace switchyard::cli {

/// How far quantised values are from the original ones.
struct Distortion {
  double squared_error = 0, squared_signal = 0;
  std::int64_t values = 0;

  void add(const Distortion &other) noexcept;
  double mse() const noexcept {
    return values > 0 ? squared_error / static_cast<double>(values) : 0;
  }
  /// Signal-to-noise ratio in dB; infinite for no error at all.
  double snr_db() const noexcept;
  Json json() const;  ///< {mse, snr_db}; null for an infinite ratio
};

/// Dequantises and compares in f64.
Result<Distortion> measure_distortion(Engine &engine, const TensorView &x, const Quantized &q);

struct TensorReport {
  std::string name;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  Distortion distortion;  ///< quantising only
  RunInfo info;

  Json json() const;
};

struct ModelReport {
  std::vector<TensorReport> tensors;                ///< those that were quantised or restored
  std::int64_t copied = 0;                          ///< tensors that stayed as they were
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< of the tensors in the list
  double time_ms = 0;                               ///< of the operation alone, all tensors
  Distortion distortion;

  /// Of the tensor with the most values.
  const TensorReport *largest() const noexcept;
  /// One info for all tensors: the largest one's, the total time, the weakest verification.
  RunInfo info() const;
};

using NameFilter = std::function<bool(const std::string &name)>;

/// Quantises the floating tensors of two or more dimensions that `wanted` accepts; copies the rest.
/// `dtype` casts them first. `out` "" = nothing is written. `repeat`: runs of each operation, of
/// which the median time counts.
Result<ModelReport> quantize_model(Engine &engine, const SafetensorsModel &model,
                                   const std::string &out, const QuantizeOptions &options,
                                   const std::string &dtype, const NameFilter &wanted,
                                   int repeat = 1);

/// The other direction: writes tensors of their original shape and dtype under their names. Tensors
/// that `wanted` refuses are left out.
Result<ModelReport> dequantize_model(Engine &engine, const std::string &in, const std::string &out,
                                     const NameFilter &wanted);

/// True if `name` is a .safetensors file without :KEY that holds several tensors.
Result<bool> is_model_input(const std::string &name);

/// The table of a report, and its last line of totals.
std::string model_text(const ModelReport &report, bool quantized);

}  // namespace switchyard::cli

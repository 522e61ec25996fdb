// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Whole models on the command line and in run files.

#include <switchyard/models.hpp>

#include "program.hpp"
#include "quantized_file.hpp"

namespace switchyard::cli {

/// {mse, snr_db}; null for an infinite ratio.
Json quality_json(const TensorQuality &quality);

/// Dequantises and compares in f64.
Result<TensorQuality> measure_quality(Engine &engine, const TensorView &x, const Quantized &q);

/// True if `name` is a folder, a .gguf file, an index of shards, or a .safetensors file without
/// :KEY that holds several tensors.
Result<bool> is_model_input(const std::string &name);
/// True if `name` is a model to restore: the same, but a .safetensors file that this program wrote
/// for one array is none.
Result<bool> is_quantized_model(const std::string &name);

/// Usage error for names of files that hold no model.
Status check_model_output(const std::string &out);

/// Usage error for stochastic rounding: its numbers are drawn by a value's index in one call, and
/// models are done in pieces.
Status check_model_rounding(const QuantizeOptions &options);

/// Progress on a terminal; stops after an interrupt.
ModelProgress model_progress(std::string label);

/// One line about sizes and errors.
std::string size_text(std::uint64_t before, std::uint64_t after, const TensorQuality &quality);
/// What was done and what it took, as lines.
std::string model_summary(const ModelReport &report);
/// A row for each tensor: what it was, what it becomes, why, and how well.
std::string model_table(const ModelReport &report);
/// Where target_bits chose: every candidate of every tensor.
std::string candidates_table(const ModelReport &report);

}  // namespace switchyard::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Carrying out a plan, tensor by tensor.

#include <map>

#include "models/output.hpp"
#include "models/reader.hpp"

namespace switchyard::models {

class Converter {
 public:
  Converter(Engine &engine, const Source &source, const Plan &plan, const ModelOptions &options,
            ModelReport &report);

  /// Writes everything; fills the report's tensors, times and files.
  Status run(const std::string &out);

 private:
  const PlanTensor &plan_of(const TensorReport &report) const {
    return plan_.tensors[static_cast<std::size_t>(&report - report_.tensors.data())];
  }
  void settle();
  Json hints() const;
  std::string fingerprint(const std::vector<WorkFolder::File> &files) const;
  Status convert_all(WorkFolder &work, const Output &output);
  Status write_rest(WorkFolder &work, const Output &output);

  Status resume(WorkFolder &work, const Output &output);
  Result<bool> intact(const WorkFolder &work, const OutputArray &array, const std::string &sum);
  Status convert(WorkFolder &work, const Output &output, std::size_t index);
  Status copy(WorkFolder &work, const std::vector<OutputArray> &arrays, TensorReport &report);
  Status quantize(WorkFolder &work, const std::vector<OutputArray> &arrays, TensorReport &report);
  Status restore(WorkFolder &work, const std::vector<OutputArray> &arrays, TensorReport &report);
  Result<Quantized> quantize_piece(const TensorView &x, const PlanTensor &p, TensorReport &report);
  Status measure_piece(const TensorView &x, const Quantized &q, TensorReport &report);
  Status check_whole(const PlanTensor &p, const Pieces &pieces, std::size_t value_bytes) const;
  Status advance(std::uint64_t bytes);
  void measure_bench(const PlanTensor &p, FormatSpeed &speed);

  Engine &engine_;
  const Source &source_;
  const Plan &plan_;
  const ModelOptions &options_;
  ModelReport &report_;
  ValueReader reader_;
  Scratch outputs_[3], restored_, raw_;
  std::vector<bool> done_;
  std::uint64_t total_bytes_ = 0, done_bytes_ = 0;
  std::string what_;
  Checksums checksums_;
  std::map<std::string, FormatSpeed> speeds_;
  std::map<std::string, const PlanTensor *> largest_;
};

}  // namespace switchyard::models

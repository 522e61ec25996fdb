// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Files of measurements: what `bench --resume FILE` continues, and what config/measurements ships.

#include "bench_run.hpp"

namespace switchyard::cli {

struct BenchFile {
  Json head;  ///< machine, threads, seed, plugins, label: what all rows share
  std::vector<BenchRow> rows;

  /// The head of measurements made now by this engine.
  static Json describe(const Engine &engine, std::uint64_t seed, const std::string &label);
  /// Nothing where there is no such file. Fails where it is damaged, or where it was measured under
  /// other circumstances than `head` says (the label apart): one file never mixes two.
  static Result<BenchFile> open(const std::string &path, Json head);

  const BenchRow *find(const OpShape &shape) const;
  Status save(const std::string &path) const;
};

}  // namespace switchyard::cli

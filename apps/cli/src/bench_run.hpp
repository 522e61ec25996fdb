// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Times every backend on one generated problem, in turns.

#include "compare.hpp"
#include "shapes.hpp"

namespace switchyard::cli {

/// What one backend did on one problem.
struct BenchResult {
  std::string backend, kernel;
  std::string verified;   ///< "gate" | "cached" | "no"
  std::string refused;    ///< why it was not timed; the rest is empty then
  std::string wrong;      ///< where it differs from the reference on this very problem; "" = right
  bool compared = false;  ///< with the reference's answer to this problem
  int threads = 1;        ///< that its calls may use
  std::size_t samples = 0;
  double min_ms = 0, median_ms = 0, p95_ms = 0;
};

/// All backends on one problem, the fastest first, the refused last.
struct BenchRow {
  std::string op, shape;
  std::string described;  ///< every item of the call's description, those left to defaults too
  double bytes = 0, flops = 0;  ///< of a call
  std::vector<BenchResult> results;

  Json json() const;
  static Result<BenchRow> from_json(const Json &json);
};

/// Each backend is timed for about `seconds`, in turns with the others; at least once. Fails with
/// cancelled after an interrupt.
Result<BenchRow> bench_shape(const OpShape &shape, std::uint64_t seed,
                             const std::vector<std::string> &backends, Rivals &rivals,
                             double seconds);

}  // namespace switchyard::cli

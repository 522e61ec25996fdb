// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The jobs of a run file.

#include "compare.hpp"
#include "config/run_config.hpp"

namespace switchyard::cli {

struct JobReport {
  std::string name, op, why;  ///< why: the rule that chose the backend
  RunInfo info;               ///< time_ms is the median of the job's runs
  Json shape, outputs = Json::object();
  std::string dtype;
  std::vector<Comparison> compared;
  Json extra = Json::object();       ///< keys of this op: inertia, mse, tensors, ...
  std::vector<std::string> details;  ///< lines for people

  bool right() const;  ///< no comparison differed
  Json json() const;
};

/// What can be checked of all jobs before the first one runs: names of outputs. Config errors with
/// the job's line, or io.
Status check_jobs(const RunConfig &config);

/// Runs one job; outputs are written when it has succeeded.
Result<JobReport> run_job(Engine &engine, Rivals &rivals, const Job &job);

}  // namespace switchyard::cli

// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <filesystem>
#include <switchyard/models.hpp>

#include "models/convert.hpp"
#include "models/report.hpp"

namespace switchyard {
namespace {

using namespace models;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <class MakePlan>
Result<ModelReport> run(Engine &engine, const std::string &in, const std::string &out,
                        const ModelOptions &options, MakePlan make_plan) {
  const auto start = Clock::now();
  auto source = open_source(in);
  if (!source) return tl::unexpected(source.error());
  std::error_code ignored;
  if (!out.empty() && std::filesystem::equivalent(in, out, ignored))
    return fail(ErrorCode::usage, "the output is the input; choose another name");
  Result<Plan> plan = make_plan(**source);
  if (!plan) return tl::unexpected(plan.error());
  ModelReport report = report_of(*plan, **source, out);
  report.dry_run = options.dry_run;
  report.decide_ms = ms_since(start);
  if (!options.dry_run) {
    Converter converter(engine, **source, *plan, options, report);
    if (auto ok = converter.run(out); !ok) return tl::unexpected(ok.error());
  }
  report.total_ms = ms_since(start);
  return report;
}

}  // namespace

Result<ModelReport> quantize_model(Engine &engine, const std::string &in, const std::string &out,
                                   const ModelOptions &options) {
  return run(engine, in, out, options,
             [&](const Source &source) { return plan_quantize(engine, source, out, options); });
}

Result<ModelReport> dequantize_model(Engine &engine, const std::string &in, const std::string &out,
                                     const ModelOptions &options) {
  return run(engine, in, out, options,
             [&](const Source &source) { return plan_dequantize(source, out, options); });
}

}  // namespace switchyard

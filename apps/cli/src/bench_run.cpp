// SPDX-License-Identifier: Apache-2.0
#include "bench_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cancel.hpp"
#include "facade/engine_impl.hpp"

namespace switchyard::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMostSamples = 2000;
constexpr double kSampleMs = 0.02;  // shorter calls are timed several at once

/// One backend on one problem. Not movable once bound: the frame's call points into it.
struct Contender {
  BenchResult result;
  Engine *engine = nullptr;
  bool reference = false;  ///< its answer is the right one
  ProblemOutputs outputs;
  std::unique_ptr<CallFrame> frame;
  std::unique_ptr<Bound> bound;
  std::vector<double> ms;  ///< of each sample, per call
  int inner = 1;           ///< calls per sample, so that the clock's cost does not matter
  double spent_ms = 0;
};
using Contenders = std::vector<std::unique_ptr<Contender>>;

Status sample(Contender &c) {
  const auto start = Clock::now();
  sy_error error{};
  error.struct_size = sizeof(error);
  for (int i = 0; i < c.inner; ++i)
    if (c.bound->run(&error) != SY_OK)
      return fail(ErrorCode::backend, fmt::format("{}: {}", c.result.backend, error.message));
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  c.ms.push_back(ms / c.inner);
  c.spent_ms += ms;
  return {};
}

const Candidate *kernel_of(Engine &engine, const std::string &name) {
  for (const auto &candidate : engine.impl().registry->all())
    if (candidate->name == name) return candidate.get();
  return nullptr;
}

/// Binds and warms up; `refused` says why not.
Status prepare(Contender &c, const OpShape &shape, const Problem &problem) {
  auto outputs = ProblemOutputs::make(problem);
  if (!outputs) return tl::unexpected(outputs.error());
  c.outputs = std::move(*outputs);
  c.frame = std::make_unique<CallFrame>(static_cast<std::uint32_t>(problem.inputs.size()),
                                        static_cast<std::uint32_t>(problem.outputs.size()));
  bind(problem, c.outputs, *c.frame);
  c.frame->call().threads = static_cast<std::uint32_t>(c.engine->threads());
  sy_error error{};
  error.struct_size = sizeof(error);
  RunInfo info;
  // The first run decides, verifies where needed and warms up.
  if (c.engine->run(shape.op, c.frame->call(), &error, &info) != SY_OK) {
    c.result.refused = error.message;
    return {};
  }
  c.result.kernel = info.kernel;
  c.result.verified = info.verified;
  const Candidate *kernel = kernel_of(*c.engine, info.kernel);
  const bool alone = kernel != nullptr && (kernel->kernel->traits & SY_TRAIT_OWN_THREADS) == 0;
  c.result.threads = alone ? 1 : c.engine->threads();
  c.reference = kernel != nullptr && kernel->reference;
  auto bound = c.engine->bind(shape.op, c.frame->call());
  if (!bound) {
    c.result.refused = bound.error().message;
    return {};
  }
  c.bound = std::make_unique<Bound>(std::move(*bound));
  if (auto ok = sample(c); !ok) return ok;
  c.inner = std::clamp(static_cast<int>(kSampleMs / std::max(c.ms.front(), 1e-6)), 1, 1000);
  if (c.ms.front() < 1000 * kSampleMs) c.ms.clear();  // cheap: do not keep the cold sample
  return {};
}

Status measure(Contenders &contenders, double seconds) {
  for (bool any = true; any;) {
    any = false;
    for (auto &c : contenders) {
      if (!c->bound) continue;
      if (!c->ms.empty() && (c->spent_ms >= seconds * 1e3 || c->ms.size() >= kMostSamples))
        continue;
      any = true;
      if (auto ok = sample(*c); !ok) return ok;
      if (auto ok = check_cancelled(); !ok) return ok;
    }
  }
  return {};
}

/// Every answer against the reference's on the same data.
void compare(Contenders &contenders, const OpSpec &spec, const Problem &problem) {
  Contender *reference = nullptr;
  for (auto &c : contenders)
    if (c->bound && c->reference) reference = c.get();
  for (auto &c : contenders) {
    if (!c->bound) continue;
    if (const auto slot = c->outputs.overrun())
      c->result.wrong = fmt::format("wrote outside output {}", *slot);
    if (reference == nullptr) continue;
    const auto on_reference = [&](const sy_call &call) {
      return reference->engine->impl().registry->reference().run(*find_op(spec.id()), call);
    };
    c->result.compared = true;
    if (c.get() == reference || !c->result.wrong.empty()) continue;
    if (auto wrong =
            spec.compare(problem, c->frame->call(), reference->frame->call(), on_reference))
      c->result.wrong = std::move(*wrong);
  }
}

void sum_up(Contender &c) {
  std::ranges::sort(c.ms);
  const std::size_t n = c.ms.size();
  c.result.samples = n;
  c.result.min_ms = c.ms.front();
  c.result.median_ms = c.ms[n / 2];
  c.result.p95_ms = c.ms[static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(n))) - 1];
}

}  // namespace

Result<BenchRow> bench_shape(const OpShape &shape, std::uint64_t seed,
                             const std::vector<std::string> &backends, Rivals &rivals,
                             double seconds) {
  const auto index = find_op(shape.op);
  if (!index) return tl::unexpected(index.error());
  const OpSpec &spec = *all_ops()[*index];
  EndAtOnce scope;
  auto problem = spec.make_problem(shape.shape, seed);
  if (!problem) return tl::unexpected(problem.error());
  Contenders contenders;
  for (const std::string &backend : backends) {
    auto engine = rivals.get(backend);
    if (!engine) return tl::unexpected(engine.error());
    auto &c = *contenders.emplace_back(std::make_unique<Contender>());
    c.result.backend = backend;
    c.engine = *engine;
    if (auto ok = prepare(c, shape, *problem); !ok) return tl::unexpected(ok.error());
  }
  BenchRow row{shape.op, shape.shape.text(), {}, 0, 0, {}};
  if (!contenders.empty()) {
    const Work work = spec.work(contenders.front()->frame->call());
    row.bytes = work.bytes;
    row.described = spec.describe(contenders.front()->frame->call()).text();
    row.flops = work.flops;
  }
  if (auto ok = measure(contenders, seconds); !ok) return tl::unexpected(ok.error());
  compare(contenders, spec, *problem);
  for (auto &c : contenders) {
    if (c->bound) sum_up(*c);
    row.results.push_back(std::move(c->result));
  }
  std::ranges::stable_sort(row.results, {}, [](const BenchResult &r) {
    return std::pair(!r.refused.empty(), r.median_ms);
  });
  return row;
}

Json BenchRow::json() const {
  double reference = 0;
  for (const BenchResult &r : results)
    if (r.backend == "reference") reference = r.median_ms;
  Json row{
      {"op", op}, {"shape", shape}, {"described", described}, {"bytes", bytes}, {"flops", flops}};
  row["results"] = Json::array();
  row["refused"] = Json::array();
  for (const BenchResult &r : results) {
    if (!r.refused.empty()) {
      row["refused"].push_back(Json{{"backend", r.backend}, {"reason", r.refused}});
      continue;
    }
    row["results"].push_back(Json{{"backend", r.backend},
                                  {"kernel", r.kernel},
                                  {"verified", r.verified},
                                  {"compared", r.compared},
                                  {"wrong", r.wrong.empty() ? Json(nullptr) : Json(r.wrong)},
                                  {"threads", r.threads},
                                  {"samples", r.samples},
                                  {"min_ms", r.min_ms},
                                  {"median_ms", r.median_ms},
                                  {"p95_ms", r.p95_ms},
                                  {"gb_per_s", bytes / r.median_ms / 1e6},
                                  {"gflop_per_s", flops / r.median_ms / 1e6},
                                  {"times_faster_than_reference",
                                   reference > 0 ? Json(reference / r.median_ms) : Json(nullptr)}});
  }
  return row;
}

Result<BenchRow> BenchRow::from_json(const Json &json) {
  try {
    BenchRow row{json.at("op").get<std::string>(),        json.at("shape").get<std::string>(),
                 json.at("described").get<std::string>(), json.at("bytes").get<double>(),
                 json.at("flops").get<double>(),          {}};
    for (const Json &r : json.at("results")) {
      BenchResult &out = row.results.emplace_back();
      out.backend = r.at("backend").get<std::string>();
      out.kernel = r.at("kernel").get<std::string>();
      out.verified = r.at("verified").get<std::string>();
      out.compared = r.at("compared").get<bool>();
      if (r.at("wrong").is_string()) out.wrong = r.at("wrong").get<std::string>();
      out.threads = r.at("threads").get<int>();
      out.samples = r.at("samples").get<std::size_t>();
      out.min_ms = r.at("min_ms").get<double>();
      out.median_ms = r.at("median_ms").get<double>();
      out.p95_ms = r.at("p95_ms").get<double>();
    }
    for (const Json &r : json.at("refused")) {
      BenchResult &out = row.results.emplace_back();
      out.backend = r.at("backend").get<std::string>();
      out.refused = r.at("reason").get<std::string>();
    }
    return row;
  } catch (const Json::exception &) {
    return fail(ErrorCode::io, "not a row of `switchyard bench`");
  }
}

}  // namespace switchyard::cli

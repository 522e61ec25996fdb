// SPDX-License-Identifier: Apache-2.0
// switchyard bench [OP] [SHAPE...]: times every backend on the same generated problems,
// interleaved.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "cancel.hpp"
#include "compare.hpp"
#include "op/op_spec.hpp"
#include "session.hpp"
#include "shapes.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string op;
  std::vector<std::string> shapes;
  double seconds = 0.3;
};

/// What people run when they name no shape: a small and a large case of each kind.
std::vector<std::string> default_shapes(const std::string &op) {
  if (op == SY_OP_QUANTIZE || op == SY_OP_DEQUANTIZE)
    return {"n=65536,rows=64,format=mlx_affine4", "n=4194304,rows=1024,format=mlx_affine4",
            "n=4194304,rows=1024,format=ternary", "n=4194304,rows=1024,format=q4_0",
            "n=4194304,rows=1024,format=q8_0"};
  if (op == SY_OP_KMEANS_STEP || op == SY_OP_KMEANS_ASSIGN)
    return {"n=1000,d=16,k=8", "n=100000,d=16,k=64", "n=10000,d=128,k=256"};
  return {"b=1,hq=32,hkv=8,lq=1,lkv=1024,d=128,causal=bottom_right",
          "b=1,hq=8,hkv=8,lq=256,lkv=256,d=64",
          "b=1,hq=8,hkv=2,lq=512,lkv=512,d=64,causal=bottom_right"};
}

/// One backend on one problem. Not movable once bound: the frame's call points into it.
struct Candidate {
  std::string backend, kernel, verified, refused;
  Engine *engine = nullptr;
  ProblemOutputs outputs;
  std::unique_ptr<CallFrame> frame;
  std::unique_ptr<Bound> bound;
  std::vector<double> ms;  ///< of each sample, per call
  int inner = 1;           ///< calls per sample, so that the clock's cost does not matter
  double spent_ms = 0;

  double minimum() const { return *std::ranges::min_element(ms); }
  double median() const {
    std::vector<double> sorted = ms;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

Status sample(Candidate &c) {
  const auto start = std::chrono::steady_clock::now();
  sy_error error{};
  error.struct_size = sizeof(error);
  for (int i = 0; i < c.inner; ++i)
    if (c.bound->run(&error) != SY_OK)
      return fail(ErrorCode::backend, fmt::format("{}: {}", c.backend, error.message));
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  c.ms.push_back(ms / c.inner);
  c.spent_ms += ms;
  return {};
}

/// Binds and warms up; `refused` says why not.
Status prepare(Candidate &c, const OpShape &shape, const Problem &problem) {
  auto outputs = ProblemOutputs::make(problem);
  if (!outputs) return tl::unexpected(outputs.error());
  c.outputs = std::move(*outputs);
  c.frame = std::make_unique<CallFrame>(static_cast<std::uint32_t>(problem.inputs.size()),
                                        static_cast<std::uint32_t>(problem.outputs.size()));
  bind(problem, c.outputs, *c.frame);
  sy_error error{};
  error.struct_size = sizeof(error);
  RunInfo info;
  // The first run decides, verifies where needed and warms up.
  if (c.engine->run(shape.op, c.frame->call(), &error, &info) != SY_OK) {
    c.refused = error.message;
    return {};
  }
  c.kernel = info.kernel;
  c.verified = info.verified;
  auto bound = c.engine->bind(shape.op, c.frame->call());
  if (!bound) {
    c.refused = bound.error().message;
    return {};
  }
  c.bound = std::make_unique<Bound>(std::move(*bound));
  if (auto ok = sample(c); !ok) return ok;
  constexpr double kSampleMs = 0.02;
  c.inner = std::clamp(static_cast<int>(kSampleMs / std::max(c.ms.front(), 1e-6)), 1, 1000);
  if (c.ms.front() < 1000 * kSampleMs) c.ms.clear();  // cheap: do not keep the cold sample
  return {};
}

Status measure(std::vector<std::unique_ptr<Candidate>> &candidates, double seconds) {
  constexpr std::size_t kMostSamples = 2000;
  for (bool any = true; any;) {
    any = false;
    for (auto &c : candidates) {
      if (!c->bound) continue;
      const bool done =
          !c->ms.empty() && (c->spent_ms >= seconds * 1e3 || c->ms.size() >= kMostSamples);
      if (done) continue;
      any = true;
      if (auto ok = sample(*c); !ok) return ok;
      if (auto ok = check_cancelled(); !ok) return ok;
    }
  }
  return {};
}

struct Row {
  Json json;
  std::string text;
};

Row report(const OpShape &shape, const Work &work,
           std::vector<std::unique_ptr<Candidate>> &candidates) {
  std::ranges::stable_sort(candidates, [](const auto &a, const auto &b) {
    if (a->ms.empty() || b->ms.empty()) return b->ms.empty() && !a->ms.empty();
    return a->median() < b->median();
  });
  double reference = 0;
  for (const auto &c : candidates)
    if (c->backend == "reference" && !c->ms.empty()) reference = c->median();
  Table table({"backend", "median", "min", "GB/s", "GFLOP/s", "x reference", "verified", "kernel"},
              "lrrrrrll");
  Row row;
  row.json["op"] = shape.op;
  row.json["shape"] = shape.shape.text();
  row.json["results"] = Json::array();
  row.json["refused"] = Json::array();
  std::string refused;
  for (const auto &c : candidates) {
    if (c->ms.empty()) {
      row.json["refused"].push_back(Json{{"backend", c->backend}, {"reason", c->refused}});
      refused += fmt::format("  {}: {}\n", c->backend, c->refused);
      continue;
    }
    const double median = c->median();
    const double factor = reference > 0 ? reference / median : 0;
    const double gb = work.bytes / median / 1e6, gflop = work.flops / median / 1e6;
    row.json["results"].push_back(
        Json{{"backend", c->backend},
             {"kernel", c->kernel},
             {"verified", c->verified},
             {"median_ms", median},
             {"min_ms", c->minimum()},
             {"samples", c->ms.size()},
             {"gb_per_s", gb},
             {"gflop_per_s", gflop},
             {"times_faster_than_reference", factor > 0 ? Json(factor) : Json(nullptr)}});
    table.add({c->backend, duration(median), duration(c->minimum()), fmt::format("{:.3g}", gb),
               fmt::format("{:.3g}", gflop), times_faster(factor), c->verified, c->kernel});
  }
  row.text = fmt::format("{} {}\n{}{}\n", shape.op, shape.shape.text(), table.text("  "), refused);
  return row;
}

Result<Row> bench_one(const OpShape &shape, const OpSpec &spec, std::uint64_t seed,
                      const std::vector<std::string> &backends, Rivals &rivals, double seconds) {
  show_status(fmt::format("{} {}", shape.op, shape.shape.text()));
  EndAtOnce scope;
  auto problem = spec.make_problem(shape.shape, seed);
  if (!problem) return tl::unexpected(problem.error());
  std::vector<std::unique_ptr<Candidate>> candidates;
  for (const std::string &backend : backends) {
    auto engine = rivals.get(backend);
    if (!engine) return tl::unexpected(engine.error());
    auto &c = *candidates.emplace_back(std::make_unique<Candidate>());
    c.backend = backend;
    c.engine = *engine;
    if (auto ok = prepare(c, shape, *problem); !ok) return tl::unexpected(ok.error());
  }
  const Work work = candidates.empty() ? Work{} : spec.work(candidates.front()->frame->call());
  if (auto ok = measure(candidates, seconds); !ok) return tl::unexpected(ok.error());
  return report(shape, work, candidates);
}

/// The shapes to measure; a first argument that is a shape belongs to no op and is refused.
Result<std::vector<OpShape>> plan(const Arguments &a, const Common &common) {
  std::vector<std::string> ops;
  if (a.op.empty())
    for (const OpSpec *spec : all_ops()) ops.emplace_back(spec->id());
  else
    ops.push_back(a.op);
  std::vector<OpShape> shapes;
  for (const std::string &op : ops) {
    if (auto index = find_op(canonical_op(op)); !index) return tl::unexpected(index.error());
    const auto texts = a.shapes.empty() ? default_shapes(canonical_op(op)) : a.shapes;
    for (const std::string &text : texts) {
      auto shape = parse_op_shape(op, {text}, common);
      if (!shape) return tl::unexpected(shape.error());
      shapes.push_back(std::move(*shape));
    }
  }
  return shapes;
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (!(a.seconds > 0 && a.seconds <= 600))
    return fail(ErrorCode::usage,
                fmt::format("--seconds {}: it must be above 0 and at most 600", a.seconds));
  auto shapes = plan(a, common);
  if (!shapes) return tl::unexpected(shapes.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  std::vector<std::string> backends = backend_names(*engine);
  const std::string &pin = common.require_backend.empty() ? common.backend : common.require_backend;
  if (!pin.empty()) backends = {pin};
  Options options = engine->options();
  options.pin.clear();
  Rivals rivals(std::move(options), *engine);

  Json doc = document("bench");
  doc["threads"] = engine->threads();
  doc["shapes"] = Json::array();
  std::string text;
  for (const OpShape &shape : *shapes) {
    const OpSpec &spec = *all_ops()[*find_op(shape.op)];
    auto row = bench_one(shape, spec, common.seed.value_or(0), backends, rivals, a.seconds);
    clear_status();
    if (!row) return tl::unexpected(row.error());
    doc["shapes"].push_back(std::move(row->json));
    text += row->text;
  }
  text += fmt::format("{} threads; backends took turns on the same data\n", engine->threads());
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_bench(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "bench", "Time every backend on generated problems",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("OP", a->op,
                  "quantize, dequantize, kmeans, kmeans.assign, kmeans.seed, attention; default all");
  app->add_option("SHAPE", a->shapes, "name=value,...; default: a few typical ones");
  app->add_option("--seconds", a->seconds, "For each backend and shape; default 0.3")
      ->type_name("S");
}

}  // namespace switchyard::cli

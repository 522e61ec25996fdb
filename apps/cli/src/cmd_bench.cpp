// SPDX-License-Identifier: Apache-2.0
// switchyard bench [OP] [SHAPE...]: times every backend on the same generated problems,
// interleaved.
#include <fmt/format.h>

#include <chrono>

#include "bench_file.hpp"
#include "bench_plan.hpp"
#include "cancel.hpp"
#include "machine/limits.hpp"
#include "machine/machine.hpp"
#include "op/op_spec.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// Integers of the operations that have an option of their own, for sweeps.
constexpr const char *kDimensions[] = {"n", "rows", "d", "k", "b", "hq", "hkv", "lq", "lkv"};

struct Arguments {
  std::string op;
  std::vector<std::string> shapes;
  std::map<std::string, std::string> dimensions;
  std::string seconds = "0.3", budget, resume, label;
  bool csv = false;
};

/// What is left of --budget, spread over what is left to do.
class Clockwork {
 public:
  Clockwork(double seconds, std::optional<double> budget) : seconds_(seconds), budget_(budget) {}
  bool over() const { return budget_ && spent() >= *budget_; }
  /// For one backend on one shape. A tenth is for data, warming up and comparing.
  double share(std::size_t shapes, std::size_t backends) const {
    if (!budget_) return seconds_;
    const double left = 0.9 * std::max(*budget_ - spent(), 0.0);
    return std::min(seconds_,
                    left / static_cast<double>(std::max<std::size_t>(shapes * backends, 1)));
  }
  double spent() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  double seconds_;
  std::optional<double> budget_;
  Clock::time_point start_ = Clock::now();
};

std::string bound_of(const BenchRow &row, const BenchResult &r, const MachineLimits *limits) {
  if (limits == nullptr) return "";
  return find_bottleneck(*limits, row.bytes, row.flops, r.median_ms / 1e3, r.threads).text();
}

std::string row_text(const BenchRow &row, const MachineLimits *limits) {
  double reference = 0;
  for (const BenchResult &r : row.results)
    if (r.backend == "reference") reference = r.median_ms;
  Table table({"backend", "min", "median", "p95", "GB/s", "GFLOP/s", "x reference", "answer",
               "kernel", limits != nullptr ? "limited by" : ""},
              "lrrrrrrlll");
  std::string refused;
  for (const BenchResult &r : row.results) {
    if (!r.refused.empty()) {
      refused += fmt::format("  {}: {}\n", r.backend, r.refused);
      continue;
    }
    if (!r.wrong.empty()) refused += fmt::format("  WRONG: {}: {}\n", r.backend, r.wrong);
    table.add({r.backend, duration(r.min_ms), duration(r.median_ms), duration(r.p95_ms),
               fmt::format("{:.3g}", row.bytes / r.median_ms / 1e6),
               fmt::format("{:.3g}", row.flops / r.median_ms / 1e6),
               times_faster(reference > 0 ? reference / r.median_ms : 0),
               !r.wrong.empty() ? "WRONG"
               : r.compared     ? "right"
                                : r.verified,
               r.kernel, bound_of(row, r, limits)});
  }
  return fmt::format("{} {}\n{}{}\n", row.op, row.shape, table.text("  "), refused);
}

std::string quoted(const std::string &text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

std::string csv_text(const std::vector<BenchRow> &rows) {
  std::string out =
      "op,shape,backend,kernel,verified,compared,wrong,threads,samples,min_ms,median_ms,p95_ms,"
      "gb_per_s,gflop_per_s,refused\n";
  for (const BenchRow &row : rows)
    for (const BenchResult &r : row.results) {
      out += fmt::format("{},{},{},", row.op, quoted(row.shape), quoted(r.backend));
      if (!r.refused.empty())
        out += ",,,,,,,,,,," + quoted(r.refused) + "\n";
      else
        out += fmt::format("{},{},{},{},{},{},{:.9g},{:.9g},{:.9g},{:.6g},{:.6g},\n",
                           quoted(r.kernel), r.verified, r.compared ? 1 : 0, quoted(r.wrong),
                           r.threads, r.samples, r.min_ms, r.median_ms, r.p95_ms,
                           row.bytes / r.median_ms / 1e6, row.flops / r.median_ms / 1e6);
    }
  return out;
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
    std::vector<std::string> texts = a.shapes;
    if (texts.empty() && a.dimensions.empty()) texts = default_shapes(canonical_op(op));
    if (texts.empty()) texts.emplace_back();
    for (const std::string &text : texts) {
      auto some = expand(op, text, a.dimensions, common);
      if (!some) return tl::unexpected(some.error());
      shapes.insert(shapes.end(), some->begin(), some->end());
    }
  }
  return shapes;
}

struct Times {
  double seconds = 0;
  std::optional<double> budget;
};

Result<Times> times_of(const Arguments &a) {
  auto seconds = parse_seconds("--seconds", a.seconds);
  if (!seconds) return tl::unexpected(seconds.error());
  Times out{*seconds, std::nullopt};
  if (a.budget.empty()) return out;
  auto budget = parse_seconds("--budget", a.budget);
  if (!budget) return tl::unexpected(budget.error());
  out.budget = *budget;
  return out;
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (a.csv && common.json)
    return fail(ErrorCode::usage, "--csv and --json: one document at a time");
  auto times = times_of(a);
  if (!times) return tl::unexpected(times.error());
  auto shapes = plan(a, common);
  if (!shapes) return tl::unexpected(shapes.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  const std::string &pin = common.require_backend.empty() ? common.backend : common.require_backend;
  const std::vector<std::string> backends =
      pin.empty() ? backend_names(*engine) : std::vector<std::string>{pin};
  const std::uint64_t seed = common.seed.value_or(0);
  BenchFile file{BenchFile::describe(*engine, seed, a.label), {}};
  if (!a.resume.empty()) {
    auto opened = BenchFile::open(a.resume, std::move(file.head));
    if (!opened) return tl::unexpected(opened.error());
    file = std::move(*opened);
  }
  const auto limits = cached_limits(resolve_cache_dir(engine->options().cache_dir));

  Rivals rivals(engine->options(), *engine);
  const Clockwork clock(times->seconds, times->budget);
  std::vector<BenchRow> rows;
  std::vector<std::string> left;  // what --budget had no time for
  std::size_t resumed = 0;
  for (std::size_t i = 0; i < shapes->size(); ++i) {
    const OpShape &shape = (*shapes)[i];
    if (const BenchRow *known = file.find(shape)) {
      rows.push_back(*known);
      ++resumed;
      continue;
    }
    if (clock.over()) {
      left.push_back(shape.op + " " + shape.shape.text());
      continue;
    }
    show_status(fmt::format("[{}/{}, {:.0f} s] {} {}", i + 1, shapes->size(), clock.spent(),
                            shape.op, shape.shape.text()));
    auto row = bench_shape(shape, seed, backends, rivals,
                           clock.share(shapes->size() - i, backends.size()));
    clear_status();
    if (!row) return tl::unexpected(row.error());
    rows.push_back(*row);
    file.rows.push_back(std::move(*row));
    if (!a.resume.empty())
      if (auto ok = file.save(a.resume); !ok) return tl::unexpected(ok.error());
  }

  bool right = true;
  Json doc = document("bench");
  doc.update(file.head);
  doc["threads"] = engine->threads();
  doc["resumed"] = resumed;
  doc["left_out"] = left;
  doc["shapes"] = Json::array();
  std::string text;
  for (const BenchRow &row : rows) {
    Json json = row.json();
    for (std::size_t i = 0; i < json["results"].size(); ++i)
      json["results"][i]["limited_by"] = bound_of(row, row.results[i], limits ? &*limits : nullptr);
    doc["shapes"].push_back(std::move(json));
    text += row_text(row, limits ? &*limits : nullptr);
    for (const BenchResult &r : row.results) right = right && r.wrong.empty();
  }
  text += fmt::format("{} threads; backends took turns on the same data\n", engine->threads());
  if (resumed > 0) text += fmt::format("{} of {} shapes from {}\n", resumed, rows.size(), a.resume);
  if (!left.empty())
    text +=
        fmt::format("the budget of {} was over before {} more shapes{}\n", a.budget, left.size(),
                    a.resume.empty() ? "; --resume FILE would keep what is done" : "");
  print_result(common, doc, a.csv ? csv_text(rows) : text);
  return right ? 0 : exit_code(ErrorCode::verification);
}

}  // namespace

void add_bench(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "bench", "Time every backend on generated problems",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("OP", a->op,
                  "quantize, dequantize, kmeans, kmeans.assign, kmeans.seed, attention, matmul, "
                  "rope, rms_norm, "
                  "layer_norm, swiglu, gelu; default all");
  app->add_option(
      "SHAPE", a->shapes,
      "name=value,...; a value may be a sweep LOW..HIGH[:FACTOR|:+STEP]; default: a few "
      "typical ones");
  for (const char *name : kDimensions)
    app->add_option_function<std::string>(
           std::string("--") + name,
           [a, name](const std::string &value) { a->dimensions[name] = value; },
           fmt::format("{} of every shape; may be a sweep such as 1e4..1e8:10", name))
        ->type_name("N|SWEEP")
        ->group("Shapes");
  app->add_option("--seconds", a->seconds, "For each backend and shape; default 0.3")
      ->type_name("S");
  app->add_option("--budget", a->budget, "For all of it, such as 30s: shapes share what is left")
      ->type_name("TIME");
  app->add_option("--resume", a->resume,
                  "Keep each shape's figures there as they come, and take them from there")
      ->type_name("FILE");
  app->add_option("--label", a->label, "What --resume's FILE says of itself")->type_name("TEXT");
  app->add_flag("--csv", a->csv, "One line for each backend and shape");
}

}  // namespace switchyard::cli

// SPDX-License-Identifier: Apache-2.0
// switchyard regret [OP]: how much slower the choices are than the best there was, on shapes that
// were not tuned on. The best is found by timing all candidates in turns.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/call_frame.hpp"
#include "cancel.hpp"
#include "op/op_spec.hpp"
#include "session.hpp"
#include "text.hpp"
#include "workload.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string op;
  int shapes = 60;
  int calls = 0;
  double seconds = 0.5;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// Medians of the turns with the given parity.
double half_median(const std::vector<double> &ns, std::size_t parity) {
  std::vector<double> half;
  for (std::size_t i = parity; i < ns.size(); i += 2) half.push_back(ns[i]);
  return half.empty() ? ns.front() : median(half);
}

struct Judged {
  std::string op, shape, chosen, oracle;
  double regret = 0, noise = 0, gap = 0;     ///< gap: of the runner-up to the oracle
  std::map<std::string, double> by_backend;  ///< regret of each backend's best kernel
};

Judged judge(const Measurement &m) {
  Judged out{m.op, m.shape, m.expected, "", 0, 0, INFINITY, {}};
  const auto best = std::ranges::min_element(m.candidates, {}, &Measurement::Candidate::median_ns);
  if (best == m.candidates.end()) return out;
  out.oracle = best->kernel;
  const Measurement::Candidate *even_best = nullptr;
  double odd_least = INFINITY;
  for (const auto &c : m.candidates) {
    const double regret = c.median_ns / best->median_ns - 1;
    if (c.kernel == m.expected) out.regret = regret;
    if (c.kernel != out.oracle) out.gap = std::min(out.gap, regret);
    const auto [it, fresh] = out.by_backend.try_emplace(c.backend, regret);
    if (!fresh) it->second = std::min(it->second, regret);
    if (c.hopeless) continue;
    if (even_best == nullptr || half_median(c.ns, 0) < half_median(even_best->ns, 0))
      even_best = &c;
    odd_least = std::min(odd_least, half_median(c.ns, 1));
  }
  if (even_best != nullptr) out.noise = half_median(even_best->ns, 1) / odd_least - 1;
  return out;
}

/// Ordinary calls, as a program would make them.
Status warm_up(Engine &engine, const OpShape &shape, int calls, std::uint64_t seed) {
  const OpSpec &spec = *all_ops()[*find_op(shape.op)];
  if (auto known = engine.explain(shape.op, shape.shape.text()); !known)  // verdicts are in
    return tl::unexpected(known.error());
  const auto problem = spec.make_problem(shape.shape, seed);
  if (!problem) return tl::unexpected(problem.error());
  auto outputs = ProblemOutputs::make(*problem);
  if (!outputs) return tl::unexpected(outputs.error());
  CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                  static_cast<std::uint32_t>(problem->outputs.size()));
  bind(*problem, *outputs, frame);
  sy_error error{};
  error.struct_size = sizeof error;
  for (int i = 0; i < calls; ++i) {
    if (engine.run(shape.op, frame.call(), &error) != SY_OK)
      return fail(ErrorCode::backend, error.message);
    if (auto ok = check_cancelled(); !ok) return ok;
  }
  return {};
}

struct Summary {
  double mean = 0, p95 = 0, worst = 0;
};

Summary summary(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  Summary s;
  for (const double v : values) s.mean += v / static_cast<double>(values.size());
  const auto rank = static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(values.size())));
  s.p95 = values[std::max<std::size_t>(rank, 1) - 1];
  s.worst = values.back();
  return s;
}

Json to_json(const Summary &s) { return {{"mean", s.mean}, {"p95", s.p95}, {"worst", s.worst}}; }

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

void report(const Common &common, const Arguments &a, const std::vector<Judged> &all,
            double extra_share) {
  std::vector<double> regrets, noises;
  std::map<std::string, std::vector<double>> fixed;
  std::map<std::string, int> wins;
  Json doc = document("regret");
  Table wrong({"op", "shape", "chosen", "best", "slower"}, "llllr");
  Json shapes = Json::array();
  for (const Judged &j : all) {
    regrets.push_back(j.regret);
    noises.push_back(j.noise);
    for (const auto &[backend, regret] : j.by_backend) fixed[backend].push_back(regret);
    ++wins[j.oracle.substr(j.oracle.rfind('@') + 1)];
    shapes.push_back(Json{{"op", j.op},
                          {"shape", j.shape},
                          {"chosen", j.chosen},
                          {"oracle", j.oracle},
                          {"regret", j.regret},
                          {"noise", j.noise}});
    if (j.chosen != j.oracle) wrong.add({j.op, j.shape, j.chosen, j.oracle, percent(j.regret)});
  }
  const Summary s = summary(regrets), noise = summary(noises);
  doc.update(to_json(s));
  doc["count"] = all.size();
  doc["calls_before"] = a.calls;
  doc["oracle_noise"] = to_json(noise);
  doc["wins"] = Json::object();
  doc["fixed_backends"] = Json::object();
  Table others({"always", "mean regret", "worst", "best on"}, "lrrr");
  for (const auto &[backend, values] : fixed) {
    if (values.size() != all.size()) continue;  // it cannot answer every shape
    const Summary f = summary(values);
    doc["fixed_backends"][backend] = to_json(f);
    others.add({backend, percent(f.mean), percent(f.worst), std::to_string(wins[backend])});
  }
  for (const auto &[backend, count] : wins) doc["wins"][backend] = count;
  if (extra_share >= 0) doc["exploration_share"] = extra_share;
  doc["shapes"] = std::move(shapes);
  std::string text = fmt::format(
      "regret over {} shapes: mean {}, 95th percentile {}, worst {}\n"
      "the best against itself (noise): mean {}\n",
      all.size(), percent(s.mean), percent(s.p95), percent(s.worst), percent(noise.mean));
  if (extra_share >= 0)
    text += fmt::format("trying others cost {} of the time of {} calls a shape\n",
                        percent(extra_share), a.calls);
  text += "\n" + others.text();
  std::string elsewhere;
  for (const auto &[backend, count] : wins)
    if (!doc["fixed_backends"].contains(backend))
      elsewhere += fmt::format("{}{} is best on {}", elsewhere.empty() ? "" : ", ", backend, count);
  if (!elsewhere.empty()) text += elsewhere + " (it does not answer every shape)\n";
  text += "\nother choices than the best:\n" + wrong.text();
  print_result(common, doc, text);
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (a.shapes < 1 || a.shapes > 100'000)
    return fail(ErrorCode::usage, fmt::format("--shapes {}: 1 to 100000", a.shapes));
  if (a.calls < 0 || a.calls > 1'000'000)
    return fail(ErrorCode::usage, fmt::format("--calls {}: 0 to 1000000", a.calls));
  const auto ops = workload_ops(a.op);
  if (!ops) return tl::unexpected(ops.error());
  auto options = make_options(common);
  if (!options) return tl::unexpected(options.error());
  // A cold start knows nothing but what its own calls tell.
  if (a.calls > 0) options->cache_dir = "";
  auto engine = Engine::create(std::move(*options));
  if (!engine) return tl::unexpected(engine.error());

  std::mt19937_64 random(common.seed.value_or(7));
  std::vector<OpShape> shapes;
  for (std::size_t i = 0; i < ops->size(); ++i) {
    const int share = a.shapes / static_cast<int>(ops->size()) +
                      (static_cast<int>(i) < a.shapes % static_cast<int>(ops->size()) ? 1 : 0);
    for (OpShape &s : held_out((*ops)[i], share, random)) shapes.push_back(std::move(s));
  }
  std::vector<Judged> judged;
  for (const OpShape &shape : shapes) {
    show_status(
        fmt::format("{} of {}: {} {}", judged.size(), shapes.size(), shape.op, shape.shape.text()));
    if (a.calls > 0)
      if (auto ok = warm_up(*engine, shape, a.calls, common.seed.value_or(7)); !ok)
        return tl::unexpected(ok.error());
    MeasureOptions measure;
    measure.seconds = a.seconds;
    measure.rounds = 21;
    measure.seed = common.seed.value_or(7);
    measure.go_on = [] { return !cancelled(); };
    auto m = engine->measure(shape.op, shape.shape.text(), measure);
    clear_status();
    if (!m) return tl::unexpected(m.error());
    judged.push_back(judge(*m));
  }
  report(common, a, judged, a.calls > 0 ? engine->metrics().exploration_share : -1);
  return 0;
}

}  // namespace

void add_regret(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app =
      add_command(program, nullptr, "regret", "How far the choices are from the best on new shapes",
                  [a, &program] { return run(*a, program.common); });
  app->add_option("OP", a->op, "Default: all operations");
  app->add_option("--shapes", a->shapes, "How many; default 60")->type_name("N");
  app->add_option("--calls", a->calls,
                  "Start without stored timings and make so many ordinary calls of each shape "
                  "before the choice is judged; default 0: judge the first choice, as tuned")
      ->type_name("N");
  app->add_option("--seconds", a->seconds, "For each shape's candidates; default 0.5")
      ->type_name("S");
}

}  // namespace switchyard::cli

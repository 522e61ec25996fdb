// SPDX-License-Identifier: Apache-2.0
// `switchyard bench`, and benchmarks/run.py beside other libraries.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "op/shape.hpp"
#include "report.hpp"

namespace switchyard::cli::report {
namespace {

constexpr std::size_t kLeastSizes = 3, kMostCharts = 6;

struct Row {
  const Json *doc = nullptr;
  Shape shape;
};

double value_of(const Row &row, const std::string &name) {
  const std::string *text = row.shape.find(name);
  if (text == nullptr) return 0;
  const auto value = row.shape.integer(name, 0, 1, INT64_MAX);
  return value ? static_cast<double>(*value) : 0;
}

/// The shape without one of its dimensions.
std::string without(const Row &row, const std::string &name) {
  std::string out;
  for (const auto &[key, value] : row.shape.items())
    if (key != name) out += (out.empty() ? "" : ", ") + key + "=" + value;
  return out;
}

/// Rows that differ in `axis` alone, with enough sizes to make a line.
std::vector<std::pair<std::string, std::vector<Row>>> sweeps(const std::vector<Row> &rows,
                                                             const std::string &axis) {
  std::map<std::string, std::vector<Row>> groups;
  for (const Row &row : rows)
    if (value_of(row, axis) > 0) groups[without(row, axis)].push_back(row);
  std::vector<std::pair<std::string, std::vector<Row>>> out;
  for (auto &[rest, group] : groups) {
    std::set<double> sizes;
    for (const Row &row : group) sizes.insert(value_of(row, axis));
    if (sizes.size() >= kLeastSizes) out.emplace_back(rest, std::move(group));
  }
  return out;
}

void add_lines(Report &report, const std::string &op, const std::string &axis,
               const std::string &rest, std::vector<Row> rows) {
  std::ranges::stable_sort(rows, {}, [&](const Row &r) { return value_of(r, axis); });
  LineChart chart;
  chart.x_label = axis;
  for (const Row &row : rows)
    for (const Json &r : member(*row.doc, "results")) {
      const std::string name = words(r, "backend");
      auto series = std::ranges::find(chart.series, name, &LineChart::Series::name);
      if (series == chart.series.end()) {
        chart.series.push_back({name, {}});
        series = std::prev(chart.series.end());
      }
      if (number(r, "median_ms") > 0)
        series->points.push_back({value_of(row, axis), number(r, "median_ms")});
    }
  chart.find_crossovers();
  std::string changes;
  for (const auto &c : chart.crossovers)
    changes += fmt::format(" From {} = {} on {} is faster than {}.", axis,
                           in_words(c.x, Unit::number), c.to, c.from);
  report.charts.push_back({fmt::format("{}: time over {}", op, axis),
                           fmt::format("{}. Medians; backends took turns on the same data.{}",
                                       rest.empty() ? "Defaults otherwise" : rest, changes),
                           std::move(chart)});
}

void add_op(Report &report, const std::string &op, std::vector<Row> rows) {
  std::set<std::string> names;
  for (const Row &row : rows)
    for (const auto &[name, value] : row.shape.items()) names.insert(name);
  // The dimension whose sweeps hold the most rows.
  std::string axis;
  std::size_t held = 0;
  for (const std::string &name : names) {
    std::size_t count = 0;
    for (const auto &[rest, group] : sweeps(rows, name)) count += group.size();
    if (count > held) {
      axis = name;
      held = count;
    }
  }
  if (!axis.empty()) {
    auto groups = sweeps(rows, axis);
    if (groups.size() > kMostCharts) groups.resize(kMostCharts);
    for (auto &[rest, group] : groups) {
      std::erase_if(rows, [&](const Row &row) {
        return std::ranges::find(group, row.doc, &Row::doc) != group.end();
      });
      add_lines(report, op, axis, rest, std::move(group));
    }
  }
  if (rows.empty()) return;
  DotChart chart{"median time of a call", "95th percentile", Unit::milliseconds, 0, {}};
  for (const Row &row : rows) {
    DotChart::Row out{words(*row.doc, "shape"), {}};
    for (const Json &r : member(*row.doc, "results"))
      if (number(r, "median_ms") > 0)
        out.dots.push_back({words(r, "backend"), number(r, "median_ms"), number(r, "p95_ms")});
    chart.rows.push_back(std::move(out));
  }
  report.charts.push_back(
      {op + ": time by backend",
       "Medians, with a line to the 95th percentile; backends took turns on the "
       "same data. Further left is faster.",
       std::move(chart)});
}

/// Each kernel at its best.
void add_roofline(Report &report, const Json &rows, int threads) {
  Roofline roof = roofline_of(report, threads);
  if (roof.levels.empty() || roof.peaks.empty()) return;
  std::map<std::string, Roofline::Point> best;  // by kernel
  for (const Json &row : rows)
    for (const Json &r : member(row, "results")) {
      const double flops = number(row, "flops"), bytes = number(row, "bytes");
      const double gflops = flops / number(r, "median_ms") / 1e6;
      if (!(flops > 0 && bytes > 0 && std::isfinite(gflops))) continue;
      auto &point = best[words(r, "kernel")];
      if (gflops > point.gflops)
        point = {words(r, "backend"), words(row, "op"), flops / bytes, gflops,
                 words(r, "limited_by")};
    }
  for (auto &[kernel, point] : best) roof.points.push_back(std::move(point));
  if (roof.points.empty()) return;
  const int team = roof.threads;
  report.charts.push_back(
      {"Roofline",
       fmt::format("Every kernel at the shape where it does most arithmetic a second. Lines: what "
                   "the machine was measured to do at best with {} threads (info --limits).",
                   team),
       std::move(roof)});
}

}  // namespace

void add_bench(Report &report, const Json &bench) {
  std::map<std::string, std::vector<Row>> by_op;
  std::map<std::string, int> wins;
  std::size_t shapes = 0, wrong = 0;
  double most = 0;
  for (const Json &row : member(bench, "shapes")) {
    auto shape = Shape::parse(words(row, "shape"));
    if (!shape) continue;
    ++shapes;
    by_op[words(row, "op")].push_back({&row, std::move(*shape)});
    const Json *fastest = nullptr;
    for (const Json &r : member(row, "results")) {
      if (member(r, "wrong").is_string()) ++wrong;
      if (fastest == nullptr || number(r, "median_ms") < number(*fastest, "median_ms"))
        fastest = &r;
      most = std::max(most, number(r, "times_faster_than_reference"));
    }
    if (fastest != nullptr) ++wins[words(*fastest, "backend")];
  }
  std::vector<std::pair<std::string, int>> order(wins.begin(), wins.end());
  std::ranges::stable_sort(order, std::greater{}, &std::pair<std::string, int>::second);
  std::string who;
  for (const auto &[name, count] : order)
    who += fmt::format("{}{} on {}", who.empty() ? "" : ", ", name, count);
  std::string sentence = fmt::format("Of {} shape{} the fastest backend is {}", shapes,
                                     shapes == 1 ? "" : "s", who.empty() ? "none" : who);
  if (most > 1)
    sentence += fmt::format("; plain loops are beaten by up to {}", in_words(most, Unit::times));
  if (wrong > 0) sentence += fmt::format("; {} ANSWERS ARE WRONG", wrong);
  report.sentences.push_back(sentence + ".");
  for (auto &[op, rows] : by_op) add_op(report, op, std::move(rows));
  const Json &head = member(bench, "head");
  const double threads =
      bench.contains("threads") ? number(bench, "threads") : number(head, "threads");
  add_roofline(report, member(bench, "shapes"), static_cast<int>(threads));
}

void add_peers(Report &report, const Json &peers) {
  std::vector<std::string> groups;
  for (const Json &c : member(peers, "cases"))
    if (std::ranges::find(groups, words(c, "group")) == groups.end())
      groups.push_back(words(c, "group"));
  std::size_t cases = 0, first = 0, differ = 0;
  for (const std::string &group : groups) {
    DotChart chart{"time as a multiple of Switchyard's", "", Unit::times, 1, {}};
    for (const Json &c : peers["cases"]) {
      if (words(c, "group") != group) continue;
      differ += member(c, "disagreement").size();
      const Json &sides = member(c, "sides");
      if (!sides.is_array() || sides.size() < 2) continue;
      const double own = number(sides[0], "min_ms");
      if (!(own > 0)) continue;
      DotChart::Row row{words(c, "case"), {}};
      bool fastest = true;
      for (const Json &side : sides) {
        const double ratio = number(side, "min_ms") / own;
        row.dots.push_back({words(side, "name"), ratio, 0});
        fastest = fastest && ratio >= 1;
      }
      ++cases;
      first += fastest ? 1 : 0;
      chart.rows.push_back(std::move(row));
    }
    if (!chart.rows.empty())
      report.charts.push_back({group + " beside other libraries",
                               "Minima of interleaved turns on the same data in one process, equal "
                               "threads; right of the line is slower than Switchyard.",
                               std::move(chart)});
  }
  const Json &dispatch = member(peers, "dispatch");
  DotChart calls{"processor time of one call", "", Unit::milliseconds, 0, {}};
  if (dispatch.is_object())
    for (const auto &[name, figures] : dispatch.items())
      if (number(figures, "min_ns") > 0)
        calls.rows.push_back({fmt::format("{} ({})", name, words(figures, "from")),
                              {{name.starts_with("torch")  ? "torch"
                                : name.starts_with("onnx") ? "onnxruntime"
                                                           : "switchyard",
                                number(figures, "min_ns") / 1e6, 0}}});
  if (!calls.rows.empty())
    report.charts.push_back(
        {"The smallest call",
         "What the way from the caller to a kernel and back costs, on 32 values.",
         std::move(calls)});
  std::string sentence = fmt::format(
      "Switchyard is the fastest in {} of {} cases beside other "
      "libraries, on equal threads and the same data",
      first, cases);
  if (differ > 0) sentence += fmt::format("; {} ANSWERS DIFFER and were not timed", differ);
  report.sentences.push_back(sentence + ".");
}

}  // namespace switchyard::cli::report

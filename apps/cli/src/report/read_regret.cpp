// SPDX-License-Identifier: Apache-2.0
// `switchyard regret`, and comparisons of documents.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report.hpp"

namespace switchyard::cli::report {
namespace {

constexpr double kLeastShare = 1e-4;  // the left end of a logarithmic axis of shares
constexpr std::size_t kMostRows = 40;
constexpr double kChange = 0.05, kNoChange = 0.01;

struct Figure {
  std::string key;
  double ms = 0;
};

/// Everything in a document that has a name and a time.
std::vector<Figure> figures(const Source &s) {
  std::vector<Figure> out;
  const auto add = [&](std::string key, double ms) {
    if (ms > 0) out.push_back({std::move(key), ms});
  };
  for (const Json &job : member(s.doc, "jobs"))
    add("job " + words(job, "name"), number(job, "time_ms"));
  for (const Json &job : member(member(s.doc, "run"), "jobs"))
    add("job " + words(job, "name"), number(job, "time_ms"));
  if (s.kind == Source::Kind::bench)
    for (const Json &row : member(s.doc, "shapes"))
      for (const Json &r : member(row, "results"))
        add(fmt::format("{} {} on {}", words(row, "op"), words(row, "shape"), words(r, "backend")),
            number(r, "median_ms"));
  if (s.kind == Source::Kind::peers)
    for (const Json &c : member(s.doc, "cases"))
      for (const Json &side : member(c, "sides"))
        add(fmt::format("{}: {}, {}", words(c, "group"), words(c, "case"), words(side, "name")),
            number(side, "min_ms"));
  if (s.kind == Source::Kind::metrics && member(s.doc, "operations").is_object())
    for (const auto &[op, backends] : s.doc["operations"].items())
      for (const auto &[backend, m] : backends.items())
        for (const Json &size : member(m, "sizes")) {
          // The size classes of the metrics: steps of four.
          const double step =
              std::pow(4.0, std::floor(std::log(number(size, "bytes")) / std::log(4.0)));
          add(fmt::format("{}, {} a call and more, on {}", op, in_words(step, Unit::bytes),
                          backend),
              number(size, "avg_time_ms"));
        }
  return out;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

std::string machine_of(const Source &s) {
  const Json &machine = member(s.doc, "machine");
  if (machine.is_string()) return machine.get<std::string>();
  if (machine.is_object())
    return words(machine, machine.contains("fingerprint") ? "fingerprint" : "cpu");
  return words(member(member(s.doc, "head"), "machine"), "fingerprint");
}

/// Numbers within names count as numbers: n=256 comes before n=1024.
struct ByNumbers {
  bool operator()(std::string_view a, std::string_view b) const {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto number = [&](std::string_view text) {
      return text.substr(
          0, static_cast<std::size_t>(std::ranges::find_if_not(text, digit) - text.begin()));
    };
    while (!a.empty() && !b.empty()) {
      const std::string_view x = number(a), y = number(b);
      if (x.size() != y.size() && !x.empty() && !y.empty()) return x.size() < y.size();
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
    return a.size() < b.size();
  }
};

}  // namespace

void add_regret(Report &report, const Json &regret) {
  DotChart chart{
      "time lost against the best of all candidates", "95th percentile", Unit::share, 0, {}};
  const auto row = [&](const std::string &label, const std::string &who, double mean, double p95) {
    chart.rows.push_back({label, {{who, std::max(mean, kLeastShare), std::max(p95, kLeastShare)}}});
  };
  row("the choices", "switchyard", number(regret, "mean"), number(regret, "p95"));
  const Json &noise = member(regret, "oracle_noise");
  if (noise.is_object())
    row("the best against itself: noise", "noise", number(noise, "mean"), number(noise, "p95"));
  std::map<std::string, std::vector<double>> by_op;
  Table other{
      "Choices that were not the best", "", {"lllr", {{"shape", "chosen", "best", "slower"}}}};
  for (const Json &s : member(regret, "shapes")) {
    by_op[words(s, "op")].push_back(number(s, "regret"));
    if (words(s, "chosen") != words(s, "oracle"))
      other.cells.rows.push_back({words(s, "op") + " " + words(s, "shape"), words(s, "chosen"),
                                  words(s, "oracle"), in_words(number(s, "regret"), Unit::share)});
  }
  for (auto &[op, values] : by_op) {
    std::ranges::sort(values);
    double sum = 0;
    for (const double v : values) sum += v;
    row(fmt::format("the choices on {} shapes of {}", values.size(), op), "switchyard",
        sum / static_cast<double>(values.size()), values[(values.size() - 1) * 95 / 100]);
  }
  double best = INFINITY;
  std::string fixed;
  const Json &others = member(regret, "fixed_backends");
  if (others.is_object())
    for (const auto &[name, f] : others.items()) {
      row("always " + name, name, number(f, "mean"), number(f, "p95"));
      if (number(f, "mean") < best) {
        best = number(f, "mean");
        fixed = name;
      }
    }
  std::string sentence = fmt::format(
      "On {:.0f} shapes that were not tuned on, the choices cost {} more time than the best on "
      "average ({} at the 95th percentile)",
      number(regret, "count"), in_words(number(regret, "mean"), Unit::share),
      in_words(number(regret, "p95"), Unit::share));
  if (!fixed.empty())
    sentence += fmt::format("; always {}, the best single backend, would cost {}", fixed,
                            in_words(best, Unit::share));
  report.sentences.push_back(sentence + ".");
  report.charts.push_back(
      {"Regret",
       "Mean, with a line to the 95th percentile. Further left is better; 0.01 % "
       "stands for that and less.",
       std::move(chart)});
  other.folded = true;
  if (other.cells.rows.size() > 1) report.tables.push_back(std::move(other));
}

Result<Report> compare(const std::vector<Source> &sources) {
  if (sources.size() < 2)
    return fail(ErrorCode::usage,
                "--compare needs two files or more: the first is what the others "
                "are held against");
  Report report;
  report.title = "Comparison";
  for (const Source &s : sources) report.sources.emplace_back(s.path, kind_name(s.kind));
  // By their names, unless that says too little.
  std::vector<std::string> names;
  for (const Source &s : sources)
    names.push_back(std::ranges::count(sources, file_name(s), file_name) > 1 ? s.path
                                                                             : file_name(s));
  std::map<std::string, double> base;
  for (const Figure &f : figures(sources.front())) base.emplace(f.key, f.ms);
  std::map<std::string, DotChart::Row, ByNumbers> rows;
  for (std::size_t i = 1; i < sources.size(); ++i) {
    std::vector<double> ratios;
    std::size_t slower = 0, faster = 0;
    for (const Figure &f : figures(sources[i])) {
      const auto known = base.find(f.key);
      if (known == base.end()) continue;
      const double ratio = f.ms / known->second;
      ratios.push_back(ratio);
      slower += ratio > 1 + kChange ? 1 : 0;
      faster += ratio < 1 / (1 + kChange) ? 1 : 0;
      auto &row = rows[f.key];
      row.label = f.key;
      row.dots.push_back({names[i], ratio, 0});
    }
    if (ratios.empty())
      return fail(ErrorCode::usage, fmt::format("{} and {} have no measurement in common",
                                                sources.front().path, sources[i].path));
    report.sentences.push_back(fmt::format(
        "{} takes {} the time of {} by the median of {} measurements: {} slower by more than 5 %, "
        "{} faster{}.",
        names[i], in_words(median(ratios), Unit::times), names.front(), ratios.size(), slower,
        faster,
        machine_of(sources[i]) == machine_of(sources.front())
            ? ""
            : "; they come from different machines"));
  }
  const auto change = [](const DotChart::Row &row) {
    double most = 0;
    for (const auto &dot : row.dots) most = std::max(most, std::abs(std::log(dot.value)));
    return most;
  };
  DotChart chart{"time as a multiple of that in " + names.front(), "", Unit::times, 1, {}};
  for (auto &[key, row] : rows) chart.rows.push_back(std::move(row));
  std::ranges::stable_sort(chart.rows, std::greater{}, change);
  const std::size_t all = chart.rows.size();
  const auto still = std::ranges::find_if(
      chart.rows, [&](const auto &row) { return change(row) < std::log1p(kNoChange); });
  const auto moved = static_cast<std::size_t>(still - chart.rows.begin());
  chart.rows.resize(std::clamp<std::size_t>(moved, 1, kMostRows));
  report.charts.push_back(
      {"What changed",
       fmt::format(
           "{} of {} times changed by more than 1 %; the largest changes first, {} at most. "
           "Right of the line is slower.",
           moved, all, kMostRows),
       std::move(chart)});
  return report;
}

}  // namespace switchyard::cli::report

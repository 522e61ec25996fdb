// SPDX-License-Identifier: Apache-2.0
// Jobs of a run, and the counters of an engine.
#include <fmt/format.h>

#include <algorithm>

#include "io/file.hpp"
#include "report.hpp"

namespace switchyard::cli::report {
namespace {

constexpr std::uint64_t kLargestPicture = 32u << 20;
constexpr std::size_t kMostOps = 8, kMostDecisions = 60;

std::string plural(double n, const char *word) {
  return fmt::format("{:.0f} {}{}", n, word, n == 1 ? "" : "s");
}

void add_picture(Report &report, const Json &job) {
  const Json &files = member(job, "picture");
  Picture p{fmt::format("{} to {:.0f} colours", words(job, "name"), number(job, "k")),
            words(files, "before"),
            words(files, "after"),
            {},
            {},
            "before",
            fmt::format("after: {:.0f} colours", number(job, "k"))};
  if (p.before.empty() || p.after.empty()) return;
  auto before = read_text_file(p.before, kLargestPicture);
  auto after = read_text_file(p.after, kLargestPicture);
  if (!before || !after) return;  // moved or removed since
  p.before_bytes = std::move(*before);
  p.after_bytes = std::move(*after);
  report.pictures.push_back(std::move(p));
}

void add_memory(Report &report, const Json &jobs) {
  BarChart memory{Unit::bytes, "memory or size", {}};
  for (const Json &job : jobs) {
    BarChart::Row row{words(job, "name"), {}};
    for (const auto &[key, name] : {std::pair{"bytes_before", "before"},
                                    {"bytes_after", "after"},
                                    {"peak_memory_bytes", "held at most by the process"}})
      if (const double bytes = number(job, key); bytes > 0) row.bars.push_back({name, bytes});
    if (!row.bars.empty()) memory.rows.push_back(std::move(row));
  }
  if (!memory.rows.empty())
    report.charts.push_back({"Memory by job",
                             "Sizes of what was quantised before and after, and the most physical "
                             "memory that the process held while the job and its comparisons ran.",
                             std::move(memory)});
}

void add_jobs(Report &report, const Json &jobs) {
  Table table{
      "Jobs", "", {"lllrrl", {{"job", "operation", "backend", "time", "speed against", "result"}}}};
  DotChart times{"time of the job", "", Unit::milliseconds, 0, {}};
  for (const Json &job : jobs) {
    const std::string backend = words(job, "backend");
    const std::string gate = backend == "reference"           ? "the reference itself"
                             : words(job, "verified") == "no" ? "not verified"
                                                              : "verified";
    std::string faster, right = gate;
    DotChart::Row row{words(job, "name"), {{backend, number(job, "time_ms"), 0}}};
    for (const Json &c : member(job, "compared")) {
      const std::string other = words(c, "backend");
      faster += fmt::format("{}{} {}", faster.empty() ? "" : ", ",
                            in_words(number(c, "times_faster"), Unit::times), other);
      right += member(c, "equal") == Json(true) ? ", equals " + other : ", DIFFERS from " + other;
      if (other != backend) {
        // Where a part was compared, its ratio is scaled to the whole job.
        row.dots.push_back({other, number(job, "time_ms") * number(c, "times_faster"), 0});
      }
    }
    if (const Json &numpy = member(job, "numpy"); numpy.is_object()) {
      row.dots.push_back({"numpy", number(numpy, "time_ms"), 0});
      faster += fmt::format("{}{} NumPy", faster.empty() ? "" : ", ",
                            in_words(number(numpy, "times_faster"), Unit::times));
    }
    times.rows.push_back(std::move(row));
    table.cells.rows.push_back({words(job, "name"), words(job, "op"), backend,
                                in_words(number(job, "time_ms"), Unit::milliseconds), faster,
                                right});
  }
  report.tables.push_back(std::move(table));
  report.charts.push_back({"Time of each job",
                           "Medians. Other backends' times are their ratio on the data that was "
                           "compared, times the job's own time.",
                           std::move(times)});
}

double total_of(const Json &backends) {
  double total = 0;
  for (const Json &m : backends) total += number(m, "total_time_ms");
  return total;
}

/// Operations with the most time first.
std::vector<std::pair<std::string, const Json *>> by_time(const Json &operations) {
  std::vector<std::pair<std::string, const Json *>> out;
  if (operations.is_object())
    for (const auto &[op, backends] : operations.items())
      if (backends.is_object() && total_of(backends) > 0) out.emplace_back(op, &backends);
  std::ranges::stable_sort(out, std::greater{}, [](const auto &o) { return total_of(*o.second); });
  if (out.size() > kMostOps) out.resize(kMostOps);
  return out;
}

ShareChart::Row share_row(const std::string &label, const Json &backends) {
  ShareChart::Row row{label, {}};
  for (const auto &[name, m] : backends.items())
    if (const double ms = number(m, "total_time_ms"); ms > 0) row.parts.push_back({name, ms});
  std::ranges::stable_sort(row.parts, std::greater{}, &ShareChart::Part::value);
  return row;
}

/// Mean time over the bytes of a call, for operations with several sizes.
void add_sizes(Report &report, const std::string &op, const Json &backends) {
  LineChart chart;
  chart.x_label = "least bytes that a call moves";
  chart.x_unit = Unit::bytes;
  std::size_t most = 0;
  for (const auto &[name, m] : backends.items()) {
    LineChart::Series series{name, {}};
    for (const Json &size : member(m, "sizes"))
      if (number(size, "bytes") > 0 && number(size, "avg_time_ms") > 0)
        series.points.push_back({number(size, "bytes"), number(size, "avg_time_ms")});
    std::ranges::sort(series.points, {}, &LineChart::Point::x);
    most = std::max(most, series.points.size());
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  if (most < 2) return;
  report.charts.push_back({"Time over size: " + op,
                           "Mean of the timed calls of each size and backend, exploring included: "
                           "calls of a size may differ in format or shape.",
                           std::move(chart)});
}

/// Each kernel at the size that took most of its time.
void add_roofline(Report &report, const std::vector<std::pair<std::string, const Json *>> &ops) {
  Roofline roof = roofline_of(report, 0);
  if (roof.levels.empty() || roof.peaks.empty()) return;
  for (const auto &[op, backends] : ops)
    for (const auto &[name, m] : backends->items()) {
      const Json *most = nullptr;
      double longest = 0;
      for (const Json &size : member(m, "sizes")) {
        const double spent = number(size, "timed_count") * number(size, "avg_time_ms");
        if (spent > longest && number(size, "flops") > 0 && number(size, "bytes") > 0) {
          most = &size;
          longest = spent;
        }
      }
      if (most == nullptr) continue;
      const double ms = number(*most, "avg_time_ms"), flops = number(*most, "flops");
      roof.points.push_back(
          {name, op, flops / number(*most, "bytes"), flops / ms / 1e6, words(*most, "text")});
    }
  if (roof.points.empty()) return;
  const int threads = roof.threads;
  report.charts.push_back(
      {"Roofline",
       fmt::format("Each backend's kernels by operation, at the size that took most of their time. "
                   "Lines: what this machine was measured to do at best with {} threads "
                   "(info --limits); backends of one thread have lower ones.",
                   threads),
       std::move(roof)});
}

}  // namespace

void add_run(Report &report, const Json &run) {
  const Json &jobs = member(run, "jobs");
  if (!jobs.is_array() || jobs.empty()) return;
  double total = 0, best = 0, worst = 1;
  std::string who, than, slow, slower_than;
  bool compared = false, right = true;
  for (const Json &job : jobs) {
    total += number(job, "time_ms");
    add_picture(report, job);
    for (const Json &c : member(job, "compared")) {
      compared = true;
      right = right && member(c, "equal") == Json(true);
      if (number(c, "times_faster") > best && words(c, "backend") != words(job, "backend")) {
        best = number(c, "times_faster");
        who = words(job, "name");
        than = words(c, "backend");
      }
      if (const double f = number(c, "times_faster"); f > 0 && f < worst) {
        worst = f;
        slow = words(job, "name");
        slower_than = words(c, "backend");
      }
    }
  }
  std::string sentence = fmt::format("{} took {}", plural(static_cast<double>(jobs.size()), "job"),
                                     in_words(total, Unit::milliseconds));
  if (compared) sentence += right ? " and every compared result is right" : ", but RESULTS DIFFER";
  if (best > 1)
    sentence += fmt::format("; the largest gain is {} over {} ({})", in_words(best, Unit::times),
                            than, who);
  // Within a tenth it is noise, or a backend beside itself.
  if (worst < 1 / 1.1)
    sentence += fmt::format("; {} took {} the time of {}", slow, in_words(1 / worst, Unit::times),
                            slower_than);
  report.sentences.push_back(sentence + ".");
  add_jobs(report, jobs);
  add_memory(report, jobs);
  for (const Json &r : member(run, "recommendations")) report.recommendations.push_back(r);
}

void add_metrics(Report &report, const Json &metrics) {
  const auto ops = by_time(member(metrics, "operations"));
  const Json &all = metrics["backend_summary"];
  const double total = total_of(all);
  std::string shares;
  const ShareChart::Row row = share_row("all operations", all);
  for (std::size_t i = 0; i < std::min<std::size_t>(row.parts.size(), 3); ++i)
    shares += fmt::format("{}{} {}", i > 0 ? ", " : "", row.parts[i].name,
                          in_words(row.parts[i].value / total, Unit::share));
  std::string sentence =
      fmt::format("{} spent {} in kernels", plural(number(metrics, "total_operations"), "call"),
                  in_words(total, Unit::milliseconds));
  if (!shares.empty()) sentence += ": " + shares;
  if (!ops.empty()) sentence += fmt::format("; {} took the most", ops.front().first);
  if (const double share = number(metrics, "exploration_share"); share > 0)
    sentence += fmt::format(", and trying other candidates cost {}", in_words(share, Unit::share));
  report.sentences.push_back(sentence + ".");

  ShareChart shares_chart{{row}};
  for (const auto &[op, backends] : ops) shares_chart.rows.push_back(share_row(op, *backends));
  if (total > 0)
    report.charts.push_back(
        {"Who did the work",
         "Time in kernels by backend, exploring included; fallbacks are counted "
         "where they ended.",
         std::move(shares_chart)});
  for (const auto &[op, backends] : ops) add_sizes(report, op, *backends);
  add_roofline(report, ops);
  for (const Json &d : member(metrics, "decisions"))
    if (report.decisions.size() < kMostDecisions) report.decisions.push_back(d);
  Table fallbacks{"Fallbacks", "", {"lr", {{"reason", "calls"}}}};
  for (const Json &f : member(metrics, "fallback_reasons"))
    fallbacks.cells.rows.push_back({words(f, "reason"), fmt::format("{:.0f}", number(f, "count"))});
  if (fallbacks.cells.rows.size() > 1) report.tables.push_back(std::move(fallbacks));
}

}  // namespace switchyard::cli::report

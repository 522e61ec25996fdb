// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "io/file.hpp"
#include "machine/machine.hpp"

namespace switchyard::cli::report {
namespace {

constexpr std::uint64_t kMostBytes = 64u << 20;

std::optional<Source::Kind> kind_of(const Json &doc) {
  using Kind = Source::Kind;
  if (!doc.is_object()) return std::nullopt;
  const std::string command = words(doc, "command");
  if (doc.contains("total_operations") && member(doc, "backend_summary").is_object())
    return Kind::metrics;
  if (member(doc, "cases").is_array()) return Kind::peers;
  if (member(doc, "shapes").is_array() &&
      (command == "bench" || words(doc, "kind") == "switchyard measurements"))
    return Kind::bench;
  if (command == "regret" && member(doc, "shapes").is_array()) return Kind::regret;
  if (member(doc, "jobs").is_array()) return Kind::run;  // `run` and the demo
  if (command == "info") return Kind::info;
  if (command == "explain") return Kind::explain;
  return std::nullopt;
}

/// A pretty-printed document of `metrics --json` holds the file it was given.
Json unwrapped(Json doc) {
  if (words(doc, "command") == "metrics" && member(doc, "metrics").is_object())
    return doc["metrics"];
  return doc;
}

/// The fingerprint of the machine that a document comes from, "" = it does not say.
std::string fingerprint(const Json &doc) {
  const Json &machine = member(doc, "machine");
  if (machine.is_string()) return machine.get<std::string>();
  if (machine.is_object()) return words(machine, "fingerprint");
  return words(member(member(doc, "head"), "machine"), "fingerprint");
}

void take_limits(Report &report, const Json &doc) {
  if (member(doc, "limits").is_array() && member(doc, "compute_limits").is_array() &&
      !doc["limits"].empty()) {
    report.limits = doc["limits"];
    report.compute_limits = doc["compute_limits"];
  }
}

std::string value_words(const std::string &key, const Json &value) {
  if (value.is_null()) return "";
  if (value.is_number() && key.ends_with("_bytes"))
    return in_words(value.get<double>(), Unit::bytes);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    std::string out;
    for (const Json &item : value) out += (out.empty() ? "" : ", ") + value_words("", item);
    return out;
  }
  if (value.is_object()) {
    std::string out;
    for (const auto &[name, item] : value.items())
      out += (out.empty() ? "" : ", ") + name + " " +
             (key == "caches" && item.is_number() ? in_words(item.get<double>(), Unit::bytes)
                                                  : value_words(name, item));
    return out;
  }
  return value.dump();
}

void take_machine(Report &report, const Json &doc) {
  const Json &facts =
      member(doc, "machine").is_object() ? doc["machine"] : member(member(doc, "head"), "machine");
  if (!report.machine.empty() || !facts.is_object()) return;
  for (const auto &[key, value] : facts.items()) {
    const std::string text = value_words(key, value);
    std::string name = key;
    std::ranges::replace(name, '_', ' ');
    if (name.ends_with(" bytes")) name.resize(name.size() - 6);
    if (!text.empty()) report.machine.push_back(Json{name, text});
  }
  for (const char *key : {"version", "threads"})
    if (doc.contains(key))
      report.machine.push_back(Json{key == std::string("version") ? "Switchyard" : "thread budget",
                                    value_words("", doc[key])});
}

}  // namespace

const Json &member(const Json &object, const char *key) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto at = object.find(key);
  return at == object.end() ? none : *at;
}

double number(const Json &object, const char *key) {
  const Json &value = member(object, key);
  return value.is_number() ? value.get<double>() : 0;
}

std::string words(const Json &object, const char *key) {
  const Json &value = member(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

std::string file_name(const Source &source) {
  return std::filesystem::path(source.path).filename().string();
}

const char *kind_name(Source::Kind kind) noexcept {
  switch (kind) {
    case Source::Kind::metrics:
      return "metrics of a run";
    case Source::Kind::run:
      return "jobs of a run";
    case Source::Kind::bench:
      return "benchmark of the backends";
    case Source::Kind::regret:
      return "regret of the choices";
    case Source::Kind::peers:
      return "benchmark beside other libraries";
    case Source::Kind::info:
      return "machine and limits";
    case Source::Kind::explain:
      return "decision";
  }
  return "";
}

Result<Source> make_source(std::string path, Json doc) {
  doc = unwrapped(std::move(doc));
  const auto kind = kind_of(doc);
  if (!kind)
    return file_error(path,
                      "not a document that a report can be made of: those of run --metrics, bench, "
                      "regret, info --limits, explain and run (each with --json), and of "
                      "benchmarks/run.py --json");
  return Source{std::move(path), *kind, std::move(doc)};
}

Result<Source> read_source(const std::string &path) {
  auto text = read_text_file(path, kMostBytes);
  if (!text) return tl::unexpected(text.error());
  Json doc = Json::parse(*text, nullptr, false);
  if (doc.is_discarded()) return file_error(path, "not JSON, or cut short");
  return make_source(path, std::move(doc));
}

Report describe(const std::vector<Source> &sources, const Json &fallback_limits) {
  Report report;
  bool here = false;
  for (const Source &s : sources) {
    report.sources.emplace_back(s.path, kind_name(s.kind));
    take_limits(report, s.doc);
    take_limits(report, member(s.doc, "run"));
    here = here || fingerprint(s.doc) == machine().fingerprint;
  }
  if (report.limits.empty() && here) take_limits(report, fallback_limits);
  for (const Source &s : sources) {
    switch (s.kind) {
      case Source::Kind::metrics:
        if (const Json &run = member(s.doc, "run"); run.is_object()) {
          add_run(report, run);
          take_machine(report, run);
        }
        add_metrics(report, s.doc);
        break;
      case Source::Kind::run:
        add_run(report, s.doc);
        break;
      case Source::Kind::bench:
        add_bench(report, s.doc);
        break;
      case Source::Kind::regret:
        add_regret(report, s.doc);
        break;
      case Source::Kind::peers:
        add_peers(report, s.doc);
        break;
      case Source::Kind::info:
        break;
      case Source::Kind::explain:
        report.decisions.push_back(s.doc);
        break;
    }
    take_machine(report, s.doc);
  }
  // What was measured, rather than where.
  const auto main =
      std::ranges::find_if(sources, [](const Source &s) { return s.kind != Source::Kind::info; });
  report.title = file_name(main == sources.end() ? sources.front() : *main);
  if (sources.size() > 1) report.title += fmt::format(" and {} more", sources.size() - 1);
  if (report.sentences.empty())
    report.sentences.emplace_back(report.decisions.empty()
                                      ? "What this machine is and can do at best."
                                      : "Which backends would answer, and why.");
  return report;
}

Roofline roofline_of(const Report &report, int threads) {
  Roofline roof;
  int team = 0;
  for (const Json &l : report.compute_limits) {
    const int n = static_cast<int>(number(l, "threads"));
    if (threads == 0 || n <= threads) team = std::max(team, n);
  }
  roof.threads = team;
  const auto raise = [](std::vector<Roofline::Ceiling> &list, const std::string &name, double v) {
    const auto known = std::ranges::find(list, name, &Roofline::Ceiling::name);
    if (known == list.end())
      list.push_back({name, v});
    else
      known->value = std::max(known->value, v);
  };
  for (const Json &l : report.limits)
    if (static_cast<int>(number(l, "threads")) == team && number(l, "gb_per_s") > 0)
      raise(roof.levels, words(l, "where"), number(l, "gb_per_s"));
  for (const Json &l : report.compute_limits)
    if (static_cast<int>(number(l, "threads")) == team && number(l, "gflop_per_s") > 0 &&
        words(l, "what") != "f64")
      raise(roof.peaks, words(l, "what"), number(l, "gflop_per_s"));
  return roof;
}

Json Report::json() const {
  Json doc{{"schema_version", 1}, {"command", "report"}, {"title", title}};
  std::string all;
  for (const std::string &s : sentences) all += (all.empty() ? "" : " ") + s;
  doc["summary"] = all;
  doc["sources"] = Json::array();
  for (const auto &[file, kind] : sources)
    doc["sources"].push_back(Json{{"file", file}, {"kind", kind}});
  doc["tables"] = Json::array();
  for (const Table &t : tables)
    doc["tables"].push_back(Json{{"title", t.title}, {"note", t.note}, {"rows", t.cells.rows}});
  doc["charts"] = Json::array();
  for (const Chart &c : charts) doc["charts"].push_back(c.json());
  doc["pictures"] = Json::array();
  for (const Picture &p : pictures)
    doc["pictures"].push_back(Json{{"title", p.title}, {"before", p.before}, {"after", p.after}});
  doc["recommendations"] = recommendations;
  doc["decisions"] = decisions;
  doc["machine"] = Json::object();
  for (const Json &fact : machine) doc["machine"][fact[0].get<std::string>()] = fact[1];
  doc["limits"] = limits;
  doc["compute_limits"] = compute_limits;
  return doc;
}

}  // namespace switchyard::cli::report

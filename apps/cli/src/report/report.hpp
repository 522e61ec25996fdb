// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a report says, built from the documents that other commands write; page.hpp shows it.

#include <optional>

#include "charts.hpp"

namespace switchyard::cli::report {

/// Before and after, as PNG files.
struct Picture {
  std::string title, before, after;       ///< paths
  std::string before_bytes, after_bytes;  ///< of the files
  std::string before_words, after_words;  ///< captions
};

struct Table {
  std::string title, note;
  Cells cells;
  bool folded = false;
};

struct Report {
  std::string title;
  std::vector<std::string> sentences;  ///< the summary: one for each document
  std::vector<Table> tables;
  std::vector<Chart> charts;
  std::vector<Picture> pictures;
  Json recommendations = Json::array();  ///< what, evidence, command, expected_gain
  Json decisions = Json::array();        ///< explanations
  Json machine = Json::array();          ///< [what, value] pairs
  Json limits = Json::array(), compute_limits = Json::array();  ///< as `info --limits` gives them
  std::vector<std::pair<std::string, std::string>> sources;     ///< file, kind

  Json json() const;
};

/// A document that a report can be made of, and what wrote it.
struct Source {
  std::string path;
  enum class Kind { metrics, run, bench, regret, peers, info, explain } kind = Kind::metrics;
  Json doc;
};

/// Reads a file and finds out what it is. io: unreadable, or none of the known kinds.
Result<Source> read_source(const std::string &path);
/// The same for a document that is at hand.
Result<Source> make_source(std::string path, Json doc);
const char *kind_name(Source::Kind kind) noexcept;
std::string file_name(const Source &source);  ///< without its folder

/// One report over all documents, each in sections of its own. `fallback` are this machine's limits
/// (in the form of `info --json`), taken where the documents bring none and come from here.
Report describe(const std::vector<Source> &sources, const Json &fallback_limits);
/// What changed from the first document to the others. Usage errors: fewer than two documents, or
/// nothing that they have in common.
Result<Report> compare(const std::vector<Source> &sources);

// Parts of `describe`, one per file read_*.cpp.
void add_run(Report &report, const Json &run);
void add_metrics(Report &report, const Json &metrics);
void add_bench(Report &report, const Json &bench);
void add_regret(Report &report, const Json &regret);
void add_peers(Report &report, const Json &peers);

/// Ceilings for `threads` (0 = the most that were measured) from a report's limits.
Roofline roofline_of(const Report &report, int threads);

// Members that may be missing or of another type: the documents come from files.
double number(const Json &object, const char *key);
std::string words(const Json &object, const char *key);
const Json &member(const Json &object, const char *key);

}  // namespace switchyard::cli::report

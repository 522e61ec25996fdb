// SPDX-License-Identifier: Apache-2.0
#include "page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

namespace switchyard::cli::report {
namespace {

// Drawn twice, because words in a drawing that is scaled down cannot be read.
constexpr double kWide = 928, kNarrow = 360;

std::string base64(std::string_view bytes) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve(bytes.size() * 4 / 3 + 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k)
      word = word << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += k <= n ? letters[word >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string legend(const Chart &chart, const Palette &palette) {
  const auto names = chart.names();
  if (names.size() < 2) return "";
  std::string out = R"(<ul class="legend">)";
  for (const std::string &name : names) {
    Drawing key(16, 16);
    key.mark(8, 8, palette.of(name), {}, 5);
    out += "<li>" + key.svg("key", name) + escape(name) + "</li>";
  }
  return out + "</ul>";
}

/// `cards`: rows become blocks where the page is narrow.
std::string table(const Cells &cells, bool cards) {
  const auto &header = cells.rows.front();
  const auto right = [&](std::size_t i) { return i < cells.align.size() && cells.align[i] == 'r'; };
  std::string out =
      fmt::format(R"(<div class="scroll"><table{}><thead><tr>)", cards ? R"( class="cards")" : "");
  for (std::size_t i = 0; i < header.size(); ++i)
    out += fmt::format("<th{}>{}</th>", right(i) ? R"( class="r")" : "", escape(header[i]));
  out += "</tr></thead><tbody>";
  for (std::size_t r = 1; r < cells.rows.size(); ++r) {
    out += "<tr>";
    for (std::size_t i = 0; i < cells.rows[r].size(); ++i)
      out += fmt::format(
          "<td{}{}>{}</td>", right(i) ? R"( class="r")" : "",
          cards && i < header.size() ? fmt::format(R"( data-label="{}")", escape(header[i])) : "",
          escape(cells.rows[r][i]));
    out += "</tr>";
  }
  return out + "</tbody></table></div>";
}

std::string heading(const std::string &title, const std::string &note) {
  std::string out = "<section><h2>" + escape(title) + "</h2>";
  if (!note.empty()) out += R"(<p class="note">)" + escape(note) + "</p>";
  return out;
}

std::string chart_section(const Chart &chart, const Palette &palette) {
  return heading(chart.title, chart.note) + legend(chart, palette) +
         chart.svg(kWide, "wide", palette) + chart.svg(kNarrow, "narrow", palette) +
         "<details><summary>The figures as a table</summary>" + table(chart.cells(), false) +
         "</details></section>";
}

std::string pictures(const Report &report) {
  std::string out;
  for (const Picture &p : report.pictures) {
    out += heading(p.title, "") + R"(<div class="pair">)";
    for (const auto &[bytes, words] :
         {std::pair{&p.before_bytes, &p.before_words}, {&p.after_bytes, &p.after_words}})
      out += fmt::format(
          R"(<figure><img alt="{0}" src="data:image/png;base64,{1}"><figcaption>{0}</figcaption></figure>)",
          escape(*words), base64(*bytes));
    out += "</div></section>";
  }
  return out;
}

std::string recommendations(const Report &report) {
  if (report.recommendations.empty()) return "";
  std::string out = heading("Recommendations", "Each with the measurement behind it.");
  for (const Json &r : report.recommendations) {
    out += R"(<div class="advice"><h3>)" + escape(words(r, "what")) + "</h3><p>" +
           escape(words(r, "evidence"));
    if (const double gain = number(r, "expected_gain"); gain > 0)
      out += fmt::format(". Expected gain: {}", in_words(gain, Unit::times));
    out += "</p>";
    if (const std::string command = words(r, "command"); !command.empty())
      out += "<pre>" + escape(command) + "</pre>";
    out += "</div>";
  }
  return out + "</section>";
}

std::string time_of(const Json &candidate) {
  const auto time = [](double ns) { return in_words(ns / 1e6, Unit::milliseconds); };
  if (number(candidate, "samples") > 0)
    return fmt::format("{} ({} to {}, {:.0f} timings)", time(number(candidate, "median_ns")),
                       time(number(candidate, "low_ns")), time(number(candidate, "high_ns")),
                       number(candidate, "samples"));
  if (number(candidate, "predicted_ns") > 0)
    return time(number(candidate, "predicted_ns")) + " by stored timings";
  if (number(candidate, "estimate_ns") > 0)
    return time(number(candidate, "estimate_ns")) + " by its author's estimate";
  return "not timed";
}

std::string decisions(const Report &report) {
  if (report.decisions.empty()) return "";
  std::string out =
      heading("Decisions", "Every candidate of each call, and the rule that decided.");
  for (const Json &d : report.decisions) {
    out +=
        fmt::format("<details><summary><b>{}</b> {}: <code>{}</code></summary>",
                    escape(words(d, "op")), escape(words(d, "shape")), escape(words(d, "chosen")));
    out += "<dl>";
    for (const auto &[key, name] :
         {std::pair{"rule", "because"}, {"policy", "policy"}, {"store", "store"}})
      if (const std::string value = words(d, key); !value.empty())
        out += fmt::format("<dt>{}</dt><dd>{}</dd>", name, escape(value));
    if (const double calls = number(d, "calls"); calls > 0)
      out += fmt::format("<dt>calls</dt><dd>{:.0f}</dd>", calls);
    out += "</dl>";
    Cells cells{"lllr", {{"candidate", "verified", "why not", "time of a call"}}};
    for (const Json &c : member(d, "candidates")) {
      const bool supported = member(c, "supported") == Json(true);
      cells.rows.push_back({words(c, "kernel"), supported ? words(c, "verified") : "",
                            words(c, "reason"), supported ? time_of(c) : "refused"});
    }
    out += table(cells, true);
    if (const std::string again = words(d, "reproducer"); !again.empty())
      out += "<pre>" + escape(again) + "</pre>";
    out += "</details>";
  }
  return out + "</section>";
}

std::string limits(const Report &report) {
  Cells cells{"lrr", {{"limit", "threads", "measured"}}};
  for (const Json &l : report.limits)
    cells.rows.push_back({words(l, "where") + " " + words(l, "what"),
                          fmt::format("{:.0f}", number(l, "threads")),
                          in_words(number(l, "gb_per_s"), Unit::number) + " GB/s"});
  for (const Json &l : report.compute_limits)
    cells.rows.push_back({fmt::format("{} multiply-adds ({})", words(l, "what"), words(l, "isa")),
                          fmt::format("{:.0f}", number(l, "threads")),
                          in_words(number(l, "gflop_per_s"), Unit::number) +
                              (words(l, "what") == "int8" ? " GOP/s" : " GFLOP/s")});
  if (cells.rows.size() < 2) return "";
  return "<details><summary>What it can do at best, as measured</summary>" + table(cells, false) +
         "</details>";
}

std::string machine(const Report &report) {
  const std::string measured = limits(report);
  if (report.machine.empty() && measured.empty()) return "";
  std::string out = heading("Machine", "");
  out += "<dl>";
  for (const Json &fact : report.machine)
    out += fmt::format("<dt>{}</dt><dd>{}</dd>", escape(fact[0].get<std::string>()),
                       escape(fact[1].get<std::string>()));
  return out + "</dl>" + measured + "</section>";
}

std::string footer(const Report &report, const std::string &made) {
  std::string from;
  for (const auto &[file, kind] : report.sources)
    from += fmt::format("{}{} ({})", from.empty() ? "" : "; ",
                        escape(std::filesystem::path(file).filename().string()), kind);
  return fmt::format(
      "<footer>Switchyard {}, {}. From {}. This page is complete in itself: it loads "
      "nothing and runs no scripts.</footer>",
      escape(std::string(version())), escape(made), from);
}

}  // namespace

std::string page(const Report &report, const std::string &made) {
  Palette palette;
  for (const Chart &chart : report.charts)
    for (const std::string &name : chart.names()) palette.add(name);
  palette.settle();
  std::string out = fmt::format(
      R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';img-src data:;style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>Switchyard: {0}</title><style>{1}</style></head>
<body><main><header><p class="kicker">Switchyard report</p><h1>{0}</h1>)",
      escape(report.title), style());
  for (const std::string &sentence : report.sentences)
    out += R"(<p class="lead">)" + escape(sentence) + "</p>";
  out += "</header>\n";
  for (const Table &t : report.tables)
    if (!t.folded) out += heading(t.title, t.note) + table(t.cells, true) + "</section>\n";
  out += recommendations(report) + pictures(report);
  for (const Chart &chart : report.charts) out += chart_section(chart, palette) + "\n";
  for (const Table &t : report.tables)
    if (t.folded)
      out += heading(t.title, t.note) +
             fmt::format("<details><summary>{} rows</summary>", t.cells.rows.size() - 1) +
             table(t.cells, true) + "</details></section>\n";
  out += decisions(report) + machine(report) + footer(report, made);
  return out + "</main></body></html>\n";
}

}  // namespace switchyard::cli::report

// SPDX-License-Identifier: Apache-2.0
#include "check/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace switchyard::check {
namespace {

constexpr std::array<std::string_view, 4> kStates{"pass", "FAIL", "warn", "skip"};

}  // namespace

std::string_view to_string(State state) noexcept {
  return kStates[static_cast<std::size_t>(state)];
}

bool Report::passed() const noexcept { return count(State::fail) == 0 && count(State::pass) > 0; }

int Report::count(State state) const noexcept {
  return static_cast<int>(
      std::count_if(items.begin(), items.end(), [&](const Item &i) { return i.state == state; }));
}

std::string Report::text() const {
  std::string out = fmt::format("{}\n  plugin {} {}, content {}\n", path, id.empty() ? "?" : id,
                                version, content_hash);
  std::string section;
  for (const Item &i : items) {
    if (i.section != section) out += fmt::format("\n{}\n", i.section);
    section = i.section;
    out +=
        fmt::format("  {}  {}{}{}{}{}\n", to_string(i.state), i.kernel,
                    i.kernel.empty() ? "" : ": ", i.name, i.detail.empty() ? "" : ": ", i.detail);
  }
  if (!speed.empty()) out += "\nspeed against the reference, one thread\n";
  for (const Speed &s : speed)
    out += fmt::format("  {:8.2f}x  {}  {:.3f} ms, the reference {:.3f} ms, on {}\n",
                       s.reference_ms / s.ms, s.kernel, s.ms, s.reference_ms, s.shape);
  out += fmt::format("\n{}: {} passed, {} failed, {} warnings, {} skipped{}\n",
                     passed() ? "PASSED" : "FAILED", count(State::pass), count(State::fail),
                     count(State::warn), count(State::skip),
                     readmitted ? "; its quarantine is lifted" : "");
  return out;
}

std::string encode(const Item &i) {
  return nlohmann::json{{"section", i.section},
                        {"name", i.name},
                        {"kernel", i.kernel},
                        {"state", static_cast<int>(i.state)},
                        {"detail", i.detail}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string encode(const Speed &s) {
  return nlohmann::json{
      {"kernel", s.kernel}, {"shape", s.shape}, {"ms", s.ms}, {"reference_ms", s.reference_ms}}
      .dump();
}

bool decode(const std::string &line, Report &report) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return false;
  if (json.contains("reference_ms")) {
    report.speed.push_back({json.value("kernel", ""), json.value("shape", ""),
                            json.value("ms", 0.0), json.value("reference_ms", 0.0)});
    return true;
  }
  if (!json.contains("section")) return false;
  const int state = std::clamp(json.value("state", 1), 0, static_cast<int>(kStates.size()) - 1);
  report.items.push_back({json.value("section", ""), json.value("name", ""),
                          json.value("kernel", ""), static_cast<State>(state),
                          json.value("detail", "")});
  return true;
}

}  // namespace switchyard::check

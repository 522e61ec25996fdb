// SPDX-License-Identifier: Apache-2.0
#include "metrics/measurements.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "config/measurements.hpp"
#include "op/shape.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::json;

constexpr double kOctaves = 2;       // between a call's sizes and those measured
constexpr double kLeastGain = 1.05;  // less is noise between machines

std::optional<double> integer_of(const std::string &text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value <= 0) return std::nullopt;
  return static_cast<double>(value);
}

/// Sum of the differences of sizes in octaves; nullopt where one is too far or another item
/// differs. A number that only one description has, such as an output that is wanted too, counts
/// one.
std::optional<double> distance(const Shape &a, const Shape &b) {
  double sum = 0;
  for (const auto &[name, value] : a.items()) {
    const std::string *other = b.find(name);
    if (other != nullptr && *other == value) continue;
    const auto x = integer_of(value), y = other != nullptr ? integer_of(*other) : x;
    if (!x || !y) return std::nullopt;
    const double octaves = other != nullptr ? std::abs(std::log2(*x / *y)) : 1;
    if (octaves > kOctaves) return std::nullopt;
    sum += octaves;
  }
  for (const auto &[name, value] : b.items())
    if (a.find(name) == nullptr) {
      if (!integer_of(value)) return std::nullopt;
      sum += 1;
    }
  return sum;
}

const Measurements::Row *nearest(const Measurements &m, const Usage &usage) {
  const auto wanted = Shape::parse(usage.shape);
  if (!wanted) return nullptr;
  const Measurements::Row *best = nullptr;
  double least = 0;
  for (const Measurements::Row &row : m.rows) {
    if (row.op != usage.op) continue;
    const auto shape = Shape::parse(row.shape);
    if (!shape) continue;
    const auto far = distance(*wanted, *shape);
    if (!far || (best != nullptr && *far >= least)) continue;
    best = &row;
    least = *far;
  }
  return best;
}

bool loaded(std::span<const PluginInfo> plugins, const std::string &backend) {
  for (const PluginInfo &p : plugins)
    if (p.status == "loaded" && std::ranges::find(p.instances, backend) != p.instances.end())
      return true;
  return false;
}

/// What to do to have that backend.
std::string cure(std::span<const PluginInfo> plugins, const std::string &plugin) {
  for (const PluginInfo &p : plugins)
    if (p.id == plugin && p.status != "loaded")
      return fmt::format("make the plugin {} usable, which is {} here: {}", plugin, p.status,
                         p.reason);
  return fmt::format("build and install the plugin {}", plugin);
}

}  // namespace

Result<Measurements> parse_measurements(std::string_view text) {
  const Json doc = Json::parse(text, nullptr, false);
  try {
    Measurements m;
    const Json &head = doc.at("head");
    m.label = head.at("label").get<std::string>();
    m.fingerprint = head.at("machine").at("fingerprint").get<std::string>();
    m.cpu = head.at("machine").at("cpu").get<std::string>();
    m.threads = head.at("threads").get<int>();
    for (const Json &shape : doc.at("shapes")) {
      Measurements::Row &row = m.rows.emplace_back();
      row.op = shape.at("op").get<std::string>();
      row.shape = shape.at("described").get<std::string>();
      for (const Json &r : shape.at("results"))
        if (r.at("wrong").is_null() && r.at("min_ms").get<double>() > 0)
          row.timings.push_back({r.at("backend").get<std::string>(), r.at("min_ms").get<double>()});
    }
    return m;
  } catch (const Json::exception &error) {
    return fail(ErrorCode::io, fmt::format("not a file of measurements: {}", error.what()));
  }
}

const std::vector<Measurements> &shipped_measurements() {
  static const auto all = [] {
    std::vector<Measurements> out;
    for (const std::string_view text : config::kMeasurements)
      if (auto parsed = parse_measurements(text)) out.push_back(std::move(*parsed));
    return out;
  }();
  return all;
}

std::vector<Recommendation> recommend_plugins(std::span<const Measurements> known,
                                              std::string_view fingerprint, int threads,
                                              std::span<const PluginInfo> plugins,
                                              std::span<const Usage> usage) {
  std::map<std::pair<std::string, std::string>, Recommendation> best;  // by plugin and operation
  for (const Measurements &m : known) {
    if (m.fingerprint != fingerprint || m.threads != threads) continue;
    for (const Usage &u : usage) {
      const Measurements::Row *row = nearest(m, u);
      if (row == nullptr) continue;
      const auto own = std::ranges::find(row->timings, u.backend, &Measurements::Timing::backend);
      if (own == row->timings.end()) continue;
      for (const Measurements::Timing &other : row->timings) {
        const double gain = own->best_ms / other.best_ms;
        if (gain < kLeastGain || loaded(plugins, other.backend)) continue;
        const std::string plugin = other.backend.substr(0, other.backend.find(':'));
        Recommendation &r = best[{plugin, u.op}];
        if (gain <= r.expected_gain) continue;
        r.what = fmt::format("{}: {:.1f}x on {} at these sizes", cure(plugins, plugin), gain, u.op);
        r.evidence = fmt::format(
            "shipped measurements of a like machine ({}, {} threads; {}): {} {} took {:.4g} ms at "
            "best on {} and {:.4g} ms on {}, which answers here",
            m.cpu, m.threads, m.label.empty() ? "no label" : m.label, u.op, row->shape,
            other.best_ms, other.backend, own->best_ms, own->backend);
        r.expected_gain = gain;
        r.command = "switchyard doctor";
      }
    }
  }
  std::vector<Recommendation> out;
  for (auto &[key, r] : best) out.push_back(std::move(r));
  return out;
}

}  // namespace switchyard

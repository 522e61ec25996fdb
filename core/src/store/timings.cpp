// SPDX-License-Identifier: Apache-2.0
#include "store/timings.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>

namespace switchyard {
namespace {

using Json = nlohmann::json;

constexpr auto kWriteAfter = std::chrono::seconds(2);  // several decisions make one write

/// Numbers with four significant digits: timings have no more, and people read them.
double rounded(double v) { return std::stod(fmt::format("{:.4g}", v)); }

Json to_json(const Timing &t) {
  return {{"ns", rounded(t.ns)},  {"low", rounded(t.low)}, {"high", rounded(t.high)},
          {"samples", t.samples}, {"flops", t.work.flops}, {"bytes", t.work.bytes}};
}

std::optional<Timing> from_json(const Json &json) {
  if (!json.is_object()) return std::nullopt;
  const auto number = [&](const char *name) {
    const auto it = json.find(name);
    return it != json.end() && it->is_number() ? it->get<double>() : -1.0;
  };
  Timing t;
  t.ns = number("ns");
  t.low = number("low");
  t.high = number("high");
  t.samples = static_cast<int>(number("samples"));
  t.work = {number("flops"), number("bytes")};
  if (!(t.ns > 0 && t.ns < 1e15) || t.samples < 1 || t.work.flops < 0 || t.work.bytes < 0)
    return std::nullopt;
  return t;
}

}  // namespace

TimingStore::TimingStore(std::string directory) : documents_(std::move(directory), "timings") {}

TimingStore::~TimingStore() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  flush();
}

std::string TimingStore::series_of(const Candidate &c, std::uint32_t threads) {
  return fmt::format("{} | {} | threads={}", c.name, c.runtime_id, threads);
}

TimingStore::Plugin &TimingStore::plugin(const Candidate &candidate) {
  const auto [it, fresh] = plugins_.try_emplace(candidate.hash);
  Plugin &plugin = it->second;
  if (!fresh) return plugin;
  plugin.about = {{"plugin", candidate.plugin_id}, {"file", candidate.path}};
  const Json stored = documents_.read(candidate.hash);
  for (const auto &[key, value] : stored.items()) {
    const auto cut = key.rfind(" | ");
    const auto timing = from_json(value);
    if (cut == std::string::npos || !timing) continue;
    const auto shape = Shape::parse(std::string_view(key).substr(cut + 3));
    if (!shape) continue;
    const Place place = Place::of(*shape);
    plugin.series[key.substr(0, cut)][place.regime][shape->text()] = {place, *timing};
  }
  return plugin;
}

std::optional<Timing> TimingStore::find(const Candidate &candidate, std::uint32_t threads,
                                        const Shape &shape) {
  const std::lock_guard lock(mutex_);
  const auto &series = plugin(candidate).series;
  const auto s = series.find(series_of(candidate, threads));
  if (s == series.end()) return std::nullopt;
  const auto r = s->second.find(Place::of(shape).regime);
  if (r == s->second.end()) return std::nullopt;
  const auto t = r->second.find(shape.text());
  return t == r->second.end() ? std::nullopt : std::optional(t->second.timing);
}

Prediction TimingStore::predict(const Candidate &candidate, std::uint32_t threads,
                                const Shape &shape, const Work &work) {
  const std::lock_guard lock(mutex_);
  const auto &series = plugin(candidate).series;
  const auto s = series.find(series_of(candidate, threads));
  if (s == series.end()) return {};
  const Place place = Place::of(shape);
  const auto r = s->second.find(place.regime);
  if (r == s->second.end()) return {};
  std::vector<TimedPlace> points;
  for (const auto &[text, point] : r->second) points.push_back(point);
  return switchyard::predict(points, place, work);
}

std::string TimingStore::why_missing(const Candidate &candidate, std::uint32_t threads,
                                     const Shape &shape) {
  const std::lock_guard lock(mutex_);
  const auto &series = plugin(candidate).series;
  if (series.empty())
    return fmt::format("{} in this build (content {}) was never timed on this machine",
                       candidate.plugin_id, candidate.hash.substr(0, 12));
  const std::string wanted = series_of(candidate, threads);
  if (const auto it = series.find(wanted); it != series.end())
    return it->second.contains(Place::of(shape).regime)
               ? candidate.name + " was timed on other sizes only"
               : candidate.name + " was timed on other kinds of calls only";
  for (const auto &[name, regimes] : series) {
    if (!name.starts_with(candidate.name + " | ")) continue;
    return name.starts_with(candidate.name + " | " + candidate.runtime_id + " | ")
               ? candidate.name + " was timed with other numbers of threads only"
               : candidate.name + " was timed with another driver or library: " + name;
  }
  return candidate.name + " was never timed on this machine";
}

void TimingStore::each(
    const Candidate &candidate,
    const std::function<void(std::uint32_t, const std::string &, const Timing &)> &visit) {
  const std::lock_guard lock(mutex_);
  const std::string mine = candidate.name + " | " + candidate.runtime_id + " | threads=";
  for (const auto &[name, regimes] : plugin(candidate).series) {
    if (!name.starts_with(mine)) continue;
    const auto threads =
        static_cast<std::uint32_t>(std::strtoul(name.c_str() + mine.size(), nullptr, 10));
    for (const auto &[regime, shapes] : regimes)
      for (const auto &[shape, point] : shapes) visit(threads, shape, point.timing);
  }
}

void TimingStore::record(const Candidate &candidate, std::uint32_t threads, const Shape &shape,
                         const Timing &timing) {
  const std::lock_guard lock(mutex_);
  Plugin &p = plugin(candidate);
  const std::string series = series_of(candidate, threads), text = shape.text();
  Place place = Place::of(shape);
  p.series[series][place.regime][text] = {place, timing};
  p.unwritten[series + " | " + text] = to_json(timing);
  if (documents_.directory().empty()) return;
  dirty_ = true;
  if (!thread_.joinable() && !stop_) thread_ = std::thread([this] { serve(); });
  wake_.notify_all();
}

void TimingStore::write_pending(std::unique_lock<std::mutex> &lock) {
  dirty_ = false;
  std::map<std::string, Plugin> changed;
  for (auto &[hash, plugin] : plugins_)
    if (!plugin.unwritten.empty()) {
      changed[hash].about = plugin.about;
      changed[hash].unwritten = std::exchange(plugin.unwritten, Json::object());
    }
  lock.unlock();
  for (const auto &[hash, plugin] : changed) documents_.merge(hash, plugin.unwritten, plugin.about);
  lock.lock();
}

void TimingStore::flush() {
  std::unique_lock lock(mutex_);
  if (dirty_) write_pending(lock);
}

void TimingStore::serve() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    wake_.wait(lock, [this] { return stop_ || dirty_; });
    if (wake_.wait_for(lock, kWriteAfter, [this] { return stop_; })) return;
    write_pending(lock);
  }
}

}  // namespace switchyard

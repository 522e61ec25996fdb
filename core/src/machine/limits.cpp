// SPDX-License-Identifier: Apache-2.0
#include "machine/limits.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/file.hpp"
#include "machine/machine.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr std::uint64_t kMaxBytes = 1u << 20;
constexpr double kExplains = 0.25;  // of the time, for a limit to be called the bottleneck

std::string checksum(const Json &body) {
  const std::string text = body.dump();
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

Json to_json(const MachineLimits &limits) {
  Json bandwidth = Json::array(), compute = Json::array();
  for (const BandwidthLimit &b : limits.bandwidth)
    bandwidth.push_back({{"level", b.level},
                         {"capacity", b.capacity},
                         {"bytes", b.bytes},
                         {"threads", b.threads},
                         {"read", b.read},
                         {"write", b.write},
                         {"copy", b.copy}});
  for (const ComputeLimit &c : limits.compute)
    compute.push_back({{"kind", c.kind}, {"isa", c.isa}, {"threads", c.threads}, {"ops", c.ops}});
  return Json{{"fingerprint", limits.fingerprint},
              {"cpu", limits.cpu},
              {"bandwidth", std::move(bandwidth)},
              {"compute", std::move(compute)}};
}

/// Throws what nlohmann throws for members that are missing or of another type.
MachineLimits from_json(const Json &body) {
  MachineLimits limits;
  limits.fingerprint = body.at("fingerprint").get<std::string>();
  limits.cpu = body.at("cpu").get<std::string>();
  for (const Json &b : body.at("bandwidth"))
    limits.bandwidth.push_back(
        {b.at("level").get<std::string>(), b.at("capacity").get<std::uint64_t>(),
         b.at("bytes").get<std::uint64_t>(), b.at("threads").get<int>(), b.at("read").get<double>(),
         b.at("write").get<double>(), b.at("copy").get<double>()});
  for (const Json &c : body.at("compute"))
    limits.compute.push_back({c.at("kind").get<std::string>(), c.at("isa").get<std::string>(),
                              c.at("threads").get<int>(), c.at("ops").get<double>()});
  return limits;
}

}  // namespace

double BandwidthLimit::best() const noexcept { return std::max({read, write, copy}); }

const BandwidthLimit *MachineLimits::bandwidth_at(double bytes, int threads) const noexcept {
  int team = 0;
  for (const BandwidthLimit &b : bandwidth)
    if (b.threads <= threads) team = std::max(team, b.threads);
  const BandwidthLimit *last = nullptr;
  for (const BandwidthLimit &b : bandwidth) {
    if (b.threads != team) continue;
    last = &b;
    if (b.capacity == 0 || bytes <= static_cast<double>(b.capacity)) break;
  }
  return last;
}

const ComputeLimit *MachineLimits::compute_of(std::string_view kind, int threads) const noexcept {
  const ComputeLimit *best = nullptr;
  for (const ComputeLimit &c : compute)
    if (c.kind == kind && c.threads <= threads && (best == nullptr || c.threads > best->threads))
      best = &c;
  return best;
}

std::string limits_path(const std::string &cache_dir) {
  return cache_dir.empty() ? "" : cache_dir + "/" + machine().fingerprint + "/limits.json";
}

Result<MachineLimits> cached_limits(const std::string &cache_dir) {
  const std::string path = limits_path(cache_dir);
  if (path.empty()) return fail(ErrorCode::io, "nothing is kept on disk");
  const auto text = read_text_file(path, kMaxBytes);
  if (!text) return file_error(path, "not measured yet; 'switchyard info --limits' does");
  const auto damaged = [&] {
    return file_error(path, "damaged, as if never measured; 'switchyard info --limits' renews it");
  };
  const Json doc = Json::parse(*text, nullptr, false);
  if (!doc.is_object() || doc.value("schema", Json()) != Json(kSchema) || !doc.contains("limits") ||
      doc.value("checksum", Json()) != Json(checksum(doc["limits"])))
    return damaged();
  try {
    MachineLimits limits = from_json(doc["limits"]);
    if (limits.fingerprint != machine().fingerprint)
      return file_error(path, "measured on another machine");
    return limits;
  } catch (const Json::exception &) {
    return damaged();
  }
}

Status keep_limits(const std::string &cache_dir, const MachineLimits &limits) {
  const std::string path = limits_path(cache_dir);
  if (path.empty()) return {};
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  MachineLimits best = limits;
  if (const auto before = cached_limits(cache_dir)) {
    for (BandwidthLimit &b : best.bandwidth)
      for (const BandwidthLimit &old : before->bandwidth)
        if (old.level == b.level && old.bytes == b.bytes && old.threads == b.threads) {
          b.read = std::max(b.read, old.read);
          b.write = std::max(b.write, old.write);
          b.copy = std::max(b.copy, old.copy);
        }
    for (ComputeLimit &c : best.compute)
      for (const ComputeLimit &old : before->compute)
        if (old.kind == c.kind && old.threads == c.threads && old.ops > c.ops) c = old;
  }
  const Json body = to_json(best);
  const Json doc{{"schema", kSchema}, {"checksum", checksum(body)}, {"limits", body}};
  return write_file(path, doc.dump(1) + "\n");
}

Bottleneck find_bottleneck(const MachineLimits &limits, double bytes, double flops, double seconds,
                           int threads) {
  Bottleneck b;
  if (!(seconds > 0)) return b;
  const BandwidthLimit *memory = limits.bandwidth_at(bytes, threads);
  if (memory == nullptr || memory->best() <= 0) return b;
  b.level = memory->level;
  b.memory_share = bytes / seconds / memory->best();
  // A kernel may use narrower factors than it is given: the first peak that it stays below.
  for (const char *kind : {"f32", "bf16", "int8"}) {
    const ComputeLimit *peak = limits.compute_of(kind, threads);
    if (peak == nullptr || peak->ops <= 0) continue;
    b.kind = kind;
    b.compute_share = flops / seconds / peak->ops;
    if (b.compute_share <= 1) break;
  }
  if (std::max(b.memory_share, b.compute_share) < kExplains)
    b.bound = "overhead";
  else
    b.bound = b.memory_share >= b.compute_share ? "memory" : "compute";
  return b;
}

std::string Bottleneck::text() const {
  if (bound.empty()) return "";
  return fmt::format("{}-bound: {:.0f} % of {} bandwidth, {:.0f} % of {} peak", bound,
                     100 * memory_share, level, 100 * compute_share,
                     kind.empty() ? "compute" : kind);
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include "session.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/suggest.hpp"
#include "cancel.hpp"
#include "config/options.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr std::uint32_t kGateTimeoutMs = 10'000;

}  // namespace

Status check_choice(std::string_view what, std::string_view value,
                    std::span<const std::string_view> known) {
  if (value.empty() || std::find(known.begin(), known.end(), value) != known.end()) return {};
  return fail(ErrorCode::usage, fmt::format("unknown {} '{}'{}; known: {}", what, value,
                                            did_you_mean(value, known), fmt::join(known, ", ")));
}

Status check_common(const Common &c) {
  if (!c.policy.empty())
    if (auto policy = parse_policy(c.policy); !policy) return tl::unexpected(policy.error());
  if (auto ok = check_choice("preset", c.preset, preset_names()); !ok) return ok;
  constexpr std::array<std::string_view, 3> dtypes{"f32", "f16", "bf16"};
  if (auto ok = check_choice("dtype", c.dtype, dtypes); !ok) return ok;
  constexpr std::array<std::string_view, 4> isas{"avx2", "avx512", "avx512_bf16", "amx"};
  if (auto ok = check_choice("instruction set", c.isa, isas); !ok) return ok;
  if (!c.backend.empty() && !c.require_backend.empty() && c.backend != c.require_backend)
    return fail(ErrorCode::usage,
                fmt::format("--backend {} and --require-backend {} contradict each other",
                            c.backend, c.require_backend));
  return {};
}

Result<Options> make_options(const Common &c, Options base) {
  if (!c.preset.empty() && base.preset != c.preset) {
    auto preset = load_preset(c.preset);
    if (!preset) return preset;
    base = std::move(*preset);
  }
  if (auto ok = apply_environment(base); !ok) return tl::unexpected(ok.error());
  if (!c.policy.empty()) {
    auto policy = parse_policy(c.policy);
    if (!policy) return tl::unexpected(policy.error());
    base.policy = *policy;
  }
  const std::string &pin = c.require_backend.empty() ? c.backend : c.require_backend;
  if (!pin.empty()) base.pin = {{"*", pin}};
  if (!c.require_backend.empty()) base.strict = true;
  if (c.threads > 0) base.threads = c.threads;
  if (!c.isa.empty()) base.isa = c.isa;
  if (c.verbose > 0) base.log_level = c.verbose > 1 ? "debug" : "info";
  // A process that runs one call gains nothing from an early answer by the reference.
  if (base.gate_timeout_ms == Options{}.gate_timeout_ms) base.gate_timeout_ms = kGateTimeoutMs;
  base.resolved = true;
  return base;
}

Result<Engine> make_engine(const Common &common, Options base) {
  auto options = make_options(common, std::move(base));
  if (!options) return tl::unexpected(options.error());
  const auto pins = options->pin;
  EndAtOnce scope;
  auto engine = Engine::create(std::move(*options));
  if (!engine) return engine;
  for (const auto &[op, backend] : pins)
    if (auto ok = check_backend(*engine, backend); !ok) return tl::unexpected(ok.error());
  return engine;
}

Json document(std::string_view command) {
  Json doc;
  doc["schema_version"] = 1;
  doc["command"] = std::string(command);
  return doc;
}

void add_run_info(Json &doc, std::string_view op, const RunInfo &info) {
  doc["op"] = std::string(op);
  doc["backend"] = info.backend;
  doc["kernel"] = info.kernel;
  doc["requested_backend"] =
      info.requested_backend.empty() ? Json(nullptr) : Json(info.requested_backend);
  doc["verified"] = info.verified;
  doc["fallback_reason"] =
      info.fallback_reason.empty() ? Json(nullptr) : Json(info.fallback_reason);
  doc["time_ms"] = info.time_ms;
}

std::string run_info_text(const RunInfo &info) {
  // A first call may have waited for the check of its kernel.
  std::string text = fmt::format(
      "{} took {}{} ({}); {}", info.backend, duration(info.time_ms),
      info.verified == "gate" ? ", its verification included" : "", info.kernel,
      info.backend == "reference" ? "the reference itself" : verified_text(info.verified));
  if (!info.fallback_reason.empty()) text += "\nfell back: " + info.fallback_reason;
  return text;
}

}  // namespace switchyard::cli

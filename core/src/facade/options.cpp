// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>

#include "base/suggest.hpp"
#include "config/options.hpp"
#include "facade/engine_impl.hpp"

namespace switchyard {
namespace {

/// `target` takes the fields of `given` that differ from their defaults.
void overlay(Options &target, const Options &given) {
  const Options defaults;
  const auto take = [&](auto member) {
    if (given.*member != defaults.*member) target.*member = given.*member;
  };
  take(&Options::policy);
  take(&Options::numerics);
  take(&Options::isolation);
  take(&Options::threads);
  take(&Options::pin);
  take(&Options::strict);
  take(&Options::plugin_paths);
  take(&Options::cache_dir);
  take(&Options::isa);
  take(&Options::exploration_share);
  take(&Options::exploration_ms);
  take(&Options::lock_file);
  take(&Options::margin);
  take(&Options::shadow_share);
  take(&Options::gate_timeout_ms);
  take(&Options::log_level);
  take(&Options::verbose);
  take(&Options::result_cache);
  if (!given.preferences.empty()) target.preferences = given.preferences;
}

constexpr std::array<std::string_view, 3> kGroups{kDeviceGroup, kNativeGroup, kReferenceGroup};

Status check(const Options &o) {
  if (o.policy == Policy::frozen && o.strict && o.lock_file.empty())
    return fail(
        ErrorCode::usage,
        "the policy 'frozen' with strict needs a lock_file; switchyard tune --lock writes one");
  if (o.threads < 0)
    return fail(ErrorCode::usage,
                fmt::format("threads is {}; it must be 0 (automatic) or more", o.threads));
  if (!(o.margin >= 0 && o.margin < 1))
    return fail(ErrorCode::usage, fmt::format("margin is {}; it must be in [0, 1)", o.margin));
  if (!(o.exploration_ms >= 0 && o.exploration_ms <= 1e9))
    return fail(ErrorCode::usage,
                fmt::format("exploration_ms is {}; it must be in [0, 1e9]", o.exploration_ms));
  if (!(o.exploration_share >= 0 && o.exploration_share <= 1))
    return fail(ErrorCode::usage,
                fmt::format("exploration_share is {}; it must be in [0, 1]", o.exploration_share));
  if (!(o.shadow_share >= 0 && o.shadow_share <= 1))
    return fail(ErrorCode::usage,
                fmt::format("shadow_share is {}; it must be in [0, 1]", o.shadow_share));
  static constexpr std::array<std::string_view, 4> isas{"avx2", "avx512", "avx512_bf16", "amx"};
  if (!o.isa.empty() && std::find(isas.begin(), isas.end(), o.isa) == isas.end())
    return fail(ErrorCode::usage,
                fmt::format("unknown instruction set '{}'{}", o.isa, did_you_mean(o.isa, isas)));
  for (const Preference &p : o.preferences)
    if (p.backend.starts_with("@") && p.backend != kDeviceGroup && p.backend != kNativeGroup &&
        p.backend != kReferenceGroup)
      return fail(ErrorCode::usage, fmt::format("preferences: unknown group '{}'{}", p.backend,
                                                did_you_mean(p.backend, kGroups)));
  for (const auto &[op, backend] : o.pin)
    if (op != "*" && op != "kmeans")
      if (const auto known = find_op(op); !known) return tl::unexpected(known.error());
  return {};
}

}  // namespace

Result<Options> resolve_options(Options given) {
  if (!given.resolved) {
    Options base;
    if (!given.preset.empty()) {
      auto preset = load_preset(given.preset);
      if (!preset) return preset;
      base = std::move(*preset);
    }
    overlay(base, given);
    if (const auto ok = apply_environment(base); !ok) return tl::unexpected(ok.error());
    given = std::move(base);
  }
  if (const auto ok = check(given); !ok) return tl::unexpected(ok.error());
  given.resolved = true;
  return given;
}

}  // namespace switchyard

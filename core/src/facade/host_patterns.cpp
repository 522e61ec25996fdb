// SPDX-License-Identifier: Apache-2.0
/// Conveniences that hosts bring from other dispatchers: thresholds, timing one call on every
/// backend, engines without configuration.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "facade/engine_impl.hpp"

namespace switchyard {
namespace {

Status check_rounds(int rounds) {
  if (rounds >= 1 && rounds <= 1'000'000) return {};
  return fail(ErrorCode::invalid_argument,
              fmt::format("rounds is {}; it must be in 1..1000000", rounds));
}

}  // namespace

Result<Engine> Engine::create_auto() { return create({}); }

void BackendConfig::apply(Options &options) const {
  options.preferences.clear();
  const auto prefer = [&](bool wanted, const char *group, std::int64_t from) {
    if (wanted) options.preferences.push_back({group, from});
  };
  prefer(prefer_gpu, kDeviceGroup, min_size_for_gpu);
  prefer(prefer_cpp, kNativeGroup, min_size_for_cpp);
  prefer(prefer_c, kReferenceGroup, min_size_for_c);
  options.policy = Policy::thresholds;
}

std::vector<std::string> Engine::backends() const {
  std::vector<std::string> names;
  for (const auto &c : impl_->registry->all())
    if (std::ranges::find(names, c->backend) == names.end()) names.push_back(c->backend);
  return names;
}

Result<Engine *> Engine::pinned(const std::string &backend) {
  const std::lock_guard lock(impl_->pinned_mutex);
  auto &known = impl_->pinned[backend];
  if (known != nullptr) return known.get();
  Options options = impl_->options;
  options.pin = {{"*", backend}};
  options.result_cache = 0;
  options.resolved = true;
  // A pinned call has nobody else to answer it: it waits for its verification.
  auto made = create(std::move(options));
  if (!made) return tl::unexpected(made.error());
  known = std::make_unique<Engine>(std::move(*made));
  return known.get();
}

Result<std::vector<CallTiming>> Engine::benchmark(
    const std::function<Result<RunInfo>(Engine &)> &work, int rounds) {
  if (const auto ok = check_rounds(rounds); !ok) return tl::unexpected(ok.error());
  struct Contender {
    CallTiming timing;
    Engine *engine;
    std::vector<double> ms;
  };
  std::vector<Contender> field;
  for (const std::string &name : backends()) {
    auto engine = pinned(name);
    if (!engine) return tl::unexpected(engine.error());
    Contender c{{}, *engine, {}};
    c.timing.backend = name;
    // The first run decides, verifies where needed and warms up. What is wrong with the call itself
    // is wrong on every backend.
    if (const auto info = work(**engine)) {
      c.timing.kernel = info->kernel;
      c.timing.verified = info->verified;
    } else if (const ErrorCode code = info.error().code;
               code == ErrorCode::backend || code == ErrorCode::unsupported ||
               code == ErrorCode::verification || code == ErrorCode::out_of_memory) {
      c.timing.refused = info.error().message;
    } else {
      return tl::unexpected(info.error());
    }
    field.push_back(std::move(c));
  }
  for (int round = 0; round < rounds; ++round)
    for (Contender &c : field) {
      if (!c.timing.refused.empty()) continue;
      const auto start = std::chrono::steady_clock::now();
      const auto info = work(*c.engine);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      if (!info) return tl::unexpected(info.error());
      c.ms.push_back(took.count());
    }
  std::vector<CallTiming> out;
  for (Contender &c : field) {
    if (!c.ms.empty()) {
      std::ranges::sort(c.ms);
      const auto at = [&](double q) {
        return c.ms[static_cast<std::size_t>(
                        std::max(std::ceil(q * static_cast<double>(c.ms.size())), 1.0)) -
                    1];
      };
      c.timing.samples = static_cast<int>(c.ms.size());
      c.timing.min_ms = c.ms.front();
      c.timing.median_ms = at(0.5);
      c.timing.p95_ms = at(0.95);
    }
    out.push_back(std::move(c.timing));
  }
  std::ranges::stable_sort(
      out, {}, [](const CallTiming &t) { return std::pair(!t.refused.empty(), t.median_ms); });
  return out;
}

}  // namespace switchyard

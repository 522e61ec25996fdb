// SPDX-License-Identifier: Apache-2.0
#include "dispatcher/shadow.hpp"

#include <fmt/format.h>

#include "base/status_codes.hpp"
#include "dispatcher/dispatcher.hpp"
#include "host/float_state.hpp"
#include "host/host.hpp"
#include "host/log.hpp"
#include "op/spot.hpp"

namespace switchyard {

std::string shadow_check(const Candidate &candidate, const Reference &reference,
                         const sy_call &done) noexcept {
  static std::atomic<std::uint64_t> turn{0};
  if (!can_be_checked(done) || reference.find(candidate.op, done) == nullptr) return "";
  const OpSpec &op = *all_ops()[candidate.op];
  const auto on_reference = [&](const sy_call &c) { return reference.run(candidate.op, c); };
  const FloatStateGuard guard;
  try {
    const std::uint64_t pick = mix_bits(turn.fetch_add(1, std::memory_order_relaxed));
    const auto part = op.spot_check(done, pick, on_reference);
    if (!part || part->empty()) return "";
    // Nobody is condemned by a part that was cut out wrongly.
    const auto whole = check_whole(op, done, on_reference);
    if (!whole) return *part;
    if (whole->empty())
      log(SY_LOG_ERROR, fmt::format("a part of {} was judged wrong ({}), but the whole is right",
                                    op.describe(done).text(), *part));
    return *whole;
  } catch (const std::exception &) {
    return "";  // out of memory: nothing was found
  }
}

std::int32_t Dispatcher::check_sampled(OpIndex op, Decision &d, Choice &choice, const sy_call &done,
                                       sy_error *error, Answer *answer) noexcept {
  const Candidate &candidate = *choice.candidate;
  const std::uint64_t start = now_ns();
  const std::string wrong = shadow_check(candidate, registry_.reference(), done);
  d.shadow.pay(now_ns() - start);
  if (wrong.empty()) return SY_OK;
  try {
    const std::string reason = fmt::format("wrong at work, on {}: {}", d.shape, wrong);
    quarantine(candidate, reason);
    const std::string told = fmt::format("{} was {}", candidate.name, reason);
    const bool pinned = !pin_of(op).empty();
    if (pinned || options_.strict) {
      to_abi(Error{ErrorCode::verification, told, {}, 0, 0, -1, {}}, error);
      return SY_E_VERIFICATION;
    }
    sy_call again = done;
    return answer_by_reference(d, again, error, answer, told);
  } catch (const std::exception &) {
    to_abi(Error{ErrorCode::verification, "a kernel's result was wrong", {}, 0, 0, -1, {}}, error);
    return SY_E_VERIFICATION;
  }
}

void Dispatcher::quarantine(const Candidate &candidate, const std::string &reason) {
  quarantined_.fetch_add(1, std::memory_order_relaxed);
  verdicts_.quarantine(candidate, reason);
  for (const Decision *known : table_.all()) {
    auto &d = *const_cast<Decision *>(known);
    const std::lock_guard lock(d.mutex);
    for (const auto &c : d.choices)
      if (c->candidate == &candidate) selector_.exclude(d, *c, "quarantined: " + reason);
  }
}

}  // namespace switchyard

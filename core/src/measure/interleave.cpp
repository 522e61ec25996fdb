// SPDX-License-Identifier: Apache-2.0
#include "measure/interleave.hpp"

#include <algorithm>
#include <cmath>

#include "base/status_codes.hpp"
#include "host/host.hpp"

namespace switchyard {
namespace {

constexpr double kLongTurnNs = 20e6;
/// Below, waking the threads that slept during the others' turns would be part of the time; callers
/// of such kernels make many calls.
constexpr double kWakeNs = 1e6;

}  // namespace

Result<std::unique_ptr<Lane>> Lane::make(const Candidate &candidate, const Problem &problem,
                                         std::uint32_t threads) {
  auto outputs = ProblemOutputs::make(problem);
  if (!outputs) return tl::unexpected(outputs.error());
  std::unique_ptr<Lane> lane(new Lane(candidate, static_cast<std::uint32_t>(problem.inputs.size()),
                                      static_cast<std::uint32_t>(problem.outputs.size())));
  lane->outputs_ = std::move(*outputs);
  bind(problem, lane->outputs_, lane->frame_);
  lane->frame_.call().threads = threads;
  return lane;
}

double Lane::median() const {
  if (times_.empty()) return 0;
  std::vector<double> sorted = times_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::ranges::nth_element(sorted, middle);
  return *middle;
}

Result<double> Lane::turn() {
  sy_error error = make_abi_error();
  const std::uint64_t start = now_ns();
  for (int i = 0; i < batch_; ++i)
    if (const auto status = invoke(candidate_, frame_.call(), &error); status != SY_OK)
      return tl::unexpected(from_abi(error, status, candidate_.name));
  return static_cast<double>(std::max<std::uint64_t>(now_ns() - start, 1)) / batch_;
}

Status interleave(std::span<const std::unique_ptr<Lane>> lanes, const Turns &turns) {
  const std::uint64_t start = now_ns();
  double fastest = INFINITY;
  for (const auto &lane : lanes) {
    // The first turn is cold. A single slow one may be the machine's fault: the best of a few says
    // whether a lane is hopeless, unless they are long.
    double least = INFINITY;
    for (int warm = 0; warm < 4; ++warm) {
      const auto ns = lane->turn();
      if (!ns) return tl::unexpected(ns.error());
      least = std::min(least, *ns);
      if (*ns > kLongTurnNs && warm > 0) break;
      if (*ns > 1e9 * turns.seconds) break;
    }
    lane->times_.push_back(least);
    lane->least_ = least;
    lane->batch_ = static_cast<int>(std::clamp(turns.batch_ns / least, 1.0, 10'000.0));
    fastest = std::min(fastest, least);
    if (turns.cancelled)
      if (auto ok = turns.cancelled(); !ok) return ok;
  }
  for (const auto &lane : lanes) {
    lane->hopeless_ = lane->times_.front() > turns.hopeless * fastest;
    if (!lane->hopeless_) lane->times_.clear();
  }
  // Lanes take turns in both directions: none always follows the same one.
  for (int round = 0; round < turns.most; ++round) {
    const double spent = static_cast<double>(now_ns() - start);
    if (round >= turns.least && spent > 1e9 * turns.seconds) break;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const auto &lane = lanes[round % 2 == 0 ? i : lanes.size() - 1 - i];
      if (lane->hopeless_) continue;
      if (lane->least_ < kWakeNs)
        if (const auto untimed = lane->turn(); !untimed) return tl::unexpected(untimed.error());
      const auto ns = lane->turn();
      if (!ns) return tl::unexpected(ns.error());
      lane->times_.push_back(*ns);
      if (turns.cancelled)
        if (auto ok = turns.cancelled(); !ok) return ok;
    }
  }
  return {};
}

}  // namespace switchyard

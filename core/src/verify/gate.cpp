// SPDX-License-Identifier: Apache-2.0
#include "verify/gate.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include "base/status_codes.hpp"

namespace switchyard {
namespace {

std::uint64_t checksum(const Problem &problem) {
  std::uint64_t sum = 0;
  for (const Tensor &t : problem.inputs)
    if (t.present() && t.bytes() > 0) sum = XXH3_64bits_withSeed(t.data(), t.bytes(), sum);
  return sum;
}

Status run_on(const Candidate &candidate, sy_call &call) {
  sy_error error = make_abi_error();
  if (const auto status = invoke(candidate, call, &error); status != SY_OK)
    return tl::unexpected(from_abi(error, status, candidate.name));
  return {};
}

/// "name=value,... (seed S)": enough to build the problem again.
std::string where(const Problem &p) {
  return fmt::format("{} (seed {:#x})", p.shape.text(), p.seed);
}

}  // namespace

std::optional<std::string> check_problem(const OpSpec &op, const Candidate &candidate,
                                         const Candidate &reference, const Problem &problem,
                                         std::uint32_t threads) {
  const auto slots_in = static_cast<std::uint32_t>(problem.inputs.size());
  const auto slots_out = static_cast<std::uint32_t>(problem.outputs.size());
  auto got_outputs = ProblemOutputs::make(problem);
  auto want_outputs = ProblemOutputs::make(problem);
  if (!got_outputs || !want_outputs) return "no memory for the outputs of " + where(problem);
  CallFrame got(slots_in, slots_out), want(slots_in, slots_out);
  bind(problem, *got_outputs, got);
  bind(problem, *want_outputs, want);
  got.call().threads = threads;

  if (const auto valid = op.validate(got.call()); !valid)
    return fmt::format("the generated problem {} is not valid: {}", where(problem),
                       valid.error().message);
  if (!candidate.supports(got.call(), nullptr)) return std::nullopt;
  if (const auto ok = run_on(reference, want.call()); !ok)
    return fmt::format("the reference failed on {}: {}", where(problem), ok.error().message);
  const std::uint64_t before = checksum(problem);
  if (const auto ok = run_on(candidate, got.call()); !ok)
    return fmt::format("failed on {}: {}", where(problem), ok.error().message);
  if (checksum(problem) != before) return "modified its inputs on " + where(problem);
  if (const auto slot = got_outputs->overrun())
    return fmt::format("wrote outside output {} on {}", *slot, where(problem));
  const auto on_reference = [&reference](const sy_call &c) {
    sy_call copy = c;
    return run_on(reference, copy);
  };
  if (const auto wrong = op.compare(problem, got.call(), want.call(), on_reference))
    return fmt::format("wrong on {}: {}", where(problem), *wrong);
  return "";
}

GateResult run_gate(const OpSpec &op, const Candidate &candidate, const Candidate &reference,
                    std::span<const Shape> shapes, std::uint64_t seed, std::uint32_t threads) {
  GateResult result;
  for (const Shape &shape : shapes) {
    const auto problem = op.make_problem(shape, seed);
    if (!problem) {
      result.failure =
          fmt::format("no problem of shape {}: {}", shape.text(), problem.error().message);
      return result;
    }
    const auto verdict = check_problem(op, candidate, reference, *problem, threads);
    if (!verdict) continue;
    ++result.checks;
    if (!verdict->empty()) {
      result.failure = *verdict;
      return result;
    }
  }
  if (result.checks == 0) result.failure = "no problem of this class could be checked";
  return result;
}

}  // namespace switchyard

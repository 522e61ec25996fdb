// SPDX-License-Identifier: Apache-2.0
#include "verify/gate.hpp"

#include <fmt/format.h>

#include <functional>

#include "base/status_codes.hpp"
#include "verify/guard_pages.hpp"

namespace switchyard {
namespace {

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

Reference::Reference(std::span<const std::unique_ptr<Candidate>> candidates) {
  for (const auto &c : candidates) add(*c);
}

const Candidate *Reference::find(OpIndex op, const sy_call &call) const noexcept {
  for (const Candidate *c : kernels_)
    if (c->op == op && c->supports(call, nullptr)) return c;
  return nullptr;
}

Status Reference::run(OpIndex op, const sy_call &call) const {
  const Candidate *kernel = find(op, call);
  if (kernel == nullptr)
    return fail(ErrorCode::unsupported, "no reference kernel supports this call");
  sy_call copy = call;
  copy.state = nullptr;
  return run_on(*kernel, copy);
}

namespace {

/// One run of the candidate on arrays that `frame` holds, compared with the reference's.
std::string judge(const Candidate &candidate, const Expected &expected, CallFrame &got,
                  const std::function<std::optional<std::size_t>()> &overrun) {
  const OpSpec &op = *all_ops()[candidate.op];
  const Problem &problem = expected.problem();
  const std::uint64_t before = digest(problem);
  if (const auto ok = run_on(candidate, got.call()); !ok)
    return fmt::format("failed on {}: {}", where(problem), ok.error().message);
  if (digest(problem) != before) return "modified its inputs on " + where(problem);
  if (const auto slot = overrun())
    return fmt::format("wrote outside output {} on {}", *slot, where(problem));
  const auto on_reference = [&](const sy_call &c) {
    return expected.reference().run(candidate.op, c);
  };
  if (const auto wrong = op.compare(problem, got.call(), expected.call(), on_reference))
    return fmt::format("wrong on {}: {}", where(problem), *wrong);
  return "";
}

/// A frame of the problem's number of slots.
CallFrame frame_for(const Problem &p) {
  return CallFrame(static_cast<std::uint32_t>(p.inputs.size()),
                   static_cast<std::uint32_t>(p.outputs.size()));
}

std::string no_memory_for(const Problem &p) { return "no memory for the outputs of " + where(p); }

}  // namespace

std::string Expected::compute() {
  if (frame_) return "";
  auto outputs = ProblemOutputs::make(*problem_);
  if (!outputs) return no_memory_for(*problem_);
  outputs_.emplace(std::move(*outputs));
  frame_.emplace(static_cast<std::uint32_t>(problem_->inputs.size()),
                 static_cast<std::uint32_t>(problem_->outputs.size()));
  bind(*problem_, *outputs_, *frame_);
  const auto ok = reference_->run(op_, frame_->call());
  if (ok) return "";
  frame_.reset();
  return fmt::format("the reference failed on {}: {}", where(*problem_), ok.error().message);
}

std::optional<std::string> check_problem(const Candidate &candidate, Expected &expected,
                                         std::uint32_t threads, Guards guards) {
  const OpSpec &op = *all_ops()[candidate.op];
  const Problem &problem = expected.problem();
  auto outputs = ProblemOutputs::make(problem);
  if (!outputs) return no_memory_for(problem);
  CallFrame got = frame_for(problem);
  bind(problem, *outputs, got);
  got.call().threads = threads;

  if (const auto valid = op.validate(got.call()); !valid)
    return fmt::format("the generated problem {} is not valid: {}", where(problem),
                       valid.error().message);
  if (!candidate.supports(got.call(), nullptr)) return std::nullopt;
  if (std::string none = expected.compute(); !none.empty()) return none;
  std::string wrong = judge(candidate, expected, got, [&] { return outputs->overrun(); });
  if (!wrong.empty() || guards == Guards::canaries) return wrong;

  for (const Edge edge : {Edge::end, Edge::begin}) {
    const auto arrays = GuardedArrays::make(problem, edge);
    if (!arrays) return fmt::format("{}: {}", arrays.error().message, where(problem));
    CallFrame guarded = frame_for(problem);
    arrays->bind(problem, guarded);
    guarded.call().threads = threads;
    // Arrays that end at a page begin where their length says: a kernel may refuse such addresses.
    if (!candidate.supports(guarded.call(), nullptr)) continue;
    const GuardWatch watch(*arrays, where(problem));
    wrong = judge(candidate, expected, guarded, [&] { return arrays->overrun(); });
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::optional<std::string> check_problem(const Candidate &candidate, const Reference &reference,
                                         const Problem &problem, std::uint32_t threads,
                                         Guards guards) {
  Expected expected(candidate.op, reference, problem);
  return check_problem(candidate, expected, threads, guards);
}

GateResult run_gate(const Candidate &candidate, const Reference &reference,
                    std::span<const Shape> shapes, std::uint64_t seed, std::uint32_t threads,
                    Guards guards) {
  const OpSpec &op = *all_ops()[candidate.op];
  GateResult result;
  for (const Shape &shape : shapes) {
    const auto problem = op.make_problem(shape, seed);
    if (!problem) {
      result.failure =
          fmt::format("no problem of shape {}: {}", shape.text(), problem.error().message);
      return result;
    }
    const auto verdict = check_problem(candidate, reference, *problem, threads, guards);
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

// SPDX-License-Identifier: Apache-2.0
/// Measuring on generated problems: the part of tuning, benchmarks and regret that they share.
#include "measure/interleave.hpp"

#include <algorithm>

#include "facade/engine_impl.hpp"
#include "measure/samples.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kVerdictWaitMs = 60'000;
constexpr double kLongShare = 0.1;  ///< of the seconds: for one call of a hopeless kernel

Timing timing_of(const Lane &lane, const Work &work) {
  Samples samples;
  for (const double ns : lane.times()) samples.add(static_cast<std::uint64_t>(std::max(ns, 1.0)));
  const auto interval = samples.interval();
  return {lane.median(), interval.low, interval.high, static_cast<int>(lane.times().size()), work};
}

}  // namespace

Result<Measurement> Engine::measure(std::string_view op, std::string_view shape_text,
                                    const MeasureOptions &options) {
  const auto index = find_op(op);
  if (!index) return tl::unexpected(index.error());
  const OpSpec &spec = *all_ops()[*index];
  const auto shape = Shape::parse(shape_text);
  if (!shape) return tl::unexpected(shape.error());
  const auto problem = spec.make_problem(*shape, options.seed);
  if (!problem) return tl::unexpected(problem.error());
  auto outputs = ProblemOutputs::make(*problem);
  if (!outputs) return tl::unexpected(outputs.error());
  CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                  static_cast<std::uint32_t>(problem->outputs.size()));
  switchyard::bind(*problem, *outputs, frame);
  frame.call().threads = impl_->threads;
  if (const auto valid = spec.validate(frame.call()); !valid) return tl::unexpected(valid.error());

  Dispatcher &dispatcher = *impl_->dispatcher;
  Decision &d = dispatcher.decision(*index, frame.call());
  if (options.late) dispatcher.ask_late(d, true);
  for (const auto &c : d.choices)
    if (c->supported() && !c->late.load(std::memory_order_relaxed))
      impl_->verdicts->wait(*c->verdict, kVerdictWaitMs);
  impl_->verdicts->wait_idle(kVerdictWaitMs);
  Measurement out;
  out.op = spec.id();
  out.shape = d.shape;
  out.bytes = d.work.bytes;
  out.flops = d.work.flops;
  std::vector<std::unique_ptr<Lane>> lanes;
  {
    const std::lock_guard lock(d.mutex);
    if (const Choice *expected =
            dispatcher.selector().expected(d, TensorView(*frame.call().inputs[0]).elements()))
      out.expected = expected->candidate->name;
  }
  std::uint64_t least = UINT64_MAX;
  for (const auto &c : d.choices)
    if (c->usable() && c->prior_ns > 0) least = std::min(least, c->prior_ns);
  for (const auto &c : d.choices) {
    if (c->late.load(std::memory_order_relaxed)) ++out.put_off;
    if (!c->usable() || c->late.load(std::memory_order_relaxed)) continue;
    const auto prior = static_cast<double>(c->prior_ns);
    if (!options.estimated && prior > kLongShare * 1e9 * options.seconds &&
        prior > options.hopeless * static_cast<double>(least))
      continue;
    auto lane = Lane::make(*c->candidate, *problem, impl_->threads);
    if (!lane) return tl::unexpected(lane.error());
    lanes.push_back(std::move(*lane));
  }
  Turns turns{.seconds = options.seconds,
              .least = options.rounds,
              .most = options.most_rounds,
              .hopeless = options.hopeless};
  if (options.go_on)
    turns.cancelled = [&]() -> Status {
      if (options.go_on()) return {};
      return fail(ErrorCode::cancelled, "measuring was interrupted");
    };
  if (const auto ok = interleave(lanes, turns); !ok) return tl::unexpected(ok.error());

  for (const auto &lane : lanes) {
    const Candidate &c = lane->candidate();
    out.candidates.push_back({c.name, c.backend, lane->times(), lane->hopeless(), lane->median()});
    if (options.remember)
      impl_->timings->record(c, d.threads, d.described, timing_of(*lane, d.work));
  }
  if (options.remember) {
    const std::lock_guard lock(d.mutex);
    dispatcher.selector().learn(d);
  }
  return out;
}

Status Engine::freeze(const std::string &path) const {
  return LockFile::save(path, impl_->dispatcher->decisions());
}

std::vector<StoredTiming> Engine::stored_timings() const {
  std::vector<StoredTiming> out;
  for (const auto &c : impl_->registry->all()) {
    impl_->timings->each(*c, [&](std::uint32_t threads, const std::string &shape, const Timing &t) {
      out.push_back({c->name, c->runtime_id, shape, static_cast<int>(threads), t.samples, t.ns,
                     t.low, t.high});
    });
  }
  return out;
}

const std::string &Engine::timing_directory() const noexcept { return impl_->timings->directory(); }

void Engine::save() const { impl_->timings->flush(); }

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include "check/section.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/status_codes.hpp"
#include "host/host.hpp"

namespace switchyard::check {
namespace {

constexpr double kMostBytes = 96e6;  // a problem takes longer to make than to run

double work_of(const Candidate &candidate, Trial &trial) {
  const Work w = all_ops()[candidate.op]->work(trial.call());
  return w.flops + w.bytes;
}

/// The shape with its first size doubled that doubles the work; nullopt if there is none.
std::optional<Shape> doubled(const Candidate &candidate, const Shape &shape, double work) {
  for (const auto &[name, value] : shape.items()) {
    const auto size = shape.integer(name, 0, 1, std::int64_t{1} << 40);
    if (!size || value.find_first_not_of("0123456789") != std::string::npos) continue;
    Shape larger = shape;
    larger.set(name, 2 * *size);
    const auto trial = Trial::make(candidate, larger);
    if (trial != nullptr && work_of(candidate, *trial) > 1.8 * work) return larger;
  }
  return std::nullopt;
}

}  // namespace

void Bench::line(const std::string &text) const {
  std::string out = text + "\n";
  for (std::size_t at = 0; at < out.size();) {
    const ssize_t n = write(out_fd, out.data() + at, out.size() - at);
    if (n <= 0) return;
    at += static_cast<std::size_t>(n);
  }
}

void Bench::begin(const std::string &kernel, const std::string &name) const {
  line(fmt::format("begin {}\t{}", kernel, name));
}

void Bench::say(const std::string &kernel, const std::string &name, State state,
                const std::string &detail) const {
  line(encode(Item{section, name, kernel, state, detail}));
}

void Bench::verdict(const std::string &kernel, const std::string &name, const std::string &wrong,
                    const std::string &detail) const {
  say(kernel, name, wrong.empty() ? State::pass : State::fail, wrong.empty() ? detail : wrong);
}

Trial::Trial(Problem problem, ProblemOutputs outputs)
    : problem_(std::move(problem)),
      outputs_(std::move(outputs)),
      frame_(static_cast<std::uint32_t>(problem_.inputs.size()),
             static_cast<std::uint32_t>(problem_.outputs.size())) {
  bind(problem_, outputs_, frame_);
}

std::unique_ptr<Trial> Trial::make(const Candidate &candidate, const Shape &shape,
                                   std::uint32_t threads) {
  auto problem = all_ops()[candidate.op]->make_problem(shape, kGateSeed);
  if (!problem) return nullptr;
  auto outputs = ProblemOutputs::make(*problem);
  if (!outputs) return nullptr;
  std::unique_ptr<Trial> trial(new Trial(std::move(*problem), std::move(*outputs)));
  trial->call().threads = threads;
  if (!all_ops()[candidate.op]->validate(trial->call())) return nullptr;
  return candidate.supports(trial->call(), nullptr) ? std::move(trial) : nullptr;
}

std::int32_t Trial::status(const Candidate &candidate) noexcept {
  sy_error error = make_abi_error();
  return invoke(candidate, call(), &error);
}

std::string Trial::run(const Candidate &candidate) {
  sy_error error = make_abi_error();
  const std::int32_t status = invoke(candidate, call(), &error);
  if (status == SY_OK) return "";
  return fmt::format("failed on {}: {}", problem_.shape.text(),
                     from_abi(error, status, "").message);
}

std::vector<std::byte> Trial::bytes() const {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const TensorView &v = outputs_.view(i);
    if (!v.present() || v.elements() == 0) continue;
    const auto *p = v.data<const std::byte>();
    out.insert(out.end(), p, p + (v.raw().byte_size - v.raw().byte_offset));
  }
  return out;
}

namespace {

/// All supported conformance shapes of a kernel, found once a process: problems are costly to make.
const std::vector<Shape> &all_supported(const Candidate &candidate) {
  static std::map<std::string, std::vector<Shape>> known;
  const auto [it, fresh] = known.try_emplace(candidate.name);
  if (fresh)
    for (const Shape &shape : all_ops()[candidate.op]->conformance_shapes())
      if (Trial::make(candidate, shape) != nullptr) it->second.push_back(shape);
  return it->second;
}

}  // namespace

std::vector<Shape> supported_shapes(const Candidate &candidate, std::size_t most) {
  const std::vector<Shape> &all = all_supported(candidate);
  if (all.size() <= most) return all;
  std::vector<Shape> out;
  for (std::size_t i = 0; i < most; ++i) out.push_back(all[i * all.size() / most]);
  return out;
}

std::unique_ptr<Trial> first_supported(const Candidate &candidate) {
  for (const Shape &shape : all_ops()[candidate.op]->conformance_shapes())
    if (auto trial = Trial::make(candidate, shape)) return trial;
  return nullptr;
}

std::unique_ptr<Trial> grown(const Candidate &candidate, double ms, double *took_ms) {
  std::unique_ptr<Trial> best;
  for (const Shape &shape : supported_shapes(candidate, 40)) {
    auto trial = Trial::make(candidate, shape);
    if (trial != nullptr &&
        (best == nullptr || work_of(candidate, *trial) > work_of(candidate, *best)))
      best = std::move(trial);
  }
  while (best != nullptr) {
    double least = 1e30;
    for (int i = 0; i < 3 && least >= ms; ++i) {
      const std::uint64_t start = now_ns();
      if (best->status(candidate) != SY_OK) return nullptr;
      least = std::min(least, static_cast<double>(now_ns() - start) / 1e6);
    }
    if (took_ms != nullptr) *took_ms = least;
    if (least >= ms) return best;
    const auto larger = doubled(candidate, best->problem().shape, work_of(candidate, *best));
    if (!larger || all_ops()[candidate.op]->work(best->call()).bytes > kMostBytes / 2)
      return nullptr;
    best = Trial::make(candidate, *larger);
  }
  return nullptr;
}

}  // namespace switchyard::check

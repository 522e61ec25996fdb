// SPDX-License-Identifier: Apache-2.0
#include "op/problem.hpp"

#include <xxhash.h>

#include <algorithm>

#include "base/checked.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kGuard = 64;  // bytes before and after each output; keeps alignment
constexpr unsigned char kCanary = 0xA5;

bool intact(const unsigned char *p, std::size_t n) {
  return std::all_of(p, p + n, [](unsigned char c) { return c == kCanary; });
}

}  // namespace

std::vector<std::int64_t> TensorSpec::all_strides() const {
  if (!strides.empty()) return strides;
  std::vector<std::int64_t> out(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;)
    out[i - 1] = out[i] * std::max<std::int64_t>(shape[i], 1);
  return out;
}

Result<ProblemOutputs> ProblemOutputs::make(const Problem &problem) {
  ProblemOutputs out;
  for (const auto &spec : problem.outputs) {
    if (!spec) {
      out.views_.emplace_back();
      out.storage_.emplace_back();
      continue;
    }
    // The buffer is exactly as long as the data, so that one byte too many hits a canary.
    const std::vector<std::int64_t> strides = spec->all_strides();
    TensorView description(nullptr, spec->dtype, spec->shape, strides);
    const auto bytes = static_cast<std::int64_t>(description.raw().byte_size);
    auto storage =
        Tensor::empty(dtypes::u8, std::array{bytes + 2 * static_cast<std::int64_t>(kGuard)});
    if (!storage) return tl::unexpected(storage.error());
    std::memset(storage->data(), kCanary, static_cast<std::size_t>(bytes) + 2 * kGuard);
    out.views_.emplace_back(storage->data<std::byte>() + kGuard, spec->dtype, spec->shape, strides);
    out.storage_.push_back(std::move(*storage));
  }
  return out;
}

std::optional<std::size_t> ProblemOutputs::overrun() const noexcept {
  for (std::size_t i = 0; i < storage_.size(); ++i) {
    if (!storage_[i].present()) continue;
    const auto *p = storage_[i].data<unsigned char>();
    const auto bytes = static_cast<std::size_t>(storage_[i].elements());
    if (!intact(p, kGuard) || !intact(p + bytes - kGuard, kGuard)) return i;
  }
  return std::nullopt;
}

std::uint64_t digest(const Problem &problem) noexcept {
  std::uint64_t sum = 0;
  for (const Tensor &t : problem.inputs)
    if (t.present() && t.bytes() > 0) sum = XXH3_64bits_withSeed(t.data(), t.bytes(), sum);
  return sum;
}

void bind(const Problem &problem, const ProblemOutputs &outputs, CallFrame &frame) noexcept {
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) frame.input(i, problem.inputs[i]);
  for (std::size_t i = 0; i < outputs.size(); ++i) frame.output(i, outputs.view(i));
  frame.call().params = problem.params.data();
  frame.call().params_size = problem.params.size();
}

}  // namespace switchyard

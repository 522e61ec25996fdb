// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../../plugins/cpu/lists.hpp"
#include "../../plugins/reference/kernels.hpp"

namespace switchyard::test {
namespace {

/// New threads for every loop, pieces in whatever order they come.
void on_threads(const cpu::Executor *, std::uint64_t n, sy_task_fn fn, void *arg,
                std::uint32_t max_threads) {
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (std::uint64_t i = next++; i < n; i = next++) fn(arg, i);
  };
  std::vector<std::thread> others;
  for (std::uint32_t t = 1; t < max_threads; ++t) others.emplace_back(work);
  work();
  for (std::thread &t : others) t.join();
}

const cpu::Executor kExecutor{on_threads, nullptr};

cpu::Context context(std::uint32_t threads) {
  static const std::uint32_t features =
      cpu::kFeatureAmx | (__builtin_cpu_supports("avx512bf16") ? 0u + cpu::kFeatureBf16 : 0u);
  return {&kExecutor, nullptr, features, threads};
}

}  // namespace

bool Kernel::supports(const sy_call &call) const {
  return def->supports(*def, context(threads), call, nullptr) == SY_OK;
}

std::uint64_t Kernel::workspace(const sy_call &call) const {
  return def->workspace_size(*def, context(threads), call);
}

std::int32_t Kernel::run(sy_call call, sy_error *error) const {
  constexpr std::size_t kGuard = 64;
  const cpu::Context ctx = context(threads);
  call.threads = threads;
  call.workspace_size = def->workspace_size(*def, ctx, call);
  const std::size_t size = (call.workspace_size + 63) / 64 * 64 + kGuard;
  const std::unique_ptr<unsigned char, void (*)(void *)> memory(
      static_cast<unsigned char *>(std::aligned_alloc(64, size)), std::free);
  std::memset(memory.get(), 0xFF, size);
  call.workspace = memory.get();
  const std::int32_t status = def->run(*def, ctx, call, error);
  for (std::size_t i = call.workspace_size; i < size; ++i)
    EXPECT_EQ(memory.get()[i], 0xFF) << name << " wrote behind its workspace";
  return status;
}

const Kernel &reference() {
  static const Kernel kernel{"reference", reference::attention_kernels().defs, 1};
  return kernel;
}

std::vector<Kernel> kernels(std::initializer_list<std::uint32_t> threads) {
  std::vector<Kernel> all;
  const auto add = [&](const char *isa, cpu::KernelList list) {
    for (const std::uint32_t n : threads)
      for (std::uint32_t i = 0; i < list.count; ++i)
        all.push_back({fmt::format("{} {} x{}", list.defs[i].name, isa, n), &list.defs[i], n});
  };
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    add("avx2", cpu::avx2::attention_kernels());
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    add("avx512", cpu::avx512::attention_kernels());
  return all;
}

namespace {

/// The frame of a case with outputs in o and lse.
void bind_case(Case &c, CallFrame &frame) {
  const std::int64_t b = c.q.shape()[0], h = c.q.shape()[1], l = c.q.shape()[2],
                     dv = c.v.shape()[3];
  c.o.assign(static_cast<std::size_t>(b * h * l * dv), -777.0f);
  c.lse.assign(static_cast<std::size_t>(b * h * l), -777.0f);
  frame.params(c.params);
  frame.input(SY_ATTENTION_IN_Q, c.q);
  frame.input(SY_ATTENTION_IN_K, c.k);
  frame.input(SY_ATTENTION_IN_V, c.v);
  frame.input(SY_ATTENTION_IN_MASK, c.mask);
  frame.input(SY_ATTENTION_IN_SINKS, c.sinks);
  frame.input(SY_ATTENTION_IN_ALIBI, c.alibi);
  frame.input(SY_ATTENTION_IN_KV_LENGTHS, c.lengths);
  frame.output(SY_ATTENTION_OUT_O,
               TensorView(static_cast<void *>(c.o.data()), dtypes::f32, std::array{b, h, l, dv}));
  frame.output(SY_ATTENTION_OUT_LSE,
               TensorView(static_cast<void *>(c.lse.data()), dtypes::f32, std::array{b, h, l}));
}

}  // namespace

void Case::run(const Kernel &kernel) {
  CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  bind_case(*this, frame);
  const Status valid = attention_spec().validate(frame.call());
  ASSERT_TRUE(valid) << valid.error().text();
  ASSERT_EQ(kernel.run(frame.call()), SY_OK);
}

void on_all(Case &c, const std::function<void()> &check) {
  std::vector<Kernel> all = kernels();
  all.insert(all.begin(), reference());
  for (const Kernel &kernel : all) {
    SCOPED_TRACE(kernel.name);
    CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
    bind_case(c, frame);
    if (!kernel.supports(frame.call())) continue;
    c.run(kernel);
    check();
  }
}

Tensor array(std::initializer_list<std::int64_t> shape, const std::vector<float> &values) {
  Tensor t = *Tensor::empty(dtypes::f32, std::span(shape.begin(), shape.size()));
  EXPECT_EQ(t.elements(), static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), t.data<float>());
  return t;
}

Tensor integers(const std::vector<std::int32_t> &values) {
  Tensor t = *Tensor::empty(dtypes::i32, std::array{static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), t.data<std::int32_t>());
  return t;
}

}  // namespace switchyard::test

// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <thread>

#include "../../plugins/cpu/lists.hpp"
#include "../../plugins/reference/kernels.hpp"
#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::test {
namespace {

void on_this_thread(const cpu::Executor *, std::uint64_t n, sy_task_fn fn, void *arg,
                    std::uint32_t) {
  for (std::uint64_t i = 0; i < n; ++i) fn(arg, i);
}

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

}  // namespace

std::vector<Backend> backends() {
  std::vector<Backend> all{
      {"reference", reference::quantize_kernels(), reference::dequantize_kernels(), 1}};
  __builtin_cpu_init();
  for (std::uint32_t threads : {1u, 3u}) {
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      all.push_back({fmt::format("avx2 x{}", threads), cpu::avx2::quantize_kernels(),
                     cpu::avx2::dequantize_kernels(), threads});
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      all.push_back({fmt::format("avx512 x{}", threads), cpu::avx512::quantize_kernels(),
                     cpu::avx512::dequantize_kernels(), threads});
  }
  return all;
}

std::int32_t run(const Backend &backend, std::string_view op, sy_call &call, sy_error *error) {
  const cpu::KernelList list = op == SY_OP_QUANTIZE ? backend.quantize : backend.dequantize;
  const cpu::Executor executor{backend.threads > 1 ? on_threads : on_this_thread, nullptr};
  const cpu::Context ctx{&executor, nullptr, 0, backend.threads};
  call.threads = backend.threads;
  for (std::uint32_t i = 0; i < list.count; ++i) {
    const cpu::KernelDef &kernel = list.defs[i];
    if (kernel.supports(kernel, ctx, call, nullptr) != SY_OK) continue;
    call.workspace_size =
        kernel.workspace_size != nullptr ? kernel.workspace_size(kernel, ctx, call) : 0;
    std::vector<std::max_align_t> workspace(call.workspace_size / sizeof(std::max_align_t) + 1);
    call.workspace = workspace.data();
    const std::int32_t status = kernel.run(kernel, ctx, call, error);
    call.workspace = nullptr;
    call.workspace_size = 0;
    return status;
  }
  return SY_E_UNSUPPORTED;
}

Arrays quantize(const Backend &backend, const TensorView &x, sy_quantize_params params) {
  Arrays out;
  const auto layout = quant_layout(params, x.shape(), x.dtype());
  if (!layout) {
    ADD_FAILURE() << layout.error().text();
    return out;
  }
  out.codes = *Tensor::empty(layout->codes.dtype, layout->codes.shape());
  if (layout->scales) out.scales = *Tensor::empty(layout->scales->dtype, layout->scales->shape());
  if (layout->biases) out.biases = *Tensor::empty(layout->biases->dtype, layout->biases->shape());
  CallFrame frame(SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS);
  frame.params(params);
  frame.input(SY_QUANTIZE_IN_X, x);
  frame.output(SY_QUANTIZE_OUT_CODES, out.codes);
  frame.output(SY_QUANTIZE_OUT_SCALES, out.scales);
  frame.output(SY_QUANTIZE_OUT_BIASES, out.biases);
  const Status valid = quantize_spec().validate(frame.call());
  EXPECT_TRUE(valid) << valid.error().text();
  if (valid) out.status = run(backend, SY_OP_QUANTIZE, frame.call(), &out.error);
  return out;
}

Tensor dequantize(const Backend &backend, const Arrays &arrays, sy_quantize_params params,
                  std::span<const std::int64_t> shape, DType dtype) {
  Tensor y = *Tensor::empty(dtype, shape);
  CallFrame frame(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
  frame.params(params);
  frame.input(SY_DEQUANTIZE_IN_CODES, arrays.codes);
  frame.input(SY_DEQUANTIZE_IN_SCALES, arrays.scales);
  frame.input(SY_DEQUANTIZE_IN_BIASES, arrays.biases);
  frame.output(SY_DEQUANTIZE_OUT_Y, y);
  const Status valid = dequantize_spec().validate(frame.call());
  EXPECT_TRUE(valid) << valid.error().text();
  if (valid) {
    EXPECT_EQ(run(backend, SY_OP_DEQUANTIZE, frame.call(), nullptr), SY_OK) << backend.name;
  }
  return y;
}

sy_quantize_params params_of(std::uint32_t format, std::uint32_t group_size,
                             std::uint32_t granularity, std::uint32_t nonfinite) {
  return {sizeof(sy_quantize_params), format, group_size, granularity, SY_SCALE_DEFAULT, nonfinite,
          SY_ROUNDING_NEAREST,        0,      0};
}

std::string bytes_of(const TensorView &t) {
  return {t.data<char>(), static_cast<std::size_t>(t.elements()) * size_of(t.dtype())};
}

std::string hex(const Tensor &t, std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i)
    text += fmt::format("{}{:02x}", i == 0 ? "" : " ", t.data<std::uint8_t>()[i]);
  return text;
}

}  // namespace switchyard::test

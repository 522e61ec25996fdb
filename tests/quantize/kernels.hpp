// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The quantisation kernels of this tree, called directly: the reference and each build of
/// plugins/cpu that this machine can run, on a chosen number of threads.

#include <switchyard/ops/quantize.h>
#include <kernel.hpp>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "base/call_frame.hpp"
#include "dispatcher/runner.hpp"

namespace switchyard::test {

/// One set of kernels and a number of threads.
struct Backend {
  std::string name;  ///< "reference", "avx2 x1", "avx512 x3"
  cpu::KernelList quantize, dequantize;
  std::uint32_t threads;
};

/// The reference first.
std::vector<Backend> backends();

/// Runs the kernel that supports the call; SY_E_UNSUPPORTED if none does.
std::int32_t run(const Backend &backend, std::string_view op, sy_call &call, sy_error *error);

/// Quantises x (any strides) after validating the call; `status` must be SY_OK unless `error` is
/// given.
struct Arrays {
  Tensor codes, scales, biases;
  sy_error error{sizeof(sy_error), SY_OK, -1, {}};
  std::int32_t status = SY_OK;
};
Arrays quantize(const Backend &backend, const TensorView &x, sy_quantize_params params);
/// Dequantises into a new array of `shape` and `dtype`.
Tensor dequantize(const Backend &backend, const Arrays &arrays, sy_quantize_params params,
                  std::span<const std::int64_t> shape, DType dtype);

sy_quantize_params params_of(std::uint32_t format, std::uint32_t group_size = 0,
                             std::uint32_t granularity = SY_GRANULARITY_TENSOR,
                             std::uint32_t nonfinite = SY_NONFINITE_ERROR);

/// The bytes of a contiguous array.
std::string bytes_of(const TensorView &t);
/// The first bytes as hex, "00 34 8c".
std::string hex(const Tensor &t, std::size_t n);

}  // namespace switchyard::test

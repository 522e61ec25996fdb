// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The attention kernels of this tree, called directly: the reference and each kernel of each build
/// of plugins/cpu that this machine can run, on a chosen number of threads.

#include <switchyard/ops/attention.h>

#include <kernel.hpp>
#include <string>
#include <vector>

#include "op/op_spec.hpp"

namespace switchyard::test {

struct Kernel {
  std::string name;  ///< "attention.f32_f32.prefill avx512 x3"
  const cpu::KernelDef *def;
  std::uint32_t threads;

  bool supports(const sy_call &call) const;
  std::uint64_t workspace(const sy_call &call) const;  ///< bytes
  /// With a workspace of exactly the size asked for, poisoned, behind which nothing may change.
  std::int32_t run(sy_call call, sy_error *error = nullptr) const;
};

const Kernel &reference();
/// All others, on each of `threads`.
std::vector<Kernel> kernels(std::initializer_list<std::uint32_t> threads = {1, 3});

/// A call under construction over owned f32 arrays; absent ones stay NULL.
struct Case {
  Tensor q, k, v, sinks, alibi, lengths;
  TensorView mask;
  sy_attention_params params{sizeof(sy_attention_params), SY_CAUSAL_NONE, 1.0f, 0, -1, -1, 0, 0};

  std::vector<float> o, lse;  ///< answers

  /// Validates, runs, and fills o and lse.
  void run(const Kernel &kernel);
};

/// An array of f32 (or i32) from values in C order.
Tensor array(std::initializer_list<std::int64_t> shape, const std::vector<float> &values);
Tensor integers(const std::vector<std::int32_t> &values);

/// Runs fn on the reference and on every kernel that supports the case, with its name traced.
void on_all(Case &c, const std::function<void()> &check);

}  // namespace switchyard::test

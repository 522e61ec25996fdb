// SPDX-License-Identifier: Apache-2.0
// Scratch memory is that of tiles: it does not grow with the product of the lengths.
#include <gtest/gtest.h>

#include <array>

#include "kernels.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::test {
namespace {

/// A causal call of L queries over L keys, described without data.
class Described {
 public:
  Described(std::int64_t lq, std::int64_t lkv, DType dtype, bool masked) {
    const auto tensor = [](DType t, std::array<std::int64_t, 4> shape) {
      return TensorView(static_cast<void *>(nullptr), t, shape);
    };
    frame_.params(params_);
    frame_.input(SY_ATTENTION_IN_Q, tensor(dtype, {1, 32, lq, 128}));
    frame_.input(SY_ATTENTION_IN_K, tensor(dtype, {1, 8, lkv, 128}));
    frame_.input(SY_ATTENTION_IN_V, tensor(dtype, {1, 8, lkv, 128}));
    if (masked) frame_.input(SY_ATTENTION_IN_MASK, tensor(dtypes::f32, {1, 32, lq, lkv}));
    frame_.output(SY_ATTENTION_OUT_O, tensor(dtype, {1, 32, lq, 128}));
  }
  sy_call call(std::uint32_t threads) {
    frame_.call().threads = threads;
    return frame_.call();
  }

 private:
  sy_attention_params params_{0, SY_CAUSAL_BOTTOM_RIGHT, 0.1f, 0, -1, -1, 0, 0};
  CallFrame frame_{SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS};
};

TEST(Workspace, OfThirtyTwoThousandPositionsIsBelow64MiB) {
  constexpr std::uint64_t kLimit = std::uint64_t{64} << 20;
  int checks = 0;
  for (const DType dtype : {dtypes::f32, dtypes::f16, dtypes::bf16})
    for (const bool masked : {false, true})
      for (const std::int64_t lq : {1, 64, 2048, 32'768}) {
        Described described(lq, 32'768, dtype, masked);
        for (const Kernel &kernel : kernels({1, 2, 16})) {
          const sy_call call = described.call(kernel.threads);
          if (!kernel.supports(call)) continue;
          EXPECT_LT(kernel.workspace(call), kLimit) << kernel.name << ", " << lq << " queries";
          ++checks;
        }
      }
  EXPECT_GE(checks, 24);
  Described described(32'768, 32'768, dtypes::f32, false);
  EXPECT_LT(reference().workspace(described.call(1)), kLimit);
}

TEST(Workspace, DoesNotGrowWithTheNumberOfQueries) {
  for (const Kernel &kernel : kernels({2})) {
    Described some(8'192, 8'192, dtypes::f32, false), more(32'768, 32'768, dtypes::f32, false);
    if (!kernel.supports(some.call(2)) || !kernel.supports(more.call(2))) continue;
    EXPECT_LE(kernel.workspace(more.call(2)), kernel.workspace(some.call(2))) << kernel.name;
  }
}

}  // namespace
}  // namespace switchyard::test

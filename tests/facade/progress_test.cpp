// SPDX-License-Identifier: Apache-2.0
// ProgressScope: typed calls report to it and stop by it, whatever the operation.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <switchyard/layers.hpp>
#include <switchyard/progress.hpp>
#include <vector>

#include "support/engine_support.hpp"

namespace switchyard {
namespace {

struct Work {
  const char *name;
  std::function<Result<Tensor>(Engine &)> run;
};

/// Calls that take the reference tens of milliseconds.
std::vector<Work> works() {
  static std::vector<float> data(std::size_t{1} << 21, 0.5F);
  const TensorView matrix(data.data(), {std::int64_t{1} << 13, 256});
  const TensorView heads(data.data(), {1, 2, 600, 64}), square(data.data(), {512, 512});
  static Quantized stored = [matrix] {
    auto q = testing::make_engine().quantize(matrix, {.format = "q6_k"});
    EXPECT_TRUE(q) << q.error().text();
    return std::move(*q);
  }();
  return {
      {"quantize",
       [=](Engine &e) -> Result<Tensor> {
         auto q = e.quantize(matrix, {.format = "q4_k"});
         if (!q) return tl::unexpected(q.error());
         return std::move(q->codes);
       }},
      {"dequantize", [](Engine &e) { return e.dequantize(stored); }},
      {"attention",
       [=](Engine &e) -> Result<Tensor> {
         auto a = e.attention(heads, heads, heads, {});
         if (!a) return tl::unexpected(a.error());
         return std::move(a->out);
       }},
      {"matmul", [=](Engine &e) { return matmul(e, square, square); }},
      {"rms_norm", [=](Engine &e) { return rms_norm(e, matrix, {}, 1e-5F); }},
  };
}

Engine reference_engine() {
  Options options = testing::test_options();
  options.pin = {{"*", "reference"}};
  options.threads = 1;
  return testing::make_engine(options);
}

TEST(ProgressScope, EveryOperationStopsByIt) {
  Engine engine = reference_engine();
  for (const Work &work : works()) {
    SCOPED_TRACE(work.name);
    int asked = 0;
    const ProgressScope stop([&](double) { return ++asked == 0; });
    const auto result = work.run(engine);
    EXPECT_GE(asked, 1);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::cancelled);
    EXPECT_FALSE(work.run(engine)) << "a scope that was asked to stop stays so";
  }
}

TEST(ProgressScope, WatchedResultsAreTheSame) {
  Engine engine = reference_engine();
  for (const Work &work : works()) {
    SCOPED_TRACE(work.name);
    double last = -1;
    Result<Tensor> watched = fail(ErrorCode::internal, "");
    {
      const ProgressScope watch([&](double done) {
        EXPECT_GE(done, 0);
        EXPECT_LE(done, 1);
        EXPECT_GE(done, last);
        last = done;
        return true;
      });
      watched = work.run(engine);
    }
    ASSERT_TRUE(watched) << watched.error().text();
    EXPECT_GE(last, 0);
    last = 2;  // nothing may report any more
    const auto plain = work.run(engine);
    ASSERT_TRUE(plain) << plain.error().text();
    ASSERT_EQ(plain->bytes(), watched->bytes());
    EXPECT_EQ(std::memcmp(plain->data(), watched->data(), plain->bytes()), 0);
  }
}

TEST(ProgressScope, TheInnermostIsTold) {
  Engine engine = reference_engine();
  const Work work = works().front();
  int outer = 0, inner = 0;
  const ProgressScope first([&](double) { return ++outer > 0; });
  {
    const ProgressScope second([&](double) { return ++inner > 0; });
    EXPECT_TRUE(work.run(engine));
  }
  EXPECT_GT(inner, 0);
  EXPECT_EQ(outer, 0);
  EXPECT_TRUE(work.run(engine));
  EXPECT_GT(outer, 0);
}

TEST(ProgressScope, AFunctionThatThrowsStopsTheCall) {
  Engine engine = reference_engine();
  const ProgressScope watch([](double) -> bool { throw 1; });
  const auto result = works().front().run(engine);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::cancelled);
}

}  // namespace
}  // namespace switchyard

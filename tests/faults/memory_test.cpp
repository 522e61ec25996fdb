// SPDX-License-Identifier: Apache-2.0
// The n-th allocation of the calling thread fails, for every n until none does: each call answers
// or says that memory is out, nothing ends the process, and the engine goes on to work.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <functional>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"
#include "support/sanitized.hpp"

namespace {
thread_local long until_failure = -1;  // < 0: nothing fails
thread_local bool failed = false;
}  // namespace

#if !SWITCHYARD_SANITIZED
extern "C" {
void *__libc_malloc(std::size_t);
void *__libc_calloc(std::size_t, std::size_t);
void *__libc_realloc(void *, std::size_t);
void *__libc_memalign(std::size_t, std::size_t);

static bool may_not() {
  if (until_failure < 0) return false;
  if (until_failure-- > 0) return false;
  failed = true;
  errno = ENOMEM;
  return true;
}
void *malloc(std::size_t size) { return may_not() ? nullptr : __libc_malloc(size); }
void *calloc(std::size_t n, std::size_t size) {
  return may_not() ? nullptr : __libc_calloc(n, size);
}
void *realloc(void *p, std::size_t size) { return may_not() ? nullptr : __libc_realloc(p, size); }
void *memalign(std::size_t alignment, std::size_t size) {
  return may_not() ? nullptr : __libc_memalign(alignment, size);
}
void *aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void **out, std::size_t alignment, std::size_t size) {
  void *p = memalign(alignment, size);
  if (p != nullptr) *out = p;
  return p == nullptr ? ENOMEM : 0;
}
}
#endif

namespace switchyard {
namespace {

/// Runs `step` with the n-th allocation failing, n = 1, 2, ... until none failed. The number of
/// allocations that failed.
int for_every_failure(const std::function<void(long)> &step) {
  for (long n = 0; n < 100'000; ++n) {
    failed = false;
    until_failure = n;
    step(n);
    until_failure = -1;
    if (!failed) return static_cast<int>(n);
  }
  return -1;
}

class OutOfMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    if (SWITCHYARD_SANITIZED) GTEST_SKIP() << "the sanitizer has its own malloc";
  }
};

/// Quick to make: nothing is read, gates run here.
Options quick() {
  Options options = testing::test_options();
  options.isolation = Isolation::off;
  options.cache_dir = "";
  options.policy = Policy::fixed;
  return options;
}

TEST_F(OutOfMemory, ANewClassOfCallsIsAnsweredOrSaysSo) {
  const auto want = testing::reference_labels(50);
  const int failures = for_every_failure([&](long n) {
    until_failure = -1;
    Engine engine = testing::make_engine(quick());
    testing::AssignCall call(50);
    sy_error error{};
    error.struct_size = sizeof(error);
    until_failure = n;
    const auto status = engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error);
    until_failure = -1;
    EXPECT_TRUE(status == SY_OK || status == SY_E_OUT_OF_MEMORY) << status << error.message;
    // Whatever was lost, the next call is answered.
    const bool hit = failed;
    EXPECT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error), SY_OK) << error.message;
    EXPECT_EQ(call.labels(), want);
    failed = hit;
  });
  EXPECT_GT(failures, 20);
}

TEST_F(OutOfMemory, TypedCallsAnswerOrSaySo) {
  Engine engine = testing::make_engine(quick());
  std::vector<float> values(4096, 0.25f);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97);
  const auto judge = [](const auto &result) {
    const bool fine = result.has_value() || result.error().code == ErrorCode::out_of_memory;
    until_failure = -1;
    EXPECT_TRUE(fine) << result.error().message;
  };
  const int quantize = for_every_failure([&](long n) {
    until_failure = -1;
    const TensorView x(values.data(), {64, 64});
    until_failure = n;
    judge(engine.quantize(x, {.format = "q8_0"}));
  });
  const int kmeans = for_every_failure([&](long n) {
    until_failure = -1;
    const TensorView x(values.data(), {512, 8});
    until_failure = n;
    judge(engine.kmeans(x, {.k = 4, .max_iter = 3}));
  });
  const int attention = for_every_failure([&](long n) {
    until_failure = -1;
    const TensorView x(values.data(), {1, 2, 32, 64});
    until_failure = n;
    judge(engine.attention(x, x, x));
  });
  EXPECT_GT(quantize, 3);
  EXPECT_GT(kmeans, 3);
  EXPECT_GT(attention, 3);
}

TEST_F(OutOfMemory, AnEngineIsMadeOrSaysSo) {
  (void)testing::make_engine();  // plugins are mapped, verdicts known
  // Without a store: the JSON library that reads it ends the process in a destructor.
  const Options options = quick();
  int made = 0;
  const int failures = for_every_failure([&](long n) {
    until_failure = -1;
    Options mine = options;
    until_failure = n;
    auto engine = Engine::create(std::move(mine));
    until_failure = -1;
    if (engine)
      ++made;
    else
      EXPECT_TRUE(engine.error().code == ErrorCode::out_of_memory ||
                  engine.error().code == ErrorCode::backend)
          << engine.error().message;
  });
  EXPECT_GT(failures, 50);
  EXPECT_GT(made, 0);
}

}  // namespace
}  // namespace switchyard

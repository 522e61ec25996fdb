// SPDX-License-Identifier: Apache-2.0
// A decided Engine::run allocates nothing and takes no lock. The calling thread's allocations and
// locks are counted: by this program's own malloc and pthread functions, which come before libc's
// for every library and plugin, or, under a sanitizer, by its allocation hook.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <switchyard/engine.hpp>
#include <thread>
#include <vector>

#include "base/call_frame.hpp"
#include "support/sanitized.hpp"

#if SWITCHYARD_SANITIZED
// Debian's GCC has the function, but not the sanitizers' header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *,
                                                                  std::size_t),
                                                         void (*)(const volatile void *));
#endif

namespace {
thread_local std::uint64_t allocations = 0;
thread_local std::uint64_t locks = 0;
}  // namespace

#if SWITCHYARD_SANITIZED
namespace {
void on_allocation(const volatile void *, std::size_t) { ++allocations; }
void on_free(const volatile void *) {}
const int hooked = __sanitizer_install_malloc_and_free_hooks(on_allocation, on_free);
}  // namespace
#else
extern "C" {
void *__libc_malloc(std::size_t);
void *__libc_calloc(std::size_t, std::size_t);
void *__libc_realloc(void *, std::size_t);
void *__libc_memalign(std::size_t, std::size_t);

void *malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void *calloc(std::size_t n, std::size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
void *realloc(void *p, std::size_t size) {
  ++allocations;
  return __libc_realloc(p, size);
}
void *memalign(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
void *aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void **out, std::size_t alignment, std::size_t size) {
  *out = memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}

// The next definition of a function: libc's.
#define SWITCHYARD_COUNT_LOCK(NAME, TYPE)                                                \
  int NAME(TYPE *lock) {                                                                 \
    static const auto next = reinterpret_cast<int (*)(TYPE *)>(dlsym(RTLD_NEXT, #NAME)); \
    ++locks;                                                                             \
    return next(lock);                                                                   \
  }
SWITCHYARD_COUNT_LOCK(pthread_mutex_lock, pthread_mutex_t)
SWITCHYARD_COUNT_LOCK(pthread_mutex_trylock, pthread_mutex_t)
SWITCHYARD_COUNT_LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
SWITCHYARD_COUNT_LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
}
#endif

namespace switchyard {
namespace {

/// All the memory of a call, made before anything is counted.
class QuantizeCall {
 public:
  explicit QuantizeCall(std::int64_t values) : x_(static_cast<std::size_t>(values), 0.5f) {
    blocks_.resize(static_cast<std::size_t>(values / 32 * 34));
    params_.format = SY_QUANT_Q8_0;
    const std::array<std::int64_t, 1> in{values}, out{values / 32 * 34};
    frame_.input(SY_QUANTIZE_IN_X, TensorView(x_.data(), dtypes::f32, in));
    frame_.output(SY_QUANTIZE_OUT_CODES, TensorView(blocks_.data(), dtypes::u8, out));
    frame_.params(params_);
  }
  sy_call &call() noexcept { return frame_.call(); }

 private:
  std::vector<float> x_;
  std::vector<std::uint8_t> blocks_;
  sy_quantize_params params_{};
  CallFrame frame_{SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS};
};

class AttentionCall {
 public:
  AttentionCall() {
    for (auto *v : {&q_, &k_, &v_, &o_}) v->assign(2 * 8 * 16, 0.25f);
    params_.scale = 0.25f;
    params_.causal = SY_CAUSAL_BOTTOM_RIGHT;
    params_.window_left = params_.window_right = -1;
    const std::array<std::int64_t, 4> shape{1, 2, 8, 16};
    frame_.input(SY_ATTENTION_IN_Q, TensorView(q_.data(), dtypes::f32, shape));
    frame_.input(SY_ATTENTION_IN_K, TensorView(k_.data(), dtypes::f32, shape));
    frame_.input(SY_ATTENTION_IN_V, TensorView(v_.data(), dtypes::f32, shape));
    frame_.output(SY_ATTENTION_OUT_O, TensorView(o_.data(), dtypes::f32, shape));
    frame_.params(params_);
  }
  sy_call &call() noexcept { return frame_.call(); }

 private:
  std::vector<float> q_, k_, v_, o_;
  sy_attention_params params_{};
  CallFrame frame_{SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS};
};

Options options() {
  Options o;
  o.cache_dir = "";
  o.threads = 1;
  o.exploration_share = 0;  // what is decided is not looked at again, which would take locks
  o.shadow_share = 0;       // a sampled check allocates; it is no part of other calls
  return o;
}

struct Counted {
  std::uint64_t allocations = 0, locks = 0;
  std::int32_t status = SY_OK;
};

/// What this thread allocates and locks over `n` runs.
template <class Run>
Counted count(int n, Run &&run) {
  Counted total;
  const std::uint64_t a = allocations, l = locks;
  for (int i = 0; i < n && total.status == SY_OK; ++i) total.status = run();
  total.allocations = allocations - a;
  total.locks = locks - l;
  return total;
}

/// Runs until the key is decided: verification goes on beside the first calls, and exploring takes
/// locks. Where locks are not counted, many batches in a row must be free of allocations: those of
/// verification come in between. False if that never ends.
template <class Run>
bool settle(Run &&run) {
  constexpr int kBatch = 1000, kBatches = 20000, kFreeInARow = 100;
  int free_batches = 0;
  for (int i = 0; i < kBatches; ++i) {
    const Counted c = count(kBatch, run);
    if (c.status != SY_OK) return false;
    free_batches = c.allocations == 0 ? free_batches + 1 : 0;
    if (SWITCHYARD_SANITIZED ? free_batches == kFreeInARow : c.locks == 0) return true;
    std::this_thread::yield();
  }
  return false;
}

template <class Run>
void expect_free(Run &&run) {
  ASSERT_TRUE(settle(run)) << "never decided";
  const Counted c = count(20000, run);
  EXPECT_EQ(c.status, SY_OK);
  EXPECT_EQ(c.allocations, 0u);
  EXPECT_EQ(c.locks, 0u);
}

TEST(Allocation, TheCountersCount) {
  const std::uint64_t a = allocations, l = locks;
  delete new volatile int(1);
  void *volatile p = std::malloc(8);
  std::free(p);
  EXPECT_GE(allocations - a, 2u);
#if !SWITCHYARD_SANITIZED
  std::mutex mutex;
  std::shared_mutex shared;
  {
    const std::lock_guard one(mutex);
    const std::shared_lock two(shared);
  }
  EXPECT_EQ(locks - l, 2u);
#else
  EXPECT_EQ(locks, l);
#endif
}

TEST(Allocation, ADecidedPinnedCallIsFree) {
  Options o = options();
  o.pin["*"] = "reference";
  Engine engine(o);
  QuantizeCall call(64);
  expect_free([&] { return engine.run(SY_OP_QUANTIZE, call.call()); });
}

TEST(Allocation, ADecidedAdaptiveCallIsFree) {
  Engine engine(options());
  QuantizeCall call(64);
  expect_free([&] { return engine.run(SY_OP_QUANTIZE, call.call()); });
}

TEST(Allocation, SoAreMoreCallsThanAThreadRemembers) {
  Engine engine(options());
  std::vector<std::unique_ptr<QuantizeCall>> calls;
  for (std::int64_t rows = 1; rows <= 8; ++rows)
    calls.push_back(std::make_unique<QuantizeCall>(32 * rows));
  std::size_t next = 0;
  expect_free([&] { return engine.run(SY_OP_QUANTIZE, calls[++next & 7]->call()); });
}

TEST(Allocation, ADecidedAttentionCallIsFree) {
  Engine engine(options());
  AttentionCall call;
  expect_free([&] { return engine.run(SY_OP_ATTENTION, call.call()); });
}

TEST(Allocation, ABoundCallIsFree) {
  Engine engine(options());
  QuantizeCall call(64);
  auto bound = engine.bind(SY_OP_QUANTIZE, call.call());
  ASSERT_TRUE(bound) << bound.error().text();
  expect_free([&] { return bound->run(); });
}

}  // namespace
}  // namespace switchyard

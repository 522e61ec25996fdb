// SPDX-License-Identifier: Apache-2.0
// What hosts bring from other dispatchers: thresholds, the result cache, batches, timing a call.
#include <cstring>
#include <fstream>
#include <switchyard/batch.hpp>

#include "config/options.hpp"
#include "machine/machine.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using testing::make_engine;
using testing::TemporaryDirectory;
using testing::test_options;

std::vector<float> values(std::size_t n) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(static_cast<double>(i * 2654435761u % 1000) / 500.0 - 1.0);
  return out;
}

bool same_bytes(const Tensor &a, const Tensor &b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

TEST(BackendConfig, GroupsBecomePreferences) {
  Options options;
  BackendConfig{.prefer_gpu = true, .prefer_c = false, .min_size_for_cpp = 5}.apply(options);
  EXPECT_EQ(options.policy, Policy::thresholds);
  ASSERT_EQ(options.preferences.size(), 2u);
  EXPECT_EQ(options.preferences[0].backend, kDeviceGroup);
  EXPECT_EQ(options.preferences[0].min_size, 1'000'000);
  EXPECT_EQ(options.preferences[1].backend, kNativeGroup);
  EXPECT_EQ(options.preferences[1].min_size, 5);
}

TEST(BackendConfig, SmallCallsGoToPlainLoops) {
  Options options = test_options();
  BackendConfig{.prefer_gpu = false, .min_size_for_cpp = 4096}.apply(options);
  Engine engine = make_engine(options);
  const auto x = values(8192);
  const auto small = engine.quantize({x.data(), {32, 32}}, {.format = "q8_0"});
  const auto large = engine.quantize({x.data(), {128, 64}}, {.format = "q8_0"});
  ASSERT_TRUE(small && large);
  EXPECT_EQ(small->info.backend, "reference");
  if (engine.backends().size() > 1) {
    EXPECT_NE(large->info.backend, "reference");
  }
}

TEST(BackendConfig, UnknownGroupsAreRefused) {
  Options options = test_options();
  options.preferences = {{"@devices", 0}};
  const auto engine = Engine::create(options);
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::usage);
  EXPECT_NE(engine.error().message.find("@device"), std::string::npos);
}

TEST(BackendConfig, ComesFromYaml) {
  const TemporaryDirectory folder;
  const std::string path = folder.path() + "/engine.yaml";
  std::ofstream(path) << "version: 1\nengine:\n  verbose: true\n  result_cache: 4096\n"
                         "  backend_config: {prefer_gpu: false, min_size_for_cpp: 100}\n";
  const auto options = load_engine_config(path);
  ASSERT_TRUE(options) << options.error().text();
  EXPECT_EQ(options->policy, Policy::thresholds);
  EXPECT_TRUE(options->verbose);
  EXPECT_EQ(options->result_cache, 4096u);
  ASSERT_EQ(options->preferences.size(), 2u);
  EXPECT_EQ(options->preferences[0].min_size, 100);
  std::ofstream(path) << "version: 1\nengine: {policy: adaptive, backend_config: {}}\n";
  EXPECT_EQ(load_engine_config(path)->policy, Policy::adaptive) << "a named policy stays";
  std::ofstream(path) << "version: 1\nengine: {backend_config: {min_size_for_gpus: 3}}\n";
  const auto misspelt = load_engine_config(path);
  ASSERT_FALSE(misspelt);
  EXPECT_NE(misspelt.error().message.find("min_size_for_gpu"), std::string::npos);
}

TEST(ResultCache, EqualCallsGetEqualCopies) {
  Options options = test_options();
  options.result_cache = 1 << 20;
  Engine engine = make_engine(options);
  auto x = values(64 * 64);
  const TensorView view(x.data(), {64, 64});
  const auto first = engine.quantize(view, {.format = "mlx_affine4"});
  const auto second = engine.quantize(view, {.format = "mlx_affine4"});
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->info.reused);
  EXPECT_TRUE(second->info.reused);
  EXPECT_EQ(second->info.kernel, first->info.kernel);
  EXPECT_TRUE(same_bytes(first->codes, second->codes));
  EXPECT_TRUE(same_bytes(first->scales, second->scales));
  EXPECT_TRUE(same_bytes(first->biases, second->biases));
  EXPECT_NE(first->codes.data(), second->codes.data()) << "each caller owns its result";
  // A caller's change to its result reaches nobody else.
  std::memset(second->codes.data(), 0, second->codes.bytes());
  const auto third = engine.quantize(view, {.format = "mlx_affine4"});
  EXPECT_TRUE(third->info.reused && same_bytes(first->codes, third->codes));
  const ResultCacheMetrics m = engine.metrics().result_cache;
  EXPECT_EQ(m.hits, 2u);
  EXPECT_EQ(m.misses, 1u);
  EXPECT_EQ(m.entries, 1u);
  EXPECT_NEAR(m.hit_rate(), 2.0 / 3, 1e-12);
  EXPECT_LE(m.bytes, m.capacity);
}

TEST(ResultCache, WhateverAResultDependsOnIsInTheKey) {
  Options options = test_options();
  options.result_cache = 1 << 20;
  Engine engine = make_engine(options);
  auto x = values(64 * 64);
  const TensorView view(x.data(), {64, 64});
  const auto reused = [&](const Result<Quantized> &q) { return q && q->info.reused; };
  EXPECT_FALSE(reused(engine.quantize(view, {.format = "q4_0"})));
  EXPECT_FALSE(reused(engine.quantize(view, {.format = "q8_0"})));
  EXPECT_FALSE(reused(engine.quantize({x.data(), {32, 128}}, {.format = "q4_0"})));
  x[77] += 0.5f;
  EXPECT_FALSE(reused(engine.quantize(view, {.format = "q4_0"}))) << "the content changed in place";
  x[77] -= 0.5f;
  EXPECT_TRUE(reused(engine.quantize(view, {.format = "q4_0"})));
  const auto fit = [&](KMeansOptions o) {
    const auto result = engine.kmeans(view, o);
    return result && result->info.reused;
  };
  EXPECT_FALSE(fit({.k = 3, .seed = 1}));
  EXPECT_FALSE(fit({.k = 3, .seed = 2}));
  EXPECT_FALSE(fit({.k = 4, .seed = 1}));
  EXPECT_TRUE(fit({.k = 3, .seed = 1}));
  const TensorView heads(x.data(), {1, 4, 16, 64});
  const auto attend = [&](AttentionOptions o) {
    const auto result = engine.attention(heads, heads, heads, o);
    return result && result->info.reused;
  };
  EXPECT_FALSE(attend({}));
  EXPECT_FALSE(attend({.causal = SY_CAUSAL_BOTTOM_RIGHT}));
  EXPECT_FALSE(attend({.return_lse = true}));
  EXPECT_TRUE(attend({}));
  // Transposed: the same memory, other content.
  const std::int64_t shape[] = {64, 64}, strides[] = {128, 1};
  auto wide = values(64 * 128);
  const TensorView strided(wide.data(), dtypes::f32, shape, strides);
  EXPECT_FALSE(reused(engine.quantize(strided, {.format = "q4_0"})));
  wide[70] = 9;  // between the rows
  EXPECT_TRUE(reused(engine.quantize(strided, {.format = "q4_0"})));
}

TEST(ResultCache, StaysWithinItsSizeAndForgetsTheOldest) {
  Options options = test_options();
  options.result_cache = 8192;
  Engine engine = make_engine(options);
  auto x = values(4096);
  const auto at = [&](std::size_t i) {  // 2,176 bytes of blocks each, and what an entry costs
    return engine.quantize({x.data() + 8 * i, {2, 1024}}, {.format = "q8_0"})->info.reused;
  };
  EXPECT_FALSE(at(0));
  EXPECT_FALSE(at(1));
  EXPECT_FALSE(at(2));
  EXPECT_TRUE(at(0)) << "and now the latest";
  EXPECT_FALSE(at(3)) << "takes the place of 1";
  EXPECT_TRUE(at(0));
  EXPECT_FALSE(at(1));
  const ResultCacheMetrics m = engine.metrics().result_cache;
  EXPECT_GE(m.evictions, 2u);
  EXPECT_LE(m.bytes, 8192u);
  // Larger than the whole cache: not kept, nothing forgotten for it.
  const auto before = engine.metrics().result_cache.entries;
  const auto big = values(64 * 1024);
  for (int i = 0; i < 2; ++i)
    EXPECT_FALSE(engine.quantize({big.data(), {64, 1024}}, {.format = "q8_0"})->info.reused);
  EXPECT_EQ(engine.metrics().result_cache.entries, before);
}

TEST(Batches, CoverAllRowsOnceAndTellHowFarTheyAre) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  std::vector<std::int64_t> done;
  BatchOptions options{.rows = 40};
  options.progress = [&](const BatchProgress &p) {
    EXPECT_EQ(p.total, 100);
    done.push_back(p.done);
    return true;
  };
  ASSERT_TRUE(in_batches(100, 4, options, [&](std::int64_t first, std::int64_t count) {
    ranges.emplace_back(first, count);
    return Status();
  }));
  EXPECT_EQ(ranges,
            (std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 40}, {40, 40}, {80, 20}}));
  EXPECT_EQ(done, (std::vector<std::int64_t>{0, 40, 80, 100}));
}

TEST(Batches, StopWhenToldAndAtTheFirstError) {
  int calls = 0;
  BatchOptions options{.rows = 1};
  options.progress = [&](const BatchProgress &p) { return p.done < 3; };
  const auto count = [&](std::int64_t, std::int64_t) {
    ++calls;
    return Status();
  };
  const auto stopped = in_batches(10, 1, options, count);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_EQ(calls, 3);
  const auto broken = in_batches(10, 1, {.rows = 4}, [&](std::int64_t first, std::int64_t) {
    return first < 4 ? Status() : Status(fail(ErrorCode::io, "the disk"));
  });
  EXPECT_EQ(broken.error().message, "the disk");
  EXPECT_FALSE(in_batches(-1, 1, {}, count));
  EXPECT_FALSE(in_batches(1, 0, {}, count));
  EXPECT_FALSE(in_batches(1, 1, {.rows = -2}, count));
  EXPECT_TRUE(in_batches(0, 1, {}, count));
  EXPECT_EQ(calls, 3);
}

TEST(Batches, SizesFollowTheMemory) {
  EXPECT_EQ(*batch_rows(100, {.memory = 1000}), 10);
  EXPECT_EQ(*batch_rows(5000, {.memory = 1000}), 1) << "a row must be possible";
  EXPECT_EQ(*batch_rows(100, {.rows = 7, .memory = 1000}), 7);
  const std::uint64_t available = available_memory();
  EXPECT_GT(available, 1u << 20);
  const auto automatic = batch_rows(1 << 10, {});
  ASSERT_TRUE(automatic);
  EXPECT_LE(*automatic, 1 << 20) << "1 GiB at most";
  EXPECT_GE(*automatic, (16 << 20) >> 10);
}

TEST(Batches, ControlGroupsCount) {
  const TemporaryDirectory folder;
  const auto put = [&](const char *name, const char *text) {
    std::ofstream(folder.path() + name) << text;
  };
  EXPECT_FALSE(cgroup_memory_left(folder.path()));
  put("/memory.max", "max\n");
  put("/memory.current", "1000\n");
  EXPECT_FALSE(cgroup_memory_left(folder.path())) << "no limit";
  put("/memory.max", "10000\n");
  EXPECT_EQ(cgroup_memory_left(folder.path()), 9000u);
  put("/memory.stat", "anon 300\ninactive_file 600\n");
  EXPECT_EQ(cgroup_memory_left(folder.path()), 9600u) << "file pages can be taken back";
  put("/memory.current", "20000\n");
  EXPECT_EQ(cgroup_memory_left(folder.path()), 0u);
  const TemporaryDirectory old;
  std::ofstream(old.path() + "/memory.limit_in_bytes") << "5000\n";
  std::ofstream(old.path() + "/memory.usage_in_bytes") << "2000\n";
  EXPECT_EQ(cgroup_memory_left(old.path()), 3000u);
}

TEST(Batches, GiveTheSameAsOneCall) {
  Engine engine = make_engine();
  const auto x = values(100 * 64);
  const auto whole = engine.quantize({x.data(), {100, 64}}, {.format = "q4_0"});
  ASSERT_TRUE(whole);
  std::vector<std::byte> parts;
  ASSERT_TRUE(in_batches(100, 64 * 4, {.rows = 33}, [&](std::int64_t first, std::int64_t count) {
    auto q = engine.quantize({x.data() + first * 64, {count, 64}}, {.format = "q4_0"});
    if (!q) return Status(tl::unexpected(q.error()));
    const auto *bytes = q->codes.data<std::byte>();
    parts.insert(parts.end(), bytes, bytes + q->codes.bytes());
    return Status();
  }));
  ASSERT_EQ(parts.size(), whole->codes.bytes());
  EXPECT_EQ(std::memcmp(parts.data(), whole->codes.data(), parts.size()), 0);
}

TEST(Benchmark, TimesACallOnEveryBackend) {
  Engine engine = make_engine();
  const auto x = values(64 * 64);
  const auto timings = engine.benchmark(
      [&](Engine &e) -> Result<RunInfo> {
        auto q = e.quantize({x.data(), {64, 64}}, {.format = "q8_0"});
        if (!q) return tl::unexpected(q.error());
        return q->info;
      },
      3);
  ASSERT_TRUE(timings) << timings.error().text();
  EXPECT_EQ(timings->size(), engine.backends().size());
  double last = 0;
  for (const CallTiming &t : *timings) {
    if (!t.refused.empty()) continue;
    EXPECT_EQ(t.samples, 3);
    EXPECT_NE(t.kernel.find("@" + t.backend), std::string::npos) << t.kernel;
    EXPECT_LE(t.min_ms, t.median_ms);
    EXPECT_LE(t.median_ms, t.p95_ms);
    EXPECT_GE(t.median_ms, last);
    last = t.median_ms;
  }
  EXPECT_EQ(engine.metrics().total_operations, 0u) << "the engines beside it worked";
  const auto wrong = engine.benchmark([&](Engine &e) -> Result<RunInfo> {
    auto q = e.quantize({x.data(), {64, 64}}, {.format = "q9"});
    if (!q) return tl::unexpected(q.error());
    return q->info;
  });
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::usage);
  EXPECT_FALSE(engine.benchmark([](Engine &) { return Result<RunInfo>(RunInfo{}); }, 0));
}

TEST(Engine, CreateAutoNeedsNothing) {
  setenv("SWITCHYARD_CACHE_DIR", testing::shared_cache().c_str(), 1);
  auto engine = Engine::create_auto();
  unsetenv("SWITCHYARD_CACHE_DIR");
  ASSERT_TRUE(engine) << engine.error().text();
  EXPECT_EQ(engine->options().policy, Policy::adaptive);
  const auto x = values(64);
  EXPECT_TRUE(engine->quantize({x.data(), {2, 32}}, {.format = "q8_0"}));
}

}  // namespace
}  // namespace switchyard

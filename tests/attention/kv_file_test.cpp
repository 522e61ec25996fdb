// SPDX-License-Identifier: Apache-2.0
// Saved caches go on as if nothing had happened; files that are damaged or another's are refused.
// And a long run: 100,000 steps with SWITCHYARD_LONG_TESTS=1, fewer without.
#include <fstream>

#include "kv_support.hpp"

namespace switchyard {
namespace {

using namespace testing;

Engine &engine() {
  static Engine shared = make_engine();
  return shared;
}

KVCacheOptions with(KVKind kind, KVFormat format) {
  KVCacheOptions o;
  o.kind = kind;
  o.format = format;
  o.kv_heads = 2;
  if (kind == KVKind::rotating) {
    o.capacity = 20;
    o.keep = 2;
  }
  if (kind == KVKind::paged) o.page_size = 8;
  return o;
}

std::string contents(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

TEST(KVFile, ALoadedCacheGoesOn) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/cache";
  for (const KVKind kind : {KVKind::contiguous, KVKind::rotating, KVKind::paged})
    for (const KVFormat format : {KVFormat::plain, KVFormat::q8, KVFormat::q4})
      for (const std::int64_t n : {0, 13, 50}) {
        const KVCacheOptions o = with(kind, format);
        const Tokens t = make_tokens(o, 4, 70);
        KVCache cache = make_cache(engine(), o);
        if (n > 0) run_through(cache, t, 0, n, 5);
        ASSERT_TRUE(cache.save(path, "model, prompt"));
        auto loaded = KVCache::load(engine(), path, o, "model, prompt");
        ASSERT_TRUE(loaded) << loaded.error().text();
        EXPECT_EQ(loaded->length(), n);
        const Tensor a = run_through(cache, t, n, 10, 1), b = run_through(*loaded, t, n, 10, 1);
        for (std::int64_t i = 0; i < a.elements(); ++i)
          ASSERT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-5) << to_string(kind) << i;
      }
}

TEST(KVFile, AnothersFileIsRefused) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/cache";
  const KVCacheOptions o = with(KVKind::contiguous, KVFormat::q8);
  const Tokens t = make_tokens(o, 2, 9);
  KVCache cache = make_cache(engine(), o);
  ASSERT_TRUE(cache.append(t.k, t.v));
  ASSERT_TRUE(cache.save(path, "a"));
  const auto refusal = [&](const KVCacheOptions &expected, const std::string &key) {
    const auto loaded = KVCache::load(engine(), path, expected, key);
    EXPECT_FALSE(loaded);
    return loaded ? std::string() : loaded.error().message;
  };
  EXPECT_NE(refusal(o, "b").find("key"), std::string::npos);
  KVCacheOptions other = o;
  other.kv_heads = 1;
  EXPECT_NE(refusal(other, "a").find("kv_heads"), std::string::npos);
  other = o;
  other.format = KVFormat::q4;
  EXPECT_NE(refusal(other, "a").find("format"), std::string::npos);
  EXPECT_NE(refusal(with(KVKind::rotating, KVFormat::q8), "a").find("kind"), std::string::npos);
  other = o;
  other.budget = std::make_shared<KVBudget>(100);
  EXPECT_NE(refusal(other, "a").find("budget"), std::string::npos);
  EXPECT_EQ(KVCache::load(engine(), directory.path() + "/none", o).error().code, ErrorCode::io);
}

TEST(KVFile, DamageIsFoundWhereverItIs) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/cache";
  for (const KVKind kind : {KVKind::contiguous, KVKind::rotating, KVKind::paged}) {
    const KVCacheOptions o = with(kind, KVFormat::q8);
    const Tokens t = make_tokens(o, 2, 40);
    KVCache cache = make_cache(engine(), o);
    ASSERT_TRUE(cache.append(t.k, t.v));
    ASSERT_TRUE(cache.save(path));
    const std::string good = contents(path);
    for (std::size_t at = 0; at < good.size(); at += at < 400 ? 1 : 97) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      write(path, bad);
      ASSERT_FALSE(KVCache::load(engine(), path, o)) << to_string(kind) << ", byte " << at;
    }
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{20}, good.size() / 2, good.size() - 1}) {
      write(path, good.substr(0, size));
      ASSERT_FALSE(KVCache::load(engine(), path, o)) << size;
    }
    write(path, good + "x");
    ASSERT_FALSE(KVCache::load(engine(), path, o));
    write(path, good);
    ASSERT_TRUE(KVCache::load(engine(), path, o));
  }
}

std::size_t resident_pages() {
  std::size_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident;
}

TEST(KVLongRun, ARotatingQ8CacheDoesNotDrift) {
  const char *option = std::getenv("SWITCHYARD_LONG_TESTS");
  const std::int64_t steps = option != nullptr && std::string_view(option) == "1" ? 100'000 : 2'500;
  KVCacheOptions o = with(KVKind::rotating, KVFormat::q8);
  o.capacity = 256;
  o.keep = 4;
  o.budget = std::make_shared<KVBudget>();
  // Tokens repeat after a prime number of steps that is no divisor of anything here.
  constexpr std::int64_t kPeriod = 1009;
  const Tokens t = make_tokens(o, 8, kPeriod);
  const Tensor k = as_kept(engine(), o, t.k), v = as_kept(engine(), o, t.v);
  KVCache cache = make_cache(engine(), o);
  const std::uint64_t reserved = cache.memory().reserved;
  std::size_t pages = 0;
  int checks = 0;
  for (std::int64_t p = 0; p < steps; ++p) {
    const std::int64_t at = p % kPeriod;
    const auto out = cache.update(part(t.q, at, 1), part(t.k, at, 1), part(t.v, at, 1));
    ASSERT_TRUE(out) << out.error().text();
    if (p == 1200) pages = resident_pages();
    if (p % 173 != 0 && p != steps - 1) continue;
    // The keys of this step, by their place in the period; one may be seen twice.
    Exact want;
    {
      std::vector<std::int64_t> seen;
      const std::int64_t recent = std::max(o.keep, p - (o.capacity - o.keep) + 1);
      for (std::int64_t j = 0; j < std::min(o.keep, p + 1); ++j) seen.push_back(j % kPeriod);
      for (std::int64_t j = recent; j <= p; ++j) seen.push_back(j % kPeriod);
      const auto count = static_cast<std::int64_t>(seen.size());
      Tensor ks = *Tensor::empty(dtypes::f64, std::array<std::int64_t, 4>{1, 2, count, 64});
      Tensor vs = *Tensor::empty(dtypes::f64, std::array<std::int64_t, 4>{1, 2, count, 64});
      for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t j = 0; j < count; ++j) {
          const std::int64_t from = (h * kPeriod + seen[static_cast<std::size_t>(j)]) * 64;
          std::copy_n(k.data<double>() + from, 64, ks.data<double>() + (h * count + j) * 64);
          std::copy_n(v.data<double>() + from, 64, vs.data<double>() + (h * count + j) * 64);
        }
      want = exact_row(t, ks, vs, at, [](std::int64_t, std::int64_t) { return true; });
    }
    ASSERT_LE(error_of(out->out, 0, want), 1) << "step " << p;
    ++checks;
  }
  EXPECT_GE(checks, 14);
  EXPECT_EQ(cache.length(), steps);
  EXPECT_EQ(cache.memory().reserved, reserved);
  EXPECT_EQ(o.budget->peak(), reserved);
  EXPECT_LE(resident_pages(), pages + 8192) << "resident memory grew by more than 32 MiB";
}

}  // namespace
}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
// Caches of every kind and format give what attention over all their tokens gives, however these
// came; trimming, forks, budgets.
#include "kv_support.hpp"
#include "support/sanitized.hpp"

namespace switchyard {
namespace {

using namespace testing;

Engine &engine() {
  static Engine shared = make_engine();
  return shared;
}

KVCacheOptions with(KVKind kind, KVFormat format, DType dtype = dtypes::f32) {
  KVCacheOptions o;
  o.kind = kind;
  o.format = format;
  o.dtype = dtype;
  o.kv_heads = 2;
  o.head_dim = 64;
  if (kind == KVKind::rotating) {
    o.capacity = 24;
    o.keep = 3;
  }
  if (kind == KVKind::paged) o.page_size = 8;
  return o;
}

/// What a cache lets its queries see.
Sees sees(const KVCacheOptions &o) {
  if (o.kind != KVKind::rotating) return [](std::int64_t p, std::int64_t j) { return j <= p; };
  return [o](std::int64_t p, std::int64_t j) {
    return j <= p && (j < o.keep || p - j < o.capacity - o.keep);
  };
}

/// Every row of `got` (positions begin..) against f64.
void expect_exact(const KVCacheOptions &o, const Tokens &t, const Tensor &got, std::int64_t begin,
                  const Sees &rule) {
  const Tensor k = as_kept(engine(), o, t.k), v = as_kept(engine(), o, t.v);
  for (std::int64_t i = 0; i < got.shape()[2]; ++i)
    ASSERT_LE(error_of(got, i, exact_row(t, k, v, begin + i, rule)), 1) << "position " << begin + i;
}

struct Kind {
  KVKind kind;
  KVFormat format;
  DType dtype;
};
class EveryCache : public ::testing::TestWithParam<Kind> {
 protected:
  KVCacheOptions options = with(GetParam().kind, GetParam().format, GetParam().dtype);
};
std::vector<Kind> every_cache() {
  std::vector<Kind> all;
  for (const KVKind kind : {KVKind::contiguous, KVKind::rotating, KVKind::paged}) {
    for (const DType dtype : {dtypes::f32, dtypes::f16, dtypes::bf16})
      all.push_back({kind, KVFormat::plain, dtype});
    all.push_back({kind, KVFormat::q8, dtypes::f32});
    all.push_back({kind, KVFormat::q8, dtypes::bf16});
    all.push_back({kind, KVFormat::q4, dtypes::f32});
    all.push_back({kind, KVFormat::q4, dtypes::f16});
  }
  // Sanitizers are slow: every kind and every format, in 7 of 21 pairs.
  if (SWITCHYARD_SANITIZED) {
    std::vector<Kind> some;
    for (std::size_t i = 0; i < all.size(); i += 3) some.push_back(all[i]);
    return some;
  }
  return all;
}
std::string name_of(const ::testing::TestParamInfo<Kind> &info) {
  return std::string(to_string(info.param.kind)) + "_" + std::string(to_string(info.param.format)) +
         "_" + to_string(info.param.dtype);
}
INSTANTIATE_TEST_SUITE_P(Caches, EveryCache, ::testing::ValuesIn(every_cache()), name_of);

TEST_P(EveryCache, ChunksOfAnySizeSeeTheSameKeys) {
  const Tokens t = make_tokens(options, 6, 70);  // a rotating cache of 24 wraps twice
  for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{5}, std::int64_t{70}}) {
    SCOPED_TRACE(chunk);
    KVCache cache = make_cache(engine(), options);
    const Tensor out = run_through(cache, t, 0, 70, chunk);
    EXPECT_EQ(cache.length(), 70);
    expect_exact(options, t, out, 0, sees(options));
  }
}

TEST_P(EveryCache, AWarmCacheGoesOnAsAColdOne) {
  const Tokens t = make_tokens(options, 6, 60);
  for (const std::int64_t before : {10, 23, 24, 25, 50}) {  // the wrap is at 24
    SCOPED_TRACE(before);
    KVCache warm = make_cache(engine(), options), cold = make_cache(engine(), options);
    run_through(warm, t, 0, before, 1);
    ASSERT_TRUE(cold.append(part(t.k, 0, before), part(t.v, 0, before)));
    const Tensor a = run_through(warm, t, before, 10, 1), b = run_through(cold, t, before, 10, 10);
    expect_exact(options, t, a, before, sees(options));
    expect_exact(options, t, b, before, sees(options));
  }
}

TEST_P(EveryCache, TrimmedPositionsHaveNeverBeen) {
  options.rewind = options.kind == KVKind::rotating ? 6 : 0;
  const Tokens t = make_tokens(options, 6, 80, 1), other = make_tokens(options, 6, 80, 9);
  for (const std::int64_t before : {12, 30, 61}) {
    SCOPED_TRACE(before);
    KVCache cache = make_cache(engine(), options);
    run_through(cache, t, 0, before, 7);
    for (int round = 0; round < 3; ++round) {  // what is appended now is taken back
      run_through(cache, other, before, 6, 2);
      ASSERT_GE(cache.trimmable(), 6);
      ASSERT_TRUE(cache.trim(6));
    }
    EXPECT_EQ(cache.length(), before);
    expect_exact(options, t, run_through(cache, t, before, 15, 1), before, sees(options));
  }
}

TEST_P(EveryCache, CopiesAndForksGoTheirOwnWays) {
  const Tokens t = make_tokens(options, 6, 60, 1), other = make_tokens(options, 6, 60, 9);
  KVCache cache = make_cache(engine(), options);
  run_through(cache, t, 0, 29, 8);
  KVCache fork = *cache.fork(), copy = *cache.copy();
  run_through(cache, other, 29, 12, 3);
  run_through(copy, other, 29, 4, 1);
  expect_exact(options, t, run_through(fork, t, 29, 20, 4), 29, sees(options));
  ASSERT_GE(copy.length(), 33);
  Tokens mixed = make_tokens(options, 6, 60, 1);
  for (const auto &[to, from] : {std::pair{&mixed.q, &other.q}, std::pair{&mixed.k, &other.k},
                                 std::pair{&mixed.v, &other.v}})
    for (std::int64_t h = 0; h < to->shape()[1]; ++h) {
      const auto row = static_cast<std::size_t>(to->shape()[3]) * size_of(to->dtype());
      std::memcpy(to->data<std::byte>() + static_cast<std::size_t>(h * 60 + 29) * row,
                  from->data<std::byte>() + static_cast<std::size_t>(h * 60 + 29) * row, 12 * row);
    }
  expect_exact(options, mixed, run_through(cache, mixed, 41, 10, 5), 41, sees(options));
}

TEST_P(EveryCache, ReadGivesBackWhatIsHeld) {
  const Tokens t = make_tokens(options, 6, 20);
  KVCache cache = make_cache(engine(), options);
  ASSERT_TRUE(cache.append(t.k, t.v));
  const auto held = cache.read(4, 9);
  ASSERT_TRUE(held) << held.error().text();
  const Tensor k = as_kept(engine(), options, t.k), got = *cast(held->first, dtypes::f64);
  for (std::int64_t h = 0; h < 2; ++h)
    for (std::int64_t i = 0; i < 9 * 64; ++i)
      ASSERT_NEAR(got.data<double>()[h * 9 * 64 + i], k.data<double>()[h * 20 * 64 + 4 * 64 + i],
                  1e-6);
  EXPECT_EQ(cache.read(12, 9).error().code, ErrorCode::invalid_argument);
}

TEST(RotatingCache, IsFullAttentionWithASlidingWindow) {
  KVCacheOptions o = with(KVKind::rotating, KVFormat::plain);
  o.keep = 0;
  const Tokens t = make_tokens(o, 6, 100);
  KVCache cache = make_cache(engine(), o);
  const Tensor got = run_through(cache, t, 0, 100, 3);
  const auto want =
      engine().attention(t.q, t.k, t.v, {.causal = SY_CAUSAL_BOTTOM_RIGHT, .window = 24});
  ASSERT_TRUE(want);
  for (std::int64_t i = 0; i < got.elements(); ++i)
    ASSERT_NEAR(got.data<float>()[i], want->out.data<float>()[i], 2e-5) << i;
}

TEST(RotatingCache, KeptTokensOutliveAUsersWindowToo) {
  const KVCacheOptions o = with(KVKind::rotating, KVFormat::plain);
  const Tokens t = make_tokens(o, 6, 90);
  KVCache cache = make_cache(engine(), o);
  const Tensor got = run_through(cache, t, 0, 90, 4, AttentionOptions{.window = 5});
  expect_exact(o, t, got, 0,
               [](std::int64_t p, std::int64_t j) { return j <= p && (j < 3 || p - j < 5); });
}

TEST(RotatingCache, AlibiCountsPositionsAcrossTheGap) {
  KVCacheOptions o = with(KVKind::rotating, KVFormat::plain);
  o.kv_heads = 1;
  const Tokens t = make_tokens(o, 1, 90);
  KVCache cache = make_cache(engine(), o);
  const float slope = 0.05f;
  AttentionCall options;
  options.alibi = TensorView(&slope, {1});
  const Tensor got = run_through(cache, t, 0, 90, 1, options);
  for (const std::int64_t p : {5, 40, 89}) {
    double sum = 0, want = 0, most = -HUGE_VAL;
    std::vector<double> w(static_cast<std::size_t>(p + 1), -HUGE_VAL);
    for (std::int64_t j = 0; j <= p; ++j) {
      if (!sees(o)(p, j)) continue;
      double dot = 0;
      for (std::int64_t e = 0; e < 64; ++e)
        dot += static_cast<double>(t.q.data<float>()[p * 64 + e]) *
               static_cast<double>(t.k.data<float>()[j * 64 + e]);
      w[static_cast<std::size_t>(j)] =
          dot / 8 + static_cast<double>(slope) * static_cast<double>(j - p);
      most = std::max(most, w[static_cast<std::size_t>(j)]);
    }
    for (std::int64_t j = 0; j <= p; ++j) {
      const double x = std::exp(w[static_cast<std::size_t>(j)] - most);
      sum += x;
      want += x * static_cast<double>(t.v.data<float>()[j * 64]);
    }
    EXPECT_NEAR(got.data<float>()[p * 64], want / sum, 1e-5) << p;
  }
}

TEST(RotatingCache, RefusesToForgetWhatItCannotUndo) {
  KVCacheOptions o = with(KVKind::rotating, KVFormat::plain);
  o.rewind = 4;
  const Tokens t = make_tokens(o, 2, 200);
  KVCache cache = make_cache(engine(), o);
  ASSERT_TRUE(cache.append(t.k, t.v));
  const std::int64_t most = cache.trimmable();
  EXPECT_GE(most, 4);
  EXPECT_LT(most, 100);
  const Status refused = cache.trim(most + 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(cache.length(), 200);
  ASSERT_TRUE(cache.trim(197));  // all but the kept ones
  EXPECT_EQ(cache.length(), 3);
  EXPECT_EQ(cache.trimmable(), 3);
  expect_exact(o, t, run_through(cache, t, 3, 30, 2), 3, sees(o));
  cache.clear();
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.trim(1).error().code, ErrorCode::invalid_argument);
}

TEST(RotatingCache, AttendingFarBackNeedsUpdate) {
  const KVCacheOptions o = with(KVKind::rotating, KVFormat::plain);
  const Tokens t = make_tokens(o, 2, 200);
  KVCache cache = make_cache(engine(), o);
  ASSERT_TRUE(cache.append(part(t.k, 0, 20), part(t.v, 0, 20)));
  EXPECT_TRUE(cache.attend(part(t.q, 0, 20)));
  ASSERT_TRUE(cache.append(part(t.k, 20, 180), part(t.v, 20, 180)));
  EXPECT_TRUE(cache.attend(part(t.q, 199, 1)));
  EXPECT_EQ(cache.attend(part(t.q, 120, 80)).error().code, ErrorCode::invalid_argument);
}

TEST(RotatingCache, MemoryIsFlat) {
  KVCacheOptions o = with(KVKind::rotating, KVFormat::q8);
  o.budget = std::make_shared<KVBudget>();
  const Tokens t = make_tokens(o, 2, 500);
  KVCache cache = make_cache(engine(), o);
  const std::uint64_t reserved = cache.memory().reserved;
  EXPECT_LE(reserved, cache.memory().per_token * 64);  // 24 tokens and room to move
  run_through(cache, t, 0, 500, 9);
  EXPECT_EQ(cache.memory().reserved, reserved);
  EXPECT_EQ(o.budget->peak(), reserved);
}

TEST(PagedCache, ForksShareUntilTheyWrite) {
  const KVCacheOptions o = with(KVKind::paged, KVFormat::plain);
  const Tokens t = make_tokens(o, 2, 40);
  KVCache cache = make_cache(engine(), o);
  ASSERT_TRUE(cache.append(part(t.k, 0, 20), part(t.v, 0, 20)));  // two pages and a half
  const std::uint64_t page = cache.memory().per_token * 8;
  EXPECT_EQ(cache.memory().used, 3 * page);
  EXPECT_EQ(cache.memory().shared, 0u);
  {
    KVCache fork = *cache.fork();
    EXPECT_EQ(fork.memory().shared, 3 * page);
    ASSERT_TRUE(fork.append(part(t.k, 20, 1), part(t.v, 20, 1)));
    EXPECT_EQ(fork.memory().shared, 2 * page);
    EXPECT_EQ(cache.memory().shared, 2 * page);
    EXPECT_EQ(fork.memory().used, 3 * page);
    ASSERT_TRUE(fork.trim(10));
    EXPECT_EQ(fork.memory().used, 2 * page);
  }
  EXPECT_EQ(cache.memory().shared, 0u);
  const std::uint64_t reserved = cache.memory().reserved;
  for (int i = 0; i < 50; ++i) {  // pages of the dead are used again
    KVCache fork = *cache.fork();
    ASSERT_TRUE(fork.append(part(t.k, 20, 9), part(t.v, 20, 9)));
  }
  EXPECT_LE(cache.memory().reserved, std::max(reserved, 7 * page));
}

TEST(PagedCache, SequencesOfDifferentLengthsAttendTogether) {
  for (const KVFormat format : {KVFormat::plain, KVFormat::q8, KVFormat::q4}) {
    const KVCacheOptions o = with(KVKind::paged, format);
    const Tokens t = make_tokens(o, 6, 60);
    KVCache a = make_cache(engine(), o);
    KVCache b = *a.sibling(), stranger = make_cache(engine(), o);
    ASSERT_TRUE(a.append(part(t.k, 0, 37), part(t.v, 0, 37)));
    ASSERT_TRUE(b.append(part(t.k, 0, 11), part(t.v, 0, 11)));
    KVCache c = *a.fork();
    ASSERT_TRUE(c.append(part(t.k, 37, 3), part(t.v, 37, 3)));
    Tensor q = *Tensor::empty(dtypes::f32, std::array<std::int64_t, 4>{3, 6, 2, 64});
    const std::int64_t ends[] = {37, 11, 40};
    for (std::int64_t s = 0; s < 3; ++s)
      for (std::int64_t h = 0; h < 6; ++h)
        std::memcpy(q.data<float>() + (s * 6 + h) * 2 * 64,
                    t.q.data<float>() + (h * 60 + ends[s] - 2) * 64, 2 * 64 * sizeof(float));
    const auto all = KVCache::attend_all({&a, &b, &c}, q);
    ASSERT_TRUE(all) << all.error().text();
    const Tensor k = as_kept(engine(), o, t.k), v = as_kept(engine(), o, t.v);
    for (std::int64_t s = 0; s < 3; ++s) {
      sy_tensor raw = all->out.view().raw();
      raw.byte_offset += static_cast<std::uint64_t>(s * raw.strides[0]) * 4;
      raw.shape[0] = 1;
      for (std::int64_t i = 0; i < 2; ++i)
        EXPECT_LE(error_of(TensorView(raw), i, exact_row(t, k, v, ends[s] - 2 + i, sees(o))), 1)
            << s;
    }
    EXPECT_EQ(KVCache::attend_all({&a, &b, &stranger}, q).error().code,
              ErrorCode::invalid_argument);
    EXPECT_EQ(KVCache::attend_all({&a, &b}, q).error().code, ErrorCode::shape);
  }
}

TEST(KVBudgetTest, CapsAndCounts) {
  for (const KVKind kind : {KVKind::contiguous, KVKind::paged}) {
    KVCacheOptions o = with(kind, KVFormat::plain);
    o.budget = std::make_shared<KVBudget>(std::uint64_t{1} << 20);  // 1,024 tokens
    const Tokens t = make_tokens(o, 2, 300);
    {
      KVCache cache = make_cache(engine(), o);
      Status last;
      int appended = 0;
      while ((last = cache.append(t.k, t.v))) ++appended;
      EXPECT_EQ(last.error().code, ErrorCode::out_of_memory);
      EXPECT_NE(last.error().message.find("budget"), std::string::npos);
      EXPECT_GE(appended, 1);
      EXPECT_EQ(cache.length(), 300 * appended);  // the one that failed left nothing
      EXPECT_TRUE(cache.attend(part(t.q, 0, 1)));
      EXPECT_LE(o.budget->used(), o.budget->cap());
      EXPECT_EQ(o.budget->used(), cache.memory().reserved);
    }
    EXPECT_EQ(o.budget->used(), 0u);
    EXPECT_GT(o.budget->peak(), 0u);
  }
}

TEST(KVCacheErrors, SayWhatDoesNotFit) {
  const KVCacheOptions o = with(KVKind::contiguous, KVFormat::q8);
  const Tokens t = make_tokens(o, 6, 4);
  KVCache cache = make_cache(engine(), o);
  EXPECT_EQ(cache.attend(t.q).error().code, ErrorCode::shape);  // nothing is held yet
  EXPECT_EQ(cache.append(t.q, t.v).error().code, ErrorCode::shape);
  EXPECT_EQ(cache.append(part(t.k, 0, 3), t.v).error().code, ErrorCode::shape);
  const Tensor half = *cast(t.k, dtypes::f16);
  EXPECT_EQ(cache.append(half, t.v).error().code, ErrorCode::dtype);
  EXPECT_EQ(cache.update(t.q, part(t.k, 0, 3), part(t.v, 0, 3)).error().code, ErrorCode::shape);
  EXPECT_EQ(
      cache.update(t.q, t.k, t.v, AttentionOptions{.causal = SY_CAUSAL_TOP_LEFT}).error().code,
      ErrorCode::invalid_argument);
  EXPECT_EQ(cache.length(), 0);
  t.k.data<float>()[5] = NAN;
  EXPECT_EQ(cache.append(t.k, t.v).error().code, ErrorCode::nonfinite);
  EXPECT_EQ(cache.length(), 0);
  const auto refused = [](KVCacheOptions bad) {
    return !KVCache::create(engine(), bad).has_value();
  };
  KVCacheOptions bad = with(KVKind::rotating, KVFormat::plain);
  bad.capacity = 0;
  EXPECT_TRUE(refused(bad));
  bad.capacity = bad.keep;
  EXPECT_TRUE(refused(bad));
  bad = with(KVKind::paged, KVFormat::plain);
  bad.batch = 2;
  EXPECT_TRUE(refused(bad));
  bad = with(KVKind::contiguous, KVFormat::q4);
  bad.head_dim = 40;
  EXPECT_TRUE(refused(bad));
  bad = with(KVKind::contiguous, KVFormat::plain, dtypes::f64);
  EXPECT_TRUE(refused(bad));
}

TEST(QuantisedCache, KeepsValuesWithinTheStatedBounds) {
  for (const KVFormat format : {KVFormat::q8, KVFormat::q4}) {
    const KVCacheOptions o = with(KVKind::contiguous, format);
    const Tokens t = make_tokens(o, 2, 400);
    KVCache cache = make_cache(engine(), o);
    ASSERT_TRUE(cache.append(t.k, t.v));
    const auto held = cache.read(0, 400);
    ASSERT_TRUE(held);
    const std::int64_t group = format == KVFormat::q8 ? 32 : 64;
    for (std::int64_t i = 0; i < t.k.elements(); i += group) {
      const float *x = t.k.data<float>() + i, *y = held->first.data<float>() + i;
      float low = x[0], high = x[0];
      for (std::int64_t e = 0; e < group; ++e) {
        low = std::min(low, x[e]);
        high = std::max(high, x[e]);
      }
      const float most = std::max(std::abs(low), std::abs(high));
      const float bound = format == KVFormat::q8 ? most / 127 * 0.5f * 1.002f + most * 0x1p-11f
                                                 : (high - low) / 15 * 1.002f;
      for (std::int64_t e = 0; e < group; ++e) ASSERT_LE(std::abs(x[e] - y[e]), bound) << i + e;
    }
  }
}

TEST(KVCacheNumerics, AreReproducibleWhateverTheEngineAllows) {
  Options options = test_options();
  options.numerics = Numerics::tolerant;
  Engine tolerant = make_engine(options);
  const KVCacheOptions o = with(KVKind::contiguous, KVFormat::plain);
  const Tokens t = make_tokens(o, 6, 40);
  Tensor first;
  for (int round = 0; round < 12; ++round) {
    KVCache cache = make_cache(tolerant, o);
    Tensor out = run_through(cache, t, 0, 40, 10);
    if (first.present()) {
      EXPECT_EQ(std::memcmp(first.data(), out.data(), out.bytes()), 0) << round;
    }
    first = std::move(out);
  }
}

}  // namespace
}  // namespace switchyard

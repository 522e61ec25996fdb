// SPDX-License-Identifier: Apache-2.0
// Random configurations against f64: every kernel on every one it takes. 20,000 of them with
// SWITCHYARD_LONG_TESTS=1, some hundred without; SWITCHYARD_FUZZ_SEED starts elsewhere. A failure
// names the configuration and the seed of its data.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::test {
namespace {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// low..high, small numbers and those beside powers of two more often.
  std::int64_t size(std::int64_t low, std::int64_t high) {
    const auto span = static_cast<std::uint64_t>(high - low + 1);
    std::int64_t n = low + static_cast<std::int64_t>(next() % span);
    if (next() % 4 == 0)
      n = low + static_cast<std::int64_t>(next() % std::min<std::uint64_t>(span, 4));
    if (next() % 4 == 0)
      n = (std::int64_t{1} << next() % 9) + static_cast<std::int64_t>(next() % 3) - 1;
    return std::clamp(n, low, high);
  }
  bool one_in(std::uint64_t n) { return next() % n == 0; }
  std::string_view pick(std::initializer_list<std::string_view> words) {
    return words.begin()[next() % words.size()];
  }

 private:
  std::uint64_t state_;
};

/// A configuration whose plain loops take a millisecond or so.
Shape configuration(Dice &dice) {
  Shape s;
  const bool quantised = dice.one_in(4);
  const std::int64_t b = dice.one_in(3) ? dice.size(1, 4) : 1, hkv = dice.size(1, 3);
  const std::int64_t group = dice.one_in(2) ? dice.size(1, 9) : 1;
  const std::int64_t unit = quantised ? 32 : 1, most = quantised ? 4 : 130;
  const std::int64_t d = dice.size(1, most) * unit,
                     dv = dice.one_in(4) ? dice.size(1, most) * unit : d;
  std::int64_t lq = dice.one_in(3) ? 1 : dice.size(dice.one_in(30) ? 0 : 1, 140);
  std::int64_t lkv = dice.size(dice.one_in(30) ? 0 : 1, 600);
  while (b * hkv * group * lq * lkv * (d + dv) > 3'000'000 && lq * lkv > 4) {
    if (lq > 1) lq = (lq + 1) / 2;
    lkv = std::max<std::int64_t>(1, lkv * 2 / 3);
  }
  s.set("b", b).set("hq", hkv * group).set("hkv", hkv).set("lq", lq).set("lkv", lkv).set("d", d);
  s.set("dv", dv).set("dtype", std::string(dice.pick({"f32", "f32", "f16", "bf16"})));
  s.set("causal", std::string(dice.pick({"none", "top_left", "bottom_right", "bottom_right"})));
  if (dice.one_in(3)) s.set("window", dice.size(1, 200));
  if (dice.one_in(8)) s.set("window_right", dice.size(0, 50));
  if (dice.one_in(4)) s.set("keep", dice.size(1, 100));
  if (dice.one_in(8)) s.set("gap", dice.size(1, 5000));
  if (dice.one_in(3)) {
    s.set("mask", std::string(dice.pick({"bool", "additive", "additive_f16", "additive_bf16"})));
    s.set("mask_shape", std::string(dice.pick({"shared", "full", "keys"})));
    std::string pattern(
        dice.pick({"random", "causal", "blocks", "empty_rows", "lowest", "plain", "hidden"}));
    // A row of nothing but -65504 keeps 8 bits of its scores' fractions in f32.
    if (pattern == "lowest" && s.word("mask", "") == "additive_f16") pattern = "random";
    s.set("pattern", pattern);
  }
  if (dice.one_in(5)) s.set("softcap", dice.size(1, 50));
  if (dice.one_in(10)) s.set("scale", std::string("-0.3"));
  for (const char *name : {"sinks", "alibi", "lens"})
    if (dice.one_in(5)) s.set(name, std::int64_t{1});
  if (dice.one_in(2)) s.set("lse", std::int64_t{1});
  if (dice.one_in(4)) s.set("page", dice.size(1, 128));
  s.set("data",
        std::string(dice.pick({"normal", "normal", "normal", "large", "nan_key", "zero_values"})));
  if (quantised) {
    s.set("kv", std::string(dice.pick({"q8", "q8", "q4", "q4_f32", "q4_f16", "q4_bf16"})));
    s.set("layout", std::string(dice.pick({"bhld", "blhd", "padded", "expanded", "reversed"})));
  } else {
    s.set("layout", std::string(dice.pick({"bhld", "bhld", "blhd", "padded", "unit_stride_off",
                                           "expanded", "reversed"})));
  }
  return s;
}

Status run_reference(const sy_call &call) {
  if (reference().run(call) != SY_OK) return fail(ErrorCode::internal, "the reference failed");
  return {};
}

std::uint64_t number(const char *name, std::uint64_t otherwise) {
  const char *text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Fuzz, RandomConfigurationsAgreeWithF64) {
  const std::uint64_t cases = number("SWITCHYARD_LONG_TESTS", 0) == 1 ? 20'000 : 500;
  const std::uint64_t first = number("SWITCHYARD_FUZZ_SEED", 1);
  const OpSpec &spec = attention_spec();
  const auto single = kernels({1}), several = kernels({3});
  std::uint64_t checks = 0, wrong = 0;
  for (std::uint64_t seed = first; seed < first + cases && wrong < 5; ++seed) {
    Dice dice(seed);
    const Shape shape = configuration(dice);
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, shape.text()));
    const auto problem = spec.make_problem(shape, seed);
    ASSERT_TRUE(problem) << problem.error().text();
    const auto inputs = static_cast<std::uint32_t>(problem->inputs.size());
    CallFrame want(inputs, SY_ATTENTION_OUTPUTS);
    const auto right = *ProblemOutputs::make(*problem);
    bind(*problem, right, want);
    const Status valid = spec.validate(want.call());
    ASSERT_TRUE(valid) << valid.error().text();
    ASSERT_EQ(reference().run(want.call()), SY_OK);
    for (const Kernel &kernel : seed % 2 == 0 ? single : several) {
      CallFrame got(inputs, SY_ATTENTION_OUTPUTS);
      const auto outputs = *ProblemOutputs::make(*problem);
      bind(*problem, outputs, got);
      if (!kernel.supports(got.call())) continue;
      ASSERT_EQ(kernel.run(got.call()), SY_OK) << kernel.name;
      EXPECT_FALSE(outputs.overrun()) << kernel.name;
      const auto difference = spec.compare(*problem, got.call(), want.call(), run_reference);
      EXPECT_FALSE(difference) << kernel.name << ": " << difference.value_or("");
      wrong += difference.has_value();
      ++checks;
    }
  }
  EXPECT_GE(checks, cases);
}

}  // namespace
}  // namespace switchyard::test

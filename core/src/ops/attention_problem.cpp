// SPDX-License-Identifier: Apache-2.0
/// Generated attention problems and the one-line description of a call.
#include "ops/attention_problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.hpp"
#include "base/suggest.hpp"
#include "io/cast.hpp"

namespace switchyard::attention_op {
namespace {

constexpr std::string_view kItems[] = {
    "b",      "hq",     "hkv",         "lq",           "lkv",        "d",       "dv",    "dtype",
    "causal", "window", "window_left", "mask",         "mask_shape", "pattern", "scale", "softcap",
    "sinks",  "alibi",  "lens",        "window_right", "layout",     "data",    "lse"};
constexpr std::string_view kCausal[] = {"none", "top_left", "bottom_right"};
constexpr std::string_view kMasks[] = {"none", "bool", "additive", "additive_f16", "additive_bf16"};
constexpr std::string_view kMaskShapes[] = {"shared", "full", "keys"};
constexpr std::string_view kPatterns[] = {"random", "causal", "blocks", "empty_rows",
                                          "lowest", "plain",  "hidden"};
constexpr std::string_view kLayouts[] = {"bhld",     "blhd",     "padded",     "unit_stride_off",
                                         "expanded", "reversed", "zero_stride"};
constexpr std::string_view kData[] = {"normal", "large", "nan_key", "inf_key", "zero_values"};

/// SplitMix64: reproducible anywhere, good enough for test data.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// Mean 0, variance 1, close to normal: a sum of four uniform numbers.
  float normal() noexcept {
    const std::uint64_t r = next();
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((r >> (16 * i)) & 0xFFFF) * 0x1p-16f;
    return (sum - 2.0f) * 1.7320508f;
  }
  bool one_in(std::uint64_t n) noexcept { return next() % n == 0; }

 private:
  std::uint64_t state_;
};

struct Plan {
  std::int64_t b, hq, hkv, lq, lkv, d, dv;
  DType dtype;
  sy_attention_params params;
  std::string mask, mask_shape, pattern, layout, data;
  bool sinks, alibi, lens, lse;
};

Result<std::string> choice(const Shape &shape, std::string_view name,
                           std::span<const std::string_view> known) {
  std::string word = shape.word(name, known.front());
  if (std::find(known.begin(), known.end(), word) == known.end())
    return fail(ErrorCode::usage, fmt::format("{}={} is unknown{}; known are {}", name, word,
                                              did_you_mean(word, known), fmt::join(known, ", ")));
  return word;
}

/// Assigns a Result's value, or leaves the function with its error.
#define SY_READ(target, result)                                  \
  do {                                                           \
    auto read_ = (result);                                       \
    if (!read_) return tl::unexpected(std::move(read_.error())); \
    target = static_cast<decltype(target)>(*read_);              \
  } while (0)

Status read_sizes(const Shape &shape, Plan &p) {
  constexpr std::int64_t most = INT32_MAX;
  SY_READ(p.b, shape.integer("b", 1, 0, most));
  SY_READ(p.hq, shape.integer("hq", 8, 0, most));
  SY_READ(p.hkv, shape.integer("hkv", p.hq, p.hq == 0 ? 0 : 1, most));
  SY_READ(p.lq, shape.integer("lq", 128, 0, most));
  SY_READ(p.lkv, shape.integer("lkv", p.lq, 0, most));
  SY_READ(p.d, shape.integer("d", 64, 1, most));
  SY_READ(p.dv, shape.integer("dv", p.d, 1, most));
  if (p.hkv > 0 && p.hq % p.hkv != 0)
    return fail(ErrorCode::usage, fmt::format("hq={} is no multiple of hkv={}", p.hq, p.hkv));
  return {};
}

Status read_params(const Shape &shape, Plan &p) {
  std::string causal;
  SY_READ(causal, choice(shape, "causal", kCausal));
  p.params.causal = static_cast<std::uint32_t>(
      std::find(std::begin(kCausal), std::end(kCausal), causal) - std::begin(kCausal));
  SY_READ(p.params.scale, shape.number("scale", 1.0 / std::sqrt(static_cast<double>(p.d))));
  SY_READ(p.params.softcap, shape.number("softcap", 0));
  if (p.params.softcap < 0) return fail(ErrorCode::usage, "softcap must not be below 0");
  constexpr std::int64_t most = INT64_MAX / 2;
  std::int64_t window = 0;
  SY_READ(window, shape.integer("window", 0, 1, most));
  SY_READ(p.params.window_left, shape.integer("window_left", window - 1, -1, most));
  SY_READ(p.params.window_right, shape.integer("window_right", -1, -1, most));
  return {};
}

Result<Plan> read_plan(const Shape &shape) {
  if (auto ok = shape.only(kItems); !ok) return tl::unexpected(ok.error());
  Plan p{};
  if (auto ok = read_sizes(shape, p); !ok) return tl::unexpected(ok.error());
  if (auto ok = read_params(shape, p); !ok) return tl::unexpected(ok.error());
  SY_READ(p.dtype, shape.dtype("dtype", dtypes::f32));
  if (!same(p.dtype, dtypes::f32) && !same(p.dtype, dtypes::f16) && !same(p.dtype, dtypes::bf16))
    return fail(ErrorCode::usage, "dtype must be f32, f16 or bf16");
  SY_READ(p.mask, choice(shape, "mask", kMasks));
  SY_READ(p.mask_shape, choice(shape, "mask_shape", kMaskShapes));
  SY_READ(p.pattern, choice(shape, "pattern", kPatterns));
  SY_READ(p.layout, choice(shape, "layout", kLayouts));
  SY_READ(p.data, choice(shape, "data", kData));
  SY_READ(p.sinks, shape.flag("sinks", false));
  SY_READ(p.alibi, shape.flag("alibi", false));
  SY_READ(p.lens, shape.flag("lens", false));
  SY_READ(p.lse, shape.flag("lse", false));
  return p;
}

#undef SY_READ

using Sizes = std::array<std::int64_t, 4>;

/// Strides of [batch, heads, length, dim] in a layout. `shared_heads`: a zero head stride.
Sizes strides_of(const Sizes &n, std::string_view layout, bool shared_heads) {
  if (layout == "blhd") return {n[1] * n[2] * n[3], n[3], n[1] * n[3], 1};
  if (layout == "unit_stride_off") {
    const std::int64_t row = 2 * n[3] + 1, head = row * n[2] + 3;
    return {head * n[1], head, row, 2};
  }
  if (layout == "padded") {
    const std::int64_t row = n[3] + 3, head = row * n[2] + 5;
    return {head * n[1] + 1, head, row, 1};
  }
  if (layout == "zero_stride") return {n[1] * n[2], n[2], 1, 0};
  if (shared_heads) return {n[2] * n[3], 0, n[3], 1};
  return {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1};
}

void store(DType dtype, std::byte *p, float value) {
  if (same(dtype, dtypes::f32)) {
    std::memcpy(p, &value, sizeof value);
    return;
  }
  const std::uint16_t h = same(dtype, dtypes::f16) ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(p, &h, sizeof h);
}

/// Calls f(batch, head, row, column) and stores its answer. Gaps keep NaN, or true for bools.
template <class F>
Result<Tensor> filled(DType dtype, const Sizes &shape, const Sizes &strides, bool reversed, F f) {
  auto t = Tensor::strided(dtype, shape, strides);
  if (!t) return t;
  std::memset(t->data(), same(dtype, dtypes::boolean) ? 1 : 0xFF, t->bytes());
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  auto *base = t->data<std::byte>();
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t i = 0; i < shape[2]; ++i) {
        const std::int64_t row = reversed ? shape[2] - 1 - i : i;
        std::byte *p = base + (b * strides[0] + h * strides[1] + row * strides[2]) * size;
        for (std::int64_t e = 0; e < shape[3]; ++e, p += strides[3] * size) {
          const float value = f(b, h, i, e);
          if (same(dtype, dtypes::boolean))
            *p = std::byte{value == 0.0f};
          else
            store(dtype, p, value);
        }
      }
  if (!reversed || t->elements() == 0) return t;
  auto owner = std::make_shared<Tensor>(std::move(*t));
  sy_tensor raw = owner->view().raw();
  raw.byte_offset += static_cast<std::uint64_t>((shape[2] - 1) * strides[2] * size);
  raw.strides[2] = -raw.strides[2];
  return Tensor::adopt(TensorView(raw), std::move(owner));
}

Result<Tensor> make_keys(const Plan &p, bool values, const Tensor &lengths, Random &random) {
  const Sizes shape{p.b, p.hkv, p.lkv, values ? p.dv : p.d};
  const bool zero = p.layout == "zero_stride";
  const Sizes strides =
      strides_of(shape, zero && !values ? "bhld" : p.layout, p.layout == "expanded");
  const float nan = std::nanf("");
  return filled(p.dtype, shape, strides, p.layout == "reversed",
                [&](std::int64_t b, std::int64_t h, std::int64_t j, std::int64_t e) {
                  float x = random.normal();
                  if (p.data == "large" && !values) x *= 8;
                  if (p.data == "zero_values" && values) x = 0;
                  // Every third key head has one key that poisons the rows that see it, and no
                  // others.
                  if (p.data == "nan_key" && !values && h % 3 == 0 && j == p.lkv / 2) x = nan;
                  if (p.data == "inf_key" && !values && h % 3 == 0 && j == p.lkv / 2 && e == 0)
                    x = std::numeric_limits<float>::infinity();
                  if (lengths.present() && j >= lengths.data<std::int32_t>()[b]) x = nan;
                  return x;
                });
}

float mask_value(const Plan &p, std::int64_t i, std::int64_t j, Random &random) {
  const float hidden = -std::numeric_limits<float>::infinity();
  const bool is_bool = p.mask == "bool";
  const float shown = is_bool || p.pattern == "plain" ? 0.0f : 2.0f * random.normal();
  if (p.pattern == "random") return random.one_in(5) ? hidden : shown;
  if (p.pattern == "hidden") return hidden;
  if (p.pattern == "blocks") return (i / 40 + j / 96) % 2 == 0 ? 0.0f : hidden;
  if (p.pattern == "empty_rows") return i % 3 == 0 || random.one_in(4) ? hidden : shown;
  if (p.pattern == "plain") return shown;
  const bool late = j > i + p.lkv - p.lq;
  if (p.pattern == "causal") return late ? hidden : 0.0f;
  // "lowest": the least finite value, also across whole rows, which then weigh all keys alike.
  const float lowest = p.mask == "additive_f16"    ? -65504.0f
                       : p.mask == "additive_bf16" ? -3.38953139e38f
                                                   : std::numeric_limits<float>::lowest();
  return late || i % 4 == 1 ? lowest : shown;
}

Result<Tensor> make_mask(const Plan &p, Random &random) {
  const bool full = p.mask_shape == "full", keys = p.mask_shape == "keys";
  const Sizes memory{full ? p.b : 1, full ? p.hq : 1, keys ? 1 : p.lq, p.lkv};
  const DType dtype = p.mask == "bool"            ? dtypes::boolean
                      : p.mask == "additive_f16"  ? dtypes::f16
                      : p.mask == "additive_bf16" ? dtypes::bf16
                                                  : dtypes::f32;
  const Sizes strides = strides_of(
      memory, p.layout == "padded" || p.layout == "unit_stride_off" ? p.layout : "bhld", false);
  auto mask = filled(dtype, memory, strides, false,
                     [&](std::int64_t, std::int64_t, std::int64_t i, std::int64_t j) {
                       return mask_value(p, i, j, random);
                     });
  if (!mask) return mask;
  auto owner = std::make_shared<Tensor>(std::move(*mask));
  sy_tensor raw = owner->view().raw();
  const std::int64_t shape[] = {p.b, p.hq, p.lq, p.lkv};
  for (int k = 0; k < 4; ++k) {
    if (memory[static_cast<std::size_t>(k)] == 1) raw.strides[k] = 0;
    raw.shape[k] = shape[k];
  }
  return Tensor::adopt(TensorView(raw), std::move(owner));
}

Result<Tensor> make_vector(std::int64_t n, const std::function<float(std::int64_t)> &f) {
  auto t = Tensor::empty(dtypes::f32, std::array{n});
  if (t)
    for (std::int64_t i = 0; i < n; ++i) t->data<float>()[i] = f(i);
  return t;
}

Result<Tensor> make_lengths(const Plan &p, Random &random) {
  auto t = Tensor::empty(dtypes::i32, std::array{p.b});
  if (t)
    for (std::int64_t b = 0; b < p.b; ++b)
      t->data<std::int32_t>()[b] = static_cast<std::int32_t>(
          b == 1 ? 0 : random.next() % static_cast<std::uint64_t>(p.lkv + 1));
  return t;
}

Status fill_inputs(const Plan &p, Random &random, Problem &problem) {
  const auto put = [&](std::size_t i, Result<Tensor> tensor) -> Status {
    if (!tensor) return tl::unexpected(tensor.error());
    problem.inputs[i] = std::move(*tensor);
    return {};
  };
  if (p.lens)
    if (auto ok = put(SY_ATTENTION_IN_KV_LENGTHS, make_lengths(p, random)); !ok) return ok;
  const Sizes q_shape{p.b, p.hq, p.lq, p.d};
  const float gain = p.data == "large" ? 8.0f : 1.0f;
  auto ok = put(SY_ATTENTION_IN_Q, filled(p.dtype, q_shape, strides_of(q_shape, p.layout, false),
                                          p.layout == "reversed",
                                          [&](std::int64_t, std::int64_t, std::int64_t,
                                              std::int64_t) { return gain * random.normal(); }));
  const Tensor &lengths = problem.inputs[SY_ATTENTION_IN_KV_LENGTHS];
  if (ok) ok = put(SY_ATTENTION_IN_K, make_keys(p, false, lengths, random));
  if (ok) ok = put(SY_ATTENTION_IN_V, make_keys(p, true, lengths, random));
  if (ok && p.mask != "none") ok = put(SY_ATTENTION_IN_MASK, make_mask(p, random));
  if (ok && p.sinks)
    ok = put(SY_ATTENTION_IN_SINKS, make_vector(p.hq, [&](auto) { return random.normal(); }));
  if (ok && p.alibi)
    ok = put(SY_ATTENTION_IN_ALIBI, make_vector(p.hq, [&](std::int64_t h) {
               return std::exp2(-8.0f * static_cast<float>(h + 1) / static_cast<float>(p.hq));
             }));
  return ok;
}

std::string number(float x) { return fmt::format("{}", x); }

std::string layout_name(const View &a) {
  const sy_tensor &q = *a.q, &k = *a.k;
  if (k.strides[1] == 0 && a.hkv > 1) return "expanded";
  if (a.dk > 1 && q.strides[3] == 0) return "zero_stride";
  if ((a.dk > 1 && (q.strides[3] != 1 || k.strides[3] != 1)) || (a.dv > 1 && a.v->strides[3] != 1))
    return "unit_stride_off";
  if ((a.lq > 1 && q.strides[2] < 0) || (a.lkv > 1 && k.strides[2] < 0)) return "reversed";
  if (TensorView(q).contiguous() && TensorView(k).contiguous() && TensorView(*a.v).contiguous())
    return "bhld";
  const bool positions_outside = (a.lkv > 1 && a.hkv > 1 && k.strides[2] > k.strides[1]) ||
                                 (a.lq > 1 && a.hq > 1 && q.strides[2] > q.strides[1]);
  return positions_outside ? "blhd" : "padded";
}

}  // namespace

Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) {
  auto plan = read_plan(shape);
  if (!plan) return tl::unexpected(plan.error());
  const Plan &p = *plan;
  Problem problem;
  problem.op = SY_OP_ATTENTION;
  problem.shape = shape;
  problem.seed = seed;
  problem.inputs.resize(SY_ATTENTION_INPUTS);
  problem.outputs.resize(SY_ATTENTION_OUTPUTS);
  problem.set_params(p.params);
  Random random(seed);
  if (auto ok = fill_inputs(p, random, problem); !ok) return tl::unexpected(ok.error());
  TensorSpec o{p.dtype, {p.b, p.hq, p.lq, p.dv}, {}}, lse{dtypes::f32, {p.b, p.hq, p.lq}, {}};
  if (p.layout == "blhd" || p.layout == "padded" || p.layout == "unit_stride_off") {
    const Sizes s = strides_of({p.b, p.hq, p.lq, p.dv}, p.layout, false);
    o.strides.assign(s.begin(), s.end());
  }
  if (p.layout == "unit_stride_off") lse.strides = {p.hq * p.lq * 2, p.lq * 2, 2};
  problem.outputs[SY_ATTENTION_OUT_O] = o;
  if (p.lse) problem.outputs[SY_ATTENTION_OUT_LSE] = lse;
  return problem;
}

Shape describe(const sy_call &call) {
  const View a = view(call);
  const sy_attention_params &p = *a.params;
  Shape s;
  s.set("b", a.batch).set("hq", a.hq).set("hkv", a.hkv).set("lq", a.lq).set("lkv", a.lkv);
  s.set("d", a.dk);
  if (a.dv != a.dk) s.set("dv", a.dv);
  s.set("dtype", to_string(a.q->dtype));
  if (p.causal != SY_CAUSAL_NONE) s.set("causal", std::string(kCausal[p.causal]));
  if (p.window_left >= 0 && p.window_right < 0) s.set("window", p.window_left + 1);
  if (p.window_right >= 0) {
    if (p.window_left >= 0) s.set("window_left", p.window_left);
    s.set("window_right", p.window_right);
  }
  if (p.scale != static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.dk))))
    s.set("scale", number(p.scale));
  if (p.softcap > 0) s.set("softcap", number(p.softcap));
  if (a.mask != nullptr) {
    const bool is_f32 = same(a.mask->dtype, dtypes::f32);
    s.set("mask", same(a.mask->dtype, dtypes::boolean) ? "bool"
                  : is_f32                             ? "additive"
                                                       : "additive_" + to_string(a.mask->dtype));
    if (a.mask->strides[2] == 0 && a.lq > 1)
      s.set("mask_shape", "keys");
    else if (a.mask->strides[1] != 0 && a.hq > 1)
      s.set("mask_shape", "full");
  }
  for (const auto &[name, present] :
       {std::pair{"sinks", a.sinks != nullptr}, std::pair{"alibi", a.alibi != nullptr},
        std::pair{"lens", a.lengths != nullptr}, std::pair{"lse", a.lse != nullptr}})
    if (present) s.set(name, std::int64_t{1});
  if (const std::string layout = layout_name(a); layout != "bhld") s.set("layout", layout);
  return s;
}

}  // namespace switchyard::attention_op

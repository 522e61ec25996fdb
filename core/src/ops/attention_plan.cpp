// SPDX-License-Identifier: Apache-2.0
/// The one-line description of an attention problem, read.
#include "ops/attention_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/suggest.hpp"
#include "io/cast.hpp"
#include "ops/read_item.hpp"

namespace switchyard::attention_op {
namespace {

constexpr std::string_view kItems[] = {
    "b",          "hq",           "hkv",    "lq",      "lkv",         "d",
    "dv",         "dtype",        "causal", "window",  "window_left", "mask",
    "mask_shape", "pattern",      "scale",  "softcap", "sinks",       "alibi",
    "lens",       "window_right", "layout", "data",    "lse",         "kv",
    "kv_group",   "page",         "keep",   "gap"};
constexpr std::string_view kMasks[] = {"none", "bool", "additive", "additive_f16", "additive_bf16"};
constexpr std::string_view kMaskShapes[] = {"shared", "full", "keys"};
constexpr std::string_view kPatterns[] = {"random", "causal", "blocks", "empty_rows",
                                          "lowest", "plain",  "hidden"};
constexpr std::string_view kLayouts[] = {"bhld",     "blhd",     "padded",     "unit_stride_off",
                                         "expanded", "reversed", "zero_stride"};
constexpr std::string_view kData[] = {"normal", "large", "nan_key", "inf_key", "zero_values"};

constexpr std::string_view kStored[] = {"plain", "q8", "q4", "q4_f32", "q4_f16", "q4_bf16"};

Result<std::string> choice(const Shape &shape, std::string_view name,
                           std::span<const std::string_view> known) {
  std::string word = shape.word(name, known.front());
  if (std::find(known.begin(), known.end(), word) == known.end())
    return fail(ErrorCode::usage, fmt::format("{}={} is unknown{}; known are {}", name, word,
                                              did_you_mean(word, known), fmt::join(known, ", ")));
  return word;
}

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

Status read_storage(const Shape &shape, Plan &p) {
  SY_READ(p.kv, choice(shape, "kv", kStored));
  SY_READ(p.page, shape.integer("page", 0, 1, INT32_MAX));
  constexpr std::int64_t most = INT64_MAX / 2;
  SY_READ(p.params.keep, shape.integer("keep", 0, 0, most));
  SY_READ(p.params.gap, shape.integer("gap", 0, 0, most));
  if (p.page > 0) {
    p.lens = true;
    p.lkv = (p.lkv + p.page - 1) / p.page * p.page;
    if (p.layout == "zero_stride")
      return fail(ErrorCode::usage, "pages have no layout zero_stride");
  }
  if (p.kv == "plain") return {};
  const bool affine = p.kv != "q8";
  p.params.kv_format = affine ? SY_QUANT_MLX_AFFINE4 : SY_QUANT_Q8_0;
  p.scales = p.kv == "q4_f32"    ? dtypes::f32
             : p.kv == "q4_f16"  ? dtypes::f16
             : p.kv == "q4_bf16" ? dtypes::bf16
                                 : p.dtype;
  if (affine) {
    SY_READ(p.params.kv_group, shape.integer("kv_group", usual_kv_group(p.d, p.dv), 32, 64));
    if (p.params.kv_group != 32 && p.d % 64 + p.dv % 64 + (p.params.kv_group != 64) != 0)
      return fail(ErrorCode::usage,
                  "kv_group must be 32, or 64 where d and dv are multiples of 64");
  }
  if (p.d % 32 != 0 || p.dv % 32 != 0)
    return fail(ErrorCode::usage, "quantised keys need d and dv that are multiples of 32");
  if (p.layout == "unit_stride_off" || p.layout == "zero_stride")
    return fail(ErrorCode::usage, fmt::format("quantised keys have no layout {}", p.layout));
  if (p.data == "inf_key") return fail(ErrorCode::usage, "quantised keys have no data inf_key");
  return {};
}

}  // namespace

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
  if (auto ok = read_storage(shape, p); !ok) return tl::unexpected(ok.error());
  return p;
}

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

void store_element(DType dtype, std::byte *p, float value) {
  if (same(dtype, dtypes::f32)) {
    std::memcpy(p, &value, sizeof value);
    return;
  }
  const std::uint16_t h = same(dtype, dtypes::f16) ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(p, &h, sizeof h);
}

}  // namespace switchyard::attention_op

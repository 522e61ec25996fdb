// SPDX-License-Identifier: Apache-2.0
#include "bench_plan.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include <switchyard/ops/matmul.h>
#include <switchyard/ops/rope.h>
#include "op/op_spec.hpp"

namespace switchyard::cli {
namespace {

constexpr std::size_t kMostShapes = 10'000;
constexpr std::int64_t kHighest = std::int64_t{1} << 52;  // exact as a double

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

tl::unexpected<Error> bad_sweep(std::string_view name, const std::string &text,
                                std::string_view why) {
  return fail(ErrorCode::usage,
              fmt::format("{}={}: {}; a sweep is LOW..HIGH, LOW..HIGH:FACTOR or LOW..HIGH:+STEP",
                          name, text, why));
}

/// One end of a sweep, read as shapes read it.
Result<std::int64_t> bound(std::string_view name, std::string text) {
  Shape one;
  one.set(name, std::move(text));
  return one.integer(name, 0, 0, kHighest);
}

}  // namespace

Result<double> parse_seconds(std::string_view what, const std::string &text) {
  constexpr std::pair<std::string_view, double> units[] = {
      {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
  std::string_view digits = text;
  double unit = 1;
  for (const auto &[suffix, seconds] : units)
    if (digits.ends_with(suffix)) {
      digits.remove_suffix(suffix.size());
      unit = seconds;
      break;
    }
  const auto value = number(digits);
  if (!value || *value <= 0 || *value * unit > 1e7)
    return fail(
        ErrorCode::usage,
        fmt::format("{} '{}': expected a time above 0 such as 30s, 500ms or 2m", what, text));
  return *value * unit;
}

Result<std::vector<std::string>> sweep(std::string_view name, const std::string &text) {
  const auto dots = text.find("..");
  if (dots == std::string::npos) return std::vector<std::string>{text};
  std::string high_text = text.substr(dots + 2), step_text;
  if (const auto colon = high_text.find(':'); colon != std::string::npos) {
    step_text = high_text.substr(colon + 1);
    high_text.resize(colon);
    if (step_text.empty()) return bad_sweep(name, text, "nothing follows the ':'");
  }
  if (dots == 0 || high_text.empty()) return bad_sweep(name, text, "an end is missing");
  const auto low = bound(name, text.substr(0, dots)), high = bound(name, high_text);
  if (!low) return tl::unexpected(low.error());
  if (!high) return tl::unexpected(high.error());
  if (*low > *high) return bad_sweep(name, text, "it runs downwards");
  const bool adds = step_text.starts_with("+");
  double step = 2;
  if (adds) {
    const auto given = bound(name, step_text.substr(1));
    if (!given) return tl::unexpected(given.error());
    if (*given < 1) return bad_sweep(name, text, "the step must be at least 1");
    step = static_cast<double>(*given);
  } else if (!step_text.empty()) {
    const auto given = number(step_text);
    if (!given || *given <= 1) return bad_sweep(name, text, "the factor must be above 1");
    step = *given;
  }
  if (!adds && *low == 0) return bad_sweep(name, text, "multiples of 0 lead nowhere");
  std::vector<std::string> values;
  std::int64_t last = -1;
  for (double v = static_cast<double>(*low); v <= static_cast<double>(*high) * (1 + 1e-9);
       v = adds ? v + step : v * step) {
    const auto rounded = static_cast<std::int64_t>(std::llround(v));
    if (rounded != last) values.push_back(std::to_string(rounded));
    last = rounded;
    if (values.size() > kMostShapes) return bad_sweep(name, text, "more than 10000 values");
  }
  return values;
}

Result<std::vector<OpShape>> expand(const std::string &op, const std::string &shape,
                                    const std::map<std::string, std::string> &extra,
                                    const Common &common) {
  auto given = parse_op_shape(op, {shape}, common);
  if (!given) return tl::unexpected(given.error());
  for (const auto &[name, value] : extra) given->shape.set(name, value);
  std::vector<OpShape> out{{given->op, {}}};
  for (const auto &[name, value] : given->shape.items()) {
    const auto values = sweep(name, value);
    if (!values) return tl::unexpected(values.error());
    std::vector<OpShape> next;
    for (const OpShape &so_far : out)
      for (const std::string &v : *values) {
        next.push_back(so_far);
        next.back().shape.set(name, v);
      }
    if (next.size() > kMostShapes)
      return fail(ErrorCode::usage, fmt::format("more than {} shapes to measure", kMostShapes));
    out = std::move(next);
  }
  return out;
}

std::vector<std::string> default_shapes(const std::string &op) {
  if (op == SY_OP_QUANTIZE || op == SY_OP_DEQUANTIZE)
    return {"n=65536,rows=64,format=mlx_affine4", "n=4194304,rows=1024,format=mlx_affine4",
            "n=4194304,rows=1024,format=ternary", "n=4194304,rows=1024,format=q4_0",
            "n=4194304,rows=1024,format=q8_0"};
  if (op.starts_with("kmeans."))
    return {"n=1000,d=16,k=8", "n=100000,d=16,k=64", "n=10000,d=128,k=256"};
  if (op == SY_OP_MATMUL)
    return {"m=1,n=4096,k=4096,format=q4_0", "m=1,n=4096,k=4096,format=tq2_0", "m=1,n=4096,k=4096",
            "m=512,n=512,k=512"};
  if (op == SY_OP_ROPE) return {"h=32,l=1,d=128,offset=1000", "h=32,l=512,d=128"};
  if (op != SY_OP_ATTENTION) return {"rows=1,d=4096", "rows=512,d=4096"};
  return {"b=1,hq=32,hkv=8,lq=1,lkv=1024,d=128,causal=bottom_right",
          "b=1,hq=8,hkv=8,lq=256,lkv=256,d=64",
          "b=1,hq=8,hkv=2,lq=512,lkv=512,d=64,causal=bottom_right"};
}

}  // namespace switchyard::cli

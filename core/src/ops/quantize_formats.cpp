// SPDX-License-Identifier: Apache-2.0
#include "ops/quantize_formats.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/checked.hpp"
#include "base/suggest.hpp"

namespace switchyard {
namespace {

constexpr int kAffineGroups[] = {64, 32, 128};
constexpr int kTernaryGroups[] = {64, 32, 128, 256};
constexpr std::int64_t kWholeTail = 32;  // bytes of the scale of a whole tensor, padded
constexpr std::uint32_t kTensorOnly = 1u << SY_GRANULARITY_TENSOR;
constexpr std::uint32_t kRows = kTensorOnly | 1u << SY_GRANULARITY_ROW;
constexpr std::uint32_t kGroups = kRows | 1u << SY_GRANULARITY_GROUP;
constexpr std::uint32_t kChannels = kRows | 1u << SY_GRANULARITY_CHANNEL;
constexpr std::uint32_t kDefaultRule = 1u << SY_SCALE_DEFAULT;
constexpr std::uint32_t kAbsmax = kDefaultRule | 1u << SY_SCALE_ABSMAX;
constexpr std::uint32_t kAbsmean = kDefaultRule | 1u << SY_SCALE_ABSMEAN;
constexpr std::uint32_t kEitherAbs = kAbsmax | kAbsmean;
constexpr std::uint32_t kExponents = kDefaultRule | 1u << SY_SCALE_FLOOR | 1u << SY_SCALE_RCEIL;

constexpr QuantFormat block_format(std::string_view name, sy_quant_format id, int block, int bytes,
                                   int bits, std::uint32_t rules) {
  return {name, id, QuantFamily::blocks, block, bytes, bits, false, false, {}, kTensorOnly, rules};
}
constexpr QuantFormat affine_format(std::string_view name, sy_quant_format id, int bits) {
  return {name, id,   QuantFamily::affine, 0,           0,           bits,
          true, true, kAffineGroups,       kTensorOnly, kDefaultRule};
}

constexpr QuantFormat kFormats[] = {
    block_format("q4_0", SY_QUANT_Q4_0, 32, 18, 4, kAbsmax),
    block_format("q4_1", SY_QUANT_Q4_1, 32, 20, 4, kDefaultRule),
    block_format("q5_0", SY_QUANT_Q5_0, 32, 22, 5, kAbsmax),
    block_format("q5_1", SY_QUANT_Q5_1, 32, 24, 5, kDefaultRule),
    block_format("q8_0", SY_QUANT_Q8_0, 32, 34, 8, kAbsmax),
    block_format("q4_k", SY_QUANT_Q4_K, 256, 144, 4, kDefaultRule),
    block_format("q6_k", SY_QUANT_Q6_K, 256, 210, 6, kDefaultRule),
    block_format("tq1_0", SY_QUANT_TQ1_0, 256, 54, 2, kEitherAbs),
    block_format("tq2_0", SY_QUANT_TQ2_0, 256, 66, 2, kEitherAbs),
    block_format("q2_0", SY_QUANT_Q2_0, 64, 18, 2, kEitherAbs),
    block_format("mxfp4_ggml", SY_QUANT_MXFP4_GGML, 32, 17, 4, kExponents),
    {"mxfp4",
     SY_QUANT_MXFP4,
     QuantFamily::micro,
     32,
     0,
     4,
     true,
     false,
     {},
     kTensorOnly,
     kExponents},
    affine_format("mlx_affine2", SY_QUANT_MLX_AFFINE2, 2),
    affine_format("mlx_affine3", SY_QUANT_MLX_AFFINE3, 3),
    affine_format("mlx_affine4", SY_QUANT_MLX_AFFINE4, 4),
    affine_format("mlx_affine5", SY_QUANT_MLX_AFFINE5, 5),
    affine_format("mlx_affine6", SY_QUANT_MLX_AFFINE6, 6),
    affine_format("mlx_affine8", SY_QUANT_MLX_AFFINE8, 8),
    {"ternary", SY_QUANT_TERNARY, QuantFamily::plain, 0, 0, 8, true, false, kTernaryGroups, kGroups,
     kAbsmean},
    {"tern2", SY_QUANT_TERN2, QuantFamily::affine, 0, 0, 2, true, true, kAffineGroups, kGroups,
     kAbsmean},
    {"i2_s",
     SY_QUANT_I2_S,
     QuantFamily::whole,
     128,
     32,
     2,
     false,
     false,
     {},
     kTensorOnly,
     kAbsmean},
    {"int8", SY_QUANT_INT8, QuantFamily::plain, 0, 0, 8, true, false, {}, kChannels, kAbsmax},
};

/// Formats by number: one load on every call.
constexpr std::size_t kNumbers = 96;
constexpr auto kByNumber = [] {
  std::array<const QuantFormat *, kNumbers> table{};
  for (const QuantFormat &format : kFormats) table[static_cast<std::size_t>(format.id)] = &format;
  return table;
}();

constexpr auto kNames = [] {
  std::array<std::string_view, std::size(kFormats)> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kFormats[i].name;
  return names;
}();

constexpr std::string_view kGranularities[] = {"tensor", "row", "group", "channel"};
constexpr std::string_view kScaleRules[] = {"default", "absmax", "absmean", "floor", "rceil"};
constexpr std::string_view kNonfinite[] = {"error", "saturate"};
constexpr std::string_view kRoundings[] = {"nearest", "stochastic"};

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(std::string_view a, std::string_view b) noexcept {
  return std::ranges::equal(a, b, {}, lower, lower);
}

template <class E>
Result<E> parse_word(std::string_view word, std::span<const std::string_view> known,
                     std::string_view what) {
  for (std::size_t i = 0; i < known.size(); ++i)
    if (same_word(word, known[i])) return static_cast<E>(i);
  return fail(ErrorCode::usage, fmt::format("unknown {} '{}': choose {}{}", what, word,
                                            fmt::join(known, ", "), did_you_mean(word, known)));
}

std::string_view word_of(std::span<const std::string_view> words, std::uint32_t value) noexcept {
  return value < words.size() ? words[value] : std::string_view("unknown");
}

/// The names of the values whose bits are set.
std::string allowed(std::span<const std::string_view> words, std::uint32_t bits) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < words.size(); ++i)
    if ((bits >> i & 1u) != 0) names.push_back(words[i]);
  return fmt::format("{}", fmt::join(names, ", "));
}

constexpr bool bit(std::uint32_t bits, std::uint32_t index) noexcept {
  return index < 32 && (bits >> index & 1u) != 0;
}

std::string sorted_sizes(std::span<const int> sizes) {
  std::vector<int> sorted(sizes.begin(), sizes.end());
  std::ranges::sort(sorted);
  return fmt::format("{}", fmt::join(sorted, ", "));
}

bool is_value_type(DType t) noexcept {
  return same(t, dtypes::f32) || same(t, dtypes::f16) || same(t, dtypes::bf16);
}

/// `shape` with its last dimension replaced.
QuantArray with_last(DType dtype, std::span<const std::int64_t> shape, std::int64_t last) {
  QuantArray array;
  array.dtype = dtype;
  array.rank = static_cast<int>(shape.size());
  std::ranges::copy(shape, array.dims.begin());
  array.dims[shape.size() - 1] = last;
  return array;
}

QuantArray flat(DType dtype, std::initializer_list<std::int64_t> dims) {
  QuantArray array;
  array.dtype = dtype;
  array.rank = static_cast<int>(dims.size());
  std::ranges::copy(dims, array.dims.begin());
  return array;
}

/// One f32 scale for each part that shares it.
QuantArray plain_scales(std::uint32_t granularity, std::span<const std::int64_t> shape,
                        std::int64_t rows, std::int64_t units) {
  switch (granularity) {
    case SY_GRANULARITY_ROW:
      return flat(dtypes::f32, {rows});
    case SY_GRANULARITY_GROUP:
      return flat(dtypes::f32, {rows, units});
    case SY_GRANULARITY_CHANNEL:
      return flat(dtypes::f32, {shape.front()});
    default:
      return flat(dtypes::f32, {1});
  }
}

DType tagged(DType dtype, sy_quant_format id) noexcept {
  dtype.format = static_cast<std::uint16_t>(id);
  return dtype;
}

}  // namespace

std::span<const QuantFormat> quant_formats() noexcept { return kFormats; }
std::span<const std::string_view> quant_format_names() noexcept { return kNames; }

const QuantFormat *find_quant_format(std::uint32_t id) noexcept {
  return id < kNumbers ? kByNumber[id] : nullptr;
}

Result<const QuantFormat *> parse_quant_format(std::string_view name) {
  for (const QuantFormat &format : kFormats)
    if (same_word(format.name, name)) return &format;
  return fail(ErrorCode::usage, fmt::format("unknown format '{}': choose {}{}", name,
                                            fmt::join(kNames, ", "), did_you_mean(name, kNames)));
}

Result<sy_granularity> parse_granularity(std::string_view word) {
  return parse_word<sy_granularity>(word, kGranularities, "granularity");
}
Result<sy_scale_rule> parse_scale_rule(std::string_view word) {
  return parse_word<sy_scale_rule>(word, kScaleRules, "scale rule");
}
Result<sy_nonfinite> parse_nonfinite(std::string_view word) {
  return parse_word<sy_nonfinite>(word, kNonfinite, "treatment of non-finite values");
}
Result<sy_rounding> parse_rounding(std::string_view word) {
  return parse_word<sy_rounding>(word, kRoundings, "rounding");
}
std::string_view granularity_name(std::uint32_t value) noexcept {
  return word_of(kGranularities, value);
}
std::string_view scale_rule_name(std::uint32_t value) noexcept {
  return word_of(kScaleRules, value);
}
std::string_view nonfinite_name(std::uint32_t value) noexcept { return word_of(kNonfinite, value); }
std::string_view rounding_name(std::uint32_t value) noexcept { return word_of(kRoundings, value); }

std::int64_t quant_unit(const QuantFormat &format, const sy_quantize_params &params) noexcept {
  if (format.block != 0) return format.block;
  return format.grouped(params.granularity) ? params.group_size : 1;
}

Result<const QuantFormat *> check_quant_params(const sy_quantize_params &params) {
  const QuantFormat *format = find_quant_format(params.format);
  if (format == nullptr)
    return fail(ErrorCode::invalid_argument,
                fmt::format("unknown quantisation format number {}: known are {}", params.format,
                            fmt::join(kNames, ", ")));
  if (!bit(format->granularities, params.granularity))
    return fail(ErrorCode::invalid_argument,
                fmt::format("format {} does not offer granularity {}: choose {}", format->name,
                            granularity_name(params.granularity),
                            allowed(kGranularities, format->granularities)));
  const bool grouped = format->grouped(params.granularity);
  if (!grouped && params.group_size != 0)
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("format {} has no group size here, but {} is given{}", format->name,
                    params.group_size,
                    bit(format->granularities, SY_GRANULARITY_GROUP) ? "; set granularity to group"
                                                                     : "; leave it at 0"));
  if (grouped && std::ranges::find(format->group_sizes, static_cast<int>(params.group_size)) ==
                     format->group_sizes.end())
    return fail(ErrorCode::invalid_argument,
                fmt::format("group size {} is not offered by format {}: choose {}",
                            params.group_size, format->name, sorted_sizes(format->group_sizes)));
  if (!bit(format->scale_rules, params.scale_rule))
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("format {} does not offer scale rule {}: choose {}", format->name,
                    scale_rule_name(params.scale_rule), allowed(kScaleRules, format->scale_rules)));
  if (params.nonfinite > SY_NONFINITE_SATURATE)
    return fail(ErrorCode::invalid_argument,
                fmt::format("unknown treatment {} of non-finite values: choose 0 (error) or 1 "
                            "(saturate)",
                            params.nonfinite));
  if (params.struct_size >= sizeof(sy_quantize_params)) {
    if (params.rounding > SY_ROUNDING_STOCHASTIC ||
        (params.rounding != SY_ROUNDING_NEAREST && format->id != SY_QUANT_INT8))
      return fail(ErrorCode::invalid_argument,
                  fmt::format("format {} does not offer rounding {}: choose {}", format->name,
                              rounding_name(params.rounding),
                              format->id == SY_QUANT_INT8 ? "nearest, stochastic" : "nearest"));
    if (params.reserved != 0)
      return fail(ErrorCode::invalid_argument, "the reserved parameter must be 0");
  }
  return format;
}

Result<QuantLayout> quant_layout(const sy_quantize_params &params,
                                 std::span<const std::int64_t> shape, DType dtype) {
  auto format = check_quant_params(params);
  if (!format) return tl::unexpected(std::move(format.error()));
  const QuantFormat &f = **format;
  if (!is_value_type(dtype))
    return fail(ErrorCode::dtype,
                fmt::format("values are {}, but must be f32, f16 or bf16", to_string(dtype)));
  if (shape.empty() || shape.size() > SY_MAX_RANK)
    return fail(ErrorCode::shape, fmt::format("values have rank {}, but must have 1 to {} "
                                              "dimensions",
                                              shape.size(), SY_MAX_RANK));
  // 8 bytes an element is more than any array here needs.
  if (!checked_elements(shape, 8))
    return fail(ErrorCode::overflow,
                fmt::format("shape {} is negative or too large", shape_text(shape)));

  QuantLayout layout;
  layout.format = &f;
  layout.cols = shape.back();
  layout.rows = *checked_elements(shape.first(shape.size() - 1));
  const std::int64_t unit = quant_unit(f, params);
  if (layout.cols % unit != 0)
    return fail(
        ErrorCode::shape,
        fmt::format("shape {}: the last dimension, {}, is no multiple of {}'s {} of {} "
                    "values; formats that fit: {}",
                    shape_text(shape), layout.cols, f.name, f.block != 0 ? "block" : "group", unit,
                    formats_for_length(layout.cols)));
  const std::int64_t units = layout.cols / unit;
  switch (f.family) {
    case QuantFamily::blocks:
      layout.codes = with_last(tagged(dtypes::u8, f.id), shape, units * f.block_bytes);
      break;
    case QuantFamily::affine:
      layout.codes = with_last(tagged(dtypes::u32, f.id), shape, layout.cols / 32 * f.bits);
      layout.scales = with_last(dtype, shape, units);
      layout.biases = layout.scales;
      break;
    case QuantFamily::whole:
      layout.codes =
          flat(tagged(dtypes::u8, f.id), {layout.rows * units * f.block_bytes + kWholeTail});
      break;
    case QuantFamily::micro:
      layout.codes = with_last(tagged(dtypes::u32, f.id), shape, layout.cols / 32 * f.bits);
      layout.scales = with_last(dtypes::u8, shape, units);
      break;
    case QuantFamily::plain:
      layout.codes = with_last(tagged(dtypes::i8, f.id), shape, layout.cols);
      layout.scales = plain_scales(params.granularity, shape, layout.rows, units);
      break;
  }
  return layout;
}

std::string formats_for_length(std::int64_t cols) {
  std::vector<std::string> fitting;
  for (const QuantFormat &f : kFormats) {
    if (f.block != 0) {
      if (cols % f.block == 0) fitting.emplace_back(f.name);
      continue;
    }
    if (f.family == QuantFamily::plain) {
      fitting.push_back(fmt::format("{} (by tensor or row)", f.name));
      continue;
    }
    std::vector<int> sizes;
    for (int g : f.group_sizes)
      if (cols % g == 0) sizes.push_back(g);
    if (!sizes.empty())
      fitting.push_back(fmt::format("{} (group size {})", f.name, sorted_sizes(sizes)));
  }
  return fmt::format("{}", fmt::join(fitting, ", "));
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include "ops/quantize_problems.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "io/cast.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kData[] = {"gaussian", "f16grid", "zeros",    "small",
                                      "huge",     "ties",    "nonfinite"};
constexpr std::string_view kLayouts[] = {"contiguous", "strided",  "permuted",
                                         "unaligned",  "reversed", "broadcast"};
constexpr std::int64_t kRowGap = 5;       // odd, so that rows start at odd addresses
constexpr std::int64_t kRunOfScale = 32;  // values in a row that share a magnitude in data=small

/// SplitMix64: a few operations per value, the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  std::uint64_t bits() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
  }
  std::uint64_t below(std::uint64_t n) noexcept { return (bits() >> 32) * n >> 32; }
  /// In [-1, 1].
  float uniform() noexcept {
    return static_cast<float>(static_cast<std::int64_t>(bits()) >> 40) * 0x1p-23f;
  }
  /// Near enough to a standard normal: the sum of four uniforms.
  float gaussian() noexcept {
    const std::uint64_t b = bits();
    const auto sum = static_cast<std::int64_t>((b & 0xFFFF) + (b >> 16 & 0xFFFF) +
                                               (b >> 32 & 0xFFFF) + (b >> 48)) -
                     131070;
    return static_cast<float>(sum) * (1.7320508f / 65535.0f);
  }

 private:
  std::uint64_t state_;
};

/// The largest magnitude that the format can take, exactly representable in `dtype`.
float largest_magnitude(const QuantProblem &p) {
  float limit = std::numeric_limits<float>::max();
  switch (p.params.format) {  // f16 scales must stay below 65520, ranges finite
    case SY_QUANT_Q4_0:
      limit = std::nextafter(8.0f * 65520.0f, 0.0f);
      break;
    case SY_QUANT_Q5_0:
      limit = std::nextafter(16.0f * 65520.0f, 0.0f);
      break;
    case SY_QUANT_Q8_0:
      limit = 127.0f * 65519.0f;
      break;
    case SY_QUANT_Q4_K:  // the search may find scales somewhat above the range's
    case SY_QUANT_Q6_K:
      limit = 60000.0f;
      break;
    case SY_QUANT_Q4_1:
    case SY_QUANT_Q5_1:
    case SY_QUANT_TQ1_0:
    case SY_QUANT_TQ2_0:
    case SY_QUANT_Q2_0:
      limit = std::nextafter(65520.0f, 0.0f);
      break;
    case SY_QUANT_TERNARY:
    case SY_QUANT_I2_S:
    case SY_QUANT_INT8:
    case SY_QUANT_MXFP4:
    case SY_QUANT_MXFP4_GGML:
      break;
    default:
      limit /= 2;
  }
  if (same(p.dtype, dtypes::f16)) {
    limit = std::min(limit, 65504.0f);
    if (p.params.format == SY_QUANT_TERN2) limit /= 2;  // twice the scale must be finite
  }
  if (same(p.dtype, dtypes::bf16))
    limit = bf16_to_f32(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(limit) >> 16));
  return limit;
}

/// Powers of two around the least normal and subnormal f16 scales and f32 values.
constexpr int kSmallExponents[] = {-10, -11, -14, -17, -20, -24, -60, -118, -126, -135, -146};

class ValueSource {
 public:
  ValueSource(const QuantProblem &p, std::uint64_t seed)
      : p_(p), random_(seed), limit_(largest_magnitude(p)) {}

  float next() {
    if (p_.data == "f16grid") return f16_to_f32(f32_to_f16(random_.gaussian()));
    if (p_.data == "zeros") return random_.below(4) == 0 ? -0.0f : 0.0f;
    if (p_.data == "ties") return static_cast<float>(random_.below(65)) * 0.5f - 16.0f;
    if (p_.data == "small") {
      if (count_++ % kRunOfScale == 0)
        factor_ = std::ldexp(1.0f, kSmallExponents[random_.below(std::size(kSmallExponents))]);
      return random_.gaussian() * factor_;
    }
    if (p_.data == "huge") {
      const float u = random_.uniform();
      return random_.below(16) == 0 ? std::copysign(limit_, u) : limit_ * u;
    }
    if (p_.data == "nonfinite" && random_.below(50) == 0) return nonfinite();
    return random_.gaussian();
  }

 private:
  /// Infinities only where the saturated value still fits the format.
  float nonfinite() {
    const bool fits = (same(p_.dtype, dtypes::f16) && p_.params.format != SY_QUANT_TERN2) ||
                      p_.params.format == SY_QUANT_TERNARY || p_.params.format == SY_QUANT_INT8;
    if (!fits || random_.below(2) == 0) return std::numeric_limits<float>::quiet_NaN();
    return std::copysign(std::numeric_limits<float>::infinity(), random_.uniform());
  }

  const QuantProblem &p_;
  Random random_;
  float limit_;
  float factor_ = 1;
  std::uint64_t count_ = 0;
};

void put(std::byte *at, DType dtype, float value) {
  if (same(dtype, dtypes::f32)) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const std::uint16_t h = same(dtype, dtypes::f16) ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(at, &h, sizeof h);
}

/// Scales as they occur: both signs, ordinary, zero, f16-subnormal.
float random_scale(Random &random, bool small) {
  const float s = small ? random.gaussian() * 0x1p-16f : random.gaussian() * 0.125f;
  return random.below(32) == 0 ? 0.0f : s;
}

void fill_random(std::byte *bytes, std::size_t n, Random &random) {
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(random.bits() >> 56);
}

Result<Tensor> random_scales(const QuantArray &array, Random &random, bool small) {
  auto t = Tensor::empty(array.dtype, array.shape());
  if (!t) return t;
  const std::size_t size = size_of(array.dtype);
  for (std::int64_t i = 0; i < t->elements(); ++i)
    put(t->data<std::byte>() + static_cast<std::size_t>(i) * size, array.dtype,
        random_scale(random, small));
  return t;
}

/// E8M0 bytes; every exponent occurs, NaN too.
Result<Tensor> random_exponents(const QuantArray &array, Random &random) {
  auto t = Tensor::empty(array.dtype, array.shape());
  if (t) fill_random(t->data<std::byte>(), static_cast<std::size_t>(t->elements()), random);
  return t;
}

/// Where the floating-point scales of a block lie; -1: there is none.
struct ScalePlaces {
  int first, second;
};
ScalePlaces scale_places(const QuantFormat &format) {
  switch (format.id) {
    case SY_QUANT_Q4_1:
    case SY_QUANT_Q5_1:
    case SY_QUANT_Q4_K:
      return {0, 2};
    case SY_QUANT_Q6_K:
    case SY_QUANT_TQ1_0:
    case SY_QUANT_TQ2_0:
      return {format.block_bytes - 2, -1};
    case SY_QUANT_MXFP4_GGML:
      return {-1, -1};
    default:
      return {0, -1};
  }
}

/// Replaces the scales among n random bytes of codes.
void put_block_scales(const QuantFormat &format, std::byte *bytes, std::size_t n, Random &random,
                      bool small) {
  if (format.family == QuantFamily::whole && n >= 32)
    put(bytes + n - 32, dtypes::f32, random_scale(random, small));
  if (format.family != QuantFamily::blocks) return;
  const auto step = static_cast<std::size_t>(format.block_bytes);
  const ScalePlaces places = scale_places(format);
  for (std::size_t b = 0; b < n; b += step)
    for (const int at : {places.first, places.second})
      if (at >= 0) put(bytes + b + at, dtypes::f16, random_scale(random, small));
}

/// The same array one element past its aligned address.
Result<Tensor> unaligned_copy(const Tensor &from) {
  const std::int64_t units = static_cast<std::int64_t>(from.bytes());
  const std::size_t size = size_of(from.dtype());
  const std::int64_t dims[] = {units + static_cast<std::int64_t>(size)};
  auto storage = Tensor::empty(dtypes::u8, dims);
  if (!storage) return storage;
  std::byte *data = storage->data<std::byte>() + size;
  if (units > 0) std::memcpy(data, from.data<std::byte>(), from.bytes());
  return Tensor::adopt(TensorView(static_cast<void *>(data), from.dtype(), from.shape()),
                       std::make_shared<Tensor>(std::move(*storage)));
}

Status one_of(std::string_view what, std::string_view word,
              std::span<const std::string_view> known) {
  if (std::ranges::find(known, word) != known.end()) return {};
  return fail(ErrorCode::usage, fmt::format("unknown {} '{}'", what, word));
}

}  // namespace

Result<QuantProblem> QuantProblem::parse(const Shape &shape, bool dequantize) {
  static constexpr std::string_view kKnown[] = {
      "n",         "rows", "dtype",  "format",       "group_size", "granularity", "scale",
      "nonfinite", "data", "layout", "scales_dtype", "rounding",   "seed"};
  if (auto ok = shape.only(kKnown); !ok) return tl::unexpected(std::move(ok.error()));
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  QuantProblem p;
  auto format = parse_quant_format(shape.word("format", "q4_0"));
  auto granularity = parse_granularity(shape.word("granularity", "tensor"));
  auto rule = parse_scale_rule(shape.word("scale", "default"));
  auto nonfinite = parse_nonfinite(shape.word("nonfinite", "error"));
  auto rounding = parse_rounding(shape.word("rounding", "nearest"));
  auto seed = shape.integer("seed", 0, 0, std::numeric_limits<std::int64_t>::max());
  auto n = shape.integer("n", 1 << 20, 0, kMost);
  auto rows = shape.integer("rows", 1, 1, kMost);
  auto dtype = shape.dtype("dtype", dtypes::f32);
  auto scales_dtype = shape.dtype("scales_dtype", dtypes::f32);
  if (!format) return tl::unexpected(std::move(format.error()));
  if (!granularity) return tl::unexpected(std::move(granularity.error()));
  if (!rule) return tl::unexpected(std::move(rule.error()));
  if (!nonfinite) return tl::unexpected(std::move(nonfinite.error()));
  if (!rounding) return tl::unexpected(std::move(rounding.error()));
  if (!seed) return tl::unexpected(std::move(seed.error()));
  if (!n) return tl::unexpected(std::move(n.error()));
  if (!rows) return tl::unexpected(std::move(rows.error()));
  if (!dtype) return tl::unexpected(std::move(dtype.error()));
  if (!scales_dtype) return tl::unexpected(std::move(scales_dtype.error()));
  const bool grouped = (*format)->grouped(static_cast<std::uint32_t>(*granularity));
  auto group = shape.integer(
      "group_size", grouped && !(*format)->group_sizes.empty() ? (*format)->group_sizes[0] : 0, 0,
      1 << 20);
  if (!group) return tl::unexpected(std::move(group.error()));
  p.n = *n;
  p.rows = *rows;
  p.dtype = *dtype;
  p.scales_dtype = dequantize ? *scales_dtype : *dtype;
  p.params = {.struct_size = sizeof(sy_quantize_params),
              .format = static_cast<std::uint32_t>((*format)->id),
              .group_size = static_cast<std::uint32_t>(*group),
              .granularity = static_cast<std::uint32_t>(*granularity),
              .scale_rule = static_cast<std::uint32_t>(*rule),
              .nonfinite = static_cast<std::uint32_t>(*nonfinite),
              .rounding = static_cast<std::uint32_t>(*rounding),
              .reserved = 0,
              .seed = static_cast<std::uint64_t>(*seed)};
  p.data = shape.word("data", *nonfinite == SY_NONFINITE_SATURATE ? "nonfinite" : "gaussian");
  p.layout = shape.word("layout", "contiguous");
  if (auto ok = one_of("data", p.data, kData); !ok) return tl::unexpected(std::move(ok.error()));
  if (auto ok = one_of("layout", p.layout, kLayouts); !ok)
    return tl::unexpected(std::move(ok.error()));
  if (p.n % p.rows != 0)
    return fail(ErrorCode::usage, fmt::format("n={} is no multiple of rows={}", p.n, p.rows));
  if (p.data == "nonfinite" && p.params.nonfinite != SY_NONFINITE_SATURATE)
    return fail(ErrorCode::usage, "data=nonfinite needs nonfinite=saturate");
  if (dequantize && (p.layout == "reversed" || p.layout == "broadcast"))
    return fail(ErrorCode::usage, fmt::format("layout={} is for inputs only", p.layout));
  return p;
}

Shape describe_quant(const sy_quantize_params &params, const sy_tensor &values,
                     const sy_tensor *scales) {
  Shape shape;
  std::int64_t n = 1, rows = 1, run = 1;
  bool gaps = false, permuted = false;
  for (int k = values.rank - 1; k >= 0; --k) {
    if (values.shape[k] != 1 && values.strides[k] != run) {
      gaps = true;
      permuted = permuted || (k + 1 < values.rank - 1 && values.shape[k + 1] > 1);
    }
    run *= values.shape[k];
    n *= values.shape[k];
    if (k + 1 < values.rank) rows *= values.shape[k];
  }
  const QuantFormat *format = find_quant_format(params.format);
  shape.set("n", n).set("rows", std::max<std::int64_t>(rows, 1));
  shape.set("dtype", to_string(values.dtype));
  shape.set("format", std::string(format != nullptr ? format->name : "unknown"));
  if (params.group_size != 0) shape.set("group_size", static_cast<std::int64_t>(params.group_size));
  if (params.granularity != SY_GRANULARITY_TENSOR)
    shape.set("granularity", std::string(granularity_name(params.granularity)));
  if (params.scale_rule != SY_SCALE_DEFAULT)
    shape.set("scale", std::string(scale_rule_name(params.scale_rule)));
  if (params.nonfinite != SY_NONFINITE_ERROR)
    shape.set("nonfinite", std::string(nonfinite_name(params.nonfinite)));
  if (is_stochastic(params)) shape.set("rounding", std::string(rounding_name(params.rounding)));
  if (scales != nullptr && format != nullptr && format->family == QuantFamily::affine)
    shape.set("scales_dtype", to_string(scales->dtype));
  const bool host = values.device_kind == SY_DEVICE_HOST && values.handle != nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(values.handle) + values.byte_offset;
  if (gaps && rows > 1)
    shape.set("layout", std::string(permuted && rows % 2 == 0 ? "permuted" : "strided"));
  else if (host && address % 64 != 0)
    shape.set("layout", std::string("unaligned"));
  return shape;
}

TensorSpec layout_spec(const QuantProblem &p) {
  const std::int64_t cols = p.cols();
  if (p.layout == "strided") return {p.dtype, {p.rows, cols}, {cols + kRowGap, 1}};
  if (p.layout == "broadcast") return {p.dtype, {p.rows, cols}, {0, 1}};
  if (p.layout == "permuted") {
    const std::int64_t outer = p.rows % 2 == 0 ? 2 : 1;
    return {p.dtype, {outer, p.rows / outer, cols}, {cols, outer * cols, 1}};
  }
  if (p.rows == 1) return {p.dtype, {cols}, {}};
  return {p.dtype, {p.rows, cols}, {}};
}

Result<Tensor> make_quant_values(const QuantProblem &p, std::uint64_t seed) {
  const TensorSpec spec = layout_spec(p);
  auto made = spec.strides.empty() ? Tensor::empty(spec.dtype, spec.shape)
                                   : Tensor::strided(spec.dtype, spec.shape, spec.strides);
  if (!made) return made;
  ValueSource source(p, seed);
  const TensorView &view = made->view();
  const int last = view.rank() - 1;
  const std::int64_t cols = p.cols();
  const auto size = static_cast<std::int64_t>(size_of(p.dtype));
  for (std::int64_t row = 0; row < p.rows; ++row) {
    std::int64_t offset = 0, rest = row;
    for (int k = last - 1; k >= 0; --k) {
      offset += rest % view.dim(k) * view.stride(k);
      rest /= view.dim(k);
    }
    std::byte *at = view.data<std::byte>() + offset * size;
    for (std::int64_t col = 0; col < cols; ++col) put(at + col * size, p.dtype, source.next());
  }
  if (p.layout == "unaligned") return unaligned_copy(*made);
  if (p.layout == "reversed" && p.rows > 1 && cols > 0) {
    sy_tensor raw = view.raw();
    raw.byte_offset += static_cast<std::uint64_t>((p.rows - 1) * cols * size);
    raw.strides[0] = -cols;
    return Tensor::adopt(TensorView(raw), std::make_shared<Tensor>(std::move(*made)));
  }
  return made;
}

Result<QuantArrays> make_quant_arrays(const QuantProblem &p, const QuantLayout &layout,
                                      std::uint64_t seed) {
  Random random(seed);
  const bool small = p.data == "small";
  QuantArrays arrays;
  auto codes = Tensor::zeros(layout.codes.dtype, layout.codes.shape());
  if (!codes) return tl::unexpected(std::move(codes.error()));
  const QuantFormat &format = *layout.format;
  std::byte *bytes = codes->data<std::byte>();
  const std::size_t n = static_cast<std::size_t>(codes->elements()) * size_of(codes->dtype());
  if (format.id == SY_QUANT_TERNARY) {
    for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(random.below(3) - 1);
  } else if (p.data != "zeros") {
    fill_random(bytes, n, random);
  }
  put_block_scales(format, bytes, n, random, small);
  if (p.layout == "unaligned") codes = unaligned_copy(*codes);
  if (!codes) return tl::unexpected(std::move(codes.error()));
  arrays.codes = std::move(*codes);
  const auto add = [&](const std::optional<QuantArray> &array, Tensor &out) -> Status {
    if (!array) return {};
    auto made = same(array->dtype, dtypes::u8) ? random_exponents(*array, random)
                                               : random_scales(*array, random, small);
    if (made && p.layout == "unaligned") made = unaligned_copy(*made);
    if (!made) return tl::unexpected(std::move(made.error()));
    out = std::move(*made);
    return {};
  };
  if (auto ok = add(layout.scales, arrays.scales); !ok) return tl::unexpected(ok.error());
  if (auto ok = add(layout.biases, arrays.biases); !ok) return tl::unexpected(ok.error());
  return arrays;
}

}  // namespace switchyard

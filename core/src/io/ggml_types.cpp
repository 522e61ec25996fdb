// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/checked.hpp"
#include "io/gguf.hpp"

namespace switchyard {
namespace {

constexpr GgmlType block(std::string_view name, std::uint32_t id, std::int64_t values,
                         std::int64_t bytes) {
  return {name, id, values, bytes, DType{}};
}
constexpr GgmlType plain(std::string_view name, std::uint32_t id, DType dtype) {
  return {name, id, 1, dtype.bits / 8, dtype};
}

/// Numbers that are missing were withdrawn by ggml. Types without a codec here are listed too:
/// their tensors can be copied.
constexpr GgmlType kTypes[] = {
    plain("F32", 0, dtypes::f32),  plain("F16", 1, dtypes::f16),    block("Q4_0", 2, 32, 18),
    block("Q4_1", 3, 32, 20),      block("Q5_0", 6, 32, 22),        block("Q5_1", 7, 32, 24),
    block("Q8_0", 8, 32, 34),      block("Q8_1", 9, 32, 36),        block("Q2_K", 10, 256, 84),
    block("Q3_K", 11, 256, 110),   block("Q4_K", 12, 256, 144),     block("Q5_K", 13, 256, 176),
    block("Q6_K", 14, 256, 210),   block("Q8_K", 15, 256, 292),     block("IQ2_XXS", 16, 256, 66),
    block("IQ2_XS", 17, 256, 74),  block("IQ3_XXS", 18, 256, 98),   block("IQ1_S", 19, 256, 50),
    block("IQ4_NL", 20, 32, 18),   block("IQ3_S", 21, 256, 110),    block("IQ2_S", 22, 256, 82),
    block("IQ4_XS", 23, 256, 136), plain("I8", 24, dtypes::i8),     plain("I16", 25, dtypes::i16),
    plain("I32", 26, dtypes::i32), plain("I64", 27, dtypes::i64),   plain("F64", 28, dtypes::f64),
    block("IQ1_M", 29, 256, 56),   plain("BF16", 30, dtypes::bf16), block("TQ1_0", 34, 256, 54),
    block("TQ2_0", 35, 256, 66),   block("MXFP4", 39, 32, 17),      block("NVFP4", 40, 64, 36),
    block("Q1_0", 41, 128, 18),    block("Q2_0", 42, 64, 18)};

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

template <class Test>
const GgmlType *find_if(Test test) noexcept {
  const auto at = std::ranges::find_if(kTypes, test);
  return at == std::end(kTypes) ? nullptr : at;
}

}  // namespace

std::span<const GgmlType> ggml_types() noexcept { return kTypes; }

const GgmlType *find_ggml_type(std::uint32_t id) noexcept {
  return find_if([&](const GgmlType &t) { return t.id == id; });
}

const GgmlType *find_ggml_type(std::string_view name) noexcept {
  return find_if(
      [&](const GgmlType &t) { return std::ranges::equal(t.name, name, {}, lower, lower); });
}

const GgmlType *find_ggml_type(DType dtype) noexcept {
  return find_if([&](const GgmlType &t) { return t.plain() && same(t.dtype, dtype); });
}

std::optional<std::uint64_t> ggml_bytes(const GgmlType &type,
                                        std::span<const std::int64_t> shape) noexcept {
  const std::int64_t cols = shape.empty() ? 1 : shape.back();
  if (cols < 0 || cols % type.block != 0) return std::nullopt;
  const auto rows = checked_elements(shape.first(shape.empty() ? 0 : shape.size() - 1));
  const auto row_bytes = checked_mul(cols / type.block, type.bytes);
  const auto bytes = rows && row_bytes ? checked_mul(*rows, *row_bytes) : std::nullopt;
  // ggml counts values in 63 bits too.
  if (!bytes || !checked_elements(shape)) return std::nullopt;
  return static_cast<std::uint64_t>(*bytes);
}

}  // namespace switchyard

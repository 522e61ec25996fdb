// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <switchyard/tensor.hpp>

#include "base/checked.hpp"
#include "base/suggest.hpp"

namespace switchyard {
namespace {

struct NamedDType {
  std::string_view name;
  DType dtype;
};
constexpr NamedDType kNames[] = {
    {"f32", dtypes::f32},      {"f16", dtypes::f16}, {"bf16", dtypes::bf16}, {"f64", dtypes::f64},
    {"i8", dtypes::i8},        {"i16", dtypes::i16}, {"i32", dtypes::i32},   {"i64", dtypes::i64},
    {"u8", dtypes::u8},        {"u16", dtypes::u16}, {"u32", dtypes::u32},   {"u64", dtypes::u64},
    {"bool", dtypes::boolean},
};

/// Bytes spanned by non-negative strides; nullopt on overflow.
std::optional<std::int64_t> span_bytes(std::span<const std::int64_t> shape,
                                       std::span<const std::int64_t> strides, std::int64_t unit) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0 || strides[i] < 0) return std::nullopt;
    if (shape[i] == 0) return 0;
    const auto step = checked_mul(shape[i] - 1, strides[i]);
    const auto sum = step ? checked_add(last, *step) : std::nullopt;
    if (!sum) return std::nullopt;
    last = *sum;
  }
  const auto count = checked_add<std::int64_t>(last, 1);
  return count ? checked_mul(*count, unit) : std::nullopt;
}

void fill_contiguous(sy_tensor &t) noexcept {
  std::int64_t step = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    t.strides[i] = step;
    // Overflow is impossible for memory that exists; saturate for descriptions.
    if (__builtin_mul_overflow(step, std::max<std::int64_t>(t.shape[i], 1), &step))
      step = INT64_MAX;
  }
}

/// Sets the memory's extent from a handle that points at the first element: with negative strides
/// the memory begins before it.
void set_extent(sy_tensor &t) noexcept {
  std::int64_t low = 0, high = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.shape[i] == 0) {
      t.byte_offset = t.byte_size = 0;
      return;
    }
    const std::int64_t reach = (t.shape[i] - 1) * t.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const auto unit = static_cast<std::int64_t>(size_of(t.dtype));
  if (t.handle != nullptr) t.handle = static_cast<std::byte *>(t.handle) + low * unit;
  t.byte_offset = static_cast<std::uint64_t>(-low * unit);
  t.byte_size = static_cast<std::uint64_t>((high - low + 1) * unit);
}

/// Asks for large pages where an array is large: a first write to each small one costs more than
/// what kernels do with it. A system that has none to give is as good as before.
void prefer_large_pages(void *memory, std::size_t bytes) noexcept {
  constexpr std::size_t kLarge = std::size_t{4} << 20;
  if (bytes < kLarge) return;
#ifdef MADV_HUGEPAGE
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
  ::madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);
#endif
}

Result<Tensor> allocate(DType dtype, std::span<const std::int64_t> shape,
                        std::span<const std::int64_t> strides, bool zeroed) {
  if (shape.size() > SY_MAX_RANK)
    return fail(ErrorCode::shape,
                fmt::format("an array of rank {} was asked for; at most {} is allowed",
                            shape.size(), SY_MAX_RANK));
  const auto bytes = span_bytes(shape, strides, static_cast<std::int64_t>(size_of(dtype)));
  if (!bytes)
    return fail(ErrorCode::overflow,
                fmt::format("an array of shape {} and type {} has more bytes than can be addressed",
                            shape_text(shape), to_string(dtype)));
  const std::size_t rounded =
      (static_cast<std::size_t>(std::max<std::int64_t>(*bytes, 1)) + 63) & ~std::size_t{63};
  void *memory = std::aligned_alloc(64, rounded);
  if (memory == nullptr)
    return fail(ErrorCode::out_of_memory,
                fmt::format("{} bytes for an array of shape {} are not to be had", rounded,
                            shape_text(shape)));
  prefer_large_pages(memory, rounded);
  if (zeroed) std::memset(memory, 0, rounded);
  std::shared_ptr<void> owner(memory, std::free);
  return Tensor::adopt(TensorView(memory, dtype, shape, strides), std::move(owner));
}

Result<Tensor> allocate_contiguous(DType dtype, std::span<const std::int64_t> shape, bool zeroed) {
  std::array<std::int64_t, SY_MAX_RANK> strides{};
  const std::size_t rank = std::min<std::size_t>(shape.size(), SY_MAX_RANK);
  std::int64_t step = 1;
  for (std::size_t i = rank; i-- > 0;) {
    strides[i] = step;
    if (__builtin_mul_overflow(step, std::max<std::int64_t>(shape[i], 1), &step))
      step = INT64_MAX;  // span_bytes then reports the overflow
  }
  return allocate(dtype, shape, std::span<const std::int64_t>(strides.data(), rank), zeroed);
}

}  // namespace

std::string to_string(DType t) {
  for (const auto &n : kNames)
    if (same(n.dtype, t)) return std::string(n.name);
  return fmt::format("type {}:{}", t.code, t.bits);
}

Result<DType> parse_dtype(std::string_view name) {
  std::array<std::string_view, std::size(kNames)> known;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (kNames[i].name == name) return kNames[i].dtype;
    known[i] = kNames[i].name;
  }
  return fail(ErrorCode::usage,
              fmt::format("unknown dtype '{}'{}", name, did_you_mean(name, known)));
}

TensorView::TensorView(void *data, DType dtype, std::span<const std::int64_t> shape) noexcept
    : t_{} {
  t_.handle = data;
  t_.dtype = dtype;
  t_.rank = static_cast<std::int32_t>(std::min<std::size_t>(shape.size(), SY_MAX_RANK));
  std::copy_n(shape.begin(), t_.rank, t_.shape);
  fill_contiguous(t_);
  set_extent(t_);
}

TensorView::TensorView(const void *data, DType dtype, std::span<const std::int64_t> shape) noexcept
    : TensorView(const_cast<void *>(data), dtype, shape) {
  t_.flags |= SY_TENSOR_READ_ONLY;
}

TensorView::TensorView(void *data, DType dtype, std::span<const std::int64_t> shape,
                       std::span<const std::int64_t> strides) noexcept
    : TensorView(data, dtype, shape) {
  std::copy_n(strides.begin(), std::min<std::size_t>(strides.size(), t_.rank), t_.strides);
  t_.handle = data;
  set_extent(t_);
}

std::int64_t TensorView::elements() const noexcept {
  return checked_elements(shape()).value_or(INT64_MAX);
}

bool TensorView::contiguous() const noexcept {
  std::int64_t step = 1;
  for (int i = t_.rank - 1; i >= 0; --i) {
    if (t_.shape[i] == 0) return true;
    if (t_.shape[i] != 1 && t_.strides[i] != step) return false;
    step *= t_.shape[i];
  }
  return true;
}

Result<Tensor> Tensor::empty(DType dtype, std::span<const std::int64_t> shape) {
  return allocate_contiguous(dtype, shape, false);
}

Result<Tensor> Tensor::zeros(DType dtype, std::span<const std::int64_t> shape) {
  return allocate_contiguous(dtype, shape, true);
}

Result<Tensor> Tensor::strided(DType dtype, std::span<const std::int64_t> shape,
                               std::span<const std::int64_t> strides) {
  if (strides.size() != shape.size())
    return fail(ErrorCode::shape, "an array needs one stride per dimension");
  return allocate(dtype, shape, strides, false);
}

Tensor Tensor::adopt(TensorView view, std::shared_ptr<void> owner) {
  Tensor t;
  t.view_ = view;
  t.owner_ = std::move(owner);
  return t;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace switchyard

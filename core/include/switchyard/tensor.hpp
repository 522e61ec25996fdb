// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Tensors: views of the caller's memory (any strides) and owned, 64-byte aligned arrays.

#include <switchyard/plugin.h>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard {

using DType = sy_dtype;

namespace dtypes {
inline constexpr DType f32{SY_TYPE_FLOAT, 32, 0}, f16{SY_TYPE_FLOAT, 16, 0},
    f64{SY_TYPE_FLOAT, 64, 0}, bf16{SY_TYPE_BFLOAT, 16, 0}, i8{SY_TYPE_INT, 8, 0},
    i16{SY_TYPE_INT, 16, 0}, i32{SY_TYPE_INT, 32, 0}, i64{SY_TYPE_INT, 64, 0},
    u8{SY_TYPE_UINT, 8, 0}, u16{SY_TYPE_UINT, 16, 0}, u32{SY_TYPE_UINT, 32, 0},
    u64{SY_TYPE_UINT, 64, 0}, boolean{SY_TYPE_BOOL, 8, 0};
}  // namespace dtypes

/// Same element type; the quantised format is not compared.
constexpr bool same(DType a, DType b) noexcept { return a.code == b.code && a.bits == b.bits; }
constexpr std::size_t size_of(DType t) noexcept { return t.bits / 8u; }
/// "f32", "bf16", "i64", "bool", ...
SY_API std::string to_string(DType t);
SY_API Result<DType> parse_dtype(std::string_view name);

/// A view: does not own. Strides count elements. Copying copies the view.
class SY_API TensorView {
 public:
  TensorView() noexcept : t_{} {}
  /// C-contiguous data. `shape` has at most SY_MAX_RANK entries.
  TensorView(void *data, DType dtype, std::span<const std::int64_t> shape) noexcept;
  TensorView(const void *data, DType dtype, std::span<const std::int64_t> shape) noexcept;
  TensorView(void *data, DType dtype, std::span<const std::int64_t> shape,
             std::span<const std::int64_t> strides) noexcept;
  explicit TensorView(const sy_tensor &tensor) noexcept : t_(tensor) {}
  TensorView(const float *data, std::initializer_list<std::int64_t> shape) noexcept
      : TensorView(static_cast<const void *>(data), dtypes::f32,
                   std::span<const std::int64_t>(shape.begin(), shape.size())) {}

  bool present() const noexcept { return t_.rank > 0 || t_.handle != nullptr; }
  const sy_tensor &raw() const noexcept { return t_; }
  sy_tensor &raw() noexcept { return t_; }
  DType dtype() const noexcept { return t_.dtype; }
  int rank() const noexcept { return t_.rank; }
  std::int64_t dim(int axis) const noexcept { return t_.shape[axis]; }
  std::int64_t stride(int axis) const noexcept { return t_.strides[axis]; }
  std::span<const std::int64_t> shape() const noexcept {
    return {t_.shape, static_cast<std::size_t>(t_.rank)};
  }
  std::span<const std::int64_t> strides() const noexcept {
    return {t_.strides, static_cast<std::size_t>(t_.rank)};
  }
  std::int64_t elements() const noexcept;  ///< product of the shape; 1 for rank 0
  bool contiguous() const noexcept;        ///< C order without gaps
  template <class T = void>
  T *data() const noexcept {
    return reinterpret_cast<T *>(static_cast<std::byte *>(t_.handle) + t_.byte_offset);
  }

 private:
  sy_tensor t_;
};

/// An owned array. Move-only.
class SY_API Tensor {
 public:
  Tensor() = default;
  /// Uninitialised. Fails with overflow or out_of_memory, naming the bytes needed.
  static Result<Tensor> empty(DType dtype, std::span<const std::int64_t> shape);
  static Result<Tensor> zeros(DType dtype, std::span<const std::int64_t> shape);
  /// Uninitialised, with the given element strides (non-negative).
  static Result<Tensor> strided(DType dtype, std::span<const std::int64_t> shape,
                                std::span<const std::int64_t> strides);
  /// A view of memory kept alive by `owner` (a mapped file, a Python object).
  static Tensor adopt(TensorView view, std::shared_ptr<void> owner);

  bool present() const noexcept { return view_.present(); }
  const TensorView &view() const noexcept { return view_; }
  operator const TensorView &() const noexcept { return view_; }
  DType dtype() const noexcept { return view_.dtype(); }
  std::span<const std::int64_t> shape() const noexcept { return view_.shape(); }
  std::int64_t elements() const noexcept { return view_.elements(); }
  template <class T = void>
  T *data() const noexcept {
    return view_.data<T>();
  }
  /// Bytes from the first element to the end of the last.
  std::size_t bytes() const noexcept { return view_.raw().byte_size - view_.raw().byte_offset; }

 private:
  TensorView view_;
  std::shared_ptr<void> owner_;
};

SY_API std::string shape_text(std::span<const std::int64_t> shape);  ///< "[2, 3]"

}  // namespace switchyard

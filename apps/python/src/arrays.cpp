// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "errors.hpp"

namespace switchyard::python {
namespace {

bool to_dtype(const nb::dlpack::dtype &t, DType &out) noexcept {
  using Code = nb::dlpack::dtype_code;
  if (t.lanes != 1) return false;
  out.bits = t.bits;
  out.format = 0;
  switch (static_cast<Code>(t.code)) {
    case Code::Float:
      out.code = SY_TYPE_FLOAT;
      return true;
    case Code::Bfloat:
      out.code = SY_TYPE_BFLOAT;
      return true;
    case Code::Int:
      out.code = SY_TYPE_INT;
      return true;
    case Code::UInt:
      out.code = SY_TYPE_UINT;
      return true;
    case Code::Bool:
      out.code = SY_TYPE_BOOL;
      return true;
    default:
      return false;
  }
}

nb::dlpack::dtype to_dlpack(DType t) noexcept {
  using Code = nb::dlpack::dtype_code;
  Code code = Code::Float;
  if (t.code == SY_TYPE_INT) code = Code::Int;
  if (t.code == SY_TYPE_UINT || t.code == SY_TYPE_BFLOAT) code = Code::UInt;
  if (t.code == SY_TYPE_BOOL) code = Code::Bool;
  return {static_cast<std::uint8_t>(code), t.bits, 1};
}

/// str(object.name)
std::string text_of(nb::handle object, const char *name) {
  const nb::object attribute = object.attr(name);
  return nb::cast<std::string>(nb::str(nb::handle(attribute)));
}

std::string describe_type(nb::handle object) {
  std::string name = text_of(object.type(), "__name__");
  if (nb::hasattr(object, "dtype")) name += " of dtype " + text_of(object, "dtype");
  return name;
}

/// The bits of a bfloat16 NumPy array as uint16, or a null object.
nb::object bf16_bits(nb::handle object) {
  if (!nb::hasattr(object, "dtype") || !nb::hasattr(object, "view")) return {};
  if (text_of(object, "dtype") != "bfloat16") return {};
  return object.attr("view")("uint16");
}

TensorView make_view(void *data, DType dtype, std::span<const std::int64_t> shape,
                     std::span<const std::int64_t> strides) noexcept {
  // Producers give empty arrays whatever strides they like.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end())
    return TensorView(data, dtype, shape);
  return TensorView(data, dtype, shape, strides);
}

[[noreturn]] void refuse(nb::handle object, const char *name, Access access) {
  const std::string who = std::string(name) + " is a " + describe_type(object);
  if (access == Access::write)
    raise(ErrorCode::invalid_argument,
          who + "; an output must be a writable array in host memory (NumPy, torch or DLPack)");
  raise(ErrorCode::dtype, who +
                              "; pass an array in host memory with native byte order (NumPy, "
                              "torch or DLPack), such as numpy.asarray(x, numpy.float32)");
}

}  // namespace

Array::Array(nb::handle object, const char *name, Access access) {
  if (object.is_none()) return;
  given_ = true;
  const auto import = [&](nb::handle source) {
    return access == Access::read ? nb::try_cast(source, read_, false)
                                  : nb::try_cast(source, write_, false);
  };
  bool reinterpret = false;
  if (!import(object)) {
    owner_ = bf16_bits(object);
    if (!owner_.is_valid() || !import(owner_)) refuse(object, name, access);
    reinterpret = true;
  }
  const auto check = [&](const auto &array) {
    if (array.device_type() != nb::device::cpu::value)
      raise(ErrorCode::unsupported,
            std::string(name) + " lies on a device; move it to host memory first");
    DType dtype;
    if (!to_dtype(array.dtype(), dtype))
      raise(ErrorCode::dtype, std::string(name) + " is a " + describe_type(object) +
                                  "; that element type is not supported");
    if (array.ndim() > SY_MAX_RANK)
      raise(ErrorCode::shape, std::string(name) + " has " + std::to_string(array.ndim()) +
                                  " dimensions; at most " + std::to_string(SY_MAX_RANK) +
                                  " are supported");
    if (reinterpret) dtype = dtypes::bf16;
    std::array<std::int64_t, SY_MAX_RANK> shape{}, strides{};
    for (std::size_t i = 0; i < array.ndim(); ++i) {
      shape[i] = static_cast<std::int64_t>(array.shape(i));
      strides[i] = array.stride(i);
    }
    view_ = make_view(const_cast<void *>(static_cast<const void *>(array.data())), dtype,
                      {shape.data(), array.ndim()}, {strides.data(), array.ndim()});
  };
  if (access == Access::read)
    check(read_);
  else
    check(write_);
}

nb::object to_numpy(Tensor tensor) {
  if (!tensor.present()) return nb::none();
  auto held = std::make_unique<Tensor>(std::move(tensor));
  const TensorView &view = held->view();
  std::array<std::size_t, SY_MAX_RANK> shape{};
  std::array<std::int64_t, SY_MAX_RANK> strides{};
  for (int i = 0; i < view.rank(); ++i) {
    shape[static_cast<std::size_t>(i)] = static_cast<std::size_t>(view.dim(i));
    strides[static_cast<std::size_t>(i)] = view.stride(i);
  }
  const nb::dlpack::dtype dtype = to_dlpack(view.dtype());
  const auto rank = static_cast<std::size_t>(view.rank());
  // NumPy refuses a null pointer even where there is nothing to read.
  static std::uint64_t nothing = 0;
  void *data = view.data();
  if (data == nullptr) data = &nothing;
  nb::capsule owner(held.get(), [](void *p) noexcept { delete static_cast<Tensor *>(p); });
  held.release();
  return nb::cast(nb::ndarray<nb::numpy>(data, rank, shape.data(), owner, strides.data(), dtype));
}

nb::tuple to_tuple(std::span<const std::int64_t> shape) {
  nb::list items;
  for (const std::int64_t n : shape) items.append(n);
  return nb::tuple(items);
}

}  // namespace switchyard::python

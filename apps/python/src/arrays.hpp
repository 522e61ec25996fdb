// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Python arrays as views, and the core's tensors as NumPy arrays; neither copies.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <switchyard/tensor.hpp>

namespace switchyard::python {

namespace nb = nanobind;

enum class Access { read, write };

/// An array argument: keeps the Python object alive and describes its memory.
/// Create and destroy it with the GIL held; the view may be used without.
class Array {
 public:
  Array() = default;
  /// Any object with DLPack or the buffer protocol, in host memory, any strides; None is absent.
  /// bfloat16 NumPy arrays (ml_dtypes), which neither protocol carries, are read as their bits.
  /// Raises switchyard.InputError naming `name`.
  Array(nb::handle object, const char *name, Access access);

  bool present() const noexcept { return view_.present() || given_; }
  const TensorView &view() const noexcept { return view_; }

 private:
  nb::object owner_;
  nb::ndarray<nb::ro> read_;
  nb::ndarray<> write_;
  TensorView view_;
  bool given_ = false;
};

/// A NumPy array that owns the tensor's memory; None for an absent tensor. bf16 becomes uint16
/// (NumPy has no such type): the Python layer reinterprets the bits.
nb::object to_numpy(Tensor tensor);

nb::tuple to_tuple(std::span<const std::int64_t> shape);

}  // namespace switchyard::python

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Python arrays as views, and the core's tensors as NumPy arrays; neither copies.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <switchyard/tensor.hpp>

namespace switchyard::python {

namespace nb = nanobind;

/// Once, before anything else here: loads NumPy's C interface.
void init_arrays();

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
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;

  bool present() const noexcept { return view_.present() || given_; }
  const TensorView &view() const noexcept { return view_; }

 private:
  bool from_numpy(nb::handle object, Access access) noexcept;
  bool from_exchange(nb::handle object, const char *name);
  void from_protocols(nb::handle object, const char *name, Access access);

  nb::object owner_;
  nb::ndarray<nb::ro> read_;
  nb::ndarray<> write_;
  TensorView view_;
  bool given_ = false;
};

/// A NumPy array that owns the tensor's memory; None for an absent tensor. bf16 becomes uint16
/// (NumPy has no such type), see wrapped().
nb::object to_numpy(Tensor tensor);
/// The same as the caller's kind of array: a torch tensor, or NumPy with ml_dtypes' bfloat16.
nb::object wrapped(Tensor tensor, bool torch_out);

/// Is it a torch tensor? Raises InputError for one that a gradient is wanted for.
bool is_torch(nb::handle object, const char *name);
/// Is it bfloat16, of whatever library?
bool is_bf16(nb::handle object);
/// Raises InputError where a new bfloat16 array cannot be made, before any work is done.
void check_bf16_output(bool bf16, bool torch_out);

nb::tuple to_tuple(std::span<const std::int64_t> shape);

}  // namespace switchyard::python

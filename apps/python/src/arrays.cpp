// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <nanobind/stl/string.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "dlpack_exchange.hpp"
#include "errors.hpp"

namespace switchyard::python {
namespace {

bool to_dtype(unsigned code, unsigned bits, unsigned lanes, DType &out) noexcept {
  using Code = nb::dlpack::dtype_code;
  if (lanes != 1) return false;
  out.bits = static_cast<std::uint8_t>(bits);
  out.format = 0;
  switch (static_cast<Code>(code)) {
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

/// NumPy's letter for a kind of element type; its own structured and foreign types have others.
bool to_dtype(char kind, int bits, DType &out) noexcept {
  out.bits = static_cast<std::uint8_t>(bits);
  out.format = 0;
  switch (kind) {
    case 'f':
      out.code = SY_TYPE_FLOAT;
      return bits <= 64;
    case 'i':
      out.code = SY_TYPE_INT;
      return true;
    case 'u':
      out.code = SY_TYPE_UINT;
      return true;
    case 'b':
      out.code = SY_TYPE_BOOL;
      return true;
    default:
      return false;
  }
}

int numpy_type(DType t) noexcept {
  switch (t.code) {
    case SY_TYPE_INT:
      return t.bits == 8    ? NPY_INT8
             : t.bits == 16 ? NPY_INT16
             : t.bits == 32 ? NPY_INT32
                            : NPY_INT64;
    case SY_TYPE_BOOL:
      return NPY_BOOL;
    case SY_TYPE_FLOAT:
      return t.bits == 16 ? NPY_FLOAT16 : t.bits == 32 ? NPY_FLOAT32 : NPY_FLOAT64;
    default:
      return t.bits == 8    ? NPY_UINT8
             : t.bits == 16 ? NPY_UINT16
             : t.bits == 32 ? NPY_UINT32
                            : NPY_UINT64;
  }
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

[[noreturn]] void refuse_dtype(nb::handle object, const char *name) {
  raise(ErrorCode::dtype, std::string(name) + " is a " + describe_type(object) +
                              "; that element type is not supported");
}

[[noreturn]] void refuse_device(const char *name) {
  raise(ErrorCode::unsupported,
        std::string(name) + " lies on a device; move it to host memory first");
}

[[noreturn]] void refuse_rank(const char *name, std::size_t rank) {
  raise(ErrorCode::shape, std::string(name) + " has " + std::to_string(rank) +
                              " dimensions; at most " + std::to_string(SY_MAX_RANK) +
                              " are supported");
}

/// An object that holds the tensor until it is no longer needed.
nb::capsule owner_of(Tensor tensor) {
  auto held = std::make_unique<Tensor>(std::move(tensor));
  nb::capsule owner(held.get(), [](void *p) noexcept { delete static_cast<Tensor *>(p); });
  held.release();
  return owner;
}

/// The module torch if the program has imported it, else a null object.
nb::handle loaded_torch() {
  PyObject *modules = PyImport_GetModuleDict();
  static PyObject *const name = PyUnicode_InternFromString("torch");
  return PyDict_GetItemWithError(modules, name);
}

}  // namespace

void init_arrays() {
  if (_import_array() < 0) throw nb::python_error();
}

bool Array::from_numpy(nb::handle object, Access access) noexcept {
  if (!PyArray_Check(object.ptr())) return false;
  auto *array = reinterpret_cast<PyArrayObject *>(object.ptr());
  DType dtype;
  const auto size = static_cast<std::int64_t>(PyArray_ITEMSIZE(array));
  const int rank = PyArray_NDIM(array);
  if (!to_dtype(PyArray_DESCR(array)->kind, static_cast<int>(8 * size), dtype) ||
      !PyArray_ISBEHAVED_RO(array) || rank > SY_MAX_RANK ||
      (access == Access::write && !PyArray_ISWRITEABLE(array)))
    return false;
  std::array<std::int64_t, SY_MAX_RANK> shape, strides;
  for (int i = 0; i < rank; ++i) {
    const std::int64_t bytes = PyArray_STRIDE(array, i);
    if (bytes % size != 0) return false;
    shape[static_cast<std::size_t>(i)] = PyArray_DIM(array, i);
    strides[static_cast<std::size_t>(i)] = bytes / size;
  }
  const auto n = static_cast<std::size_t>(rank);
  view_ = make_view(PyArray_DATA(array), dtype, {shape.data(), n}, {strides.data(), n});
  return true;
}

bool Array::from_exchange(nb::handle object, const char *name) {
  const dlpack::ExchangeApi *api = dlpack::exchange_api(Py_TYPE(object.ptr()));
  if (api == nullptr) return false;
  dlpack::Tensor t{};
  if (api->tensor_from_object(object.ptr(), &t) != 0) {
    PyErr_Clear();  // a tensor that requires grad, a conjugate view: the long way says why
    return false;
  }
  if (t.device_type != nb::device::cpu::value) refuse_device(name);
  DType dtype;
  if (!to_dtype(t.code, t.bits, t.lanes, dtype)) refuse_dtype(object, name);
  const auto rank = static_cast<std::size_t>(t.rank);
  if (rank > SY_MAX_RANK) refuse_rank(name, rank);
  void *data = static_cast<std::byte *>(t.data) + t.byte_offset;
  if (t.strides == nullptr)
    view_ = TensorView(data, dtype, {t.shape, rank});
  else
    view_ = make_view(data, dtype, {t.shape, rank}, {t.strides, rank});
  return true;
}

void Array::from_protocols(nb::handle object, const char *name, Access access) {
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
    if (array.device_type() != nb::device::cpu::value) refuse_device(name);
    DType dtype;
    const nb::dlpack::dtype t = array.dtype();
    if (!to_dtype(t.code, t.bits, t.lanes, dtype)) refuse_dtype(object, name);
    if (array.ndim() > SY_MAX_RANK) refuse_rank(name, array.ndim());
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

Array::Array(nb::handle object, const char *name, Access access) {
  if (object.is_none()) return;
  given_ = true;
  // The first two cost nanoseconds, the protocols of Python a microsecond. The caller's arguments
  // keep the object alive.
  if (!from_numpy(object, access) && !from_exchange(object, name))
    from_protocols(object, name, access);
}

nb::object to_numpy(Tensor tensor) {
  if (!tensor.present()) return nb::none();
  const TensorView view = tensor.view();
  const auto rank = static_cast<std::size_t>(view.rank());
  std::array<npy_intp, SY_MAX_RANK> shape{}, strides{};
  const auto size = static_cast<npy_intp>(size_of(view.dtype()));
  for (std::size_t i = 0; i < rank; ++i) {
    shape[i] = static_cast<npy_intp>(view.dim(static_cast<int>(i)));
    strides[i] = static_cast<npy_intp>(view.stride(static_cast<int>(i))) * size;
  }
  // NumPy refuses a null pointer even where there is nothing to read.
  static std::uint64_t nothing = 0;
  void *data = view.data();
  if (data == nullptr) data = &nothing;
  nb::capsule owner = owner_of(std::move(tensor));
  PyObject *array = PyArray_NewFromDescr(
      &PyArray_Type, PyArray_DescrFromType(numpy_type(view.dtype())), static_cast<int>(rank),
      shape.data(), strides.data(), data, NPY_ARRAY_WRITEABLE | NPY_ARRAY_ALIGNED, nullptr);
  if (array == nullptr) throw nb::python_error();
  nb::object result = nb::steal(array);
  if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject *>(array), owner.release().ptr()) != 0)
    throw nb::python_error();
  return result;
}

nb::object wrapped(Tensor tensor, bool torch_out) {
  const bool bf16 = tensor.present() && same(tensor.dtype(), dtypes::bf16);
  nb::object array = to_numpy(std::move(tensor));
  if (array.is_none()) return array;
  if (torch_out) {
    const nb::handle torch = loaded_torch();
    nb::object result = torch.attr("from_numpy")(array);
    return bf16 ? nb::object(result.attr("view")(torch.attr("bfloat16"))) : result;
  }
  if (!bf16) return array;
  return array.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
}

bool is_torch(nb::handle object, const char *name) {
  if (PyArray_CheckExact(object.ptr())) return false;
  const nb::handle torch = loaded_torch();
  if (!torch.is_valid()) return false;
  static PyObject *const tensor_name = PyUnicode_InternFromString("Tensor");
  const nb::object tensor = nb::steal(PyObject_GetAttr(torch.ptr(), tensor_name));
  if (!tensor.is_valid()) {
    PyErr_Clear();  // torch is being imported in another thread
    return false;
  }
  const int answer = PyObject_IsInstance(object.ptr(), tensor.ptr());
  if (answer < 0) throw nb::python_error();
  if (answer == 0) return false;
  if (nb::cast<bool>(object.attr("requires_grad")) &&
      nb::cast<bool>(torch.attr("is_grad_enabled")()))
    raise(ErrorCode::invalid_argument,
          std::string(name) + " requires grad, and Switchyard computes no gradients: pass " + name +
              ".detach() or call under torch.no_grad()");
  return true;
}

bool is_bf16(nb::handle object) {
  if (PyArray_Check(object.ptr()) &&
      PyArray_DESCR(reinterpret_cast<PyArrayObject *>(object.ptr()))->type_num < NPY_NTYPES_LEGACY)
    return false;  // the common case, cheaply
  if (!nb::hasattr(object, "dtype")) return false;
  return text_of(object, "dtype").find("bfloat16") != std::string::npos;
}

void check_bf16_output(bool bf16, bool torch_out) {
  if (!bf16 || torch_out) return;
  static PyObject *const name = PyUnicode_InternFromString("ml_dtypes");
  if (PyDict_GetItemWithError(PyImport_GetModuleDict(), name) != nullptr) return;
  raise(ErrorCode::dtype,
        "the result is bfloat16, which NumPy lacks: pass out=, use torch tensors, or import "
        "ml_dtypes first");
}

nb::tuple to_tuple(std::span<const std::int64_t> shape) {
  PyObject *tuple = PyTuple_New(static_cast<Py_ssize_t>(shape.size()));
  if (tuple == nullptr) throw nb::python_error();
  nb::tuple result = nb::steal<nb::tuple>(tuple);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    PyObject *n = PyLong_FromLongLong(shape[i]);
    if (n == nullptr) throw nb::python_error();
    if (PyTuple_SetItem(tuple, static_cast<Py_ssize_t>(i), n) != 0) throw nb::python_error();
  }
  return result;
}

}  // namespace switchyard::python

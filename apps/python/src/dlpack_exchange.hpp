// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The part of DLPack's C exchange interface (DLPack 1.3, `__dlpack_c_exchange_api__`) that is used
/// here: tensors described without a Python call. The layouts are DLPack's.

#include <Python.h>

#include <cstdint>

namespace switchyard::python::dlpack {

struct Tensor {  ///< DLTensor
  void *data;
  std::int32_t device_type, device_id;
  std::int32_t rank;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t *shape, *strides;  ///< strides in elements; null = C order
  std::uint64_t byte_offset;
};

struct ExchangeApi {  ///< DLPackExchangeAPI
  std::uint32_t major, minor;
  const ExchangeApi *previous;
  void *allocate, *managed_from_object, *managed_to_object;  ///< not used
  /// Fills in a view that holds while the object lives. Not 0: an exception is set.
  int (*tensor_from_object)(void *object, Tensor *out);
};

/// That of a type, or null. Needs the GIL.
inline const ExchangeApi *exchange_api(PyTypeObject *type) {
  static PyTypeObject *known_type = nullptr;
  static const ExchangeApi *known = nullptr;
  if (type == known_type) return known;
  static PyObject *const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const ExchangeApi *api = nullptr;
  PyObject *capsule = PyObject_GetAttr(reinterpret_cast<PyObject *>(type), name);
  if (capsule != nullptr) {
    api = static_cast<const ExchangeApi *>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_DECREF(capsule);
  }
  if (PyErr_Occurred() != nullptr) PyErr_Clear();
  while (api != nullptr && api->major > 1) api = api->previous;
  if (api != nullptr && (api->major != 1 || api->tensor_from_object == nullptr)) api = nullptr;
  if (api == nullptr) return nullptr;  // types come and go; only those with an interface are kept
  Py_INCREF(reinterpret_cast<PyObject *>(type));
  known_type = type;
  known = api;
  return known;
}

}  // namespace switchyard::python::dlpack

// SPDX-License-Identifier: Apache-2.0
#include "errors.hpp"

namespace switchyard::python {

namespace nb = nanobind;

void raise(const Error &error) {
  const std::string_view code = to_string(error.code);
  const std::string text = error.text();
  // The classes are Python's own, so that they can derive from ValueError too.
  const nb::object exception =
      nb::module_::import_("switchyard._errors")
          .attr("make")(nb::str(code.data(), code.size()), text.c_str(), error.message.c_str(),
                        error.file.c_str(), error.line, error.column, error.index);
  PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(exception.ptr())), exception.ptr());
  throw nb::python_error();
}

void raise(ErrorCode code, std::string message) {
  raise(Error{code, std::move(message), {}, 0, 0, -1, {}});
}

}  // namespace switchyard::python

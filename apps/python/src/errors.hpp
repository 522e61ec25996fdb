// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The core's errors as Python exceptions. All of these need the GIL.

#include <nanobind/nanobind.h>

#include <string>
#include <switchyard/result.hpp>
#include <utility>

namespace switchyard::python {

/// Raises switchyard.Error, or switchyard.InputError where the caller's input is at fault.
[[noreturn]] void raise(const Error &error);
[[noreturn]] void raise(ErrorCode code, std::string message);

/// The value, or the error raised.
template <class T>
T value(Result<T> result) {
  if (!result) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace switchyard::python

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Errors as values: every fallible function of the C++ interface returns Result<T>.

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

/// Marks what the shared library exports.
#if defined(__GNUC__)
#define SY_API __attribute__((visibility("default")))
#else
#define SY_API
#endif

namespace switchyard {

/// What kind of failure; stable, and the key of the program's exit codes.
enum class ErrorCode {
  invalid_argument,  ///< a parameter out of its range
  shape,             ///< shapes or strides that do not fit
  dtype,             ///< element type not allowed here
  nonfinite,         ///< NaN or Inf; Error::index names the first
  overflow,          ///< does not fit the format, or size arithmetic overflowed
  unsupported,       ///< valid, but no backend (or not the pinned one) offers it
  out_of_memory,
  cancelled,
  backend,       ///< unknown, refused or failing backend
  verification,  ///< results disagree with the reference
  regression,
  usage,     ///< unknown command, option, format or operation; bad option value
  config,    ///< YAML: Error::file, line and column say where
  io,        ///< missing, unreadable or corrupt file
  internal,  ///< a defect in Switchyard or a plugin
};

/// The stable name of a code, such as "shape".
SY_API std::string_view to_string(ErrorCode code) noexcept;

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;       ///< what, where, what to do
  std::string file;          ///< the file it is about, if any
  int line = 0, column = 0;  ///< 1-based; 0 = unknown
  std::int64_t index = -1;   ///< flat element index, or -1
  std::string excerpt;       ///< source line and caret, for people; may be empty

  /// `file:line:column: message`, followed by the excerpt.
  SY_API std::string text() const;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message), {}, 0, 0, -1, {}});
}

}  // namespace switchyard

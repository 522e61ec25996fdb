// SPDX-License-Identifier: Apache-2.0
#include "base/status_codes.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace switchyard {

ErrorCode from_status(std::int32_t status) noexcept {
  switch (status) {
    case SY_E_INVALID_ARGUMENT:
      return ErrorCode::invalid_argument;
    case SY_E_SHAPE:
      return ErrorCode::shape;
    case SY_E_DTYPE:
      return ErrorCode::dtype;
    case SY_E_NONFINITE:
      return ErrorCode::nonfinite;
    case SY_E_OVERFLOW:
      return ErrorCode::overflow;
    case SY_E_UNSUPPORTED:
      return ErrorCode::unsupported;
    case SY_E_OUT_OF_MEMORY:
      return ErrorCode::out_of_memory;
    case SY_E_CANCELLED:
      return ErrorCode::cancelled;
    case SY_E_HARDWARE:
    case SY_E_DEVICE_LOST:
    case SY_E_ABI:
      return ErrorCode::backend;
    case SY_E_VERIFICATION:
      return ErrorCode::verification;
    default:
      return ErrorCode::internal;
  }
}

std::int32_t to_status(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::usage:
    case ErrorCode::config:
      return SY_E_INVALID_ARGUMENT;
    case ErrorCode::shape:
      return SY_E_SHAPE;
    case ErrorCode::dtype:
      return SY_E_DTYPE;
    case ErrorCode::nonfinite:
      return SY_E_NONFINITE;
    case ErrorCode::overflow:
      return SY_E_OVERFLOW;
    case ErrorCode::unsupported:
      return SY_E_UNSUPPORTED;
    case ErrorCode::out_of_memory:
      return SY_E_OUT_OF_MEMORY;
    case ErrorCode::cancelled:
      return SY_E_CANCELLED;
    case ErrorCode::backend:
      return SY_E_HARDWARE;
    case ErrorCode::verification:
      return SY_E_VERIFICATION;
    default:
      return SY_E_INTERNAL;
  }
}

Error from_abi(const sy_error &error, std::int32_t status, std::string_view who) {
  Error e;
  e.code = from_status(status);
  e.index = error.index;
  const auto length = strnlen(error.message, sizeof(error.message));
  std::string words(error.message, length);
  if (words.empty()) words = "failed with status " + std::to_string(status);
  e.message = who.empty() ? words : std::string(who) + ": " + words;
  return e;
}

void to_abi(const Error &error, sy_error *out) noexcept {
  if (out == nullptr || out->struct_size < sizeof(sy_error)) return;
  out->code = to_status(error.code);
  out->index = error.index;
  const auto length = std::min(error.message.size(), sizeof(out->message) - 1);
  std::memcpy(out->message, error.message.data(), length);
  out->message[length] = '\0';
}

}  // namespace switchyard

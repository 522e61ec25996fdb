// SPDX-License-Identifier: Apache-2.0
#include <switchyard/result.hpp>

namespace switchyard {

std::string_view to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::shape:
      return "shape";
    case ErrorCode::dtype:
      return "dtype";
    case ErrorCode::nonfinite:
      return "nonfinite";
    case ErrorCode::overflow:
      return "overflow";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::out_of_memory:
      return "out_of_memory";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::backend:
      return "backend";
    case ErrorCode::verification:
      return "verification";
    case ErrorCode::regression:
      return "regression";
    case ErrorCode::usage:
      return "usage";
    case ErrorCode::config:
      return "config";
    case ErrorCode::io:
      return "io";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

std::string Error::text() const {
  std::string out;
  if (!file.empty()) {
    out += file;
    if (line > 0) out += ":" + std::to_string(line);
    if (line > 0 && column > 0) out += ":" + std::to_string(column);
    out += ": ";
  }
  out += message;
  if (!excerpt.empty()) out += "\n" + excerpt;
  return out;
}

}  // namespace switchyard

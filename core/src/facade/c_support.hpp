// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the files of the C host interface share.

#include <switchyard/switchyard.h>
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <switchyard/progress.hpp>

#include "facade/engine_impl.hpp"

/// An engine, and how often its calls were asked to stop.
struct sy_engine {
  explicit sy_engine(switchyard::Engine made) : engine(std::move(made)) {}
  switchyard::Engine engine;
  std::atomic<std::uint64_t> cancels{0};
};

struct sy_result {
  std::string op, json;
  std::map<std::string, switchyard::Tensor> arrays;
  std::map<std::string, double> numbers;
  switchyard::RunInfo info;
  /// Of sy_quantize: what the arrays mean.
  std::optional<switchyard::Quantized> quantized;
  /// Writes `json` from the rest.
  void finish();
};

namespace switchyard::c {

/// sy_status or one of the host's codes.
std::int32_t code_of(ErrorCode code) noexcept;
/// Writes into the caller's sy_error, if there is one; its code.
std::int32_t report(const Error &error, sy_error *out) noexcept;
std::int32_t invalid(const char *message, sy_error *out) noexcept;

/// Runs `body` (which returns a code); what it throws becomes a code too.
template <class F>
std::int32_t guarded(sy_error *error, F &&body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return report(Error{ErrorCode::out_of_memory, "out of memory", {}, 0, 0, -1, {}}, error);
  } catch (const std::exception &e) {
    return report(Error{ErrorCode::internal, e.what(), {}, 0, 0, -1, {}}, error);
  } catch (...) {
    return report(Error{ErrorCode::internal, "unknown failure", {}, 0, 0, -1, {}}, error);
  }
}

/// A NULL pointer is the absent tensor. An error names `what`: a rank out of range, memory that is
/// not the host's, or missing data.
Result<TensorView> view_of(const sy_tensor *tensor, const char *what);

/// Progress of one call: the caller's hook, and sy_engine_cancel.
Progress progress_of(sy_engine &engine, sy_progress_fn hook, void *arg);

inline std::string text_or(const char *text, const char *fallback) {
  return text != nullptr ? text : fallback;
}

/// The caller's struct as far as it reaches, over the defaults; an absent one gives the defaults.
/// False: its struct_size was never set.
template <class T>
bool adopt(const T *given, T &into, void (*init)(T *, std::uint32_t)) noexcept {
  init(&into, sizeof(T));
  if (given == nullptr) return true;
  if (given->struct_size < sizeof(given->struct_size)) return false;
  const auto size = std::min<std::size_t>(given->struct_size, sizeof(T));
  std::memcpy(static_cast<void *>(&into), given, size);
  into.struct_size = sizeof(T);
  return true;
}

}  // namespace switchyard::c

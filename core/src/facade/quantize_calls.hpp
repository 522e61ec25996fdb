// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What parts of quantised tensors and round trips share: calls piece by piece.

#include "facade/free_calls.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard {

/// Calls for one piece after the other, between which the thread's ProgressScope is told.
class Pieces {
 public:
  explicit Pieces(Engine &engine, int threads = 0)
      : engine_(engine), threads_(threads > 0 ? threads : engine.threads()) {
    watch(scope_);
  }

  /// An error's index counts from `first_index`.
  Status run(std::string_view op, CallFrame &frame, RunInfo *info, std::int64_t first_index = 0) {
    frame.call().threads = static_cast<std::uint32_t>(threads_);
    if (whole_) watch(frame.call());
    sy_error error = make_abi_error();
    const std::int32_t status = engine_.run(op, frame.call(), &error, info);
    if (status == SY_OK) return {};
    if (error.index >= 0) error.index += first_index;
    return tl::unexpected(from_abi(error, status, op));
  }
  /// The only piece: its calls report themselves.
  void whole() noexcept { whole_ = true; }
  Status done(std::int64_t part, std::int64_t all) {
    if (whole_ || scope_.progress == nullptr) return {};
    const double share = static_cast<double>(part) / static_cast<double>(all);
    if (scope_.progress(scope_.progress_arg, std::min(share, 1.0)) == 0) return {};
    return fail(ErrorCode::cancelled, "cancelled");
  }

 private:
  Engine &engine_;
  int threads_;
  sy_call scope_{};
  bool whole_ = false;
};

inline std::int64_t bytes_of(DType t) { return static_cast<std::int64_t>(size_of(t)); }

inline TensorView view_of(const void *data, const QuantArray &array) {
  return TensorView(const_cast<void *>(data), array.dtype, array.shape());
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the free functions over an engine share.

#include <switchyard/engine.hpp>

#include <algorithm>

#include "base/call_frame.hpp"
#include "base/progress_scope.hpp"
#include "base/status_codes.hpp"
#include "facade/guarded.hpp"

namespace switchyard {

/// Runs on the engine's threads and reports to the thread's ProgressScope.
inline Status run_call(Engine &engine, std::string_view op, CallFrame &frame, RunInfo *info) {
  frame.call().threads = static_cast<std::uint32_t>(engine.threads());
  sy_error error = make_abi_error();
  watch(frame.call());
  const std::int32_t status = engine.run(op, frame.call(), &error, info);
  if (status == SY_OK) return {};
  return tl::unexpected(from_abi(error, status, op));
}

/// x as a matrix [rows, last dimension]: a view where the leading dimensions lie evenly, else
/// nullopt.
inline std::optional<TensorView> as_matrix(const TensorView &x) {
  const int last = x.rank() - 1;
  std::int64_t rows = 1, step = 0;
  for (int i = last - 1; i >= 0; --i) {
    if (x.dim(i) == 1) continue;
    if (rows == 1)
      step = x.stride(i);
    else if (x.stride(i) != step * rows)
      return std::nullopt;
    rows *= x.dim(i);
  }
  sy_tensor raw = x.raw();
  raw.rank = 2;
  raw.shape[1] = x.dim(last);
  raw.strides[1] = x.stride(last);
  raw.shape[0] = rows;
  raw.strides[0] = rows > 1 ? step : std::max<std::int64_t>(x.dim(last), 1);
  return TensorView(raw);
}

}  // namespace switchyard

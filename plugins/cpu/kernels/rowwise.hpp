// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The loop of kernels that work on rows: pieces of rows as f32, whatever lies in memory (needs
/// SY_ISA).

#include "../host_memory.hpp"
#include "attention_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace rowwise {

namespace hn = hwy::HWY_NAMESPACE;
using attention::ceil_div64;
using attention::DF;
using attention::kLanes;
using attention::min64;
using attention::run_tasks;
using attention::store_row;
using attention::VF;
using attention::widen_row;
using attention::Worker;
using attention::worker_count;
using hwy::bfloat16_t;
using hwy::float16_t;

inline constexpr int64_t kTaskValues = 1 << 15;  ///< about as many make a task
inline constexpr int64_t kSerialValues = 1 << 15;

/// The rows of a tensor along its last dimension.
struct RowsOf {
  const sy_tensor *t;
  int64_t count = 1, cols = 0, step = 0;

  explicit RowsOf(const sy_tensor &tensor)
      : t(&tensor), cols(tensor.shape[tensor.rank - 1]), step(tensor.strides[tensor.rank - 1]) {
    for (int i = 0; i + 1 < tensor.rank; ++i) count *= tensor.shape[i];
  }
  template <class T>
  T *at(int64_t row, int64_t col) const {
    int64_t offset = col * step;
    for (int i = t->rank - 2; i >= 0; --i) {
      offset += row % t->shape[i] * t->strides[i];
      row /= t->shape[i];
    }
    return reinterpret_cast<T *>(static_cast<char *>(t->handle) + t->byte_offset) + offset;
  }
};

/// Calls f with a null pointer of the tensor's element type.
template <class F>
inline auto with_type(const sy_dtype &type, F f) {
  if (type.bits == 32) return f(static_cast<float *>(nullptr));
  if (type.code == SY_TYPE_BFLOAT) return f(static_cast<bfloat16_t *>(nullptr));
  return f(static_cast<float16_t *>(nullptr));
}

/// How rows are cut into tasks: a few whole rows, or pieces of one where rows may be cut.
struct Cut {
  int64_t rows, cols, tasks_across, tasks;
};
inline Cut make_cut(const RowsOf &x, int64_t most_cols) {
  Cut c;
  c.cols = x.cols < most_cols ? x.cols : most_cols;
  const int64_t fit = c.cols > 0 ? kTaskValues / c.cols : 1;
  c.rows = fit > 0 ? fit : 1;
  c.tasks_across = c.cols > 0 ? ceil_div64(x.cols, c.cols) : 0;
  c.tasks = ceil_div64(x.count, c.rows) * c.tasks_across;
  return c;
}

/// fn(worker, row, first column, columns) for all pieces.
template <class F>
inline int32_t for_pieces(const Context &ctx, const sy_call &call, const RowsOf &x, int64_t most,
                          sy_error *error, F fn) {
  const Cut cut = make_cut(x, most);
  auto task = [&](Worker &worker, uint64_t t) {
    const auto at = static_cast<int64_t>(t);
    const int64_t first = at % cut.tasks_across * cut.cols;
    const int64_t cols = min64(cut.cols, x.cols - first), begin = at / cut.tasks_across * cut.rows;
    const int64_t end = min64(begin + cut.rows, x.count);
    for (int64_t row = begin; row < end; ++row) fn(worker, row, first, cols);
    worker.go_on(20.0 * static_cast<double>((end - begin) * cols));
  };
  sy_call small = call;
  if (x.count * x.cols < kSerialValues) small.threads = 1;
  const int32_t status = run_tasks(ctx, small, static_cast<uint64_t>(cut.tasks), task);
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

/// `bytes` at memory speed, `values` at `ns_per_value`, whichever takes longer.
inline uint64_t time_of(const Context &ctx, const sy_call &call, const RowsOf &x, double arrays,
                        double ns_per_value) {
  const double values = static_cast<double>(x.count) * static_cast<double>(x.cols);
  const double memory = values * arrays * x.t->dtype.bits / 80;
  const double work = values * ns_per_value > memory ? values * ns_per_value : memory;
  const uint32_t threads = values < kSerialValues ? 1 : thread_count(ctx, call);
  return static_cast<uint64_t>(150 + (threads > 1 ? 4000 : 0) + work / threads);
}

}  // namespace rowwise
}  // namespace SY_ISA
}  // namespace switchyard::cpu

// SPDX-License-Identifier: Apache-2.0
/// matmul of f32 by cblas_sgemm: each thread multiplies its own share of the weights' rows, or of
/// x's where those are more.
#include <cblas.h>
#include <limits.h>
#include <switchyard/ops/matmul.h>

#include <failure.hpp>
#include <parallel.hpp>

#include "kernels.hpp"

namespace switchyard::cpu {
inline namespace openblas {
namespace {

struct Matrix {
  float *data;
  int64_t rows, cols, across, along;  ///< strides between rows and within them
};

Matrix matrix_of(const sy_tensor &t) {
  return {reinterpret_cast<float *>(static_cast<char *>(t.handle) + t.byte_offset), t.shape[0],
          t.shape[1], t.strides[0], t.strides[1]};
}

/// How sgemm reads it: as it is, or transposed; `leading` is what lies between its long rows.
struct Layout {
  bool usable, transposed;
  int64_t leading;
};
Layout layout_of(const Matrix &m) {
  const int64_t cols = m.cols > 1 ? m.cols : 1, rows = m.rows > 1 ? m.rows : 1;
  if (m.cols <= 1 || m.along == 1) {
    const int64_t leading = m.rows > 1 ? m.across : cols;
    if (leading >= cols) return {leading <= INT_MAX, false, leading};
  }
  if (m.rows <= 1 || m.across == 1) {
    const int64_t leading = m.cols > 1 ? m.along : rows;
    if (leading >= rows) return {leading <= INT_MAX, true, leading};
  }
  return {false, false, 0};
}

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  const sy_tensor &x = *call.inputs[SY_MATMUL_IN_X], &y = *call.outputs[SY_MATMUL_OUT_Y];
  if (static_cast<const sy_matmul_params *>(call.params)->format != SY_QUANT_NONE)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for plain weights");
  if (x.dtype.code != SY_TYPE_FLOAT || x.dtype.bits != 32)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for f32");
  if (x.device_kind != SY_DEVICE_HOST || y.device_kind != SY_DEVICE_HOST ||
      call.inputs[SY_MATMUL_IN_W]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "a tensor is not in host memory");
  const Matrix a = matrix_of(x), b = matrix_of(*call.inputs[SY_MATMUL_IN_W]), c = matrix_of(y);
  const Layout out = layout_of(c);
  if (!layout_of(a).usable || !layout_of(b).usable || !out.usable || out.transposed)
    return failure(reason, SY_E_UNSUPPORTED, "sgemm cannot read or write strides like these");
  if (a.rows > INT_MAX || b.rows > INT_MAX || a.cols > INT_MAX)
    return failure(reason, SY_E_UNSUPPORTED, "sgemm's sizes are 32-bit integers");
  return SY_OK;
}

uint64_t estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_MATMUL_IN_X], &y = *call.outputs[SY_MATMUL_OUT_Y];
  const double weights = static_cast<double>(y.shape[1]) * static_cast<double>(x.shape[1]);
  const double rows = static_cast<double>(x.shape[0]);
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint64_t>(2000 + 4000 * (threads > 1) +
                               weights * (rows / 45 + (rows < 8 ? 0.4 : 0.1)) / threads);
}

/// One cblas_sgemm on rows i0..i1 of x and j0..j1 of the weights.
void multiply(const Matrix &x, const Matrix &w, const Matrix &y, int64_t i0, int64_t i1, int64_t j0,
              int64_t j1) {
  const Layout a = layout_of(x), b = layout_of(w), c = layout_of(y);
  cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
              b.transposed ? CblasNoTrans : CblasTrans, static_cast<blasint>(i1 - i0),
              static_cast<blasint>(j1 - j0), static_cast<blasint>(x.cols), 1.0f,
              x.data + i0 * x.across, static_cast<blasint>(a.leading), w.data + j0 * w.across,
              static_cast<blasint>(b.leading), 0.0f, y.data + i0 * c.leading + j0,
              static_cast<blasint>(c.leading));
}

int32_t run(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  const Matrix x = matrix_of(*call.inputs[SY_MATMUL_IN_X]),
               w = matrix_of(*call.inputs[SY_MATMUL_IN_W]),
               y = matrix_of(*call.outputs[SY_MATMUL_OUT_Y]);
  if (y.rows == 0 || y.cols == 0) return SY_OK;
  const sy_tensor *add_tensor = call.inputs[SY_MATMUL_IN_ADD];
  const float *add =
      add_tensor != nullptr
          ? reinterpret_cast<const float *>(static_cast<const char *>(add_tensor->handle) +
                                            add_tensor->byte_offset)
          : nullptr;
  // The pieces are the parallelism: each calls sgemm on its own.
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  const uint32_t threads = thread_count(ctx, call);
  const bool by_rows = x.rows > w.rows;
  const int64_t total = by_rows ? x.rows : w.rows;
  // Pieces of at most about 5 ms between two polls of the host; whole multiples of sgemm's tiles.
  const double work =
      2.0 * static_cast<double>(x.cols) * static_cast<double>(by_rows ? w.rows : x.rows);
  int64_t share = (total + threads - 1) / threads;
  const double most = 2.5e8 / (work > 1 ? work : 1);
  if (call.progress != nullptr && static_cast<double>(share) > most)
    share = most < 48 ? 48 : static_cast<int64_t>(most);
  share = (share + 47) / 48 * 48;
  const int64_t pieces = (total + share - 1) / share;
  for (int64_t first = 0; first < pieces; first += threads) {
    const int64_t count = pieces - first < threads ? pieces - first : threads;
    auto piece = [&](uint64_t p) {
      const int64_t begin = (first + static_cast<int64_t>(p)) * share;
      const int64_t end = begin + share < total ? begin + share : total;
      const int64_t i0 = by_rows ? begin : 0, i1 = by_rows ? end : x.rows;
      const int64_t j0 = by_rows ? 0 : begin, j1 = by_rows ? w.rows : end;
      const int64_t stride = layout_of(y).leading;
      if (x.cols == 0)
        for (int64_t i = i0; i < i1; ++i)
          for (int64_t j = j0; j < j1; ++j) y.data[i * stride + j] = 0;
      else
        multiply(x, w, y, i0, i1, j0, j1);
      if (add == nullptr) return;
      for (int64_t i = i0; i < i1; ++i)
        for (int64_t j = j0; j < j1; ++j) y.data[i * stride + j] += add[j];
    };
    for_each(ctx, static_cast<uint64_t>(count), threads, piece);
    if (call.progress == nullptr) continue;
    const double done = static_cast<double>(first + count) / static_cast<double>(pieces);
    if (call.progress(call.progress_arg, done) != 0)
      return failure(error, SY_E_CANCELLED, "cancelled by the progress hook");
  }
  return SY_OK;
}

constexpr KernelDef kKernels[] = {{.op = SY_OP_MATMUL,
                                   .name = "matmul.f32_f32.sgemm",
                                   .numerics_class = "matmul.openblas",
                                   .traits = 0,
                                   .data = nullptr,
                                   .supports = supports,
                                   .estimate = estimate,
                                   .workspace_size = nullptr,
                                   .run = run,
                                   .prepare = nullptr,
                                   .release = nullptr}};

}  // namespace

KernelList matmul_kernels() noexcept { return {kKernels, 1}; }

}  // namespace openblas
}  // namespace switchyard::cpu

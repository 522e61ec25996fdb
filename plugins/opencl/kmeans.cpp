// SPDX-License-Identifier: Apache-2.0
/// kmeans.step and kmeans.assign: kernels/kmeans_assign.cl, kernels/kmeans_sums.cl.
#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <iterator>

#include "distances.hpp"
#include "instance.hpp"
#include "launch.hpp"

namespace switchyard::opencl {
namespace {

constexpr std::int64_t kRows = 32;                     // of a tile on a processor
constexpr std::int64_t kMost = std::int64_t{1} << 30;  // centroids and columns count in 32 bits
constexpr std::uint64_t kSliceBytes = 64u << 20;       // of all slices of the sums together

std::int32_t supports(const KernelDef &, const Description &about, const sy_call &call,
                      sy_error *reason) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X], &c = *call.inputs[SY_KMEANS_IN_CENTROIDS];
  if (static_cast<const sy_kmeans_params *>(call.params)->flags != 0)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "labels by distance only, not by 8-bit codes");
  if (const std::int32_t status = exact_distances(about, reason); status != SY_OK) return status;
  if (!about.fp64)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device has no f64, which inertia and sums are taken in");
  if (!about.is_cpu() && !about.atomics64)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device has no 64-bit atomics to add up clusters with");
  if (x.shape[1] >= kMost || c.shape[0] >= kMost)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "more than 2^30 columns or centroids");
  return SY_OK;
}

/// Columns as the running sums count them: rounded up to what a strip holds.
std::int64_t running_sums(std::int64_t d) { return d > 8 ? 16 : d > 4 ? 8 : d > 2 ? 4 : 2; }
std::int64_t padded_columns(std::int64_t d) {
  const std::int64_t sums = running_sums(d);
  return (d + sums - 1) / sums * sums;
}
std::int64_t lanes(const Description &about) { return about.vector_width >= 16 ? 16 : 8; }

/// Of one row against all centroids on one unit.
double row_ns(const Description &about, std::int64_t d, std::int64_t k) {
  const double steps = static_cast<double>(padded_columns(d)) + 12;
  return 0.4 * steps * static_cast<double>(k) / static_cast<double>(lanes(about)) + 10;
}

std::uint64_t estimate(const KernelDef &, const Description &about, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const std::int64_t k = call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  const double n = static_cast<double>(x.shape[0]);
  double ns = 5 * kLaunchNs + n * row_ns(about, x.shape[1], k) / about.units;
  if (!about.unified) ns += n * 4 * static_cast<double>(x.shape[1] + 2) / kTransferBytesPerNs;
  return static_cast<std::uint64_t>(ns);
}

class KMeans {
 public:
  KMeans(Device &device, const sy_call &call, sy_error *error)
      : job_(device, call, error),
        call_(call),
        n_(call.inputs[SY_KMEANS_IN_X]->shape[0]),
        d_(call.inputs[SY_KMEANS_IN_X]->shape[1]),
        k_(call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0]),
        on_cpu_(device.about().is_cpu()),
        x_(job_.input(call.inputs[SY_KMEANS_IN_X])),
        centroids_(job_.input(call.inputs[SY_KMEANS_IN_CENTROIDS])),
        weights_(job_.input(input_of(call, SY_KMEANS_IN_WEIGHTS))),
        assign_options_(on_cpu_ ? "-DW=" + std::to_string(lanes(device.about())) +
                                      " -DACC=" + std::to_string(running_sums(d_)) +
                                      " -DROWS=" + std::to_string(kRows)
                                : "-DW=8") {}

  std::int32_t step() {
    const Array labels = job_.output(call_.outputs[SY_KMEANS_STEP_OUT_LABELS]);
    assign(labels, call_.outputs[SY_KMEANS_STEP_OUT_DISTANCES],
           call_.outputs[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS], 0.85);
    sums(labels);
    counts(labels);
    return job_.finish();
  }

  std::int32_t assign_only() {
    const sy_tensor *wanted = call_.outputs[SY_KMEANS_ASSIGN_OUT_LABELS];
    Array labels;
    if (wanted != nullptr)
      labels = job_.output(wanted);
    else
      labels.mem = job_.scratch(bytes_of(n_, 4));
    assign(labels, call_.outputs[SY_KMEANS_ASSIGN_OUT_DISTANCES],
           call_.outputs[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS], 1);
    return job_.finish();
  }

 private:
  static std::uint64_t tiles(std::int64_t count, std::int64_t of_tile) {
    return static_cast<std::uint64_t>((count + of_tile - 1) / of_tile);
  }
  std::int64_t row_stride() const { return n_ > 1 ? x_.strides[0] : 0; }
  std::int32_t weighted() const { return weights_.present() ? 1 : 0; }
  std::int32_t k32() const { return static_cast<std::int32_t>(k_); }
  std::int32_t d32() const { return static_cast<std::int32_t>(d_); }
  void assign_kernel(const char *name) { job_.kernel("kmeans_assign.cl", assign_options_, name); }
  void sums_kernel(const char *name) { job_.kernel("kmeans_sums.cl", "", name); }

  void assign(const Array &labels, const sy_tensor *distances, const sy_tensor *partials,
              double share) {
    const std::int64_t padded = padded_columns(d_), w = lanes(job_.device().about());
    const auto columns = static_cast<std::int32_t>(padded);
    cl_mem panels = nullptr;
    if (on_cpu_) {
      const std::int64_t count = (k_ + w - 1) / w;
      panels = job_.scratch(bytes_of(count * padded * w, 4));
      assign_kernel("pack");
      job_.arg(k32()).arg(d32()).arg(columns).arg(centroids_).arg(panels);
      job_.run(0, static_cast<std::uint64_t>(count), 0);
    }
    Array out = job_.output(distances);
    // Written from an element offset: a kernel's float pointer, not bytes.
    const bool own = !out.present() || out.offset != 0;
    const cl_mem d = own ? job_.scratch(bytes_of(n_, 4)) : out.mem;
    assign_kernel("assign");
    job_.arg(n_).arg(k32()).arg(d32()).arg(columns).arg(row_stride()).arg(x_).arg(panels);
    job_.arg(centroids_).arg(labels).arg(d);
    const std::int64_t of_tile = on_cpu_ ? kRows : job_.group();
    job_.run(0, tiles(n_, of_tile),
             row_ns(job_.device().about(), d_, k_) * static_cast<double>(of_tile), {0, share});
    if (own && out.present()) copy(d, out);
    if (partials == nullptr) return;
    const std::int64_t blocks = (n_ + SY_KMEANS_INERTIA_BLOCK - 1) / SY_KMEANS_INERTIA_BLOCK;
    const Array inertia = job_.output(partials);
    sums_kernel("inertia");
    job_.arg(blocks).arg(n_).arg(d).arg(weighted()).arg(weights_).arg(inertia);
    job_.run(0, tiles(blocks, job_.group()), 0);
  }

  void copy(cl_mem from, const Array &to) {
    if (!job_.ok()) return;
    job_.failure().check(api().clEnqueueCopyBuffer(job_.device().queue(), from, to.mem, 0,
                                                   static_cast<std::size_t>(to.offset),
                                                   bytes_of(n_, 4), 0, nullptr, nullptr),
                         "copying distances");
  }

  /// As many slices of the rows as keep the units busy; columns are split too.
  std::int64_t slices() const {
    const std::int64_t strips = (d_ + 15) / 16;
    const std::int64_t wanted =
        (2 * std::int64_t{job_.device().about().units} + strips - 1) / strips;
    const auto fit = static_cast<std::int64_t>(kSliceBytes / bytes_of(k_ * d_, 8));
    return std::clamp<std::int64_t>(std::min(wanted, fit), 1, n_);
  }

  void sums(const Array &labels) {
    const Array shifts = job_.input(input_of(call_, SY_KMEANS_IN_SHIFTS));
    const Array out = job_.output(call_.outputs[SY_KMEANS_STEP_OUT_SUMS]);
    const std::int64_t cells = k_ * d_, parts = on_cpu_ ? slices() : 1;
    const bool direct = on_cpu_ && parts == 1;
    Array sliced = out;
    if (!direct) {
      sliced = {};
      sliced.mem = job_.scratch(bytes_of(cells * parts, 8));
      if (!on_cpu_) job_.fill(sliced.mem, 0, bytes_of(cells, 8));
    }
    sums_kernel("sums");
    job_.arg(n_).arg(k32()).arg(d32()).arg(row_stride()).arg(static_cast<std::int32_t>(parts));
    job_.arg(x_).arg(weighted()).arg(weights_).arg(shifts).arg(labels).arg(sliced);
    // A slice is not cut: the call's cancellation waits for it.
    job_.run(0, on_cpu_ ? static_cast<std::uint64_t>(parts * ((d_ + 15) / 16)) : tiles(n_, 16), 0);
    if (direct) return;
    sums_kernel("add_slices");
    job_.arg(cells).arg(static_cast<std::int32_t>(parts)).arg(cells).arg(sliced).arg(out);
    job_.run(0, tiles(cells, on_cpu_ ? 4096 : job_.group()), 0);
  }

  void counts(const Array &labels) {
    const Array previous = job_.input(input_of(call_, SY_KMEANS_IN_PREVIOUS_LABELS));
    const auto &params = *static_cast<const sy_kmeans_params *>(call_.params);
    const std::int64_t numbers = 2 * k_ + 1;
    const std::int64_t parts =
        on_cpu_ ? std::min<std::int64_t>(2 * std::int64_t{job_.device().about().units}, n_) : 1;
    Array from;
    from.mem = job_.scratch(bytes_of(numbers * parts, 8));
    if (!on_cpu_) job_.fill(from.mem, 0, bytes_of(numbers, 8));
    sums_kernel("counts");
    job_.arg(n_).arg(k32()).arg(static_cast<std::int32_t>(parts)).arg(weighted());
    job_.arg(params.weight_shift).arg(static_cast<std::int32_t>(previous.present() ? 1 : 0));
    job_.arg(weights_).arg(previous).arg(labels).arg(from.mem);
    job_.run(0, on_cpu_ ? static_cast<std::uint64_t>(parts) : tiles(n_, job_.group()), 0);
    const std::pair<const sy_tensor *, std::int64_t> wanted[] = {
        {call_.outputs[SY_KMEANS_STEP_OUT_COUNTS], 0},
        {call_.outputs[SY_KMEANS_STEP_OUT_WEIGHTS], k_},
        {call_.outputs[SY_KMEANS_STEP_OUT_CHANGED], 2 * k_}};
    for (const auto &[tensor, at] : wanted) {
      if (tensor == nullptr) continue;
      const std::int64_t count = at == 2 * k_ ? 1 : k_;
      from.offset = at;  // in numbers
      sums_kernel("add_slices");
      job_.arg(count).arg(static_cast<std::int32_t>(parts)).arg(numbers).arg(from);
      job_.arg(job_.output(tensor));
      job_.run(0, tiles(count, on_cpu_ ? 4096 : job_.group()), 0);
    }
  }

  Job job_;
  const sy_call &call_;
  const std::int64_t n_, d_, k_;
  const bool on_cpu_;
  const Array x_, centroids_, weights_;
  const std::string assign_options_;
};

std::int32_t run_step(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  return KMeans(device, call, error).step();
}

std::int32_t run_assign(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  return KMeans(device, call, error).assign_only();
}

constexpr KernelDef kKernels[] = {
    {SY_OP_KMEANS_STEP, "kmeans.step.f32_i32.tiles", true, 0, supports, estimate, run_step},
    {SY_OP_KMEANS_ASSIGN, "kmeans.assign.f32_i32.tiles", true, 0, supports, estimate, run_assign},
};

}  // namespace

KernelList kmeans_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::opencl

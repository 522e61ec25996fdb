// SPDX-License-Identifier: Apache-2.0
/// kmeans.step and kmeans.assign: what stays on the device between iterations, and the graph of
/// launches that an iteration is.
#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>

#include "instance.hpp"
#include "kernels/kmeans_arguments.hpp"

namespace switchyard::cuda {
namespace {

constexpr std::int64_t kFewestFiltered = 16;  ///< centroids; fewer are all compared
constexpr std::int64_t kMostFilteredColumns = 1 << 15;
constexpr std::int64_t kMostSplitColumns = 21;  ///< three parts of them fill one piece of 64

std::int64_t groups_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

/// One data set on the device, with what was found of it. Of a state, or of a single call.
struct Fit {
  std::int64_t n = 0, d = 0, k = 0;
  bool step = false, weighted = false;
  bool loaded = false;  ///< rows and what depends on them alone are there
  bool summed = false;  ///< sums and last labels belong together
  KMeansArguments a{};
  std::int32_t *last_labels = nullptr, *given_labels = nullptr;
  std::int64_t filter_blocks = 0;
  unsigned filter_shared = 0;
  std::vector<CUdeviceptr> memory;
  CUgraphExec graph = nullptr;

  bool filtered() const { return a.choice != nullptr; }
  void drop(Device &device) {
    if (graph != nullptr) device.driver().cuGraphExecDestroy(graph);
    for (CUdeviceptr m : memory) device.free(m);
    memory.clear();
    graph = nullptr;
  }
};

Fit fit_of(const sy_call &call, bool step) {
  Fit f;
  f.n = call.inputs[SY_KMEANS_IN_X]->shape[0];
  f.d = call.inputs[SY_KMEANS_IN_X]->shape[1];
  f.k = call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  f.weighted = call.inputs[SY_KMEANS_IN_WEIGHTS] != nullptr;
  f.step = step;
  return f;
}

template <class T>
T *take(Work &work, Fit &f, std::int64_t count) {
  if (!work.ok()) return nullptr;
  f.memory.reserve(f.memory.size() + 1);
  const auto bytes = static_cast<std::uint64_t>(count) * sizeof(T);
  const CUdeviceptr memory = work.device().allocate(bytes, work.failure());
  if (memory != 0) f.memory.push_back(memory);
  return reinterpret_cast<T *>(memory);
}

CUdeviceptr address(const void *p) { return reinterpret_cast<CUdeviceptr>(p); }
std::uint64_t bytes_of(std::int64_t count, std::size_t size) {
  return static_cast<std::uint64_t>(count) * size;
}

/// The roundings that docs/kmeans.md allows for, by the same names.
void set_bound(KMeansArguments &a) {
  const double u = 0x1p-24, tensor_core = 0x1p-21;
  const auto gamma = [](double n, double unit) { return n * unit / (1 - n * unit); };
  const double theta = gamma(static_cast<double>((a.d + 15) / 16) + 6, u);
  a.half_kappa = static_cast<float>(theta / (1 - theta) * (1 + 0x1p-10));
  a.sum_error =
      static_cast<float>(gamma(static_cast<double>(a.depth) + 4, tensor_core) * (1 + 0x1p-10));
  a.row_slack = static_cast<float>((static_cast<double>(a.d) / 16 + 20) * 0x1p-22);
  a.tiny = static_cast<float>(std::sqrt(static_cast<double>(a.d) + 32) * 0x1p-74);
}

void set_filter(Work &work, Fit &f) {
  KMeansArguments &a = f.a;
  a.split = f.d <= kMostSplitColumns;
  a.depth = groups_of(a.split ? 3 * f.d : f.d, 16) * 16;
  a.padded_k = groups_of(f.k, kFilterColumns) * kFilterColumns;
  set_bound(a);
  a.mu = take<float>(work, f, f.d);
  a.rows = take<std::uint16_t>(work, f, f.n * a.depth);
  a.row_rest = take<float>(work, f, f.n);
  a.row_length = take<float>(work, f, f.n);
  a.row_low = take<float>(work, f, f.n);
  a.columns = take<std::uint16_t>(work, f, a.padded_k * a.depth);
  a.halves = take<float>(work, f, a.padded_k);
  a.largest = take<std::uint32_t>(work, f, 4);
  a.choice = take<std::int32_t>(work, f, f.n);
  a.list_room = static_cast<std::int32_t>(std::min<std::int64_t>(f.n / 4 + 1024, 1 << 28));
  a.lists = take<std::int32_t>(work, f, std::int64_t{a.list_room} * kListed);
  a.list_count = take<std::int32_t>(work, f, 1);
  const std::int64_t pieces = groups_of(a.depth, kFilterDepth);
  const auto slots = static_cast<unsigned>(pieces <= kResidentPieces ? pieces : 2);
  f.filter_shared = (slots * kFilterRows + 2 * kFilterColumns) * kFilterPitch * 2;
  f.filter_blocks = groups_of(f.n, kFilterRows);
}

/// 2^shift of every column, exactly.
bool send_scales(Work &work, Fit &f, const sy_call &call) {
  const sy_tensor &shifts = *call.inputs[SY_KMEANS_IN_SHIFTS];
  std::vector<std::int32_t> s(static_cast<std::size_t>(f.d));
  if (shifts.device_kind == SY_DEVICE_CUDA) {
    work.fetch(s.data(), address(shifts.handle) + shifts.byte_offset, bytes_of(f.d, 4));
  } else {
    const auto *from = reinterpret_cast<const std::int32_t *>(static_cast<char *>(shifts.handle) +
                                                              shifts.byte_offset);
    s.assign(from, from + f.d);
  }
  std::vector<double> scales(s.size());
  std::transform(s.begin(), s.end(), scales.begin(),
                 [](std::int32_t shift) { return std::ldexp(1.0, shift); });
  sy_tensor t{};
  t.handle = scales.data();
  t.rank = 1;
  t.shape[0] = f.d;
  t.strides[0] = 1;
  t.dtype = {SY_TYPE_FLOAT, 64, 0};
  auto *to = take<double>(work, f, f.d);
  f.a.scales = to;
  if (work.ok()) work.input_at(&t, address(to));
  return work.ok();
}

/// Everything that depends on the rows alone, and room for the rest.
void load(Work &work, Fit &f, const sy_call &call) {
  KMeansArguments &a = f.a;
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  a.n = f.n;
  a.d = f.d;
  a.k = f.k;
  const auto keep = [&](int slot, std::int64_t count) {
    auto *to = take<float>(work, f, count);
    if (work.ok()) work.input_at(call.inputs[slot], address(to));
    return to;
  };
  if (x.device_kind == SY_DEVICE_CUDA) {  // the caller's, where it lies
    a.x = work.input(&x).as<const float>();
    a.stride = x.strides[0];
  } else {
    a.x = keep(SY_KMEANS_IN_X, f.n * f.d);
    a.stride = f.d;
  }
  if (f.weighted) a.weights = keep(SY_KMEANS_IN_WEIGHTS, f.n);
  a.centroids = take<float>(work, f, f.k * f.d);
  a.labels = take<std::int32_t>(work, f, f.n);
  a.distances = take<float>(work, f, f.n);
  a.partials = take<double>(work, f, groups_of(f.n, kInertiaRows));
  if (f.k >= kFewestFiltered && f.d <= kMostFilteredColumns) set_filter(work, f);
  if (!f.step || !send_scales(work, f, call)) return;
  f.last_labels = take<std::int32_t>(work, f, f.n);
  f.given_labels = take<std::int32_t>(work, f, f.n);
  a.old_labels = f.last_labels;
  a.previous = f.given_labels;
  a.sums = take<std::int64_t>(work, f, f.k * f.d);
  a.counts = take<std::int64_t>(work, f, f.k);
  if (f.weighted) a.totals = take<std::int64_t>(work, f, f.k);
  a.changed = take<std::int64_t>(work, f, 1);
}

void launch(Work &work, const char *kernel, std::int64_t blocks, const KMeansArguments &a,
            unsigned shared = 0, unsigned threads = kRankThreads) {
  work.launch(Family::exact, kernel, {blocks}, threads, shared, a);
}

/// The rows' frame and 16-bit copies; once, whatever the centroids later are.
void prepare_rows(Work &work, const Fit &f) {
  if (!f.filtered()) return;
  launch(work, "kmeans_origin_kernel", groups_of(f.d, kRankThreads), f.a);
  launch(work, "kmeans_rows_kernel", groups_of(f.n * 16, kRankThreads), f.a);
}

/// An iteration: the launches that a graph holds.
void iterate(Work &work, const Fit &f) {
  const KMeansArguments &a = f.a;
  if (f.filtered()) {
    work.fill_zero(address(a.largest), 16);
    work.fill_zero(address(a.list_count), 4);
    launch(work, "kmeans_columns_kernel", groups_of(a.padded_k * 16, kRankThreads), a);
    launch(work, "kmeans_filter_kernel", f.filter_blocks, a, f.filter_shared, kFilterThreads);
  }
  launch(work, "kmeans_rank_kernel", groups_of(f.n * 16, kRankThreads), a);
  launch(work, "kmeans_inertia_kernel", groups_of(f.n, kInertiaRows), a, kInertiaRows * 4);
  if (!f.step) return;
  work.fill_zero(address(a.changed), 8);
  launch(work, "kmeans_sums_kernel", groups_of(f.n, kRankThreads), a);
  work.copy(address(f.last_labels), address(a.labels), bytes_of(f.n, 4));
}

/// The iteration as one launch: recorded the first time.
void iterate_graph(Work &work, Fit &f) {
  Device &device = work.device();
  const Driver &driver = device.driver();
  if (f.graph == nullptr) {
    // Kernels are loaded before recording begins; afterwards nothing may allocate.
    if (!device.check(driver.cuStreamBeginCapture(device.stream(), kCaptureThreadLocal),
                      "recording an iteration", work.failure()))
      return;
    iterate(work, f);
    CUgraph recorded = nullptr;
    const CUresult ended = driver.cuStreamEndCapture(device.stream(), &recorded);
    device.check(ended, "recording an iteration", work.failure());
    if (work.ok())
      device.check(driver.cuGraphInstantiate(&f.graph, recorded, 0), "recording an iteration",
                   work.failure());
    if (recorded != nullptr) driver.cuGraphDestroy(recorded);
  }
  if (work.ok())
    device.check(driver.cuGraphLaunch(f.graph, device.stream()), "an iteration", work.failure());
}

void load_kernels(Work &work, const Fit &f) {
  constexpr const char *kNames[] = {"kmeans_columns_kernel", "kmeans_filter_kernel",
                                    "kmeans_rank_kernel", "kmeans_inertia_kernel",
                                    "kmeans_sums_kernel"};
  for (const char *name : kNames) {
    const unsigned shared = name == kNames[1] ? f.filter_shared : 0;
    if (work.ok()) work.device().function(Family::exact, name, shared, work.failure());
  }
}

void forget_sums(Work &work, const Fit &f) {
  work.fill_zero(address(f.a.sums), bytes_of(f.k * f.d, 8));
  work.fill_zero(address(f.a.counts), bytes_of(f.k, 8));
  if (f.a.totals != nullptr) work.fill_zero(address(f.a.totals), bytes_of(f.k, 8));
  work.fill(address(f.last_labels), 0xFF, bytes_of(f.n, 4));  // -1: added nowhere
}

std::int32_t run_step_on(Work &work, Fit &f, const sy_call &call, bool keep, sy_error *error) {
  const bool first = !f.loaded;
  if (first) load(work, f, call);
  if (work.ok()) work.input_at(call.inputs[SY_KMEANS_IN_CENTROIDS], address(f.a.centroids));
  const sy_tensor *previous = call.inputs[SY_KMEANS_IN_PREVIOUS_LABELS];
  if (work.ok() && previous != nullptr) work.input_at(previous, address(f.given_labels));
  if (previous == nullptr) work.fill(address(f.given_labels), 0xFF, bytes_of(f.n, 4));
  const auto *params = static_cast<const sy_kmeans_params *>(call.params);
  if (first) f.a.weight_scale = params != nullptr ? std::ldexp(1.0, params->weight_shift) : 1;
  work.computing();
  if (first) prepare_rows(work, f);
  f.loaded = work.ok();
  if (!f.summed) forget_sums(work, f);
  f.summed = false;
  if (keep) {
    if (f.graph == nullptr) load_kernels(work, f);
    if (work.ok()) iterate_graph(work, f);
  } else {
    iterate(work, f);
  }
  const sy_tensor *const *out = call.outputs;
  work.result(out[SY_KMEANS_STEP_OUT_LABELS], f.a.labels);
  work.result(out[SY_KMEANS_STEP_OUT_SUMS], f.a.sums);
  work.result(out[SY_KMEANS_STEP_OUT_COUNTS], f.a.counts);
  work.result(out[SY_KMEANS_STEP_OUT_WEIGHTS], f.a.totals);
  work.result(out[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS], f.a.partials);
  work.result(out[SY_KMEANS_STEP_OUT_CHANGED], f.a.changed);
  work.result(out[SY_KMEANS_STEP_OUT_DISTANCES], f.a.distances);
  const std::int32_t status = work.finish(error);
  f.summed = status == SY_OK;
  return status;
}

/// Frees what a single call kept, inside its context.
struct Dropped {
  Work &work;
  Fit &fit;
  ~Dropped() { fit.drop(work.device()); }
};

std::int32_t run_step(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  Work work(device, call);
  Fit fresh = fit_of(call, true);
  auto *state = static_cast<Fit *>(call.state);
  if (state != nullptr && state->n == fresh.n && state->d == fresh.d && state->k == fresh.k &&
      state->weighted == fresh.weighted) {
    if (!state->loaded) state->drop(device);  // what a failed first call left
    return run_step_on(work, *state, call, true, error);
  }
  const Dropped dropped{work, fresh};
  return run_step_on(work, fresh, call, false, error);
}

std::int32_t run_assign(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  Work work(device, call);
  Fit f = fit_of(call, false);
  const Dropped dropped{work, f};
  load(work, f, call);
  if (work.ok()) work.input_at(call.inputs[SY_KMEANS_IN_CENTROIDS], address(f.a.centroids));
  work.computing();
  prepare_rows(work, f);
  iterate(work, f);
  work.result(call.outputs[SY_KMEANS_ASSIGN_OUT_LABELS], f.a.labels);
  work.result(call.outputs[SY_KMEANS_ASSIGN_OUT_DISTANCES], f.a.distances);
  work.result(call.outputs[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS], f.a.partials);
  return work.finish(error);
}

std::int32_t prepare(const KernelDef &, Device &, const sy_call &call, std::uint64_t constant,
                     void **state, sy_error *) {
  *state = nullptr;
  auto fit = std::make_unique<Fit>(fit_of(call, true));
  const std::uint64_t needed = 1u << SY_KMEANS_IN_X | 1u << SY_KMEANS_IN_SHIFTS |
                               (fit->weighted ? 1u << SY_KMEANS_IN_WEIGHTS : 0u);
  if ((constant & needed) == needed) *state = fit.release();
  return SY_OK;
}

void release(Device &device, void *state) {
  auto *fit = static_cast<Fit *>(state);
  if (fit == nullptr) return;
  {
    const std::lock_guard lock(device.mutex());
    Failure failure;
    if (!fit->memory.empty() && device.enter(failure)) {
      fit->drop(device);
      device.leave();
    }
  }
  delete fit;
}

std::int32_t supports(const KernelDef &, const Description &, const sy_call &call,
                      sy_error *reason) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  if (static_cast<const sy_kmeans_params *>(call.params)->flags != 0)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "labels by distance only, not by 8-bit codes");
  if (x.shape[0] > 1ll << 30)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "more than 1,073,741,824 rows");
  return SY_OK;
}

/// Of rows and centroids in host memory: what a state keeps is sent once, but a single call must
/// pay for it.
std::uint64_t estimate(const KernelDef &, const Description &about, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const double cells = static_cast<double>(x.shape[0]) * static_cast<double>(x.shape[1]);
  const double k = static_cast<double>(call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0]);
  return estimate_of(call, 9, 14 * cells, cells * k * 2 / (about.processors * 2000.0));
}

constexpr KernelDef kKernels[] = {
    {SY_OP_KMEANS_STEP, "kmeans.step.f32_i32.filter", "exact", kExactTraits, 0, supports, estimate,
     run_step, prepare, release},
    {SY_OP_KMEANS_ASSIGN, "kmeans.assign.f32_i32.filter", "exact", kExactTraits, 0, supports,
     estimate, run_assign, nullptr, nullptr},
};

}  // namespace

KernelList kmeans_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::cuda

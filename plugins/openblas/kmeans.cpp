// SPDX-License-Identifier: Apache-2.0
/// kmeans.step and kmeans.assign with scores from cblas_sgemm: blocks of shifted rows times all
/// centroids, then the same bound and the same canonical re-ranking as in plugins/cpu.
#include <cblas.h>

#include <kernels/kmeans_frame.hpp>
#include <kernels/kmeans_pass.hpp>

#include "kernels.hpp"

namespace switchyard::cpu {
inline namespace openblas {
namespace {

constexpr int64_t kRows = 128;        // rows of a block
constexpr int64_t kCentroids = 1024;  // centroids of a panel: scores of 512 KiB

using Scores = hn::CappedTag<float, 8>;

struct GemmMethod {
  struct Task {
    float *rows;    // [kRows][d], shifted
    float *scores;  // [kRows][panel], dot products
    float *limits;  // [kRows]
    float *norms;   // [kRows]
  };

  float *mu;       // [padded d]
  float *shifted;  // [k][d]
  float *halves;   // [padded k]: half squared norms, then infinities
  KMeansBound bound;

  static int64_t panel(const KMeansCall &k) { return padded(min_of(k.k, kCentroids)); }
  static int64_t unit(const KMeansCall &) { return kRows; }
  static constexpr bool kFixedUnits = false;
  static constexpr bool kUsesDistances = false;
  struct State {};
  static void carve_state(Carver &, const KMeansCall &, State &) {}
  static void start_state(const KMeansCall &, State &) {}
  void attach(State *) {}
  static void carve_shared(Carver &carver, const KMeansCall &k, GemmMethod &g) {
    g.mu = carver.take<float>(static_cast<uint64_t>(padded(k.d)));
    g.shifted = carver.take<float>(static_cast<uint64_t>(k.k * k.d));
    g.halves = carver.take<float>(static_cast<uint64_t>(padded(k.k)));
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.rows = carver.take<float>(static_cast<uint64_t>(kRows * k.d));
    task.scores = carver.take<float>(static_cast<uint64_t>(kRows * panel(k)));
    task.limits = carver.take<float>(kRows);
    task.norms = carver.take<float>(kRows);
  }

  void setup(const Context &ctx, const KMeansCall &k, const KMeansState *state, uint32_t threads);
  void assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end, const int32_t *hints,
              int32_t *labels, float *distances) const;
  void assign_block(const KMeansCall &k, Task &task, int64_t begin, int64_t rows,
                    const int32_t *hints, int32_t *labels, float *distances) const;
  /// Centroid j against the best so far of row i; true when it is better.
  static bool compare(const KMeansCall &k, int64_t i, int64_t j, int32_t &label, float &best);
};

void GemmMethod::setup(const Context &ctx, const KMeansCall &k, const KMeansState *,
                       uint32_t threads) {
  frame_origin(ctx, k, threads, mu);
  double largest = 0;
  for (int64_t j = 0; j < k.k; ++j) {
    const double square = shift_centroid(k.centroid(j), mu, k.d, shifted + j * k.d, 1);
    halves[j] = static_cast<float>(0.5 * square);
    largest = square > largest ? square : largest;
  }
  for (int64_t j = k.k; j < padded(k.k); ++j) halves[j] = __builtin_inff();
  // sgemm may round products and sums apart and adds up its blocks of columns; then the norm.
  bound = frame_bound(k.d, largest, k.d + k.d / 16 + 8);
  // The tasks are the parallelism: each calls sgemm on its own rows.
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
}

bool GemmMethod::compare(const KMeansCall &k, int64_t i, int64_t j, int32_t &label, float &best) {
  if (j == label) return false;
  const float distance = canonical_distance(k.row(i), k.centroid(j), k.d);
  if (distance > best || (distance == best && j > label)) return false;
  best = distance;
  label = static_cast<int32_t>(j);
  return true;
}

void GemmMethod::assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end,
                        const int32_t *hints, int32_t *labels, float *distances) const {
  for (int64_t b = begin; b < end; b += kRows)
    assign_block(k, task, b, min_of(kRows, end - b),
                 hints != nullptr ? hints + (b - begin) : nullptr, labels + (b - begin),
                 distances + (b - begin));
}

void GemmMethod::assign_block(const KMeansCall &k, Task &task, int64_t begin, int64_t rows,
                              const int32_t *hints, int32_t *labels, float *distances) const {
  for (int64_t r = 0; r < rows; ++r) {
    const float *x = k.row(begin + r);
    for (int64_t m = 0; m < k.d; ++m) task.rows[r * k.d + m] = x[m] - mu[m];
    const int32_t hint = hints != nullptr ? hints[r] : 0;
    labels[r] = hint >= 0 && hint < k.k ? hint : 0;
    distances[r] = canonical_distance(x, k.centroid(labels[r]), k.d);
    task.norms[r] = canonical_distance(x, mu, k.d);
    if (bound.usable && task.norms[r] <= KMeansBound::kLargestNorm) {
      task.limits[r] = score_limit(bound, distances[r], task.norms[r]);
      continue;
    }
    task.limits[r] = -__builtin_inff();
    for (int64_t j = 0; j < k.k; ++j) compare(k, begin + r, j, labels[r], distances[r]);
  }
  if (!bound.usable || k.k == 1) return;
  const Scores lanes;
  constexpr int64_t kLanes = hn::MaxLanes(Scores());
  const int64_t width = panel(k);
  for (int64_t first = 0; first < k.k; first += width) {
    const int64_t count = min_of(width, k.k - first);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(rows),
                static_cast<blasint>(count), static_cast<blasint>(k.d), 1.0f, task.rows,
                static_cast<blasint>(k.d), shifted + first * k.d, static_cast<blasint>(k.d), 0.0f,
                task.scores, static_cast<blasint>(width));
    for (int64_t r = 0; r < rows; ++r) {
      const float *products = task.scores + r * width;
      auto limit = hn::Set(lanes, task.limits[r]);
      for (int64_t j = 0; j < count; j += kLanes) {
        const auto score =
            hn::Sub(hn::Load(lanes, halves + first + j), hn::Load(lanes, products + j));
        const auto hit = hn::Le(score, limit);
        if (HWY_LIKELY(hn::AllFalse(lanes, hit))) continue;
        uint64_t bits = 0;
        hn::StoreMaskBits(lanes, hit, reinterpret_cast<uint8_t *>(&bits));
        for (; bits != 0; bits &= bits - 1) {
          const int64_t candidate = first + j + __builtin_ctzll(bits);
          if (candidate >= k.k || !compare(k, begin + r, candidate, labels[r], distances[r]))
            continue;
          task.limits[r] = score_limit(bound, distances[r], task.norms[r]);
          limit = hn::Set(lanes, task.limits[r]);
        }
      }
    }
  }
}

constexpr bool kStep = true, kAssign = false;

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  if (x.device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  if (kmeans_flags(call) != 0)
    return failure(reason, SY_E_UNSUPPORTED, "labels by distance only, not by 8-bit codes");
  if (x.shape[1] > (1 << 20))
    return failure(reason, SY_E_UNSUPPORTED, "more than 1,048,576 columns");
  return SY_OK;
}

/// A GEMM at nearly full speed, writing and reading its scores, and the rows' own work.
uint64_t estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const KMeansCall k = kmeans_call(call, kAssign);
  const double n = static_cast<double>(k.n), d = static_cast<double>(k.d),
               c = static_cast<double>(k.k);
  const double rows = n * (c * (d + 12) * 0.022 + d * 0.5 + 25);
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint64_t>(rows / threads + c * d * 1.5) + 2000u * threads;
}

template <bool step>
uint64_t workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  return pass_workspace<GemmMethod>(ctx, call, step);
}

template <bool step>
int32_t run(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  return run_pass<GemmMethod>(ctx, call, step, error);
}

int32_t prepare(const KernelDef &, const Context &, const sy_call &call, uint64_t constant_inputs,
                void **state, sy_error *error) {
  return prepare_pass<GemmMethod>(call, constant_inputs, state, error);
}

void release(const KernelDef &, const Context &, void *state) { free(state); }

constexpr uint32_t kTraits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC;
constexpr KernelDef kKernels[] = {
    {.op = SY_OP_KMEANS_STEP,
     .name = "kmeans.step.f32_i32.gemm",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = workspace<kStep>,
     .run = run<kStep>,
     .prepare = prepare,
     .release = release},
    {.op = SY_OP_KMEANS_ASSIGN,
     .name = "kmeans.assign.f32_i32.gemm",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = workspace<kAssign>,
     .run = run<kAssign>,
     .prepare = nullptr,
     .release = nullptr},
};

}  // namespace

KernelList kmeans_kernels() noexcept { return {kKernels, 2}; }

}  // namespace openblas
}  // namespace switchyard::cpu

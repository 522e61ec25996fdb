// SPDX-License-Identifier: Apache-2.0
/// kmeans.step and kmeans.assign by the filter, in f32 or 8-bit integers, and by boxes where there
/// are few columns; kmeans.step by 8-bit codes alone where that is asked for.
#include "kmeans_blocks.hpp"
#include "kmeans_filter.hpp"
#include "kmeans_int8.hpp"
#include "kmeans_score_f32.hpp"
#if HWY_TARGET <= HWY_AVX3
#define SY_KMEANS_BYTES 1
#include "kmeans_filter16.hpp"
#include "kmeans_score_vnni.hpp"
#include "kmeans_tiles.hpp"
#else
#define SY_KMEANS_BYTES 0
#endif

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr bool kStep = true, kAssign = false;

int32_t in_host_memory(const sy_call &call, sy_error *reason) {
  if (call.inputs[SY_KMEANS_IN_X]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

using Needs = int32_t (*)(const Context &, sy_error *);  // of the processor

int32_t needs_nothing(const Context &, sy_error *) { return SY_OK; }

int32_t no_flags(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  if (kmeans_flags(call) != 0)
    return failure(reason, SY_E_UNSUPPORTED, "labels by distance only, not by 8-bit codes");
  return in_host_memory(call, reason);
}

int32_t few_columns(const KernelDef &self, const Context &ctx, const sy_call &call,
                    sy_error *reason) {
  if (call.inputs[SY_KMEANS_IN_X]->shape[1] > kMostBlockColumns)
    return failure(reason, SY_E_UNSUPPORTED, "more than 8 columns: boxes would not help");
  return no_flags(self, ctx, call, reason);
}

struct CallSizes {
  double n, d, k;
};
CallSizes sizes_of(const KMeansCall &k) {
  return {static_cast<double>(k.n), static_cast<double>(k.d), static_cast<double>(k.k)};
}

/// Rows are shared by the threads, centroids are prepared by one.
uint64_t time_of(const Context &ctx, const sy_call &call, double rows_ns, double centroids_ns) {
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint64_t>(rows_ns / threads + centroids_ns) + 1000u * threads;
}

/// One multiply-add in 16 lanes and a cycle; the epilogue and the rows' own work on top.
uint64_t filter_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const auto [n, d, c] = sizes_of(kmeans_call(call, kAssign));
  const double a_lane = kWide ? 0.018 : 0.020;  // ns
  const double rows = n * (c * (d + 3) * a_lane + d * 0.3 + 15);
  return time_of(ctx, call, rows, c * d * 0.7);
}

#if SY_KMEANS_BYTES
int32_t needs_vnni(const Context &ctx, sy_error *reason) {
  if ((ctx.features & kFeatureVnni) != 0) return SY_OK;
  return failure(reason, SY_E_HARDWARE, "the processor has no AVX-512 VNNI, or isa forbids it");
}

using VnniScores = Int8Scores<VnniGroups>;
using TileScores = Int8Scores<TileGroups>;

template <Needs needs>
int32_t filters_bytes(const KernelDef &self, const Context &ctx, const sy_call &call,
                      sy_error *reason) {
  if (const int32_t status = needs(ctx, reason); status != SY_OK) return status;
  if (call.inputs[SY_KMEANS_IN_X]->shape[1] > VnniScores::kMostColumns)
    return failure(reason, SY_E_UNSUPPORTED, "more than 16384 columns: 32-bit sums could overflow");
  return no_flags(self, ctx, call, reason);
}

/// Turning sums into scores, and rows into integers, on top of the products. With few columns
/// centroids are close together for what eight bits tell: many are compared.
uint64_t bytes_estimate(const Context &ctx, const sy_call &call, double products_of_score) {
  const auto [n, d, c] = sizes_of(kmeans_call(call, kAssign));
  const double compared = d < 16 ? 0.16 * (16 - d) : 0;
  const double rows = n * (c * (products_of_score + 0.07 + compared) + d * 0.5 + 20);
  return time_of(ctx, call, rows, c * d * 1.5);
}

/// Four multiply-adds in a lane.
uint64_t int8_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  return bytes_estimate(ctx, call, 0.0047 * sizes_of(kmeans_call(call, kAssign)).d);
}

/// ns of a score: a tile instruction multiplies 16 x 16 by 64 columns in about 5 ns, however few of
/// them there are; loads and stores on top.
double tile_products_of_score(const sy_call &call) {
  const auto d = static_cast<int64_t>(sizes_of(kmeans_call(call, kAssign)).d);
  return 0.026 * static_cast<double>(tile_steps(ceil_of(d, 4)).count) + 0.01;
}

uint64_t tiles_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  return bytes_estimate(ctx, call, tile_products_of_score(call));
}

int32_t filters_in_pairs(const KernelDef &self, const Context &ctx, const sy_call &call,
                         sy_error *reason) {
  if (const int32_t status = needs_vnni(ctx, reason); status != SY_OK) return status;
  if (call.inputs[SY_KMEANS_IN_X]->shape[1] > Filter16Method::kMostColumns)
    return failure(reason, SY_E_UNSUPPORTED, "more than 128 columns: 8 bits would be better");
  return no_flags(self, ctx, call, reason);
}

/// Two multiply-adds in a lane, the least two of the sums, and a row's own distance.
uint64_t pairs_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const auto [n, d, c] = sizes_of(kmeans_call(call, kAssign));
  const double rows = n * (c * (d / 2 + 3) * 0.28 / kLanes + d * 0.3 + 15);
  return time_of(ctx, call, rows, c * d * 1.5);
}
#endif

template <Needs needs>
int32_t int8_mode(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *reason) {
  if (kmeans_flags(call) != SY_KMEANS_INT8)
    return failure(reason, SY_E_UNSUPPORTED, "labels by 8-bit codes only, not by distance");
  if (const int32_t status = needs(ctx, reason); status != SY_OK) return status;
  if (call.inputs[SY_KMEANS_IN_X]->shape[1] > kMostInt8Columns)
    return failure(reason, SY_E_UNSUPPORTED, "more than 32768 columns: 32-bit sums could overflow");
  return in_host_memory(call, reason);
}

/// What finding the least of the sums takes, on top of the products.
uint64_t int8_mode_estimate(const Context &ctx, const sy_call &call, double products_of_score) {
  const auto [n, d, c] = sizes_of(kmeans_call(call, kAssign));
  const double rows = n * (c * (products_of_score + 0.84 / kLanes) + d * 0.5 + 20);
  return time_of(ctx, call, rows, c * d * 1.5);
}

/// A product in each lane and cycle.
template <int kCodes>
uint64_t int8_lanes_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const double d = sizes_of(kmeans_call(call, kAssign)).d;
  return int8_mode_estimate(ctx, call, d / kCodes * (kCodes == 4 ? 0.28 : 0.336) / kLanes);
}

/// Sorting (where no state keeps the order), a share of the centroids for each box, and the
/// centroids near a box of evenly spread points for each point.
template <bool step>
uint64_t blocks_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const KMeansCall k = kmeans_call(call, kAssign);
  const auto [n, d, c] = sizes_of(k);
  // The d-th root of the centroids a small box, by Newton's method.
  const double target = c * kSmallBox / static_cast<double>(segment_rows(k.n));
  double root = 1;
  for (int i = 0; i < 40; ++i) {
    double power = 1;
    for (int64_t m = 1; m < k.d; ++m) power *= root;
    root += (target / power - root) / d;
  }
  double near = 1;
  for (int64_t m = 0; m < k.d; ++m) near *= root + 1.8;
  near = near < c ? near : c;
  const double a_distance = (kWide ? 0.04 : 0.08) * (3 * d + 3);
  const double rows = n * ((step ? 5 : 20) + d + near * a_distance * 1.2 +
                           c * (kWide ? 0.0002 : 0.0004) * (7 * d + 4));
  return time_of(ctx, call, rows, c * d);
}

#if SY_KMEANS_BYTES
uint64_t int8_tiles_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  return int8_mode_estimate(ctx, call, tile_products_of_score(call));
}
#endif

template <class Method, bool step>
uint64_t workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  return pass_workspace<Method>(ctx, call, step);
}

template <class Method, bool step>
int32_t run(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  return run_pass<Method>(ctx, call, step, error);
}

template <class Method>
int32_t prepare(const KernelDef &, const Context &, const sy_call &call, uint64_t constant_inputs,
                void **state, sy_error *error) {
  return prepare_pass<Method>(call, constant_inputs, state, error);
}

void release(const KernelDef &, const Context &, void *state) { free(state); }

using Supports = decltype(KernelDef::supports);
using Estimate = decltype(KernelDef::estimate);

template <class Method>
constexpr KernelDef step_kernel(const char *name, Supports supports, Estimate estimate) {
  return {.op = SY_OP_KMEANS_STEP,
          .name = name,
          .numerics_class = "exact",
          .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          .data = nullptr,
          .supports = supports,
          .estimate = estimate,
          .workspace_size = workspace<Method, kStep>,
          .run = run<Method, kStep>,
          .prepare = prepare<Method>,
          .release = release};
}

template <class Method>
constexpr KernelDef assign_kernel(const char *name, Supports supports, Estimate estimate) {
  return {.op = SY_OP_KMEANS_ASSIGN,
          .name = name,
          .numerics_class = "exact",
          .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          .data = nullptr,
          .supports = supports,
          .estimate = estimate,
          .workspace_size = workspace<Method, kAssign>,
          .run = run<Method, kAssign>,
          .prepare = nullptr,
          .release = nullptr};
}

constexpr KernelDef kKernels[] = {
    step_kernel<FilterMethod<FloatScores>>("kmeans.step.f32_i32.filter", no_flags, filter_estimate),
#if SY_KMEANS_BYTES
    step_kernel<FilterMethod<VnniScores>>("kmeans.step.f32_i32.filter8", filters_bytes<needs_vnni>,
                                          int8_estimate),
    step_kernel<FilterMethod<TileScores>>("kmeans.step.f32_i32.filter8_amx",
                                          filters_bytes<needs_tiles>, tiles_estimate),
    step_kernel<Filter16Method>("kmeans.step.f32_i32.filter16", filters_in_pairs, pairs_estimate),
    step_kernel<Int8Method<CodeColumns<ByteProducts>>>(
        "kmeans.step.f32_i32.int8_vnni", int8_mode<needs_vnni>, int8_lanes_estimate<4>),
    step_kernel<Int8Method<ByteTiles>>("kmeans.step.f32_i32.int8_amx", int8_mode<needs_tiles>,
                                       int8_tiles_estimate),
#endif
    step_kernel<Int8Method<CodeColumns<PairProducts>>>(
        "kmeans.step.f32_i32.int8", int8_mode<needs_nothing>, int8_lanes_estimate<2>),
    step_kernel<BlocksMethod>("kmeans.step.f32_i32.boxes", few_columns, blocks_estimate<kStep>),
    assign_kernel<FilterMethod<FloatScores>>("kmeans.assign.f32_i32.filter", no_flags,
                                             filter_estimate),
#if SY_KMEANS_BYTES
    assign_kernel<FilterMethod<VnniScores>>("kmeans.assign.f32_i32.filter8",
                                            filters_bytes<needs_vnni>, int8_estimate),
    assign_kernel<FilterMethod<TileScores>>("kmeans.assign.f32_i32.filter8_amx",
                                            filters_bytes<needs_tiles>, tiles_estimate),
#endif
    assign_kernel<BlocksMethod>("kmeans.assign.f32_i32.boxes", few_columns,
                                blocks_estimate<kAssign>),
};

}  // namespace

KernelList kmeans_kernels() noexcept { return {kKernels, sizeof(kKernels) / sizeof(kKernels[0])}; }

}  // namespace SY_ISA
}  // namespace switchyard::cpu

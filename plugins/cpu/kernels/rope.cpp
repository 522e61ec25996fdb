// SPDX-License-Identifier: Apache-2.0
/// rope: sines and cosines of a position are computed once, on vectors of doubles reduced to a
/// quarter turn, and serve all heads.
#include <math.h>
#include <switchyard/ops/rope.h>

#include "rowwise.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace rope {
namespace {

using namespace rowwise;

using DD = hn::ScalableTag<double>;
using DHalf = hn::Rebind<float, DD>;
inline constexpr int64_t kDoubles = static_cast<int64_t>(hn::MaxLanes(DD()));
using VHalf = hn::Vec<DHalf>;

/// Sine and cosine of angles, to f32. x = k pi/2 + r with |r| <= pi/4, in f64; then Taylor's
/// series, whose remainder there is below 2^-27.
HWY_INLINE void sine_cosine(hn::Vec<DD> x, float *sine, float *cosine) {
  const DD dd;
  const DHalf df;
  const hn::RebindToSigned<DHalf> di;
  const auto k = hn::Round(hn::Mul(x, hn::Set(dd, 0.63661977236758134308)));
  auto r = hn::NegMulAdd(k, hn::Set(dd, 1.57079632679489655800), x);
  r = hn::NegMulAdd(k, hn::Set(dd, 6.12323399573676603587e-17), r);
  // k modulo 4, before it may leave the range of 32 bits.
  const auto turns = hn::Floor(hn::Mul(k, hn::Set(dd, 0.25)));
  const auto quarter = hn::DemoteTo(di, hn::NegMulAdd(turns, hn::Set(dd, 4.0), k));
  const VHalf a = hn::DemoteTo(df, r), b = hn::Mul(a, a);
  VHalf s = hn::MulAdd(b, hn::Set(df, 2.7557319e-6f), hn::Set(df, -1.9841270e-4f));
  s = hn::MulAdd(s, b, hn::Set(df, 8.3333333e-3f));
  s = hn::MulAdd(s, b, hn::Set(df, -1.6666667e-1f));
  s = hn::MulAdd(hn::Mul(s, b), a, a);
  VHalf c = hn::MulAdd(b, hn::Set(df, 2.4801587e-5f), hn::Set(df, -1.3888889e-3f));
  c = hn::MulAdd(c, b, hn::Set(df, 4.1666667e-2f));
  c = hn::MulAdd(c, b, hn::Set(df, -0.5f));
  c = hn::MulAdd(c, b, hn::Set(df, 1.0f));
  const auto odd = hn::RebindMask(df, hn::Eq(hn::And(quarter, hn::Set(di, 1)), hn::Set(di, 1)));
  const auto one = hn::Set(di, 1), two = hn::Set(di, 2);
  const auto s_negative = hn::RebindMask(df, hn::Eq(hn::And(quarter, two), two));
  const auto c_negative = hn::RebindMask(df, hn::Eq(hn::And(hn::Add(quarter, one), two), two));
  const VHalf s1 = hn::IfThenElse(odd, c, s), c1 = hn::IfThenElse(odd, s, c);
  hn::StoreU(hn::IfThenElse(s_negative, hn::Neg(s1), s1), df, sine);
  hn::StoreU(hn::IfThenElse(c_negative, hn::Neg(c1), c1), df, cosine);
}

struct Call {
  RowsOf x, y;
  const sy_tensor *positions;
  const sy_rope_params &params;
  int64_t heads, length, rotary, pairs;  ///< pairs: padded to whole vectors
};

Call unpack(const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_ROPE_IN_X];
  const auto &p = *static_cast<const sy_rope_params *>(call.params);
  const int64_t rotary = p.rotary == 0 ? x.shape[3] : static_cast<int64_t>(p.rotary);
  return {RowsOf(x),
          RowsOf(*call.outputs[SY_ROPE_OUT_Y]),
          call.inputs[SY_ROPE_IN_POSITIONS],
          p,
          x.shape[1],
          x.shape[2],
          rotary,
          attention::round_up64(rotary / 2, kLanes)};
}

double position_of(const Call &c, int64_t b, int64_t i) {
  if (c.positions == nullptr) return static_cast<double>(c.params.offset + i);
  int32_t at;
  memcpy(&at,
         static_cast<const char *>(c.positions->handle) + c.positions->byte_offset +
             4 * (b * c.positions->strides[0] + i * c.positions->strides[1]),
         sizeof(at));
  return at;
}

/// Turns the pairs u[j], v[j] by the angles.
HWY_INLINE void turn(float *u, float *v, const float *sine, const float *cosine, int64_t n) {
  const DF df;
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const VF a = hn::LoadU(df, u + j), b = hn::LoadU(df, v + j);
    const VF s = hn::LoadU(df, sine + j), c = hn::LoadU(df, cosine + j);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), df, u + j);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), df, v + j);
  }
  for (; j < n; ++j) {
    const float a = u[j], b = v[j];
    u[j] = a * cosine[j] - b * sine[j];
    v[j] = b * cosine[j] + a * sine[j];
  }
}

struct Scratch {
  float *sine, *cosine, *u, *v;
};

template <class T>
void turn_row(const Call &c, int64_t row, const Scratch &s) {
  const int64_t n = c.rotary / 2;
  const T *x = c.x.at<const T>(row, 0);
  T *y = c.y.at<T>(row, 0);
  const bool interleaved = c.params.style == SY_ROPE_INTERLEAVED;
  const int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : n;
  widen_row(x, step * c.x.step, n, s.u);
  widen_row(x + apart * c.x.step, step * c.x.step, n, s.v);
  turn(s.u, s.v, s.sine, s.cosine, n);
  store_row(s.u, n, y, step * c.y.step);
  store_row(s.v, n, y + apart * c.y.step, step * c.y.step);
  for (int64_t e = c.rotary; e < c.x.cols; ++e)
    memcpy(y + e * c.y.step, x + e * c.x.step, sizeof(T));
}

uint64_t scratch_bytes(const Call &c) { return static_cast<uint64_t>(c.pairs) * 4 * sizeof(float); }

uint64_t workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const uint64_t frequencies = static_cast<uint64_t>(c.pairs) * sizeof(double);
  return frequencies + scratch_bytes(c) * thread_count(ctx, call) + 64;
}

void fill_frequencies(const Call &c, const sy_tensor *given, double *out) {
  for (int64_t j = 0; j < c.pairs; ++j) {
    out[j] = 0;
    if (j >= c.rotary / 2) continue;
    out[j] = given != nullptr ? RowsOf(*given).at<const float>(0, 0)[j]
                              : pow(c.params.base,
                                    -2.0 * static_cast<double>(j) / static_cast<double>(c.rotary));
  }
}

int32_t run(const KernelDef &self, const Context &ctx, const sy_call &call, sy_error *error) {
  const Call c = unpack(call);
  if (c.x.count == 0) return SY_OK;
  if (call.workspace_size < workspace(self, ctx, call))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  auto *frequencies = static_cast<double *>(call.workspace);
  fill_frequencies(c, call.inputs[SY_ROPE_IN_FREQUENCIES], frequencies);
  auto *room = reinterpret_cast<char *>(frequencies + c.pairs);
  // A task turns all heads at a few positions of one sequence.
  const int64_t values = c.heads * c.x.cols;
  int64_t at_once = values > 0 ? kTaskValues / values : 1;
  at_once = at_once < 1 ? 1 : at_once;
  const int64_t blocks = ceil_div64(c.length, at_once);
  const int64_t batch = c.x.t->shape[0];
  auto task = [&](Worker &worker, uint64_t t) {
    const int64_t b = static_cast<int64_t>(t) / blocks;
    const int64_t first = static_cast<int64_t>(t) % blocks * at_once;
    const int64_t last = min64(first + at_once, c.length);
    auto *at = reinterpret_cast<float *>(room + worker.index * scratch_bytes(c));
    const Scratch s{at, at + c.pairs, at + 2 * c.pairs, at + 3 * c.pairs};
    const DD dd;
    for (int64_t i = first; i < last; ++i) {
      const auto position = hn::Set(dd, position_of(c, b, i) * static_cast<double>(c.params.scale));
      for (int64_t j = 0; j < c.pairs; j += kDoubles)
        sine_cosine(hn::Mul(position, hn::LoadU(dd, frequencies + j)), s.sine + j, s.cosine + j);
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t row = (b * c.heads + h) * c.length + i;
        with_type(c.x.t->dtype, [&]<class T>(T *) { turn_row<T>(c, row, s); });
      }
    }
    worker.go_on(20.0 * static_cast<double>((last - first) * values));
  };
  sy_call small = call;
  if (c.x.count * c.x.cols < kSerialValues) small.threads = 1;
  const int32_t status = run_tasks(ctx, small, static_cast<uint64_t>(batch * blocks), task);
  return status == SY_OK ? SY_OK : failure(error, status, "cancelled by the progress hook");
}

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  return inputs_in_host_memory(call, reason);
}

uint64_t estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const double angles = static_cast<double>(c.x.t->shape[0] * c.length * c.pairs);
  return time_of(ctx, call, c.x, 2, 0.25) + static_cast<uint64_t>(angles * 1.5) +
         static_cast<uint64_t>(c.rotary) * 15;
}

constexpr KernelDef kKernels[] = {{SY_OP_ROPE, "rope.any_any.positions", "rope." SY_TEXT(SY_ISA),
                                   SY_TRAIT_DETERMINISTIC, nullptr, supports, estimate, workspace,
                                   run, nullptr, nullptr}};

}  // namespace
}  // namespace rope

KernelList rope_kernels() noexcept { return {rope::kKernels, 1}; }

}  // namespace SY_ISA
}  // namespace switchyard::cpu

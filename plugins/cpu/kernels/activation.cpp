// SPDX-License-Identifier: Apache-2.0
/// swiglu and gelu on vectors.
#include <switchyard/ops/activation.h>

#include "rowwise.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace activation {
namespace {

using namespace rowwise;

constexpr int64_t kPiece = 1024;  ///< columns at once
enum Kind : int { kSwiglu, kGelu };
constexpr Kind kKinds[] = {kSwiglu, kGelu};

bool is_gelu(const KernelDef &self) { return *static_cast<const Kind *>(self.data) == kGelu; }

/// x / (1 + exp(-x)), with exp of what is not positive only.
HWY_INLINE VF silu(VF x) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  const VF e = attention::exp_nonpositive(hn::Neg(hn::Abs(x)));
  const VF top = hn::IfThenElse(hn::Lt(x, hn::Zero(df)), hn::Mul(x, e), x);
  return hn::Div(top, hn::Add(one, e));
}

/// x (1 + tanh(c (x + 0.044715 x^3))) / 2 = x sigmoid(2 c (x + 0.044715 x^3)).
HWY_INLINE VF gelu_tanh(VF x) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  const VF square = hn::Mul(x, x);
  const VF inner = hn::Mul(hn::Mul(x, hn::Set(df, 1.59576912f)),
                           hn::MulAdd(square, hn::Set(df, 0.044715f), one));
  const VF e = attention::exp_nonpositive(hn::Neg(hn::Abs(inner)));
  const VF top = hn::IfThenElse(hn::Lt(x, hn::Zero(df)), hn::Mul(x, e), x);
  return hn::Div(top, hn::Add(one, e));
}

/// x erfc(-x / sqrt(2)) / 2. With z = |x| / sqrt(2), erfc(z) is exp(-z^2) times a polynomial of
/// degree 5 in 1 / (1 + p z) (Abramowitz and Stegun 7.1.26, error 1.5e-7); 2 - erfc(z) = erfc(-z).
HWY_INLINE VF gelu_erf(VF x) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  const VF z = hn::Mul(hn::Abs(x), hn::Set(df, 0.70710678f));
  const VF t = hn::Div(one, hn::MulAdd(z, hn::Set(df, 0.3275911f), one));
  VF p = hn::MulAdd(hn::Set(df, 1.061405429f), t, hn::Set(df, -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(df, 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(df, -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(df, 0.254829592f));
  const VF tail = hn::Mul(hn::Mul(p, t), attention::exp_nonpositive(hn::Neg(hn::Mul(z, z))));
  const VF twice = hn::IfThenElse(hn::Lt(x, hn::Zero(df)), tail, hn::Sub(hn::Set(df, 2.0f), tail));
  return hn::Mul(hn::Mul(x, hn::Set(df, 0.5f)), twice);
}

/// values[i] = f(values[i], other[i]); both have room for whole vectors.
template <class F>
HWY_INLINE void map(float *values, const float *other, int64_t n, F f) {
  const DF df;
  for (int64_t i = 0; i < n; i += kLanes)
    hn::StoreU(f(hn::LoadU(df, values + i), hn::LoadU(df, other + i)), df, values + i);
}

int32_t run(const KernelDef &self, const Context &ctx, const sy_call &call, sy_error *error) {
  const bool gelu = is_gelu(self);
  const RowsOf x(*call.inputs[0]), up(*call.inputs[gelu ? 0 : SY_SWIGLU_IN_UP]),
      y(*call.outputs[SY_ACTIVATION_OUT_Y]);
  const bool tanh =
      (static_cast<const sy_activation_params *>(call.params)->flags & SY_GELU_TANH) != 0;
  return with_type(x.t->dtype, [&]<class T>(T *) {
    return for_pieces(
        ctx, call, x, kPiece, error, [&](Worker &, int64_t row, int64_t first, int64_t cols) {
          float values[kPiece], other[kPiece];
          const int64_t room = attention::round_up64(cols, kLanes);
          for (int64_t i = cols; i < room; ++i) values[i] = other[i] = 0;
          widen_row(x.at<const T>(row, first), x.step, cols, values);
          if (!gelu) {
            widen_row(up.at<const T>(row, first), up.step, cols, other);
            map(values, other, cols, [](VF v, VF u) HWY_ATTR { return hn::Mul(silu(v), u); });
          } else if (tanh) {
            map(values, values, cols, [](VF v, VF) HWY_ATTR { return gelu_tanh(v); });
          } else {
            map(values, values, cols, [](VF v, VF) HWY_ATTR { return gelu_erf(v); });
          }
          store_row(values, cols, y.at<T>(row, first), y.step);
        });
  });
}

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  return inputs_in_host_memory(call, reason);
}

uint64_t estimate(const KernelDef &self, const Context &ctx, const sy_call &call) {
  return time_of(ctx, call, RowsOf(*call.inputs[0]), is_gelu(self) ? 2 : 3, 0.5);
}

constexpr KernelDef kernel(const char *op, const char *name, const Kind *kind) {
  return {op,
          name,
          "activation." SY_TEXT(SY_ISA),
          SY_TRAIT_DETERMINISTIC,
          kind,
          supports,
          estimate,
          nullptr,
          run,
          nullptr,
          nullptr};
}
constexpr KernelDef kKernels[] = {
    kernel(SY_OP_SWIGLU, "swiglu.any_any.pieces", &kKinds[0]),
    kernel(SY_OP_GELU, "gelu.any_any.pieces", &kKinds[1]),
};

}  // namespace
}  // namespace activation

KernelList activation_kernels() noexcept {
  return {activation::kKernels, sizeof(activation::kKernels) / sizeof(activation::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu

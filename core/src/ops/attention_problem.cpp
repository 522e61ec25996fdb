// SPDX-License-Identifier: Apache-2.0
/// Generated attention problems and the one-line description of a call.
#include "ops/attention_problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/attention_plan.hpp"

namespace switchyard::attention_op {
namespace {

float mask_value(const Plan &p, std::int64_t i, std::int64_t j, Random &random) {
  const float hidden = -std::numeric_limits<float>::infinity();
  const bool is_bool = p.mask == "bool";
  const float shown = is_bool || p.pattern == "plain" ? 0.0f : 2.0f * random.normal();
  if (p.pattern == "random") return random.one_in(5) ? hidden : shown;
  if (p.pattern == "hidden") return hidden;
  if (p.pattern == "blocks") return (i / 40 + j / 96) % 2 == 0 ? 0.0f : hidden;
  if (p.pattern == "empty_rows") return i % 3 == 0 || random.one_in(4) ? hidden : shown;
  if (p.pattern == "plain") return shown;
  const bool late = j > i + p.lkv - p.lq;
  if (p.pattern == "causal") return late ? hidden : 0.0f;
  // "lowest": the least finite value, also across whole rows, which then weigh all keys alike.
  const float lowest = p.mask == "additive_f16"    ? -65504.0f
                       : p.mask == "additive_bf16" ? -3.38953139e38f
                                                   : std::numeric_limits<float>::lowest();
  return late || i % 4 == 1 ? lowest : shown;
}

Result<Tensor> make_mask(const Plan &p, Random &random) {
  const bool full = p.mask_shape == "full", keys = p.mask_shape == "keys";
  const Sizes memory{full ? p.b : 1, full ? p.hq : 1, keys ? 1 : p.lq, p.lkv};
  const DType dtype = p.mask == "bool"            ? dtypes::boolean
                      : p.mask == "additive_f16"  ? dtypes::f16
                      : p.mask == "additive_bf16" ? dtypes::bf16
                                                  : dtypes::f32;
  const Sizes strides = strides_of(
      memory, p.layout == "padded" || p.layout == "unit_stride_off" ? p.layout : "bhld", false);
  auto mask = filled(dtype, memory, strides, false,
                     [&](std::int64_t, std::int64_t, std::int64_t i, std::int64_t j) {
                       return mask_value(p, i, j, random);
                     });
  if (!mask) return mask;
  auto owner = std::make_shared<Tensor>(std::move(*mask));
  sy_tensor raw = owner->view().raw();
  const std::int64_t shape[] = {p.b, p.hq, p.lq, p.lkv};
  for (int k = 0; k < 4; ++k) {
    if (memory[static_cast<std::size_t>(k)] == 1) raw.strides[k] = 0;
    raw.shape[k] = shape[k];
  }
  return Tensor::adopt(TensorView(raw), std::move(owner));
}

Result<Tensor> make_vector(std::int64_t n, const std::function<float(std::int64_t)> &f) {
  auto t = Tensor::empty(dtypes::f32, std::array{n});
  if (t)
    for (std::int64_t i = 0; i < n; ++i) t->data<float>()[i] = f(i);
  return t;
}

Result<Tensor> make_lengths(const Plan &p, Random &random) {
  auto t = Tensor::empty(dtypes::i32, std::array{p.b});
  if (t)
    for (std::int64_t b = 0; b < p.b; ++b)
      t->data<std::int32_t>()[b] = static_cast<std::int32_t>(
          b == 1                 ? 0
          : b == 0 && p.page > 0 ? std::max<std::int64_t>(0, p.lkv - p.page / 2)
                                 : random.next() % static_cast<std::uint64_t>(p.lkv + 1));
  return t;
}

Status fill_inputs(const Plan &p, Random &random, Problem &problem) {
  const auto put = [&](std::size_t i, Result<Tensor> tensor) -> Status {
    if (!tensor) return tl::unexpected(tensor.error());
    problem.inputs[i] = std::move(*tensor);
    return {};
  };
  if (p.lens)
    if (auto ok = put(SY_ATTENTION_IN_KV_LENGTHS, make_lengths(p, random)); !ok) return ok;
  const Sizes q_shape{p.b, p.hq, p.lq, p.d};
  const float gain = p.data == "large" ? 8.0f : 1.0f;
  auto ok = put(SY_ATTENTION_IN_Q, filled(p.dtype, q_shape, strides_of(q_shape, p.layout, false),
                                          p.layout == "reversed",
                                          [&](std::int64_t, std::int64_t, std::int64_t,
                                              std::int64_t) { return gain * random.normal(); }));
  if (ok) ok = fill_keys(p, random, problem);
  if (ok && p.mask != "none") ok = put(SY_ATTENTION_IN_MASK, make_mask(p, random));
  if (ok && p.sinks)
    ok = put(SY_ATTENTION_IN_SINKS, make_vector(p.hq, [&](auto) { return random.normal(); }));
  if (ok && p.alibi)
    ok = put(SY_ATTENTION_IN_ALIBI, make_vector(p.hq, [&](std::int64_t h) {
               return std::exp2(-8.0f * static_cast<float>(h + 1) / static_cast<float>(p.hq));
             }));
  return ok;
}

std::string number(float x) { return fmt::format("{}", x); }

std::string layout_name(const View &a) {
  const sy_tensor &q = *a.q, &k = *a.k;
  const bool stored = a.params.kv_format != SY_QUANT_NONE;
  if (k.strides[1] == 0 && a.hkv > 1) return "expanded";
  if (a.dk > 1 && q.strides[3] == 0) return "zero_stride";
  if (!stored && ((a.dk > 1 && (q.strides[3] != 1 || k.strides[3] != 1)) ||
                  (a.dv > 1 && a.v->strides[3] != 1)))
    return "unit_stride_off";
  if ((a.lq > 1 && q.strides[2] < 0) || (a.lkv > 1 && k.strides[2] < 0)) return "reversed";
  if (TensorView(q).contiguous() && TensorView(k).contiguous() && TensorView(*a.v).contiguous())
    return "bhld";
  const bool positions_outside = (a.lkv > 1 && a.hkv > 1 && k.strides[2] > k.strides[1]) ||
                                 (a.lq > 1 && a.hq > 1 && q.strides[2] > q.strides[1]);
  return positions_outside ? "blhd" : "padded";
}

}  // namespace

Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) {
  auto plan = read_plan(shape);
  if (!plan) return tl::unexpected(plan.error());
  const Plan &p = *plan;
  Problem problem;
  problem.op = SY_OP_ATTENTION;
  problem.shape = shape;
  problem.seed = seed;
  const bool more = p.page > 0 || p.kv != "plain";
  problem.inputs.resize(
      static_cast<std::size_t>(more ? int{SY_ATTENTION_KV_INPUTS} : int{SY_ATTENTION_INPUTS}));
  problem.outputs.resize(SY_ATTENTION_OUTPUTS);
  const Params &given = p.params;
  const sy_attention_kv_params params = given.abi();
  // As hosts send it: the longer struct only where something of it is used.
  const bool longer = given.keep > 0 || given.gap > 0 || given.kv_format != SY_QUANT_NONE;
  if (longer) {
    problem.params.resize(sizeof(params));
    std::memcpy(problem.params.data(), &params, sizeof(params));
  } else {
    problem.set_params(params.base);
  }
  Random random(seed);
  if (auto ok = fill_inputs(p, random, problem); !ok) return tl::unexpected(ok.error());
  TensorSpec o{p.dtype, {p.b, p.hq, p.lq, p.dv}, {}}, lse{dtypes::f32, {p.b, p.hq, p.lq}, {}};
  if (p.layout == "blhd" || p.layout == "padded" || p.layout == "unit_stride_off") {
    const Sizes s = strides_of({p.b, p.hq, p.lq, p.dv}, p.layout, false);
    o.strides.assign(s.begin(), s.end());
  }
  if (p.layout == "unit_stride_off") lse.strides = {p.hq * p.lq * 2, p.lq * 2, 2};
  problem.outputs[SY_ATTENTION_OUT_O] = o;
  if (p.lse) problem.outputs[SY_ATTENTION_OUT_LSE] = lse;
  return problem;
}

Shape describe(const sy_call &call) {
  const View a = view(call);
  const Params &p = a.params;
  Shape s;
  s.set("b", a.batch).set("hq", a.hq).set("hkv", a.hkv).set("lq", a.lq).set("lkv", a.lkv);
  s.set("d", a.dk);
  if (a.dv != a.dk) s.set("dv", a.dv);
  s.set("dtype", to_string(a.q->dtype));
  if (p.causal != SY_CAUSAL_NONE) s.set("causal", std::string(kCausal[p.causal]));
  if (p.window_left >= 0 && p.window_right < 0) s.set("window", p.window_left + 1);
  if (p.window_right >= 0) {
    if (p.window_left >= 0) s.set("window_left", p.window_left);
    s.set("window_right", p.window_right);
  }
  if (p.scale != static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.dk))))
    s.set("scale", number(p.scale));
  if (p.softcap > 0) s.set("softcap", number(p.softcap));
  if (a.mask != nullptr) {
    const bool is_f32 = same(a.mask->dtype, dtypes::f32);
    s.set("mask", same(a.mask->dtype, dtypes::boolean) ? "bool"
                  : is_f32                             ? "additive"
                                                       : "additive_" + to_string(a.mask->dtype));
    if (a.mask->strides[2] == 0 && a.lq > 1)
      s.set("mask_shape", "keys");
    else if (a.mask->strides[1] != 0 && a.hq > 1)
      s.set("mask_shape", "full");
  }
  for (const auto &[name, present] :
       {std::pair{"sinks", a.sinks != nullptr}, std::pair{"alibi", a.alibi != nullptr},
        std::pair{"lens", a.lengths != nullptr}, std::pair{"lse", a.lse != nullptr}})
    if (present) s.set(name, std::int64_t{1});
  if (p.kv_format == SY_QUANT_Q8_0) s.set("kv", "q8");
  if (p.kv_format == SY_QUANT_MLX_AFFINE4) {
    const DType scales = a.k_scales->dtype;
    s.set("kv", same(scales, a.q->dtype) ? "q4" : "q4_" + to_string(scales));
    if (p.kv_group != usual_kv_group(a.dk, a.dv)) s.set("kv_group", std::int64_t{p.kv_group});
  }
  if (a.page > 0) s.set("page", a.page);
  if (p.keep > 0) s.set("keep", p.keep);
  if (p.gap > 0 && a.alibi != nullptr) s.set("gap", p.gap);
  if (const std::string layout = layout_name(a); layout != "bhld") s.set("layout", layout);
  return s;
}

}  // namespace switchyard::attention_op

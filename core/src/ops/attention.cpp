// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/tensor_checks.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard {
namespace attention_op {
namespace {

const sy_tensor *slot(const sy_tensor *const *slots, std::uint32_t count,
                      std::uint32_t index) noexcept {
  return index < count ? slots[index] : nullptr;
}

bool is_value_type(DType t) noexcept {
  return same(t, dtypes::f32) || same(t, dtypes::f16) || same(t, dtypes::bf16);
}

std::string shape_of(const sy_tensor &t) {
  return shape_text({t.shape, static_cast<std::size_t>(t.rank)});
}

Status expect(std::string_view name, const sy_tensor &t, DType dtype,
              std::initializer_list<std::int64_t> shape) {
  if (!same(t.dtype, dtype))
    return fail(ErrorCode::dtype,
                fmt::format("{} is {}; it must be {}", name, to_string(t.dtype), to_string(dtype)));
  if (!std::equal(shape.begin(), shape.end(), t.shape, t.shape + std::max(t.rank, 0)))
    return fail(ErrorCode::shape, fmt::format("{} has shape {}; it must be {}", name, shape_of(t),
                                              shape_text({shape.begin(), shape.size()})));
  return check_memory(name, t);
}

Status check_params(const sy_call &call) {
  const auto *p = static_cast<const sy_attention_params *>(call.params);
  if (p == nullptr || call.params_size < sizeof(sy_attention_params) ||
      p->struct_size < sizeof(sy_attention_params))
    return fail(ErrorCode::invalid_argument,
                "the call's params must be an sy_attention_params with struct_size set");
  if (p->causal > SY_CAUSAL_BOTTOM_RIGHT)
    return fail(ErrorCode::invalid_argument, fmt::format("causal is {}; it must be 0 (none), 1 "
                                                         "(top-left) or 2 (bottom-right)",
                                                         p->causal));
  if (!std::isfinite(p->scale))
    return fail(ErrorCode::invalid_argument,
                fmt::format("scale is {}; it must be finite", p->scale));
  if (!std::isfinite(p->softcap) || p->softcap < 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("softcap is {}; it must be above 0, or 0 for none", p->softcap));
  if (p->flags != 0)
    return fail(ErrorCode::invalid_argument, "unknown flags in the params of attention");
  return {};
}

Status check_main(const View &a) {
  for (const auto &[name, t] : {std::pair{"q", a.q}, std::pair{"k", a.k}, std::pair{"v", a.v}}) {
    if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
    if (t->rank != 4)
      return fail(ErrorCode::shape,
                  fmt::format("{} has shape {}; it must be [batch, heads, length, head_dim]", name,
                              t->rank < 0 ? std::string("?") : shape_of(*t)));
    if (!is_value_type(t->dtype))
      return fail(ErrorCode::dtype,
                  fmt::format("{} is {}; it must be f32, f16 or bf16", name, to_string(t->dtype)));
    if (!same(t->dtype, a.q->dtype))
      return fail(ErrorCode::dtype, fmt::format("{} is {} but q is {}; they must be equal", name,
                                                to_string(t->dtype), to_string(a.q->dtype)));
    if (auto ok = check_memory(name, *t); !ok) return ok;
  }
  const sy_tensor &q = *a.q, &k = *a.k, &v = *a.v;
  if (k.shape[0] != q.shape[0] || v.shape[0] != q.shape[0])
    return fail(ErrorCode::shape, fmt::format("q, k and v have {}, {} and {} sequences; they must "
                                              "agree",
                                              q.shape[0], k.shape[0], v.shape[0]));
  if (v.shape[1] != k.shape[1] || v.shape[2] != k.shape[2])
    return fail(ErrorCode::shape, fmt::format("k is {} and v is {}; heads and length must agree",
                                              shape_of(k), shape_of(v)));
  if (k.shape[1] == 0 ? q.shape[1] != 0 : q.shape[1] % k.shape[1] != 0)
    return fail(ErrorCode::shape,
                fmt::format("q has {} heads and k has {}; the first must be a multiple of the "
                            "second",
                            q.shape[1], k.shape[1]));
  if (q.shape[3] != k.shape[3] || q.shape[3] == 0)
    return fail(ErrorCode::shape, fmt::format("q and k have head dimensions {} and {}; they must "
                                              "agree and be at least 1",
                                              q.shape[3], k.shape[3]));
  if (v.shape[3] == 0) return fail(ErrorCode::shape, "v has head dimension 0");
  return {};
}

Status check_optional(const View &a) {
  if (a.mask != nullptr) {
    const bool known = is_value_type(a.mask->dtype) || same(a.mask->dtype, dtypes::boolean);
    if (!known)
      return fail(ErrorCode::dtype, fmt::format("mask is {}; it must be bool, f32, f16 or bf16",
                                                to_string(a.mask->dtype)));
    if (auto ok = expect("mask", *a.mask, a.mask->dtype, {a.batch, a.hq, a.lq, a.lkv}); !ok)
      return ok;
  }
  if (a.sinks != nullptr)
    if (auto ok = expect("sinks", *a.sinks, dtypes::f32, {a.hq}); !ok) return ok;
  if (a.alibi != nullptr)
    if (auto ok = expect("alibi", *a.alibi, dtypes::f32, {a.hq}); !ok) return ok;
  if (a.lengths == nullptr) return {};
  if (auto ok = expect("kv_lengths", *a.lengths, dtypes::i32, {a.batch}); !ok) return ok;
  if (a.lengths->handle == nullptr || a.lengths->device_kind != SY_DEVICE_HOST) return {};
  for (std::int64_t b = 0; b < a.batch; ++b)
    if (const auto n = at<const std::int32_t>(*a.lengths, b); n < 0 || n > a.lkv)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("kv_lengths[{}] is {}; it must be 0 to {}", b, n, a.lkv));
  return {};
}

Status check_output(std::string_view name, const sy_tensor &t, DType dtype,
                    std::initializer_list<std::int64_t> shape) {
  if (auto ok = expect(name, t, dtype, shape); !ok) return ok;
  if ((t.flags & SY_TENSOR_READ_ONLY) != 0)
    return fail(ErrorCode::invalid_argument, fmt::format("{} is read-only", name));
  if (may_overlap(t))
    return fail(ErrorCode::shape,
                fmt::format("{} has strides that make its elements overlap", name));
  return {};
}

}  // namespace

View view(const sy_call &call) noexcept {
  const auto in = [&](std::uint32_t i) { return slot(call.inputs, call.n_inputs, i); };
  View a{in(SY_ATTENTION_IN_Q),
         in(SY_ATTENTION_IN_K),
         in(SY_ATTENTION_IN_V),
         in(SY_ATTENTION_IN_MASK),
         in(SY_ATTENTION_IN_SINKS),
         in(SY_ATTENTION_IN_ALIBI),
         in(SY_ATTENTION_IN_KV_LENGTHS),
         slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_O),
         slot(call.outputs, call.n_outputs, SY_ATTENTION_OUT_LSE),
         static_cast<const sy_attention_params *>(call.params),
         0,
         0,
         0,
         0,
         0,
         0,
         0};
  if (a.q != nullptr) {
    a.batch = a.q->shape[0];
    a.hq = a.q->shape[1];
    a.lq = a.q->shape[2];
    a.dk = a.q->shape[3];
  }
  if (a.k != nullptr) {
    a.hkv = a.k->shape[1];
    a.lkv = a.k->shape[2];
  }
  if (a.v != nullptr) a.dv = a.v->shape[3];
  return a;
}

std::int64_t View::keys(std::int64_t b) const noexcept {
  if (lengths == nullptr || lengths->handle == nullptr) return lkv;
  return std::clamp<std::int64_t>(at<const std::int32_t>(*lengths, b), 0, lkv);
}

namespace {

constexpr std::int64_t kUnlimited = std::int64_t{1} << 40;  // hides nothing, sums stay small

std::int64_t window(std::int64_t side) noexcept {
  return side < 0 ? kUnlimited : std::min(side, kUnlimited);
}
std::int64_t right_side(const View &a) noexcept {
  return a.params->causal != SY_CAUSAL_NONE ? 0 : window(a.params->window_right);
}
std::int64_t offset(const View &a, std::int64_t keys) noexcept {
  return a.params->causal == SY_CAUSAL_TOP_LEFT ? 0 : keys - a.lq;
}

/// sum over 0 <= i < n of clamp(i + c, 0, limit).
double clamped_sum(double n, double c, double limit) noexcept {
  const double first = std::clamp(-c, 0.0, n);          // below: 0
  const double full = std::clamp(limit - c, first, n);  // from here: limit
  const double rising = full - first;
  return rising * (first + c) + rising * (rising - 1) / 2 + (n - full) * limit;
}

}  // namespace

Span visible(const View &a, std::int64_t b, std::int64_t i) noexcept {
  const std::int64_t keys = a.keys(b), position = i + offset(a, keys);
  return {std::max<std::int64_t>(0, position - window(a.params->window_left)),
          std::min(keys, position + right_side(a) + 1)};
}

double visible_pairs(const View &a, std::int64_t keys) noexcept {
  const auto n = static_cast<double>(a.lq), limit = static_cast<double>(keys);
  const auto o = static_cast<double>(offset(a, keys));
  const double ends = clamped_sum(n, o + static_cast<double>(right_side(a)) + 1, limit);
  return ends - clamped_sum(n, o - static_cast<double>(window(a.params->window_left)), limit);
}

Status validate(const sy_call &call) {
  if (auto ok = check_params(call); !ok) return ok;
  const View a = view(call);
  if (auto ok = check_main(a); !ok) return ok;
  if (auto ok = check_optional(a); !ok) return ok;
  if (a.o == nullptr) return fail(ErrorCode::invalid_argument, "the output o is missing");
  if (auto ok = check_output("o", *a.o, a.q->dtype, {a.batch, a.hq, a.lq, a.dv}); !ok) return ok;
  if (a.lse == nullptr) return {};
  return check_output("lse", *a.lse, dtypes::f32, {a.batch, a.hq, a.lq});
}

namespace {

std::uint64_t mask_class(const sy_tensor *mask) noexcept {
  if (mask == nullptr) return 0;
  const std::uint64_t type = same(mask->dtype, dtypes::boolean) ? 1 : 2;
  return type * 2 + (mask->strides[1] == 0 ? 1 : 0);
}

double bytes_of(const sy_tensor *t) noexcept {
  if (t == nullptr) return 0;
  double n = t->dtype.bits / 8;
  for (int k = 0; k < t->rank; ++k)
    if (t->strides[k] != 0 || t->shape[k] == 0) n *= static_cast<double>(t->shape[k]);
  return n;
}

class Attention final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_ATTENTION; }
  Status validate(const sy_call &call) const override { return attention_op::validate(call); }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const View a = view(call);
    builder.dtype(a.q->dtype).size(a.batch * a.hq).size(a.lq).size(a.lkv).size(a.dk).size(a.dv);
    builder.size(a.group())
        .add(a.params->causal, 2)
        .add(a.params->softcap > 0, 1)
        .add(mask_class(a.mask), 3)
        .add(a.sinks != nullptr, 1)
        .add(a.alibi != nullptr, 1)
        .add(a.lengths != nullptr, 1)
        .add(a.lse != nullptr, 1);
    builder.size(a.params->window_left < 0 ? 0 : a.params->window_left + 1)
        .size(a.params->window_right < 0 ? 0 : a.params->window_right + 1);
    for (const sy_tensor *t : {a.q, a.k, a.v, a.o})
      builder.layout(t).add(t->strides[3] == 1 || t->shape[3] == 1, 1);
  }

  Shape describe(const sy_call &call) const override { return attention_op::describe(call); }
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    return attention_op::make_problem(shape, seed);
  }
  std::vector<Shape> conformance_shapes() const override {
    return attention_op::conformance_shapes();
  }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return attention_op::gate_shapes(like);
  }
  std::optional<std::string> compare(const Problem &problem, const sy_call &got,
                                     const sy_call &want,
                                     const ReferenceRunner &reference) const override {
    return attention_op::compare(problem, got, want, reference);
  }

  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    return attention_op::spot_check(*this, done, pick, reference);
  }

  Work work(const sy_call &call) const noexcept override {
    const View a = view(call);
    double pairs = 0;
    if (a.lengths == nullptr)
      pairs = static_cast<double>(a.batch) * visible_pairs(a, a.lkv);
    else
      for (std::int64_t b = 0; b < a.batch; ++b) pairs += visible_pairs(a, a.keys(b));
    Work w;
    w.flops = 2.0 * static_cast<double>(a.dk + a.dv) * pairs * static_cast<double>(a.hq);
    for (const sy_tensor *t : {a.q, a.k, a.v, a.mask, a.o, a.lse}) w.bytes += bytes_of(t);
    return w;
  }
};

}  // namespace
}  // namespace attention_op

const OpSpec &attention_spec() noexcept {
  static const attention_op::Attention spec;
  return spec;
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
/// Is an attention call one that kernels may trust?
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/tensor_checks.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {
namespace {

bool is_value_type(DType t) noexcept {
  return same(t, dtypes::f32) || same(t, dtypes::f16) || same(t, dtypes::bf16);
}

std::string shape_of(const sy_tensor &t) {
  return t.rank < 0 ? std::string("?") : shape_text({t.shape, static_cast<std::size_t>(t.rank)});
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
  const auto *given = static_cast<const sy_attention_params *>(call.params);
  if (given == nullptr || call.params_size < sizeof(sy_attention_params) ||
      given->struct_size < sizeof(sy_attention_params) ||
      call.params_size < std::min<std::size_t>(given->struct_size, sizeof(sy_attention_kv_params)))
    return fail(ErrorCode::invalid_argument,
                "the call's params must be an sy_attention_params with struct_size set");
  const Params p = params_of(call);
  if (p.causal > SY_CAUSAL_BOTTOM_RIGHT)
    return fail(ErrorCode::invalid_argument, fmt::format("causal is {}; it must be 0 (none), 1 "
                                                         "(top-left) or 2 (bottom-right)",
                                                         p.causal));
  if (!std::isfinite(p.scale))
    return fail(ErrorCode::invalid_argument,
                fmt::format("scale is {}; it must be finite", p.scale));
  if (!std::isfinite(p.softcap) || p.softcap < 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("softcap is {}; it must be above 0, or 0 for none", p.softcap));
  if (p.flags != 0)
    return fail(ErrorCode::invalid_argument, "unknown flags in the params of attention");
  if (p.keep < 0 || p.gap < 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("keep is {} and gap {}; neither may be below 0", p.keep, p.gap));
  const bool affine = p.kv_format == SY_QUANT_MLX_AFFINE4;
  if (p.kv_format != SY_QUANT_NONE && p.kv_format != SY_QUANT_Q8_0 && !affine)
    return fail(ErrorCode::invalid_argument,
                fmt::format("kv_format is {}; keys and values may be plain, q8_0 or mlx_affine4",
                            p.kv_format));
  if (affine ? p.kv_group != 32 && p.kv_group != 64 : p.kv_group != 0)
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("kv_group is {}; it must be 32 or 64 for mlx_affine4, else 0", p.kv_group));
  return {};
}

/// One of k and v, whose rows hold `dim` values.
Status check_side(const View &a, std::string_view name, const sy_tensor &t, std::int64_t dim) {
  const Params &p = a.params;
  if (p.kv_format == SY_QUANT_NONE) {
    if (!is_value_type(t.dtype))
      return fail(ErrorCode::dtype,
                  fmt::format("{} is {}; it must be f32, f16 or bf16", name, to_string(t.dtype)));
    if (!same(t.dtype, a.q->dtype))
      return fail(ErrorCode::dtype, fmt::format("{} is {} but q is {}; they must be equal", name,
                                                to_string(t.dtype), to_string(a.q->dtype)));
    return {};
  }
  const bool q8 = p.kv_format == SY_QUANT_Q8_0;
  const std::int64_t unit = q8 ? 32 : p.kv_group;
  if (dim % unit != 0)
    return fail(ErrorCode::shape, fmt::format("rows of {} hold {} values; quantised ones must hold "
                                              "a multiple of {}",
                                              name, dim, unit));
  const std::int64_t row = q8 ? dim / 32 * 34 : dim / 8;
  if (auto ok =
          expect(name, t, q8 ? dtypes::u8 : dtypes::u32, {t.shape[0], t.shape[1], t.shape[2], row});
      !ok)
    return ok;
  if (row > 1 && t.strides[3] != 1)
    return fail(ErrorCode::shape,
                fmt::format("quantised {} must be contiguous in the last dimension", name));
  return {};
}

/// Scales and biases of one of k and v.
Status check_scales(const View &a, std::string_view name, const sy_tensor &codes, std::int64_t dim,
                    const sy_tensor *scales, const sy_tensor *biases) {
  const bool wanted = a.params.kv_format == SY_QUANT_MLX_AFFINE4;
  if (!wanted) {
    if (scales == nullptr && biases == nullptr) return {};
    return fail(ErrorCode::invalid_argument,
                fmt::format("scales or biases of {} are given, but kv_format has none", name));
  }
  for (const sy_tensor *t : {scales, biases}) {
    const std::string what = fmt::format("{} of {}", t == scales ? "scales" : "biases", name);
    if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} are missing", what));
    if (!is_value_type(t->dtype) || !same(t->dtype, a.k_scales->dtype))
      return fail(ErrorCode::dtype, fmt::format("{} are {}; all must be f32, all f16 or all bf16",
                                                what, to_string(t->dtype)));
    const std::int64_t groups = dim / a.params.kv_group;
    if (auto ok =
            expect(what, *t, t->dtype, {codes.shape[0], codes.shape[1], codes.shape[2], groups});
        !ok)
      return ok;
    if (groups > 1 && t->strides[3] != 1)
      return fail(ErrorCode::shape,
                  fmt::format("{} must be contiguous in the last dimension", what));
  }
  return {};
}

Status check_main(const View &a) {
  for (const auto &[name, t] : {std::pair{"q", a.q}, std::pair{"k", a.k}, std::pair{"v", a.v}}) {
    if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
    if (t->rank != 4)
      return fail(ErrorCode::shape,
                  fmt::format("{} has shape {}; it must be [batch, heads, length, head_dim]", name,
                              shape_of(*t)));
    if (auto ok = check_memory(name, *t); !ok) return ok;
  }
  const sy_tensor &q = *a.q, &k = *a.k, &v = *a.v;
  if (!is_value_type(q.dtype))
    return fail(ErrorCode::dtype,
                fmt::format("q is {}; it must be f32, f16 or bf16", to_string(q.dtype)));
  if (auto ok = check_side(a, "k", k, a.dk); !ok) return ok;
  if (auto ok = check_side(a, "v", v, a.dv); !ok) return ok;
  if (a.table == nullptr && (k.shape[0] != q.shape[0] || v.shape[0] != q.shape[0]))
    return fail(ErrorCode::shape, fmt::format("q, k and v have {}, {} and {} sequences; they must "
                                              "agree",
                                              q.shape[0], k.shape[0], v.shape[0]));
  if (v.shape[0] != k.shape[0] || v.shape[1] != k.shape[1] || v.shape[2] != k.shape[2])
    return fail(ErrorCode::shape, fmt::format("k is {} and v is {}; heads and length must agree",
                                              shape_of(k), shape_of(v)));
  if (k.shape[1] == 0 ? q.shape[1] != 0 : q.shape[1] % k.shape[1] != 0)
    return fail(ErrorCode::shape,
                fmt::format("q has {} heads and k has {}; the first must be a multiple of the "
                            "second",
                            q.shape[1], k.shape[1]));
  if ((a.params.kv_format == SY_QUANT_NONE && q.shape[3] != k.shape[3]) || q.shape[3] == 0)
    return fail(ErrorCode::shape, fmt::format("q and k have head dimensions {} and {}; they must "
                                              "agree and be at least 1",
                                              q.shape[3], k.shape[3]));
  if (a.dv == 0) return fail(ErrorCode::shape, "v has head dimension 0");
  if (auto ok = check_scales(a, "k", k, a.dk, a.k_scales, a.k_biases); !ok) return ok;
  return check_scales(a, "v", v, a.dv, a.v_scales, a.v_biases);
}

bool readable(const sy_tensor &t) noexcept {
  return t.handle != nullptr && t.device_kind == SY_DEVICE_HOST;
}

Status check_lengths(const View &a) {
  if (a.lengths == nullptr) return {};
  if (auto ok = expect("kv_lengths", *a.lengths, dtypes::i32, {a.batch}); !ok) return ok;
  if (!readable(*a.lengths)) return {};
  for (std::int64_t b = 0; b < a.batch; ++b)
    if (const auto n = at<const std::int32_t>(*a.lengths, b); n < 0 || n > a.lkv)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("kv_lengths[{}] is {}; it must be 0 to {}", b, n, a.lkv));
  return {};
}

Status check_table(const View &a) {
  if (a.table == nullptr) return {};
  if (a.table->rank != 2)
    return fail(ErrorCode::shape, fmt::format("block_table has shape {}; it must be [batch, pages "
                                              "of a sequence]",
                                              shape_of(*a.table)));
  if (auto ok = expect("block_table", *a.table, dtypes::i32, {a.batch, a.table->shape[1]}); !ok)
    return ok;
  if (a.lengths == nullptr)
    return fail(ErrorCode::invalid_argument, "a block_table needs kv_lengths beside it");
  if (a.page == 0) return fail(ErrorCode::shape, "pages of 0 keys");
  if (a.table->shape[1] > INT32_MAX / a.page)
    return fail(ErrorCode::shape, "block_table describes more than 2^31 keys");
  if (!readable(*a.table) || !readable(*a.lengths)) return {};
  for (std::int64_t b = 0; b < a.batch; ++b)
    for (std::int64_t m = 0; m * a.page < a.keys(b); ++m)
      if (const auto page = a.table_entry(b, m); page < 0 || page >= a.k->shape[0])
        return fail(ErrorCode::invalid_argument,
                    fmt::format("block_table[{}, {}] is {}; k and v have {} pages", b, m, page,
                                a.k->shape[0]));
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
  if (auto ok = check_lengths(a); !ok) return ok;
  return check_table(a);
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

}  // namespace switchyard::attention_op

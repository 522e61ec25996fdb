// SPDX-License-Identifier: Apache-2.0
/// Checking, keying, describing and comparing k-means calls; kmeans_data.cpp generates problems.
#include "ops/kmeans_problem.hpp"

#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>

#include <array>
#include <cmath>
#include <cstddef>

#include "base/checked.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::string_view kInputNames[] = {"x", "centroids", "weights", "shifts",
                                            "previous labels"};
constexpr std::string_view kStepOutputNames[] = {"labels",  "sums",    "counts",   "weight totals",
                                                 "inertia", "changed", "distances"};
constexpr std::string_view kAssignOutputNames[] = {"labels", "distances", "inertia"};

std::string_view op_id(Primitive op) noexcept {
  return op == Primitive::step ? SY_OP_KMEANS_STEP : SY_OP_KMEANS_ASSIGN;
}

const sy_tensor *in(const sy_call &call, std::size_t slot) noexcept {
  return slot < call.n_inputs ? call.inputs[slot] : nullptr;
}
const sy_tensor *out(const sy_call &call, std::size_t slot) noexcept {
  return slot < call.n_outputs ? call.outputs[slot] : nullptr;
}

bool int8(const sy_call &call) noexcept {
  const auto *p = static_cast<const sy_kmeans_params *>(call.params);
  return p != nullptr && (p->flags & SY_KMEANS_INT8) != 0;
}

bool contiguous(const sy_tensor &t) noexcept {
  std::int64_t step = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.strides[i] != step) return false;
    step *= t.shape[i];
  }
  return true;
}

std::span<const std::int64_t> shape_of(const sy_tensor &t) noexcept {
  return {t.shape, static_cast<std::size_t>(t.rank)};
}

}  // namespace

Status check_tensor(std::string_view op, std::string_view name, const sy_tensor *t, DType dtype,
                    std::span<const std::int64_t> shape, bool required) {
  if (t == nullptr) {
    if (!required) return {};
    return fail(ErrorCode::invalid_argument, fmt::format("{}: {} is missing", op, name));
  }
  if (!same(t->dtype, dtype))
    return fail(ErrorCode::dtype, fmt::format("{}: {} is {}; it must be {}", op, name,
                                              to_string(t->dtype), to_string(dtype)));
  if (!std::ranges::equal(shape_of(*t), shape))
    return fail(ErrorCode::shape, fmt::format("{}: {} has shape {}; it must be {}", op, name,
                                              shape_text(shape_of(*t)), shape_text(shape)));
  if (!contiguous(*t))
    return fail(ErrorCode::shape, fmt::format("{}: {} must be contiguous", op, name));
  return {};
}

Status check_x(std::string_view op, const sy_tensor *x) {
  if (x == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{}: x is missing", op));
  if (!same(x->dtype, dtypes::f32))
    return fail(ErrorCode::dtype,
                fmt::format("{}: x is {}; it must be f32", op, to_string(x->dtype)));
  if (x->rank != 2 || x->shape[0] < 1 || x->shape[1] < 1)
    return fail(ErrorCode::shape, fmt::format("{}: x has shape {}; it must be [n, d], n and d >= 1",
                                              op, shape_text(shape_of(*x))));
  if (x->shape[1] > 1 && x->strides[1] != 1)
    return fail(ErrorCode::shape,
                fmt::format("{}: the elements of a row of x must be adjacent", op));
  if (x->shape[0] > INT64_MAX / 2 / x->shape[1])
    return fail(ErrorCode::overflow, fmt::format("{}: x is too large", op));
  return {};
}

std::optional<std::string> differ(std::string_view name, const sy_tensor *got,
                                  const sy_tensor *want) {
  if (got == nullptr || want == nullptr) return std::nullopt;
  const auto *a = TensorView(*got).data<std::byte>(), *b = TensorView(*want).data<std::byte>();
  const std::size_t unit = size_of(want->dtype);
  const auto count = static_cast<std::size_t>(TensorView(*want).elements());
  if (std::memcmp(a, b, count * unit) == 0) return std::nullopt;
  std::size_t at = 0;
  while (std::memcmp(a + at * unit, b + at * unit, unit) == 0) ++at;
  const auto text = [&](const std::byte *p) {
    const auto read = [&]<class T>(T value) {
      std::memcpy(&value, p + at * unit, sizeof value);
      return fmt::format("{}", value);
    };
    if (want->dtype.code == SY_TYPE_FLOAT) return unit == 4 ? read(0.0f) : read(0.0);
    return unit == 4 ? read(std::int32_t{}) : read(std::int64_t{});
  };
  return fmt::format("{}: element {} is {}; the reference says {}", name, at, text(a), text(b));
}

namespace {

Status check_step(const sy_call &call, std::int64_t n, std::int64_t d, std::int64_t k) {
  const auto op = Primitive::step;
  const bool weighted = in(call, SY_KMEANS_IN_WEIGHTS) != nullptr;
  const std::array rows{n}, columns{d}, clusters{k}, one{std::int64_t{1}},
      blocks{ceil_div(n, SY_KMEANS_INERTIA_BLOCK)};
  const std::array cells{k, d};
  struct Item {
    const sy_tensor *tensor;
    std::string_view name;
    DType dtype;
    std::span<const std::int64_t> shape;
    bool required;
  };
  const auto output = [&](int slot, DType dtype, std::span<const std::int64_t> shape,
                          bool required) {
    return Item{out(call, static_cast<std::size_t>(slot)), kStepOutputNames[slot], dtype, shape,
                required};
  };
  const Item items[] = {
      {in(call, SY_KMEANS_IN_SHIFTS), kInputNames[3], dtypes::i32, columns, true},
      {in(call, SY_KMEANS_IN_PREVIOUS_LABELS), kInputNames[4], dtypes::i32, rows, false},
      output(SY_KMEANS_STEP_OUT_LABELS, dtypes::i32, rows, true),
      output(SY_KMEANS_STEP_OUT_SUMS, dtypes::i64, cells, true),
      output(SY_KMEANS_STEP_OUT_COUNTS, dtypes::i64, clusters, true),
      output(SY_KMEANS_STEP_OUT_WEIGHTS, dtypes::i64, clusters, weighted),
      output(SY_KMEANS_STEP_OUT_INERTIA_PARTIALS, dtypes::f64, blocks, true),
      output(SY_KMEANS_STEP_OUT_CHANGED, dtypes::i64, one, true),
      output(SY_KMEANS_STEP_OUT_DISTANCES, dtypes::f32, rows, false),
  };
  for (const Item &i : items)
    if (auto s = check_tensor(op_id(op), i.name, i.tensor, i.dtype, i.shape, i.required); !s)
      return s;
  if (!weighted && out(call, SY_KMEANS_STEP_OUT_WEIGHTS) != nullptr)
    return fail(ErrorCode::invalid_argument,
                "kmeans.step: weight totals are wanted but there are no weights");
  return {};
}

Status check_assign(const sy_call &call, std::int64_t n) {
  const std::array rows{n}, blocks{ceil_div(n, SY_KMEANS_INERTIA_BLOCK)};
  const DType dtype[] = {dtypes::i32, dtypes::f32, dtypes::f64};
  bool any = false;
  for (std::size_t slot = 0; slot < SY_KMEANS_ASSIGN_OUTPUTS; ++slot) {
    const auto *t = out(call, slot);
    any |= t != nullptr;
    const std::span<const std::int64_t> shape =
        slot == SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS ? blocks : rows;
    if (auto s = check_tensor(op_id(Primitive::assign), kAssignOutputNames[slot], t, dtype[slot],
                              shape, false);
        !s)
      return s;
  }
  if (any) return {};
  return fail(ErrorCode::invalid_argument, "kmeans.assign: no output is wanted");
}

}  // namespace

Status validate(Primitive op, const sy_call &call) {
  const auto *x = in(call, SY_KMEANS_IN_X), *c = in(call, SY_KMEANS_IN_CENTROIDS);
  if (auto s = check_x(op_id(op), x); !s) return s;
  const std::int64_t n = x->shape[0], d = x->shape[1];
  const std::int64_t k = c != nullptr && c->rank == 2 ? c->shape[0] : 1;
  if (auto s = check_tensor(op_id(op), kInputNames[1], c, dtypes::f32, std::array{k, d}, true); !s)
    return s;
  if (k < 1 || k > INT32_MAX)
    return fail(ErrorCode::shape,
                fmt::format("{}: {} centroids; 1 to {} are allowed", op_id(op), k, INT32_MAX));
  if (auto s = check_tensor(op_id(op), kInputNames[2], in(call, SY_KMEANS_IN_WEIGHTS), dtypes::f32,
                            std::array{n}, false);
      !s)
    return s;
  const auto *p = static_cast<const sy_kmeans_params *>(call.params);
  constexpr std::size_t kFirstVersion = offsetof(sy_kmeans_params, largest);
  if (p == nullptr || call.params_size < kFirstVersion || p->struct_size < kFirstVersion)
    return fail(ErrorCode::invalid_argument, fmt::format("{}: parameters are missing", op_id(op)));
  const std::uint32_t known = op == Primitive::step ? SY_KMEANS_INT8 : 0;
  if ((p->flags & ~known) != 0)
    return fail(ErrorCode::unsupported,
                fmt::format("{}: flags {:#x} are not known", op_id(op), p->flags & ~known));
  if ((p->flags & SY_KMEANS_INT8) != 0) {
    if (call.params_size < sizeof(*p) || p->struct_size < sizeof(*p))
      return fail(ErrorCode::invalid_argument,
                  fmt::format("{}: the 8-bit mode needs `largest`", op_id(op)));
    if (!std::isfinite(p->largest) || p->largest < 0)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("{}: largest is {}; it must be finite and not negative", op_id(op),
                              p->largest));
  }
  for (std::uint32_t i = 0; i < call.n_inputs + call.n_outputs; ++i) {
    const auto *t = i < call.n_inputs ? call.inputs[i] : call.outputs[i - call.n_inputs];
    if (t != nullptr && t->device_kind != SY_DEVICE_HOST)
      return fail(ErrorCode::unsupported,
                  fmt::format("{}: all tensors must be in host memory", op_id(op)));
  }
  return op == Primitive::step ? check_step(call, n, d, k) : check_assign(call, n);
}

void key(Primitive op, const sy_call &call, KeyBuilder &builder) noexcept {
  const auto *x = in(call, SY_KMEANS_IN_X), *c = in(call, SY_KMEANS_IN_CENTROIDS);
  builder.size(x->shape[0]).size(x->shape[1]).size(c->shape[0]).dtype(x->dtype).layout(x);
  builder.add(in(call, SY_KMEANS_IN_WEIGHTS) != nullptr, 1);
  const std::size_t slots =
      op == Primitive::step ? std::size(kStepOutputNames) : std::size(kAssignOutputNames);
  if (op == Primitive::step)
    builder.add(in(call, SY_KMEANS_IN_PREVIOUS_LABELS) != nullptr, 1).add(int8(call), 1);
  for (std::size_t i = 0; i < slots; ++i) builder.add(out(call, i) != nullptr, 1);
}

Shape describe_rows(const sy_tensor &x, std::int64_t k, bool weighted) {
  Shape shape;
  shape.set("n", x.shape[0]).set("d", x.shape[1]).set("k", k).set("dtype", "f32");
  if (weighted) shape.set("weighted", 1);
  const std::int64_t pad = x.strides[0] - x.shape[1];
  if (x.shape[0] > 1 && pad > 0) shape.set("pad", std::min<std::int64_t>(pad, 4096));
  const auto address = reinterpret_cast<std::uintptr_t>(x.handle) + x.byte_offset;
  if (address % 64 != 0) shape.set("misalign", static_cast<std::int64_t>(address % 64 / 4));
  return shape;
}

Shape describe(Primitive op, const sy_call &call) {
  const auto *x = in(call, SY_KMEANS_IN_X), *c = in(call, SY_KMEANS_IN_CENTROIDS);
  Shape shape = describe_rows(*x, c->shape[0], in(call, SY_KMEANS_IN_WEIGHTS) != nullptr);
  const auto flag = [&](std::string_view name, bool value, bool fallback) {
    if (value != fallback) shape.set(name, value ? 1 : 0);
  };
  if (op == Primitive::step) {
    flag("previous", in(call, SY_KMEANS_IN_PREVIOUS_LABELS) != nullptr, false);
    flag("distances", out(call, SY_KMEANS_STEP_OUT_DISTANCES) != nullptr, false);
    flag("int8", int8(call), false);
  } else {
    flag("labels", out(call, SY_KMEANS_ASSIGN_OUT_LABELS) != nullptr, true);
    flag("distances", out(call, SY_KMEANS_ASSIGN_OUT_DISTANCES) != nullptr, false);
    flag("inertia", out(call, SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS) != nullptr, false);
  }
  return shape;
}

std::optional<std::string> compare(Primitive op, const sy_call &got, const sy_call &want) {
  const std::span<const std::string_view> names =
      op == Primitive::step ? std::span<const std::string_view>(kStepOutputNames)
                            : std::span<const std::string_view>(kAssignOutputNames);
  for (std::size_t slot = 0; slot < names.size(); ++slot)
    if (auto text = differ(names[slot], out(got, slot), out(want, slot))) return text;
  return std::nullopt;
}

Work work(Primitive op, const sy_call &call) noexcept {
  const auto *x = in(call, SY_KMEANS_IN_X), *c = in(call, SY_KMEANS_IN_CENTROIDS);
  const auto n = static_cast<double>(x->shape[0]), d = static_cast<double>(x->shape[1]),
             k = static_cast<double>(c->shape[0]);
  Work w{2 * n * d * k, 4 * (n * d + k * d)};
  const auto add = [&](std::uint32_t count, const sy_tensor *const *tensors, std::uint32_t from) {
    for (std::uint32_t i = from; i < count; ++i)
      if (tensors[i] != nullptr)
        w.bytes += static_cast<double>(TensorView(*tensors[i]).elements()) *
                   static_cast<double>(size_of(tensors[i]->dtype));
  };
  add(call.n_inputs, call.inputs, SY_KMEANS_IN_WEIGHTS);
  add(call.n_outputs, call.outputs, 0);
  if (op == Primitive::step) w.flops += n * d;  // the sums
  return w;
}

}  // namespace switchyard::kmeans

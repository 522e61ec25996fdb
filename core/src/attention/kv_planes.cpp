// SPDX-License-Identifier: Apache-2.0
#include "attention/kv_planes.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "base/checked.hpp"
#include "base/tensor_checks.hpp"
#include "io/cast.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {
namespace {

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1 << 20) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

Status check_side(std::string_view name, const TensorView &t, const KVCacheOptions &o,
                  std::int64_t dim) {
  if (!t.present()) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (t.rank() != 4 || t.dim(0) != o.batch || t.dim(1) != o.kv_heads || t.dim(3) != dim)
    return fail(ErrorCode::shape,
                fmt::format("{} has shape {}; this cache takes [{}, {}, n, {}]", name,
                            shape_text(t.shape()), o.batch, o.kv_heads, dim));
  if (!same(t.dtype(), o.dtype))
    return fail(ErrorCode::dtype, fmt::format("{} is {}; this cache takes {}", name,
                                              to_string(t.dtype()), to_string(o.dtype)));
  return check_memory(name, t.raw());
}

/// One of k and v as codes, scales and biases.
Result<Quantized> quantized(Runner &runner, const KVGeometry &geometry, std::string_view name,
                            const TensorView &x) {
  Tensor copy;
  TensorView in = x;
  if (x.dim(3) > 1 && x.stride(3) != 1) {
    auto made = contiguous_copy(x);
    if (!made) return tl::unexpected(made.error());
    copy = std::move(*made);
    in = copy.view();
  }
  QuantizeOptions options;
  options.format = geometry.format == SY_QUANT_Q8_0 ? "q8_0" : "mlx_affine4";
  options.group_size = static_cast<int>(geometry.group);
  auto q = quantize(runner, in, options);
  if (!q) {
    q.error().message =
        fmt::format("{} cannot be kept as {}: {}", name, options.format, q.error().message);
    return q;
  }
  return q;
}

}  // namespace

bool KVBudget::take(std::uint64_t bytes) noexcept {
  std::uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (cap_ > 0 && (bytes > cap_ || used > cap_ - bytes)) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  std::uint64_t peak = peak_.load(std::memory_order_relaxed);
  while (peak < used + bytes &&
         !peak_.compare_exchange_weak(peak, used + bytes, std::memory_order_relaxed)) {
  }
  return true;
}

void KVBudget::give_back(std::uint64_t bytes) noexcept {
  used_.fetch_sub(bytes, std::memory_order_relaxed);
}

TensorView slice(const TensorView &t, int axis, std::int64_t begin, std::int64_t count) noexcept {
  sy_tensor raw = t.raw();
  raw.byte_offset += static_cast<std::uint64_t>(begin * raw.strides[axis]) * size_of(raw.dtype);
  raw.shape[axis] = count;
  return TensorView(raw);
}

Result<KVGeometry> KVGeometry::of(const KVCacheOptions &o) {
  KVGeometry g;
  g.heads = o.kv_heads;
  const std::int64_t dims[] = {o.head_dim, o.value_dim};
  if (o.format == KVFormat::plain) {
    for (const std::int64_t d : dims) g.planes.push_back({o.dtype, d});
    return g;
  }
  const bool q8 = o.format == KVFormat::q8;
  const std::int64_t group = q8 || o.head_dim % 64 != 0 || o.value_dim % 64 != 0 ? 32 : 64;
  for (const std::int64_t d : dims)
    if (d % group != 0)
      return fail(ErrorCode::shape,
                  fmt::format("a {} cache needs head dimensions that are multiples "
                              "of {}, not {}",
                              to_string(o.format), group, d));
  g.format = q8 ? SY_QUANT_Q8_0 : SY_QUANT_MLX_AFFINE4;
  for (const std::int64_t d : dims)
    g.planes.push_back(q8 ? Plane{dtypes::u8, d / 32 * 34} : Plane{dtypes::u32, d / 8});
  if (q8) return g;
  g.group = static_cast<std::uint32_t>(group);
  for (const std::int64_t d : dims)
    for (int i = 0; i < 2; ++i) g.planes.push_back({o.dtype, d / group});
  return g;
}

std::uint64_t KVGeometry::token_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const Plane &p : planes) sum += p.row_bytes();
  return sum * static_cast<std::uint64_t>(heads);
}

Result<KVRows> make_rows(Runner &runner, const KVGeometry &geometry, const KVCacheOptions &o,
                         const TensorView &k, const TensorView &v) {
  if (auto ok = check_side("k", k, o, o.head_dim); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_side("v", v, o, o.value_dim); !ok) return tl::unexpected(ok.error());
  if (k.dim(2) != v.dim(2))
    return fail(ErrorCode::shape, fmt::format("k has {} positions and v {}", k.dim(2), v.dim(2)));
  KVRows rows;
  if (geometry.format == SY_QUANT_NONE || k.dim(2) == 0) {
    rows.planes = {k, v};
    return rows;
  }
  auto qk = quantized(runner, geometry, "k", k);
  if (!qk) return tl::unexpected(qk.error());
  auto qv = quantized(runner, geometry, "v", v);
  if (!qv) return tl::unexpected(qv.error());
  for (Tensor *t : {&qk->codes, &qv->codes, &qk->scales, &qk->biases, &qv->scales, &qv->biases})
    if (t->present()) rows.owned.push_back(std::move(*t));
  for (const Tensor &t : rows.owned) rows.planes.push_back(t.view());
  return rows;
}

Result<KVPlanes> KVPlanes::make(const KVGeometry &geometry, std::int64_t outer, std::int64_t slots,
                                std::shared_ptr<KVBudget> budget) {
  KVPlanes p;
  const std::array sizes{outer, slots, static_cast<std::int64_t>(geometry.token_bytes())};
  const auto bytes = checked_elements(sizes);
  if (!bytes)
    return fail(ErrorCode::overflow,
                fmt::format("a cache of {} tokens is larger than memory can be", slots));
  const auto wanted = static_cast<std::uint64_t>(*bytes);
  if (budget && !budget->take(wanted))
    return fail(ErrorCode::out_of_memory,
                fmt::format("the cache needs {} more, but of its budget of {} only {} are left",
                            size_text(wanted), size_text(budget->cap()),
                            size_text(budget->cap() - std::min(budget->cap(), budget->used()))));
  p.budget_ = std::move(budget);
  p.bytes_ = wanted;
  p.outer_ = outer;
  p.slots_ = slots;
  for (const auto &plane : geometry.planes) {
    auto t = Tensor::empty(plane.dtype, std::array{outer, geometry.heads, slots, plane.elements});
    if (!t) return tl::unexpected(t.error());
    p.arrays_.push_back(std::move(*t));
  }
  return p;
}

KVPlanes &KVPlanes::operator=(KVPlanes &&other) noexcept {
  if (budget_) budget_->give_back(bytes_);
  arrays_ = std::exchange(other.arrays_, {});
  outer_ = std::exchange(other.outer_, 0);
  slots_ = std::exchange(other.slots_, 0);
  bytes_ = std::exchange(other.bytes_, 0);
  budget_ = std::exchange(other.budget_, nullptr);
  return *this;
}

KVPlanes::~KVPlanes() {
  if (budget_) budget_->give_back(bytes_);
}

std::byte *KVPlanes::row(std::size_t plane, std::int64_t outer, std::int64_t head,
                         std::int64_t slot) const noexcept {
  const TensorView &t = arrays_[plane].view();
  return t.data<std::byte>() + (outer * t.stride(0) + head * t.stride(1) + slot * t.stride(2)) *
                                   static_cast<std::int64_t>(size_of(t.dtype()));
}

void KVPlanes::store(const KVRows &rows, std::int64_t b, std::int64_t from, std::int64_t n,
                     std::int64_t outer, std::int64_t at) noexcept {
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    const TensorView &source = rows.planes[i];
    const auto size = static_cast<std::int64_t>(size_of(source.dtype()));
    const std::int64_t elements = source.dim(3);
    const bool together = elements == 1 || source.stride(3) == 1;
    for (std::int64_t h = 0; h < source.dim(1); ++h)
      for (std::int64_t j = 0; j < n; ++j) {
        const std::byte *p =
            source.data<std::byte>() +
            (b * source.stride(0) + h * source.stride(1) + (from + j) * source.stride(2)) * size;
        std::byte *to = row(i, outer, h, at + j);
        if (together) {
          std::memcpy(to, p, static_cast<std::size_t>(elements * size));
          continue;
        }
        for (std::int64_t e = 0; e < elements; ++e, to += size)
          std::memcpy(to, p + e * source.stride(3) * size, static_cast<std::size_t>(size));
      }
  }
}

void KVPlanes::copy(const KVPlanes &other, std::int64_t outer, std::int64_t from, std::int64_t n,
                    std::int64_t to_outer, std::int64_t at) noexcept {
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    const TensorView &t = arrays_[i].view();
    const auto bytes = static_cast<std::size_t>(n * t.dim(3)) * size_of(t.dtype());
    for (std::int64_t h = 0; h < t.dim(1); ++h)
      if (bytes > 0) std::memmove(row(i, to_outer, h, at), other.row(i, outer, h, from), bytes);
  }
}

StoredKeys stored_keys(const KVGeometry &geometry, const KVPlanes &planes, std::int64_t count) {
  StoredKeys s;
  s.format = geometry.format;
  s.group = geometry.group;
  if (geometry.format != SY_QUANT_MLX_AFFINE4) return s;
  const auto part = [&](std::size_t i) { return slice(planes.plane(i), 2, 0, count); };
  s.k_scales = part(KVGeometry::key_scales);
  s.k_biases = part(KVGeometry::key_biases);
  s.v_scales = part(KVGeometry::value_scales);
  s.v_biases = part(KVGeometry::value_biases);
  return s;
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
// Parts of attention calls: single queries over just the keys they see.
#include <algorithm>
#include <array>
#include <cstring>

#include "op/spot.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {
namespace {

/// Index `at` of a dimension, kept with `count` entries.
void slice(sy_tensor &t, int axis, std::int64_t at, std::int64_t count) noexcept {
  t.byte_offset += static_cast<std::uint64_t>(at * t.strides[axis]) * size_of(t.dtype);
  t.shape[axis] = count;
}

/// One query of one head, and the keys it sees.
class Query {
 public:
  Query(const View &a, std::int64_t b, std::int64_t h, std::int64_t i)
      : a_(a), b_(b), h_(h), i_(i) {
    const Span seen = visible(a, b, i);
    begin_ = std::max<std::int64_t>(0, std::min(seen.begin, a.lkv));
    count_ = std::max<std::int64_t>(0, seen.end - begin_);
    kept_ = std::max<std::int64_t>(0, std::min({a.params.keep, begin_, seen.end}));
    gathered_ = a.table != nullptr || kept_ > 0;
  }

  std::int64_t kept() const noexcept { return kept_; }
  TensorView row(const sy_tensor *t) const {
    sy_tensor part = *t;
    slice(part, 0, b_, 1);
    slice(part, 1, h_, 1);
    slice(part, 2, i_, 1);
    return TensorView(part);
  }
  /// The visible keys of k, v, their scales or biases: a slice, or a copy where they lie apart.
  Result<TensorView> keys(const sy_tensor *t) {
    const std::int64_t g = h_ / a_.group();
    if (gathered_)
      return copy(
          t->dtype, t->shape[3],
          [&](std::int64_t j) {
            const std::int64_t page = a_.table == nullptr ? b_ : a_.table_entry(b_, j / a_.page);
            const std::int64_t slot = a_.table == nullptr ? j : j % a_.page;
            return std::pair(page * t->strides[0] + g * t->strides[1] + slot * t->strides[2],
                             t->strides[3]);
          },
          t);
    sy_tensor part = *t;
    slice(part, 0, b_, 1);
    slice(part, 1, g, 1);
    slice(part, 2, count_ > 0 ? begin_ : 0, count_);
    return TensorView(part);
  }
  Result<TensorView> mask(const sy_tensor *t) {
    if (gathered_) {
      const std::int64_t row = b_ * t->strides[0] + h_ * t->strides[1] + i_ * t->strides[2];
      auto columns = copy(
          t->dtype, 1,
          [&](std::int64_t j) { return std::pair(row + j * t->strides[3], std::int64_t{0}); }, t);
      if (!columns) return columns;
      sy_tensor raw = columns->raw();  // [1, 1, count, 1] read as [1, 1, 1, count]
      std::swap(raw.shape[2], raw.shape[3]);
      std::swap(raw.strides[2], raw.strides[3]);
      return TensorView(raw);
    }
    sy_tensor part = row(t).raw();
    slice(part, 3, count_ > 0 ? begin_ : 0, count_);
    return TensorView(part);
  }

 private:
  /// Rows of `columns` elements; `place` gives the first one's offset and the step of key j.
  template <class Place>
  Result<TensorView> copy(DType dtype, std::int64_t columns, const Place &place,
                          const sy_tensor *from) {
    auto t = Tensor::empty(dtype, std::array<std::int64_t, 4>{1, 1, kept_ + count_, columns});
    if (!t) return tl::unexpected(t.error());
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    const auto *base = TensorView(*from).data<const std::byte>();
    auto *to = t->data<std::byte>();
    for (std::int64_t n = 0; n < kept_ + count_; ++n) {
      const auto [offset, step] = place(n < kept_ ? n : begin_ + n - kept_);
      for (std::int64_t e = 0; e < columns; ++e, to += size)
        std::memcpy(to, base + (offset + e * step) * size, static_cast<std::size_t>(size));
    }
    storage_.push_back(std::move(*t));
    return storage_.back().view();
  }

  const View &a_;
  const std::int64_t b_, h_, i_;
  std::int64_t begin_, count_, kept_;
  bool gathered_;
  std::vector<Tensor> storage_;
};

}  // namespace

Result<std::string> spot_check(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                               const ReferenceRunner &reference) {
  const View a = view(done);
  if (a.batch == 0 || a.hq == 0 || a.lq == 0) return "";
  const std::int64_t b = choose_start(pick, a.batch, 1);
  const std::int64_t h = choose_start(mix_bits(pick), a.hq, 1);
  const std::int64_t i = choose_start(mix_bits(pick + 1), a.lq, 1);
  Query query(a, b, h, i);
  // Fewer keys shift ALiBi's positions by a constant, which the softmax drops and lse keeps; a sink
  // and kept keys take no part in the shift.
  if (a.alibi != nullptr && (a.sinks != nullptr || query.kept() > 0))
    return check_whole(op, done, reference);
  // What the query sees is all the keys there are: no causal rule, window, length or page is left.
  Params rest = a.params;
  rest.causal = SY_CAUSAL_NONE;
  rest.window_left = rest.window_right = -1;
  rest.keep = rest.gap = 0;
  const sy_attention_kv_params params = rest.abi();
  sy_call one = done;
  one.params = &params;
  one.params_size = sizeof(params);
  Spot spot(one);
  spot.input(SY_ATTENTION_IN_Q, query.row(a.q));
  using Side = std::pair<std::uint32_t, const sy_tensor *>;
  for (const auto &[slot, t] :
       {Side{SY_ATTENTION_IN_K, a.k}, Side{SY_ATTENTION_IN_V, a.v},
        Side{SY_ATTENTION_IN_K_SCALES, a.k_scales}, Side{SY_ATTENTION_IN_K_BIASES, a.k_biases},
        Side{SY_ATTENTION_IN_V_SCALES, a.v_scales}, Side{SY_ATTENTION_IN_V_BIASES, a.v_biases}}) {
    if (t == nullptr) continue;
    const auto part = query.keys(t);
    if (!part) return tl::unexpected(part.error());
    spot.input(slot, *part);
  }
  if (a.mask != nullptr) {
    const auto part = query.mask(a.mask);
    if (!part) return tl::unexpected(part.error());
    spot.input(SY_ATTENTION_IN_MASK, *part);
  }
  for (const auto &[slot, t] :
       {std::pair{SY_ATTENTION_IN_SINKS, a.sinks}, std::pair{SY_ATTENTION_IN_ALIBI, a.alibi}})
    if (t != nullptr) {
      sy_tensor part = *t;
      slice(part, 0, h, 1);
      spot.input(static_cast<std::size_t>(slot), TensorView(part));
    }
  if (auto ok = spot.output(SY_ATTENTION_OUT_O, query.row(a.o)); !ok)
    return tl::unexpected(ok.error());
  if (a.lse != nullptr && a.alibi == nullptr) {
    sy_tensor part = *a.lse;
    for (const auto &[axis, at] : {std::pair{0, b}, std::pair{1, h}, std::pair{2, i}})
      slice(part, axis, at, 1);
    if (auto ok = spot.output(SY_ATTENTION_OUT_LSE, TensorView(part)); !ok)
      return tl::unexpected(ok.error());
  }
  auto wrong = spot.check(op, reference);
  if (wrong && !wrong->empty())
    return "query [" + std::to_string(b) + ", " + std::to_string(h) + ", " + std::to_string(i) +
           "]: " + *wrong;
  return wrong;
}

}  // namespace switchyard::attention_op

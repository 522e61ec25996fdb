// SPDX-License-Identifier: Apache-2.0
// Parts of attention calls: single queries over just the keys they see.
#include <algorithm>

#include "op/spot.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {
namespace {

/// Index `at` of a dimension, kept with `count` entries.
void slice(sy_tensor &t, int axis, std::int64_t at, std::int64_t count) noexcept {
  t.byte_offset += static_cast<std::uint64_t>(at * t.strides[axis]) * size_of(t.dtype);
  t.shape[axis] = count;
}

}  // namespace

Result<std::string> spot_check(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                               const ReferenceRunner &reference) {
  const View a = view(done);
  if (a.batch == 0 || a.hq == 0 || a.lq == 0) return "";
  const std::int64_t b = choose_start(pick, a.batch, 1);
  const std::int64_t h = choose_start(mix_bits(pick), a.hq, 1);
  const std::int64_t i = choose_start(mix_bits(pick + 1), a.lq, 1);
  const Span keys = visible(a, b, i);
  const std::int64_t begin = std::max<std::int64_t>(0, std::min(keys.begin, a.lkv));
  const std::int64_t count = std::max<std::int64_t>(0, keys.end - begin);
  const auto row = [&](const sy_tensor *t) {
    sy_tensor part = *t;
    slice(part, 0, b, 1);
    slice(part, 1, h, 1);
    slice(part, 2, i, 1);
    return part;
  };
  const auto keys_of = [&](const sy_tensor *t) {
    sy_tensor part = *t;
    slice(part, 0, b, 1);
    slice(part, 1, h / a.group(), 1);
    slice(part, 2, count > 0 ? begin : 0, count);
    return TensorView(part);
  };
  // What the query sees is all the keys there are: no causal rule, window or length is left.
  sy_attention_params params = *a.params;
  params.causal = SY_CAUSAL_NONE;
  params.window_left = params.window_right = -1;
  sy_call one = done;
  one.params = &params;
  one.params_size = sizeof(params);
  Spot spot(one);
  spot.input(SY_ATTENTION_IN_Q, TensorView(row(a.q)));
  spot.input(SY_ATTENTION_IN_K, keys_of(a.k));
  spot.input(SY_ATTENTION_IN_V, keys_of(a.v));
  if (a.mask != nullptr) {
    sy_tensor part = row(a.mask);
    slice(part, 3, count > 0 ? begin : 0, count);
    spot.input(SY_ATTENTION_IN_MASK, TensorView(part));
  }
  for (const auto &[slot, t] :
       {std::pair{SY_ATTENTION_IN_SINKS, a.sinks}, std::pair{SY_ATTENTION_IN_ALIBI, a.alibi}})
    if (t != nullptr) {
      sy_tensor part = *t;
      slice(part, 0, h, 1);
      spot.input(static_cast<std::size_t>(slot), TensorView(part));
    }
  if (auto ok = spot.output(SY_ATTENTION_OUT_O, TensorView(row(a.o))); !ok)
    return tl::unexpected(ok.error());
  // Fewer keys shift ALiBi's positions by a constant, which the softmax drops and lse keeps; a sink
  // takes no part in the shift.
  if (a.alibi != nullptr && a.sinks != nullptr) return check_whole(op, done, reference);
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

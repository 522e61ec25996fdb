// SPDX-License-Identifier: Apache-2.0
// Parts of k-means calls: labels and distances of some rows, one block of the inertia, one column
// of the sums, and what follows from the labels alone.
#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <cmath>

#include "base/checked.hpp"
#include "op/spot.hpp"
#include "ops/kmeans_problem.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::int64_t kRowWork = 200'000;       // multiply-adds spent on rows at once
constexpr std::int64_t kBlockWork = 20'000'000;  // the most for a block of the inertia

struct Sizes {
  std::int64_t n, d, k;
};

TensorView rows_of(const sy_tensor &t, std::int64_t first, std::int64_t count) {
  sy_tensor part = t;
  part.byte_offset += static_cast<std::uint64_t>(first * t.strides[0]) * size_of(t.dtype);
  part.shape[0] = count;
  return TensorView(part);
}

template <class T>
const T *data(const sy_tensor *t) noexcept {
  return t == nullptr ? nullptr : TensorView(*t).data<const T>();
}

struct Slots {
  std::size_t labels, distances, partials;
};

Slots slots_of(Primitive op) noexcept {
  if (op == Primitive::step)
    return {SY_KMEANS_STEP_OUT_LABELS, SY_KMEANS_STEP_OUT_DISTANCES,
            SY_KMEANS_STEP_OUT_INERTIA_PARTIALS};
  return {SY_KMEANS_ASSIGN_OUT_LABELS, SY_KMEANS_ASSIGN_OUT_DISTANCES,
          SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS};
}

/// Rows [first, first + count); with their inertia where they are a whole block.
Result<std::string> check_rows(Primitive primitive, const OpSpec &op, const sy_call &done,
                               const Sizes &s, std::int64_t first, std::int64_t count, bool block,
                               const ReferenceRunner &reference) {
  Spot spot(done);
  spot.input(SY_KMEANS_IN_X, rows_of(*done.inputs[SY_KMEANS_IN_X], first, count));
  spot.input(SY_KMEANS_IN_CENTROIDS, TensorView(*done.inputs[SY_KMEANS_IN_CENTROIDS]));
  for (std::uint32_t i = SY_KMEANS_IN_WEIGHTS; i < done.n_inputs; ++i)
    if (done.inputs[i] != nullptr)
      spot.input(i, i == SY_KMEANS_IN_SHIFTS ? TensorView(*done.inputs[i])
                                             : rows_of(*done.inputs[i], first, count));
  const Slots slots = slots_of(primitive);
  for (const std::size_t slot : {slots.labels, slots.distances})
    if (done.outputs[slot] != nullptr)
      if (auto ok = spot.output(slot, rows_of(*done.outputs[slot], first, count)); !ok)
        return tl::unexpected(ok.error());
  if (block && done.outputs[slots.partials] != nullptr)
    if (auto ok = spot.output(slots.partials, rows_of(*done.outputs[slots.partials],
                                                      first / SY_KMEANS_INERTIA_BLOCK, 1));
        !ok)
      return tl::unexpected(ok.error());
  if (primitive == Primitive::step) {
    const std::array cells{s.k, s.d};
    const std::array clusters{s.k};
    const std::array one{std::int64_t{1}}, blocks{ceil_div(count, SY_KMEANS_INERTIA_BLOCK)};
    const auto scratch = [&](std::size_t slot, DType dtype, std::span<const std::int64_t> shape) {
      return done.outputs[slot] == nullptr ? Status() : spot.scratch(slot, dtype, shape);
    };
    for (auto ok :
         {scratch(SY_KMEANS_STEP_OUT_SUMS, dtypes::i64, cells),
          scratch(SY_KMEANS_STEP_OUT_COUNTS, dtypes::i64, clusters),
          scratch(SY_KMEANS_STEP_OUT_WEIGHTS, dtypes::i64, clusters),
          scratch(SY_KMEANS_STEP_OUT_CHANGED, dtypes::i64, one),
          block ? Status() : scratch(SY_KMEANS_STEP_OUT_INERTIA_PARTIALS, dtypes::f64, blocks)})
      if (!ok) return tl::unexpected(ok.error());
  }
  return spot.check(op, reference);
}

std::int64_t fixed_point(double value, int shift) noexcept {
  return static_cast<std::int64_t>(std::nearbyint(std::ldexp(value, shift)));
}

std::string differs(std::string_view what, std::int64_t at, std::int64_t got, std::int64_t want) {
  return fmt::format("{}: element {} is {}; the labels say {}", what, at, got, want);
}

/// What kmeans.step adds up over all rows, recomputed from its labels: counts, weight totals,
/// changed rows, and the sums of one column.
std::string check_totals(const sy_call &done, const Sizes &s, std::int64_t column) {
  const auto *labels = data<std::int32_t>(done.outputs[SY_KMEANS_STEP_OUT_LABELS]);
  const auto *previous = data<std::int32_t>(done.inputs[SY_KMEANS_IN_PREVIOUS_LABELS]);
  const auto *weights = data<float>(done.inputs[SY_KMEANS_IN_WEIGHTS]);
  const sy_tensor &x = *done.inputs[SY_KMEANS_IN_X];
  const int shift = data<std::int32_t>(done.inputs[SY_KMEANS_IN_SHIFTS])[column];
  const int weight_shift = static_cast<const sy_kmeans_params *>(done.params)->weight_shift;
  const auto k = static_cast<std::size_t>(s.k);
  std::vector<std::int64_t> counts(k), totals(k), sums(k);
  std::int64_t changed = 0;
  for (std::int64_t i = 0; i < s.n; ++i) {
    const std::int32_t label = labels[i];
    if (label < 0 || label >= s.k)
      return fmt::format("labels: element {} is {}, but there are {} centroids", i, label, s.k);
    const auto j = static_cast<std::size_t>(label);
    const double w = weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
    ++counts[j];
    if (weights != nullptr) totals[j] += fixed_point(w, weight_shift);
    sums[j] +=
        fixed_point(w * static_cast<double>(data<float>(&x)[i * x.strides[0] + column]), shift);
    changed += previous == nullptr || previous[i] != label;
  }
  const auto *got_counts = data<std::int64_t>(done.outputs[SY_KMEANS_STEP_OUT_COUNTS]);
  const auto *got_totals = data<std::int64_t>(done.outputs[SY_KMEANS_STEP_OUT_WEIGHTS]);
  const auto *got_sums = data<std::int64_t>(done.outputs[SY_KMEANS_STEP_OUT_SUMS]);
  const auto *got_changed = data<std::int64_t>(done.outputs[SY_KMEANS_STEP_OUT_CHANGED]);
  if (*got_changed != changed) return differs("changed", 0, *got_changed, changed);
  for (std::int64_t j = 0; j < s.k; ++j) {
    const auto u = static_cast<std::size_t>(j);
    if (got_counts[j] != counts[u]) return differs("counts", j, got_counts[j], counts[u]);
    if (got_totals != nullptr && got_totals[j] != totals[u])
      return differs("weight totals", j, got_totals[j], totals[u]);
    const std::int64_t at = j * s.d + column;
    if (got_sums[at] != sums[u]) return differs("sums", at, got_sums[at], sums[u]);
  }
  return "";
}

}  // namespace

Result<std::string> spot_check(Primitive primitive, const OpSpec &op, const sy_call &done,
                               std::uint64_t pick, const ReferenceRunner &reference) {
  const sy_tensor &x = *done.inputs[SY_KMEANS_IN_X];
  const Sizes s{x.shape[0], x.shape[1], done.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0]};
  const Slots slots = slots_of(primitive);
  const double row_work = static_cast<double>(s.d) * static_cast<double>(s.k);
  const std::int64_t in_block = std::min<std::int64_t>(s.n, SY_KMEANS_INERTIA_BLOCK);
  const bool rows_wanted =
      done.outputs[slots.labels] != nullptr || done.outputs[slots.distances] != nullptr;
  const bool block = done.outputs[slots.partials] != nullptr &&
                     (!rows_wanted || ((pick >> 60) % 4 == 0 &&
                                       row_work * static_cast<double>(in_block) <= kBlockWork));
  if (block && row_work * static_cast<double>(in_block) > 10 * kBlockWork)
    return fail(ErrorCode::unsupported, "a block of the inertia is too much work");
  std::int64_t first = 0, count = 0;
  if (block) {
    const std::int64_t b = choose_start(pick, ceil_div(s.n, SY_KMEANS_INERTIA_BLOCK), 1);
    first = b * SY_KMEANS_INERTIA_BLOCK;
    count = std::min<std::int64_t>(SY_KMEANS_INERTIA_BLOCK, s.n - first);
  } else {
    count = std::clamp<std::int64_t>(static_cast<std::int64_t>(kRowWork / row_work), 1,
                                     std::min<std::int64_t>(s.n, 512));
    first = choose_start(pick, s.n, count);
  }
  auto wrong = check_rows(primitive, op, done, s, first, count, block, reference);
  if (!wrong) return wrong;
  if (!wrong->empty()) return fmt::format("from row {} on: {}", first, *wrong);
  if (primitive == Primitive::assign) return wrong;
  return check_totals(done, s, choose_start(mix_bits(pick), s.d, 1));
}

}  // namespace switchyard::kmeans

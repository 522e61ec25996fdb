// SPDX-License-Identifier: Apache-2.0
/// Keys and values of generated attention problems: plain or quantised, in rows or in pages.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "io/cast.hpp"
#include "ops/attention_plan.hpp"

namespace switchyard::attention_op {
namespace {

/// Where the keys of each sequence lie.
struct Places {
  struct Owner {
    std::int64_t sequence = -1, first = 0;  ///< -1: an unused page
  };
  std::int64_t outer = 0, slots = 0;  ///< first and third dimension of k and v
  std::vector<Owner> pages;           ///< empty = not paged
  const std::int32_t *lengths = nullptr;
  std::int64_t keys = 0;

  struct Key {
    std::int64_t sequence, position;
  };
  /// What slot j of row `outer` holds; no sequence: never to be read.
  Key at(std::int64_t row, std::int64_t j) const noexcept {
    const Key key = pages.empty() ? Key{row, j}
                                  : Key{pages[static_cast<std::size_t>(row)].sequence,
                                        pages[static_cast<std::size_t>(row)].first + j};
    const bool real = key.sequence >= 0 && key.position < count(key.sequence);
    return real ? key : Key{-1, 0};
  }
  std::int64_t count(std::int64_t b) const noexcept {
    return lengths == nullptr ? keys : lengths[b];
  }
};

/// Pages in random order, with two that nobody uses; table entries behind a sequence are -1.
Status make_pages(const Plan &p, Random &random, Places &places, Problem &problem) {
  const std::int64_t per_sequence = (p.lkv + p.page - 1) / p.page;
  auto table = Tensor::empty(dtypes::i32, std::array{p.b, per_sequence});
  if (!table) return tl::unexpected(table.error());
  std::fill_n(table->data<std::int32_t>(), p.b * per_sequence, -1);
  std::int64_t used = 0;
  for (std::int64_t b = 0; b < p.b; ++b) used += (places.count(b) + p.page - 1) / p.page;
  std::vector<std::int32_t> order(static_cast<std::size_t>(used + 2));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size() - 1; i > 0; --i)
    std::swap(order[i], order[static_cast<std::size_t>(random.next() % (i + 1))]);
  places.pages.resize(order.size());
  std::size_t next = 0;
  for (std::int64_t b = 0; b < p.b; ++b)
    for (std::int64_t m = 0; m * p.page < places.count(b); ++m) {
      const std::int32_t page = order[next++];
      table->data<std::int32_t>()[b * per_sequence + m] = page;
      places.pages[static_cast<std::size_t>(page)] = {b, m * p.page};
    }
  places.outer = used + 2;
  places.slots = p.page;
  problem.inputs[SY_ATTENTION_IN_BLOCK_TABLE] = std::move(*table);
  return {};
}

/// Every third key head has one key that poisons the rows that see it, and no others.
bool is_poisoned(const Plan &p, std::int64_t h, std::int64_t j) noexcept {
  return h % 3 == 0 && j == p.lkv / 2;
}

Result<Tensor> plain_rows(const Plan &p, bool values, const Places &places, Random &random) {
  const Sizes shape{places.outer, p.hkv, places.slots, values ? p.dv : p.d};
  const bool zero = p.layout == "zero_stride";
  const Sizes strides =
      strides_of(shape, zero && !values ? "bhld" : p.layout, p.layout == "expanded");
  const float nan = std::nanf("");
  return filled(p.dtype, shape, strides, p.layout == "reversed",
                [&](std::int64_t row, std::int64_t h, std::int64_t slot, std::int64_t e) {
                  const auto [b, j] = places.at(row, slot);
                  float x = random.normal();
                  if (b < 0) return nan;
                  if (p.data == "large" && !values) x *= 8;
                  if (p.data == "zero_values" && values) x = 0;
                  if (p.data == "nan_key" && !values && is_poisoned(p, h, j)) x = nan;
                  if (p.data == "inf_key" && !values && is_poisoned(p, h, j) && e == 0)
                    x = std::numeric_limits<float>::infinity();
                  return x;
                });
}

/// A contiguous or padded array of rows; write(bytes of a row, row, head, slot).
template <class F>
Result<Tensor> rows_of(const Plan &p, const Places &places, DType dtype, std::int64_t elements,
                       const F &write) {
  const Sizes shape{places.outer, p.hkv, places.slots, elements};
  const Sizes strides = strides_of(shape, p.layout, p.layout == "expanded");
  auto t = Tensor::strided(dtype, shape, strides);
  if (!t) return t;
  std::memset(t->data(), 0xFF, t->bytes());
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const bool reversed = p.layout == "reversed";
  for (std::int64_t row = 0; row < shape[0]; ++row)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t slot = 0; slot < shape[2]; ++slot) {
        const std::int64_t at = reversed ? shape[2] - 1 - slot : slot;
        write(t->data<std::byte>() + (row * strides[0] + h * strides[1] + at * strides[2]) * size,
              row, h, slot);
      }
  if (!reversed || t->elements() == 0) return t;
  auto owner = std::make_shared<Tensor>(std::move(*t));
  sy_tensor raw = owner->view().raw();
  raw.byte_offset += static_cast<std::uint64_t>((shape[2] - 1) * strides[2] * size);
  raw.strides[2] = -raw.strides[2];
  return Tensor::adopt(TensorView(raw), std::move(owner));
}

/// The scale of a group of codes that reach up to `most`, for values of size 1.
float scale_of(const Plan &p, bool values, std::int64_t h, const Places::Key &key, float most,
               Random &random) {
  if (key.sequence < 0) return std::nanf("");
  if (p.data == "nan_key" && !values && is_poisoned(p, h, key.position)) return std::nanf("");
  if (p.data == "zero_values" && values) return 0;
  const float size = (1 + std::abs(random.normal())) / most;
  return p.data == "large" && !values ? 8 * size : size;
}

Result<Tensor> q8_rows(const Plan &p, bool values, const Places &places, Random &random) {
  const std::int64_t blocks = (values ? p.dv : p.d) / 32;
  return rows_of(p, places, dtypes::u8, blocks * 34,
                 [&](std::byte *to, std::int64_t row, std::int64_t h, std::int64_t slot) {
                   const auto key = places.at(row, slot);
                   for (std::int64_t i = 0; i < blocks; ++i, to += 34) {
                     const std::uint16_t scale =
                         f32_to_f16(scale_of(p, values, h, key, 127, random));
                     std::memcpy(to, &scale, 2);
                     for (std::size_t e = 0; e < 32; ++e)
                       to[2 + e] = static_cast<std::byte>(random.next() % 255 + 129);  // -127..127
                   }
                 });
}

Status q4_rows(const Plan &p, bool values, const Places &places, Random &random, Problem &problem) {
  const std::int64_t dim = values ? p.dv : p.d, groups = dim / p.params.kv_group;
  const auto put = [&](std::size_t slot, Result<Tensor> t) -> Status {
    if (!t) return tl::unexpected(t.error());
    problem.inputs[slot] = std::move(*t);
    return {};
  };
  auto ok = put(values ? SY_ATTENTION_IN_V : SY_ATTENTION_IN_K,
                rows_of(p, places, dtypes::u32, dim / 8,
                        [&](std::byte *to, std::int64_t, std::int64_t, std::int64_t) {
                          for (std::int64_t i = 0; i < dim / 8; ++i) {
                            const auto word = static_cast<std::uint32_t>(random.next());
                            std::memcpy(to + 4 * i, &word, 4);
                          }
                        }));
  const auto size = static_cast<std::int64_t>(size_of(p.scales));
  for (const bool bias : {false, true}) {
    if (!ok) return ok;
    const std::size_t slot = values ? (bias ? SY_ATTENTION_IN_V_BIASES : SY_ATTENTION_IN_V_SCALES)
                                    : (bias ? SY_ATTENTION_IN_K_BIASES : SY_ATTENTION_IN_K_SCALES);
    ok = put(slot, rows_of(p, places, p.scales, groups,
                           [&](std::byte *to, std::int64_t row, std::int64_t h, std::int64_t s) {
                             for (std::int64_t g = 0; g < groups; ++g) {
                               const float scale =
                                   scale_of(p, values, h, places.at(row, s), 7.5f, random);
                               store_element(p.scales, to + g * size, bias ? -7.5f * scale : scale);
                             }
                           }));
  }
  return ok;
}

}  // namespace

Status fill_keys(const Plan &p, Random &random, Problem &problem) {
  const Tensor &lengths = problem.inputs[SY_ATTENTION_IN_KV_LENGTHS];
  Places places{p.b, p.lkv, {}, nullptr, p.lkv};
  if (lengths.present()) places.lengths = lengths.data<std::int32_t>();
  if (p.page > 0)
    if (auto ok = make_pages(p, random, places, problem); !ok) return ok;
  for (const bool values : {false, true}) {
    if (p.params.kv_format == SY_QUANT_MLX_AFFINE4) {
      if (auto ok = q4_rows(p, values, places, random, problem); !ok) return ok;
      continue;
    }
    auto rows =
        p.kv == "q8" ? q8_rows(p, values, places, random) : plain_rows(p, values, places, random);
    if (!rows) return tl::unexpected(rows.error());
    problem.inputs[values ? SY_ATTENTION_IN_V : SY_ATTENTION_IN_K] = std::move(*rows);
  }
  return {};
}

}  // namespace switchyard::attention_op

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Labels from 8-bit codes (SY_KMEANS_INT8): every score is an exact integer, so there is nothing
/// to bound and nothing to compare again. Codes of the rows are made once a fit. Part of the kernel
/// sources (needs SY_ISA).
///
/// `Products` says how codes are laid out and multiplied (kmeans_codes.hpp, kmeans_tiles.hpp).

#include "kmeans_codes.hpp"
#include "kmeans_pass.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr int64_t kMostInt8Columns = 32768;  // 3 * 127^2 of them stay below 2^31

template <class Products>
struct Int8Method {
  using Code = typename Products::Code;
  static constexpr int64_t kCodes = Products::kCodes;
  static constexpr int64_t kPoints = kCodePanel;
  static_assert(kInertiaBlock % kPoints == 0 && 4 == kCodes * sizeof(Code));

  struct Task {
    uint32_t *codes;  // [words][kPoints]: a panel's, where no state keeps them
  };
  struct State {
    uint32_t *codes;  // [panels][words][kPoints]
    double rate;      // that they were made with
  };

  uint32_t *codes;          // of centroids, as Products lays them out
  int32_t *norms, *starts;  // [groups][kGroup]: sums of squares; what undoes the rows' offset
  State *kept;
  bool filled;

  static int64_t words_of(int64_t d) { return Products::words_of(ceil_of(d, kCodes)); }
  static int64_t unit(const KMeansCall &) { return kPoints; }
  static constexpr bool kFixedUnits = false;
  static constexpr bool kUsesDistances = false;

  static void carve_state(Carver &carver, const KMeansCall &k, State &state) {
    const int64_t words = ceil_of(k.n, kPoints) * words_of(k.d) * kPoints;
    state.codes = carver.take<uint32_t>(static_cast<uint64_t>(words));
  }
  static void start_state(const KMeansCall &k, State &state) { state.rate = k.rate; }
  void attach(State *state) { kept = state; }
  static void carve_shared(Carver &carver, const KMeansCall &k, Int8Method &m) {
    const auto groups = static_cast<uint64_t>(ceil_of(k.k, kGroup));
    m.codes = carver.take<uint32_t>(Products::code_words(groups, words_of(k.d)));
    m.norms = carver.take<int32_t>(groups * kGroup);
    m.starts = carver.take<int32_t>(groups * kGroup);
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.codes = carver.take<uint32_t>(static_cast<uint64_t>(words_of(k.d) * kPoints));
  }

  void setup(const Context &ctx, const KMeansCall &k, const KMeansState *last, uint32_t threads) {
    // A finished pass before this one has left the codes of all rows.
    filled = last != nullptr && kept->rate == k.rate;
    if (kept != nullptr) kept->rate = k.rate;
    for_batches(ctx, ceil_of(k.k, kGroup), k.d * kGroup, threads,
                [&](int64_t g) { pack_group(k, g); });
  }

  void pack_group(const KMeansCall &k, int64_t g) const {
    const int64_t words = words_of(k.d);
    Products::clear_group(codes, g, words);
    for (int64_t r = 0; r < kGroup; ++r) {
      const int64_t j = g * kGroup + r;
      norms[j] = INT32_MAX;  // padding wins nowhere
      starts[j] = 0;
      if (j >= k.k) continue;
      int32_t square = 0, sum = 0;
      encode<Code>(k.centroid(j), nullptr, k.d, k.rate, 127, [&](int64_t m, const Code *eight) {
        for (int64_t i = 0; i < 8; ++i) {
          const int32_t c = eight[i];
          square += c * c;
          sum += c;
        }
        each_word(k.d, m, eight, [&](int64_t at, uint32_t word) {
          codes[Products::word_at(g, r, at, words)] = word;
        });
      });
      norms[j] = square;
      starts[j] = -Products::kOffset * sum;
    }
  }

  void encode_panel(const KMeansCall &k, int64_t begin, int64_t count, uint32_t *out) const {
    for (int64_t p = 0; p < kPoints; ++p) {
      const float *row = k.row(begin + (p < count ? p : count - 1));
      encode<Code>(row, nullptr, k.d, k.rate, 127, [&](int64_t m, const Code *eight) {
        each_word(k.d, m, eight,
                  [&](int64_t b, uint32_t word) { out[b * kPoints + p] = word ^ Products::kFlip; });
      });
    }
  }

  void assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end, const int32_t *,
              int32_t *labels, float *distances) const {
    const int64_t words = words_of(k.d) * kPoints;
    [[maybe_unused]] const typename Products::Scope scope(k.d);
    for (int64_t b = begin; b < end; b += kPoints) {
      const int64_t count = min_of(kPoints, end - b);
      uint32_t *x = kept != nullptr ? kept->codes + b / kPoints * words : task.codes;
      if (!filled) encode_panel(k, b, count, x);
      alignas(64) int32_t label[kPoints];
      nearest(k, x, label);
      for (int64_t p = 0; p < count; ++p) {
        labels[b - begin + p] = label[p];
        distances[b - begin + p] = canonical_distance(k.row(b + p), k.centroid(label[p]), k.d);
      }
    }
  }

  /// The labels of a panel.
  void nearest(const KMeansCall &k, const uint32_t *HWY_RESTRICT panel,
               int32_t *HWY_RESTRICT labels) const {
    const Ints lanes;
    using V = hn::Vec<Ints>;
    V least0 = hn::Set(lanes, INT32_MAX), least1 = least0, label0 = hn::Zero(lanes),
      label1 = label0;
    const auto take = [&](int64_t j, V sum0, V sum1) HWY_ATTR {
      const V norm = hn::Set(lanes, norms[j]);
      const V name = hn::Set(lanes, static_cast<int32_t>(j));
      const V score0 = hn::Sub(norm, hn::Add(sum0, sum0)),
              score1 = hn::Sub(norm, hn::Add(sum1, sum1));
      // The lowest name among equals stays.
      label0 = hn::IfThenElse(hn::Lt(score0, least0), name, label0);
      label1 = hn::IfThenElse(hn::Lt(score1, least1), name, label1);
      least0 = hn::Min(score0, least0);
      least1 = hn::Min(score1, least1);
    };
    Products::each_sum(panel, words_of(k.d), k.k, codes, starts, take);
    hn::Store(label0, lanes, labels);
    hn::Store(label1, lanes, labels + kLanes);
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

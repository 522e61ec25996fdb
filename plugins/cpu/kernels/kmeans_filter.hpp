// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The filter: scores |c|^2/2 - <x, c> of a panel of points against groups of centroids in
/// registers; centroids whose score stays above a rigorous threshold cannot win, the few others are
/// compared by canonical distance. `Scores` says in what precision. With a state, rows that
/// provably keep their label among the centroids that moved little are compared with the others
/// only (kmeans_drift.hpp). Part of the kernel sources (needs SY_ISA).

#include "kmeans_drift.hpp"
#include "kmeans_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr int64_t kBatch = 2016;  // rows sorted into the two lists at once: 42 or 84 panels

template <class Scores>
struct FilterMethod {
  struct Task {
    typename Scores::Task scores;
    float *panel;  // [d][kPanel]
    PanelRows *rows;
    int32_t *near, *far;  // [kBatch]: rows of a batch; and a vector more, to write whole ones
  };

  float *mu;              // [padded d]
  int32_t *order;         // [groups][kGroup]: those that moved most first; -1 = padding
  float *drift;           // [k]: since the last pass
  float *drift_after;     // [groups + 1]: largest of a group and those behind it
  double *group_squares;  // [groups]: largest |c - mu|^2 of a group
  int64_t groups;
  int64_t cut;              // groups that are compared with every row
  float *lower;             // the state's, to be brought up to date; or null
  const KMeansState *last;  // what the previous pass left, or null
  KMeansBound bound;
  DriftBound drifts;
  Scores scores;

  static int64_t unit(const KMeansCall &) { return kPanel; }
  static constexpr bool kFixedUnits = false;
  static constexpr bool kUsesDistances = true;
  struct State {
    float *lower;  // [n]: at most the distance to any centroid but the row's own
  };
  static void carve_state(Carver &carver, const KMeansCall &k, State &state) {
    state.lower = carver.take<float>(static_cast<uint64_t>(k.n));
  }
  static void start_state(const KMeansCall &, State &) {}
  void attach(State *state) { lower = state != nullptr ? state->lower : nullptr; }
  static void carve_shared(Carver &carver, const KMeansCall &k, FilterMethod &f) {
    const auto most = static_cast<uint64_t>(ceil_of(k.k, kGroup) + 1);
    f.mu = carver.take<float>(static_cast<uint64_t>(padded(k.d)));
    f.order = carver.take<int32_t>(most * kGroup);
    f.drift = carver.take<float>(static_cast<uint64_t>(k.k));
    f.drift_after = carver.take<float>(most + 1);
    f.group_squares = carver.take<double>(most);
    Scores::carve_shared(carver, k, most, f.scores);
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.panel = carver.take<float>(static_cast<uint64_t>(k.d * kPanel));
    task.rows = carver.take<PanelRows>(1);
    task.near = carver.take<int32_t>(kBatch + kLanes);
    task.far = carver.take<int32_t>(kBatch + kLanes);
    Scores::carve_task(carver, k, task.scores);
  }

  void setup(const Context &ctx, const KMeansCall &k, const KMeansState *state, uint32_t threads);
  void assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end, const int32_t *hints,
              int32_t *labels, float *distances) const;

  void order_centroids(const Context &ctx, const KMeansCall &k, uint32_t threads);
  void choose_cut(const KMeansCall &k);
  void assign_list(const KMeansCall &k, const Task &task, const int32_t *list, int64_t size,
                   int64_t group_count, int64_t begin, int32_t *labels, float *distances) const;
  int64_t split_rows(const Task &task, int64_t begin, int64_t size, const float *distances) const;
  hn::Mask<Points> filtered(hn::Vec<Points> norm) const;
  void keep_bounds(PanelRows &rows) const;
  /// What becomes of kGroup x kVectors scores, each at most `slack` above the true one.
  template <bool kKeep, bool kSlack>
  void look(const KMeansCall &k, PanelRows &rows, int64_t g,
            const hn::Vec<Points> (&s)[kGroup][kVectors],
            const hn::Vec<Points> (&slack)[kVectors]) const;
  HWY_NOINLINE void rerank(const KMeansCall &k, PanelRows &rows, int64_t j, uint64_t hits) const;
};

/// Fills order, groups, drift and drift_after.
template <class Scores>
inline void FilterMethod<Scores>::order_centroids(const Context &ctx, const KMeansCall &k,
                                                  uint32_t threads) {
  for_batches(ctx, k.k, k.d, threads, [&](int64_t j) {
    order[j] = static_cast<int32_t>(j);
    drift[j] = last == nullptr ? 0.0f : drift_of(last->centroids + j * k.d, k.centroid(j), k.d);
  });
  if (last != nullptr) sort_by_drift(order, k.k, drift);
  groups = ceil_of(k.k, kGroup);
  for (int64_t j = k.k; j < groups * kGroup; ++j) order[j] = -1;
  for (int64_t g = 0; g < groups; ++g) drift_after[g] = drift[order[g * kGroup]];
  drift_after[groups] = 0;
}

/// How far the nearest other centroid may come before a row must look at it again.
template <class Scores>
inline void FilterMethod<Scores>::choose_cut(const KMeansCall &k) {
  cut = groups;
  if (last == nullptr || lower == nullptr || !bound.usable) return;
  cut = best_cut(groups, drift_after, k.n, [&](int64_t i) {
    const int32_t label = last->labels[i];
    const bool still = drift[label] == 0;
    const float own =
        still ? last->distances[i] : canonical_distance(k.row(i), k.centroid(label), k.d);
    const float slack = lower[i] - __builtin_sqrtf(own) * (1 + 0x1p-18f);
    // Rows that came no farther keep their label among centroids that did not move at all.
    return own <= last->distances[i] && !(slack > 0) ? 0x1p-126f : slack;
  });
}

template <class Scores>
inline void FilterMethod<Scores>::setup(const Context &ctx, const KMeansCall &k,
                                        const KMeansState *state, uint32_t threads) {
  last = state;
  order_centroids(ctx, k, threads);
  frame_origin(ctx, k, threads, mu);
  for_batches(ctx, groups, k.d * kGroup, threads, [&](int64_t g) {
    group_squares[g] = scores.pack_group(k, mu, order + g * kGroup, g);
  });
  double largest = 0;
  for (int64_t g = 0; g < groups; ++g)
    largest = group_squares[g] > largest ? group_squares[g] : largest;
  bound = frame_bound(k.d, largest, Scores::roundings(k.d));
  drifts = DriftBound::of(k.d, bound);
  choose_cut(k);
}

/// Compares centroid j canonically for each row whose bit is set.
template <class Scores>
HWY_NOINLINE void FilterMethod<Scores>::rerank(const KMeansCall &k, PanelRows &rows, int64_t j,
                                               uint64_t hits) const {
  for (; hits != 0; hits &= hits - 1) {
    const int p = __builtin_ctzll(hits);
    if (rows.label[p] == j) continue;
    const float distance = canonical_distance(rows.row[p], k.centroid(j), k.d);
    const bool wins = distance < rows.best[p] || (distance == rows.best[p] && j < rows.label[p]);
    const float other = wins ? rows.best[p] : distance;
    rows.second[p] = other < rows.second[p] ? other : rows.second[p];
    if (!wins) continue;
    rows.best[p] = distance;
    rows.label[p] = static_cast<int32_t>(j);
    rows.threshold[p] = score_limit(bound, distance, rows.norm[p]);
  }
}

/// The minimum over the group is compared with the thresholds, and only where some lane passes is
/// it found out which centroids did.
template <class Scores>
template <bool kKeep, bool kSlack>
HWY_INLINE void FilterMethod<Scores>::look(const KMeansCall &k, PanelRows &rows, int64_t g,
                                           const hn::Vec<Points> (&s)[kGroup][kVectors],
                                           const hn::Vec<Points> (&slack)[kVectors]) const {
  const Points lanes;
  using V = hn::Vec<Points>;
  V lowest[kVectors], limit[kVectors];
  const auto read_limit = [&](int64_t v) HWY_ATTR {
    limit[v] = hn::Load(lanes, rows.threshold + v * kLanes);
    // The second step covers the rounding of the first.
    if constexpr (kSlack) {
      const V raised = hn::Add(limit[v], slack[v]);
      limit[v] = hn::MulAdd(hn::Abs(raised), hn::Set(lanes, 0x1p-22f), raised);
    }
  };
#pragma GCC unroll 3
  for (int64_t v = 0; v < kVectors; ++v) {
    lowest[v] = s[0][v];
#pragma GCC unroll 8
    for (int64_t r = 1; r < kGroup; ++r) lowest[v] = hn::Min(lowest[v], s[r][v]);
    read_limit(v);
  }
  const auto any = hn::Or(hn::Or(hn::Le(lowest[0], limit[0]), hn::Le(lowest[1], limit[1])),
                          hn::Le(lowest[2], limit[2]));
  const auto keep = [&](int64_t v, V score) HWY_ATTR {
    float *rest = rows.rest + v * kLanes;
    if constexpr (kSlack) score = hn::Sub(score, slack[v]);
    hn::Store(hn::Min(hn::Load(lanes, rest), score), lanes, rest);
  };
  if (hn::AllFalse(lanes, any)) {
    if constexpr (kKeep)
#pragma GCC unroll 3
      for (int64_t v = 0; v < kVectors; ++v) keep(v, lowest[v]);
    return;
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kGroup; ++r) {
    uint64_t hits = 0;
#pragma GCC unroll 3
    for (int64_t v = 0; v < kVectors; ++v) {
      uint64_t bits = 0;
      const auto hit = hn::Le(s[r][v], limit[v]);
      hn::StoreMaskBits(lanes, hit, reinterpret_cast<uint8_t *>(&bits));
      hits |= bits << (v * kLanes);
      if constexpr (kKeep) keep(v, hn::IfThenElse(hit, hn::Set(lanes, __builtin_inff()), s[r][v]));
    }
    if (hits == 0) continue;
    rerank(k, rows, order[g * kGroup + r], hits);
#pragma GCC unroll 3
    for (int64_t v = 0; v < kVectors; ++v) read_limit(v);  // thresholds only fall
  }
}

template <class Scores>
inline void FilterMethod<Scores>::assign(const KMeansCall &k, Task &task, int64_t begin,
                                         int64_t end, const int32_t *hints, int32_t *labels,
                                         float *distances) const {
  if (k.k == 1) {
    for (int64_t i = begin; i < end; ++i) {
      labels[i - begin] = 0;
      distances[i - begin] = canonical_distance(k.row(i), k.centroids, k.d);
    }
    return;
  }
  [[maybe_unused]] const typename Scores::Scope scope(k.d);  // what products need of the processor
  const bool split = last != nullptr && cut < groups;
  // With few columns computing a distance again is cheaper than asking whether it is known.
  const bool reuse = last != nullptr && k.d > 64;
  for (int64_t b = begin; b < end; b += kBatch) {
    const int64_t size = min_of(kBatch, end - b);
    int32_t *label = labels + (b - begin);
    float *distance = distances + (b - begin);
    if (last != nullptr) hints = last->labels + begin;
    for (int64_t i = 0; i < size; ++i) {
      const int32_t hint = hints != nullptr ? hints[b - begin + i] : -1;
      label[i] = hint < k.k ? hint : -1;
      if (label[i] < 0) continue;
      distance[i] = reuse && drift[hint] == 0
                        ? last->distances[b + i]
                        : canonical_distance(k.row(b + i), k.centroid(hint), k.d);
    }
    int64_t near = 0;
    if (split)
      near = split_rows(task, b, size, distance);
    else
      for (int64_t i = 0; i < size; ++i) task.far[i] = static_cast<int32_t>(i);
    if (cut > 0) assign_list(k, task, task.near, near, cut, b, label, distance);
    assign_list(k, task, task.far, size - near, groups, b, label, distance);
  }
}

/// Lets the bounds of a batch fall, and lists the rows that keep their label among the centroids
/// behind the cut (near; their number is returned) and the others (far). All have a label.
template <class Scores>
HWY_INLINE int64_t FilterMethod<Scores>::split_rows(const Task &task, int64_t begin, int64_t size,
                                                    const float *distances) const {
  const Points lanes;
  const hn::RebindToSigned<Points> integers;
  const auto move = hn::Set(lanes, drift_after[cut]);
  const auto still = hn::Eq(move, hn::Zero(lanes));
  int64_t near = 0, far = 0;
  for (int64_t i = 0; i < size; i += kLanes) {
    const auto count = static_cast<size_t>(min_of(kLanes, size - i));
    const auto present = hn::FirstN(lanes, count);
    const auto own = hn::MaskedLoad(present, lanes, distances + i),
               before = hn::MaskedLoad(present, lanes, last->distances + begin + i),
               left = DriftBound::moved(hn::MaskedLoad(present, lanes, lower + begin + i), move);
    hn::BlendedStore(left, present, lanes, lower + begin + i);
    // Others lost before; if they did not move and the row came no farther, they lose again.
    const auto keeps =
        hn::And(present, hn::Or(drifts.keeps(own, left), hn::And(still, hn::Le(own, before))));
    const auto index = hn::Iota(integers, static_cast<int32_t>(i));
    const auto mask = hn::RebindMask(integers, keeps);
    hn::StoreU(hn::Compress(index, mask), integers, task.near + near);
    hn::StoreU(hn::CompressNot(index, mask), integers, task.far + far);
    const auto kept = static_cast<int64_t>(hn::CountTrue(lanes, keeps));
    near += kept;
    far += static_cast<int64_t>(count) - kept;
  }
  return near;
}

/// Rows whose scores mean something.
template <class Scores>
HWY_INLINE hn::Mask<Points> FilterMethod<Scores>::filtered(hn::Vec<Points> norm) const {
  const Points lanes;
  return hn::Le(norm, hn::Set(lanes, bound.usable ? KMeansBound::kLargestNorm : -1.0f));
}

/// The bounds that a panel's scores and comparisons give; in the place of the least scores.
template <class Scores>
HWY_INLINE void FilterMethod<Scores>::keep_bounds(PanelRows &rows) const {
  const Points lanes;
  for (int64_t p = 0; p < kPanel; p += kLanes) {
    const auto norm = hn::Load(lanes, rows.norm + p);
    const auto rest = DriftBound::from_score(bound, hn::Load(lanes, rows.rest + p), norm);
    const auto second = drifts.below(hn::Load(lanes, rows.second + p));
    hn::Store(hn::IfThenElseZero(filtered(norm), hn::Min(rest, second)), lanes, rows.rest + p);
  }
}

/// The listed rows against the first groups; labels and distances hold where to start, a negative
/// label asks for a guess.
template <class Scores>
inline void FilterMethod<Scores>::assign_list(const KMeansCall &k, const Task &task,
                                              const int32_t *list, int64_t size,
                                              int64_t group_count, int64_t begin, int32_t *labels,
                                              float *distances) const {
  PanelRows &rows = *task.rows;
  for (int64_t first = 0; first < size; first += kPanel) {
    const int64_t count = min_of(kPanel, size - first);
    for (int64_t p = 0; p < kPanel; ++p)
      rows.row[p] = k.row(begin + list[first + (p < count ? p : count - 1)]);
    pack_panel(k, mu, rows, task.panel);
    for (int64_t p = 0; p < count; ++p) {
      const int32_t i = list[first + p];
      if (labels[i] >= 0) {
        rows.label[p] = labels[i];
        rows.best[p] = distances[i];
        continue;
      }
      // What the point a panel before got: often a neighbour.
      if (first == 0) rows.label[p] = 0;
      rows.best[p] = canonical_distance(rows.row[p], k.centroid(rows.label[p]), k.d);
    }
    const Points lanes;
    const auto none = hn::Set(lanes, __builtin_inff());
    for (int64_t p = 0; p < kPanel; p += kLanes) {
      const auto norm = hn::Load(lanes, rows.norm + p);
      const auto present = hn::FirstN(lanes, static_cast<size_t>(p < count ? count - p : 0));
      const auto limit = score_limits(bound, hn::Load(lanes, rows.best + p), norm);
      hn::Store(hn::IfThenElse(hn::And(present, filtered(norm)), limit, hn::Neg(none)), lanes,
                rows.threshold + p);
      hn::Store(none, lanes, rows.rest + p);
      hn::Store(none, lanes, rows.second + p);
    }
    if (bound.usable) scores.take_panel(k, task.panel, rows, bound, task.scores);
    if (bound.usable && lower != nullptr)
      scores.template score_panel<true>(k, task.panel, rows, task.scores, group_count, *this);
    else if (bound.usable)
      scores.template score_panel<false>(k, task.panel, rows, task.scores, group_count, *this);
    if (lower != nullptr) keep_bounds(rows);
    const bool partly = group_count < groups;  // the bound of the other centroids is there already
    for (int64_t p = 0; p < count; ++p) {
      if (!bound.usable || !(rows.norm[p] <= KMeansBound::kLargestNorm))
        for (int64_t j = 0; j < k.k; ++j) rerank(k, rows, j, uint64_t{1} << p);
      const int32_t i = list[first + p];
      labels[i] = rows.label[p];
      distances[i] = rows.best[p];
      if (lower == nullptr) continue;
      float &least = lower[begin + i];
      least = partly && least < rows.rest[p] ? least : rows.rest[p];
    }
  }
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

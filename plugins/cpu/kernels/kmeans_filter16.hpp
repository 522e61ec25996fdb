// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A filter for few clusters and columns, where keeping bounds costs more than it saves: every row
/// is compared with every centroid in 16-bit integers, and where the second nearest is clearly
/// farther than the nearest nothing is left to do but to compute D* once.
///
/// In the frame x' = (x - mu) r, row and centroid are rounded to integers q and p, at most L in
/// magnitude. With e = x' - q and f = c' - p the triangle inequality gives
///   | |x' - c'| - |q - p| |  <=  |e| + |f|  <=  M / 2,
/// and A = |q - p|^2 is an exact integer. Let A_1 be the least of a row, and s >= 2 theta + 2^-19
/// with the theta of kmeans_bound.hpp. If
///   sqrt(A_j) (1 - s) - sqrt(A_1) (1 + s)  >  M
/// then |x' - c_j'| >= (1 + 2 s) |x' - c_1'|, hence D*(x, c_j) > D*(x, c_1), as long as D*(x, c_1)
/// is too large for underflow to matter and finite. 2^-19 covers the roundings of the test; M has
/// room for those of the frame. Centroids that do not pass it are compared canonically.
/// mu, r and the codes of the rows stay the same for a fit. Part of the kernel sources (needs
/// SY_ISA, 512-bit vectors).

#include "kmeans_codes.hpp"
#include "kmeans_frame.hpp"
#include "kmeans_pass.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct Filter16Method {
  static constexpr int64_t kMostColumns = 128;  // beyond, eight bits are better
  static constexpr int64_t kPoints = kCodePanel;
  static constexpr float kLeast = 0x1p-100f;  // D* below this may have lost too much
  static_assert(kInertiaBlock % kPoints == 0 && kGroup == 8);
  using V = hn::Vec<Ints>;

  struct Task {
    uint32_t *codes;   // [blocks][kPoints]: a panel's, where no state keeps them
    int32_t *squares;  // [kPoints]
  };
  struct State {
    uint32_t *codes;   // [panels][blocks][kPoints]: pairs of q
    int32_t *squares;  // [panels][kPoints]: |q|^2
    float *mu;         // [padded d]
    double rate;       // r
  };

  uint32_t *codes;  // [groups][blocks][kGroup]: pairs of -2 p
  int32_t *norms;   // [groups][kGroup]: |p|^2
  double *lost;     // [groups]: largest |f|^2
  float *own_mu;    // where no state keeps it
  float *largest;   // [chunks]: |x - mu|
  State frame;      // the state's, or with own_mu
  bool kept, filled;
  float margin, certain;  // M; s

  static int64_t blocks_of(int64_t d) { return ceil_of(d, 2); }
  static int64_t unit(const KMeansCall &) { return kPoints; }
  static constexpr bool kFixedUnits = false;
  static constexpr bool kUsesDistances = false;
  /// L: 2 p fits in 16 bits, and (2 L)^2 d in 31.
  static double most_of(int64_t d) {
    const double most = __builtin_floor(23170 / __builtin_sqrt(static_cast<double>(d))) - 1;
    return most < 16383 ? most : 16383;
  }

  static void carve_state(Carver &carver, const KMeansCall &k, State &state) {
    const int64_t panels = ceil_of(k.n, kPoints);
    state.codes = carver.take<uint32_t>(static_cast<uint64_t>(panels * blocks_of(k.d) * kPoints));
    state.squares = carver.take<int32_t>(static_cast<uint64_t>(panels * kPoints));
    state.mu = carver.take<float>(static_cast<uint64_t>(padded(k.d)));
  }
  static void start_state(const KMeansCall &, State &) {}
  void attach(State *state) {
    kept = state != nullptr;
    states_frame = state;
  }
  static void carve_shared(Carver &carver, const KMeansCall &k, Filter16Method &m) {
    const auto groups = static_cast<uint64_t>(ceil_of(k.k, kGroup));
    m.codes = carver.take<uint32_t>(groups * kGroup * static_cast<uint64_t>(blocks_of(k.d)));
    m.norms = carver.take<int32_t>(groups * kGroup);
    m.lost = carver.take<double>(groups);
    m.own_mu = carver.take<float>(static_cast<uint64_t>(padded(k.d)));
    m.largest = carver.take<float>(static_cast<uint64_t>(ceil_of(k.n, kInertiaBlock)));
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.codes = carver.take<uint32_t>(static_cast<uint64_t>(blocks_of(k.d) * kPoints));
    task.squares = carver.take<int32_t>(kPoints);
  }

  void setup(const Context &ctx, const KMeansCall &k, const KMeansState *last, uint32_t threads);
  void find_frame(const Context &ctx, const KMeansCall &k, uint32_t threads);
  void pack_group(const KMeansCall &k, int64_t g) const;
  void encode_panel(const KMeansCall &k, int64_t begin, int64_t count, uint32_t *x,
                    int32_t *squares) const;
  void nearest(const KMeansCall &k, const uint32_t *panel, int32_t *labels, int32_t *least,
               int32_t *second) const;
  HWY_NOINLINE void compare(const KMeansCall &k, const uint32_t *panel, int64_t p, int32_t limit,
                            const float *row, int32_t &label, float &distance) const;
  void assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end, const int32_t *,
              int32_t *labels, float *distances) const;

  State *states_frame;
};

/// mu, and the rate that takes the farthest coordinate to L.
inline void Filter16Method::find_frame(const Context &ctx, const KMeansCall &k, uint32_t threads) {
  frame_origin(ctx, k, threads, frame.mu);
  const int64_t chunks = ceil_of(k.n, kInertiaBlock);
  auto measure = [&](uint64_t chunk) {
    const hn::ScalableTag<float> lanes;
    constexpr int64_t kStep = hn::MaxLanes(hn::ScalableTag<float>());
    const int64_t begin = static_cast<int64_t>(chunk) * kInertiaBlock;
    auto most = hn::Zero(lanes);
    for (int64_t i = begin; i < min_of(k.n, begin + kInertiaBlock); ++i)
      for (int64_t m = 0; m < k.d; m += kStep) {
        const auto here = hn::FirstN(lanes, static_cast<size_t>(min_of(kStep, k.d - m)));
        const auto t = hn::Sub(hn::MaskedLoad(here, lanes, k.row(i) + m),
                               hn::MaskedLoad(here, lanes, frame.mu + m));
        most = hn::Max(most, hn::Abs(t));
      }
    largest[chunk] = hn::GetLane(hn::MaxOfLanes(lanes, most));
  };
  for_each(ctx, static_cast<uint64_t>(chunks), threads, measure);
  float most = 0;
  for (int64_t c = 0; c < chunks; ++c) most = largest[c] > most ? largest[c] : most;
  frame.rate = most > 0x1p-100f && most < 0x1p126f
                   ? most_of(k.d) / (static_cast<double>(most) * (1 + 0x1p-20))
                   : 0;
}

inline void Filter16Method::setup(const Context &ctx, const KMeansCall &k, const KMeansState *last,
                                  uint32_t threads) {
  filled = last != nullptr;  // a finished pass has left the frame and the codes of all rows
  frame = kept ? *states_frame : State{nullptr, nullptr, own_mu, 0};
  if (!filled) find_frame(ctx, k, threads);
  if (kept) states_frame->rate = frame.rate;
  const int64_t groups = ceil_of(k.k, kGroup);
  for_batches(ctx, groups, k.d * kGroup, threads, [&](int64_t g) { pack_group(k, g); });
  double worst = 0;
  for (int64_t g = 0; g < groups; ++g) worst = lost[g] > worst ? lost[g] : worst;
  const double d = static_cast<double>(k.d), theta = (d / 16 + 7) * 0x1p-24 * (1 + 0x1p-10);
  // |e| <= sqrt(d) / 2, and three roundings of f32 on at most 2^14 units, two of them in f64 for
  // c'.
  const double both = __builtin_sqrt(d) * (0.5 + 0x1p-7) + __builtin_sqrt(worst) * (1 + 0x1p-20);
  margin = static_cast<float>(2 * both * (1 + 0x1p-20) + 0x1p-10);
  certain = static_cast<float>(2 * theta + 0x1p-18);
}

inline void Filter16Method::pack_group(const KMeansCall &k, int64_t g) const {
  uint32_t *out = codes + g * blocks_of(k.d) * kGroup;
  memset(out, 0, static_cast<size_t>(blocks_of(k.d) * kGroup) * sizeof(uint32_t));
  lost[g] = 0;
  for (int64_t r = 0; r < kGroup; ++r) {
    const int64_t j = g * kGroup + r;
    norms[j] = INT32_MAX;  // padding wins nowhere
    if (j >= k.k) continue;
    const float *c = k.centroid(j);
    int32_t norm = 0;
    double square = 0;
    encode<int16_t>(c, frame.mu, k.d, frame.rate, most_of(k.d), [&](int64_t m, int16_t *eight) {
      for (int64_t i = 0; i < 8 && m + i < k.d; ++i) {
        const double t =
            (static_cast<double>(c[m + i]) - static_cast<double>(frame.mu[m + i])) * frame.rate;
        const double f = t - eight[i];
        square += f * f;
        norm += eight[i] * eight[i];
        eight[i] = static_cast<int16_t>(-2 * eight[i]);
      }
      each_word(k.d, m, eight, [&](int64_t b, uint32_t word) { out[b * kGroup + r] = word; });
    });
    norms[j] = norm;
    lost[g] = square > lost[g] ? square : lost[g];
  }
}

/// In f32: x - mu and its product with r have one rounding each, r itself another.
inline void Filter16Method::encode_panel(const KMeansCall &k, int64_t begin, int64_t count,
                                         uint32_t *HWY_RESTRICT x,
                                         int32_t *HWY_RESTRICT squares) const {
  const Points lanes;
  const hn::Rebind<int16_t, Points> narrow;
  const Ints integers;
  const auto rate = hn::Set(lanes, static_cast<float>(frame.rate));
  const auto most = hn::Set(lanes, static_cast<float>(most_of(k.d)));
  for (int64_t p = 0; p < kPoints; ++p) {
    const float *row = k.row(begin + (p < count ? p : count - 1));
    auto square = hn::Zero(integers);
    for (int64_t m = 0; m < k.d; m += kLanes) {
      const auto here = hn::FirstN(lanes, static_cast<size_t>(min_of(kLanes, k.d - m)));
      const auto t =
          hn::Sub(hn::MaskedLoad(here, lanes, row + m), hn::MaskedLoad(here, lanes, frame.mu + m));
      const auto limited = hn::Min(hn::Max(hn::Mul(t, rate), hn::Neg(most)), most);
      const V q = hn::NearestInt(limited);
      square = hn::Add(square, hn::Mul(q, q));
      alignas(32) uint32_t words[kLanes / 2];
      hn::Store(hn::BitCast(hn::Repartition<uint32_t, decltype(narrow)>(), hn::DemoteTo(narrow, q)),
                hn::Repartition<uint32_t, decltype(narrow)>(), words);
      const int64_t block = m / 2, end = min_of(kLanes / 2, blocks_of(k.d) - block);
      for (int64_t b = 0; b < end; ++b) x[(block + b) * kPoints + p] = words[b];
    }
    squares[p] = hn::GetLane(hn::SumOfLanes(integers, square));
  }
}

/// For each point of a panel A - |q|^2 of the nearest centroid and of the next one (which may be
/// equal), and which the nearest is.
inline void Filter16Method::nearest(const KMeansCall &k, const uint32_t *HWY_RESTRICT panel,
                                    int32_t *HWY_RESTRICT labels, int32_t *HWY_RESTRICT least,
                                    int32_t *HWY_RESTRICT second) const {
  const Ints lanes;
  V least0 = hn::Set(lanes, INT32_MAX), least1 = least0, next0 = least0, next1 = least0,
    label0 = hn::Zero(lanes), label1 = label0;
  const auto take = [&](int64_t j, V score0, V score1) HWY_ATTR {
    const V name = hn::Set(lanes, static_cast<int32_t>(j));
    next0 = hn::Min(next0, hn::Max(score0, least0));
    next1 = hn::Min(next1, hn::Max(score1, least1));
    label0 = hn::IfThenElse(hn::Lt(score0, least0), name, label0);
    label1 = hn::IfThenElse(hn::Lt(score1, least1), name, label1);
    least0 = hn::Min(score0, least0);
    least1 = hn::Min(score1, least1);
  };
  each_sum<VnniPairs>(panel, blocks_of(k.d), k.k, codes, norms, take);
  hn::Store(label0, lanes, labels);
  hn::Store(label1, lanes, labels + kLanes);
  hn::Store(least0, lanes, least);
  hn::Store(least1, lanes, least + kLanes);
  hn::Store(next0, lanes, second);
  hn::Store(next1, lanes, second + kLanes);
}

/// Compares point p of a panel canonically with every centroid whose A - |q|^2 is at most `limit`.
HWY_NOINLINE void Filter16Method::compare(const KMeansCall &k, const uint32_t *panel, int64_t p,
                                          int32_t limit, const float *row, int32_t &label,
                                          float &distance) const {
  const hn::CappedTag<int32_t, kGroup> eight;
  const int64_t blocks = blocks_of(k.d);
  const uint32_t *HWY_RESTRICT c = codes;
  for (int64_t j = 0; j < k.k; j += kGroup) {
    auto sum = hn::LoadU(eight, norms + j);
    for (int64_t b = 0; b < blocks; ++b, c += kGroup)
      VnniPairs::add(sum, hn::Set(eight, static_cast<int32_t>(panel[b * kPoints + p])),
                     hn::BitCast(eight, hn::LoadU(hn::RebindToUnsigned<decltype(eight)>(), c)));
    uint64_t bits = 0;
    hn::StoreMaskBits(eight, hn::Lt(sum, hn::Set(eight, limit + 1)),
                      reinterpret_cast<uint8_t *>(&bits));
    for (; bits != 0; bits &= bits - 1) {
      const auto other = static_cast<int32_t>(j + __builtin_ctzll(bits));
      if (other >= k.k || other == label) continue;
      const float d = canonical_distance(row, k.centroid(other), k.d);
      if (d < distance || (d == distance && other < label)) {
        distance = d;
        label = other;
      }
    }
  }
}

inline void Filter16Method::assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end,
                                   const int32_t *, int32_t *labels, float *distances) const {
  const hn::CappedTag<float, 16> lanes;
  const Ints integers;
  const int64_t words = blocks_of(k.d) * kPoints;
  for (int64_t b = begin; b < end; b += kPoints) {
    const int64_t count = min_of(kPoints, end - b);
    uint32_t *x = kept ? frame.codes + b / kPoints * words : task.codes;
    int32_t *squares = kept ? frame.squares + b : task.squares;
    if (!filled) encode_panel(k, b, count, x, squares);
    alignas(64) int32_t label[kPoints], least[kPoints], second[kPoints];
    alignas(64) float limit[kPoints];
    nearest(k, x, label, least, second);
    uint64_t unclear = 0;
    for (int64_t p = 0; p < kPoints; p += kLanes) {
      const V square = hn::LoadU(integers, squares + p);
      const auto near =
                     hn::Sqrt(hn::ConvertTo(lanes, hn::Add(hn::Load(integers, least + p), square))),
                 next = hn::Sqrt(
                     hn::ConvertTo(lanes, hn::Add(hn::Load(integers, second + p), square)));
      const auto reach =
          hn::Add(hn::Mul(near, hn::Set(lanes, 1 + certain)), hn::Set(lanes, margin));
      hn::Store(reach, lanes, limit + p);
      uint64_t bits = 0;
      hn::StoreMaskBits(lanes, hn::Not(hn::Gt(hn::Mul(next, hn::Set(lanes, 1 - certain)), reach)),
                        reinterpret_cast<uint8_t *>(&bits));
      unclear |= bits << p;
    }
    for (int64_t p = 0; p < count; ++p) {
      const float *row = k.row(b + p);
      float distance = canonical_distance(row, k.centroid(label[p]), k.d);
      const bool sound = distance >= kLeast && distance < __builtin_inff();
      if (k.k > 1 && (!sound || (unclear >> p & 1) != 0)) {
        // Rounded up; what sums of squares lack to 2^31 is more than the addition of 2.
        const double far = static_cast<double>(limit[p]) / (1 - static_cast<double>(certain));
        const double most = sound ? far * far * (1 + 0x1p-20) + 2 - squares[p] : 0x1p31;
        compare(k, x, p, most < INT32_MAX - 1 ? static_cast<int32_t>(most) : INT32_MAX - 1, row,
                label[p], distance);
      }
      labels[b - begin + p] = label[p];
      distances[b - begin + p] = distance;
    }
  }
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu

// SPDX-License-Identifier: Apache-2.0
/// Generated k-means problems.
#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.hpp"
#include "base/suggest.hpp"
#include "op/octave.hpp"
#include "ops/kmeans_problem.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::string_view kKinds[] = {"mixture",          "uniform",   "duplicates",
                                       "lattice",          "subnormal", "offset",
                                       "constant_columns", "nested",    "huge"};

/// SplitMix64: reproducible anywhere, good enough for test data.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  std::int64_t below(std::int64_t n) noexcept {
    return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n));
  }
  float uniform() noexcept { return static_cast<float>(next() >> 40) * 0x1p-24f; }
  /// Mean 0, variance 1, close to normal: a sum of four uniforms, the same bits on any libm.
  float normal() noexcept {
    const std::uint64_t r = next();
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((r >> (16 * i)) & 0xFFFF) * 0x1p-16f;
    return (sum - 2.0f) * 1.7320508f;
  }

 private:
  std::uint64_t state_;
};

struct Sizes {
  std::int64_t n = 0, d = 0, k = 0, stride = 0;
};

void fill_rows(float *x, const Sizes &s, std::string_view kind, Random &random) {
  const bool clustered = kind == "mixture" || kind == "offset" || kind == "constant_columns";
  std::vector<float> centres;
  if (clustered) {
    centres.resize(static_cast<std::size_t>(s.k * s.d));
    for (float &c : centres) c = random.normal();
  }
  const std::int64_t distinct = std::max<std::int64_t>(1, std::min<std::int64_t>(5, s.n / 2));
  for (std::int64_t i = 0; i < s.n; ++i) {
    float *row = x + i * s.stride;
    if (kind == "duplicates" && i >= distinct) {
      const float *source = x + random.below(distinct) * s.stride;
      std::copy(source, source + s.d, row);
      continue;
    }
    const std::int64_t cluster = clustered ? random.below(s.k) * s.d : 0;
    for (std::int64_t m = 0; m < s.d; ++m) {
      float v = 0;
      if (clustered)
        v = centres[static_cast<std::size_t>(cluster + m)] + 0.7f * random.normal();
      else if (kind == "lattice")
        v = static_cast<float>(random.below(5));
      else if (kind == "subnormal")
        v = random.normal() * 0x1p-70f * 0x1p-72f;
      else if (kind == "huge")
        v = random.normal() * 0x1p100f;
      else
        v = random.uniform();
      if (kind == "offset") v += 10000.0f;
      if (kind == "constant_columns" && m % 3 != 0) v = m % 3 == 1 ? 0.0f : -2.5f;
      row[m] = v;
    }
  }
}

void fill_centroids(float *c, const float *x, const Sizes &s, std::string_view kind,
                    Random &random) {
  for (std::int64_t j = 0; j < s.k; ++j) {
    // Distinct rows when k == n, so that ties with several equal centroids stay the exception.
    const std::int64_t source = s.k == s.n ? (j * 7919) % s.n : random.below(s.n);
    const float *row = x + source * s.stride;
    for (std::int64_t m = 0; m < s.d; ++m) {
      float v = row[m];
      if (kind == "lattice") v = 0.5f * static_cast<float>(random.below(9));
      if (kind == "nested") v = std::ldexp(random.uniform(), static_cast<int>(j % 40));
      c[j * s.d + m] = v;
    }
  }
}

template <class T>
Result<Tensor> vector_of(DType dtype, std::int64_t n, T value) {
  auto t = Tensor::empty(dtype, std::array{n});
  if (t) std::fill_n(t->data<T>(), n, value);
  return t;
}

void fill_shifts(std::int32_t *shifts, const float *x, const float *w, const Sizes &s) {
  for (std::int64_t m = 0; m < s.d; ++m) {
    double largest = 0;
    for (std::int64_t i = 0; i < s.n; ++i) {
      const double v = x[i * s.stride + m];
      largest = std::max(largest, std::abs(w != nullptr ? static_cast<double>(w[i]) * v : v));
    }
    shifts[m] = sy_kmeans_shift(largest, s.n);
  }
}

/// x with `pad` elements between rows and `misalign` before the first.
Result<Tensor> make_x(const Sizes &s, std::int64_t misalign) {
  const auto elements = checked_mul(s.n, s.stride);
  if (!elements) return fail(ErrorCode::overflow, "the problem is too large");
  auto memory = Tensor::empty(dtypes::f32, std::array{*elements + misalign});
  if (!memory) return memory;
  std::fill_n(memory->data<float>(), memory->elements(), std::nanf(""));  // pads are never read
  auto owner = std::make_shared<Tensor>(std::move(*memory));
  const TensorView view(static_cast<void *>(owner->data<float>() + misalign), dtypes::f32,
                        std::array{s.n, s.d}, std::array<std::int64_t, 2>{s.stride, 1});
  return Tensor::adopt(view, std::move(owner));
}

struct Wanted {
  bool weighted = false, previous = false, labels = true, distances = false, inertia = false,
       int8 = false;
};

Result<Wanted> wanted(Primitive op, const Shape &shape) {
  Wanted w;
  const auto read = [&](std::string_view name, bool &value) -> Status {
    auto flag = shape.flag(name, value);
    if (!flag) return tl::unexpected(flag.error());
    value = *flag;
    return {};
  };
  std::vector<std::string_view> known{"n",         "d",   "k",        "dtype", "weighted",
                                      "distances", "pad", "misalign", "data"};
  std::vector<std::pair<std::string_view, bool *>> flags{{"weighted", &w.weighted},
                                                         {"distances", &w.distances}};
  if (op == Primitive::step) {
    known.insert(known.end(), {"previous", "int8"});
    flags.emplace_back("previous", &w.previous);
    flags.emplace_back("int8", &w.int8);
  } else {
    known.insert(known.end(), {"labels", "inertia"});
    flags.emplace_back("labels", &w.labels);
    flags.emplace_back("inertia", &w.inertia);
  }
  if (auto s = shape.only(known); !s) return tl::unexpected(s.error());
  for (auto &[name, value] : flags)
    if (auto s = read(name, *value); !s) return tl::unexpected(s.error());
  if (op == Primitive::assign && !w.labels && !w.distances && !w.inertia)
    return fail(ErrorCode::usage, "labels, distances and inertia are all 0: nothing is wanted");
  return w;
}

void set_outputs(Primitive op, const Wanted &w, const Sizes &s, Problem &p) {
  const TensorSpec rows{dtypes::i32, {s.n}, {}}, distances{dtypes::f32, {s.n}, {}},
      blocks{dtypes::f64, {ceil_div(s.n, SY_KMEANS_INERTIA_BLOCK)}, {}},
      clusters{dtypes::i64, {s.k}, {}};
  const auto if_wanted = [](bool yes, const TensorSpec &spec) {
    return yes ? std::optional(spec) : std::nullopt;
  };
  if (op == Primitive::step)
    p.outputs = {rows,
                 TensorSpec{dtypes::i64, {s.k, s.d}, {}},
                 clusters,
                 if_wanted(w.weighted, clusters),
                 blocks,
                 TensorSpec{dtypes::i64, {1}, {}},
                 if_wanted(w.distances, distances)};
  else
    p.outputs = {if_wanted(w.labels, rows), if_wanted(w.distances, distances),
                 if_wanted(w.inertia, blocks)};
}

}  // namespace

Result<Problem> make_problem(Primitive op, const Shape &shape, std::uint64_t seed) {
  const auto want = wanted(op, shape);
  if (!want) return tl::unexpected(want.error());
  const auto n = shape.integer("n", 1000, 1, std::int64_t{1} << 40);
  const auto d = shape.integer("d", 16, 1, 1 << 24);
  const auto k = shape.integer("k", 8, 1, INT32_MAX);
  const auto pad = shape.integer("pad", 0, 0, 4096);
  const auto misalign = shape.integer("misalign", 0, 0, 15);
  for (const auto *item : {&n, &d, &k, &pad, &misalign})
    if (!*item) return tl::unexpected(item->error());
  const auto dtype = shape.dtype("dtype", dtypes::f32);
  if (!dtype) return tl::unexpected(dtype.error());
  if (!same(*dtype, dtypes::f32))
    return fail(ErrorCode::usage, "k-means primitives take dtype=f32 only");
  const std::string kind = shape.word("data", "mixture");
  if (std::ranges::find(kKinds, kind) == std::end(kKinds))
    return fail(ErrorCode::usage,
                fmt::format("data={} is not known{}", kind, did_you_mean(kind, kKinds)));

  const Sizes s{*n, *d, *k, *d + *pad};
  Random random(seed ^ 0x6B6D65616E73ull);
  Problem p;
  p.op = op == Primitive::step ? SY_OP_KMEANS_STEP : SY_OP_KMEANS_ASSIGN;
  p.shape = shape;
  p.seed = seed;
  p.inputs.resize(op == Primitive::step ? SY_KMEANS_STEP_INPUTS : SY_KMEANS_ASSIGN_INPUTS);
  auto x = make_x(s, *misalign);
  if (!x) return tl::unexpected(x.error());
  auto c = Tensor::empty(dtypes::f32, std::array{s.k, s.d});
  if (!c) return tl::unexpected(c.error());
  fill_rows(x->data<float>(), s, kind, random);
  fill_centroids(c->data<float>(), x->data<float>(), s, kind, random);
  sy_kmeans_params params{};
  if (want->int8) {
    params.flags = SY_KMEANS_INT8;
    for (std::int64_t i = 0; i < s.n * s.stride; ++i)
      if (i % s.stride < s.d)
        params.largest = std::max(params.largest, std::abs(x->data<float>()[i]));
  }
  const float *weights = nullptr;
  if (want->weighted) {
    auto w = Tensor::empty(dtypes::f32, std::array{s.n});
    if (!w) return tl::unexpected(w.error());
    float largest = 0;
    for (std::int64_t i = 0; i < s.n; ++i) {
      const float v = i % 11 == 3 ? 0.0f : 3.0f * random.uniform();
      w->data<float>()[i] = v;
      largest = std::max(largest, v);
    }
    params.weight_shift = sy_kmeans_shift(largest, s.n);
    p.inputs[SY_KMEANS_IN_WEIGHTS] = std::move(*w);
    weights = p.inputs[SY_KMEANS_IN_WEIGHTS].data<float>();
  }
  if (op == Primitive::step) {
    auto shifts = Tensor::empty(dtypes::i32, std::array{s.d});
    if (!shifts) return tl::unexpected(shifts.error());
    fill_shifts(shifts->data<std::int32_t>(), x->data<float>(), weights, s);
    p.inputs[SY_KMEANS_IN_SHIFTS] = std::move(*shifts);
  }
  if (want->previous) {
    auto previous = vector_of<std::int32_t>(dtypes::i32, s.n, 0);
    if (!previous) return tl::unexpected(previous.error());
    for (std::int64_t i = 0; i < s.n; ++i)
      previous->data<std::int32_t>()[i] = static_cast<std::int32_t>(random.below(s.k));
    p.inputs[SY_KMEANS_IN_PREVIOUS_LABELS] = std::move(*previous);
  }
  p.inputs[SY_KMEANS_IN_X] = std::move(*x);
  p.inputs[SY_KMEANS_IN_CENTROIDS] = std::move(*c);
  p.set_params(params);
  set_outputs(op, *want, s, p);
  return p;
}

std::span<const std::string_view> data_kinds() noexcept { return kKinds; }

std::vector<Shape> conformance_shapes(Primitive op) {
  std::vector<Shape> shapes;
  const auto add = [&](std::int64_t n, std::int64_t d, std::int64_t k, std::string_view data,
                       bool weighted = false, bool previous = false, std::int64_t pad = 0,
                       std::int64_t misalign = 0) {
    Shape s;
    s.set("n", n).set("d", d).set("k", k).set("dtype", "f32");
    if (weighted) s.set("weighted", 1);
    if (op == Primitive::step && previous) s.set("previous", 1);
    if (shapes.size() % 2 == 0) s.set("distances", 1);
    if (op == Primitive::assign) {
      if (shapes.size() % 3 == 0) s.set("inertia", 1);
      if (shapes.size() % 4 == 2) s.set("labels", 0).set("distances", 1);
    }
    if (pad != 0) s.set("pad", pad);
    if (misalign != 0) s.set("misalign", misalign);
    s.set("data", std::string(data));
    shapes.push_back(std::move(s));
  };
  for (std::int64_t d : {1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33})
    add(101 + d, d, 1 + (d * 5) % 23, "mixture", d % 3 == 0, d % 2 == 0, d % 4, d % 5);
  for (std::string_view kind : kKinds) {
    add(333, 3, 17, kind, false, true);
    add(129, 20, 33, kind, true, false, 3, 1);
  }
  add(1, 1, 1, "uniform");
  add(1, 7, 1, "uniform", true, true);
  add(64, 5, 64, "uniform");                // k = n
  add(200, 16, 1, "mixture");               // k = 1
  add(8192, 2, 3, "uniform");               // exactly one inertia block
  add(8193, 1, 2, "lattice", true, true);   // one row more
  add(20011, 3, 5, "uniform", true, true);  // several blocks
  add(500, 100, 10, "mixture", false, true);
  add(300, 130, 129, "offset");
  add(97, 257, 31, "nested", false, false, 7);
  add(4000, 2, 200, "lattice", false, true);
  if (op == Primitive::assign) return shapes;
  const auto add_int8 = [&](auto... what) {
    add(what...);
    shapes.back().set("int8", 1);
  };
  for (std::int64_t d : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33})
    add_int8(95 + d, d, 1 + (d * 5) % 23, "mixture", d % 3 == 0, d % 2 == 0, d % 4, d % 5);
  for (std::string_view kind : kKinds) add_int8(333, 21, 19, kind, false, true, 3, 1);
  add_int8(1, 1, 1, "uniform", true);
  add_int8(8200, 6, 13, "duplicates");
  add_int8(20011, 3, 5, "lattice", true, true);
  add_int8(97, 300, 40, "mixture");
  return shapes;
}

std::vector<Shape> gate_shapes(Primitive, const Shape &like) {
  // About 2 ns a multiply-add in the reference: a few milliseconds a problem, so that a first call
  // need not wait long for its backend.
  constexpr std::int64_t kBudget = 2'000'000;
  const std::int64_t n = like.integer("n", 1000, 1, std::int64_t{1} << 40).value_or(1000);
  const std::int64_t d =
      std::min<std::int64_t>(like.integer("d", 16, 1, 1 << 24).value_or(16), 100'000);
  const std::int64_t k = like.integer("k", 8, 1, INT32_MAX).value_or(8);
  std::vector<Shape> shapes;
  const auto add = [&](std::int64_t rows, std::int64_t columns, std::int64_t clusters,
                       std::string_view data, std::int64_t pad = 0, std::int64_t misalign = 0) {
    // At least as many rows as clusters, so at most the root of what the columns leave.
    const auto root = static_cast<std::int64_t>(std::sqrt(static_cast<double>(kBudget / columns)));
    clusters = std::clamp<std::int64_t>(std::min(kBudget / 61 / columns, root), 1, clusters);
    rows =
        std::clamp<std::int64_t>(kBudget / columns / clusters, clusters, std::max(rows, clusters));
    Shape s = like;
    s.set("n", rows).set("d", columns).set("k", clusters).set("data", std::string(data));
    s.set("pad", pad).set("misalign", misalign);
    shapes.push_back(std::move(s));
  };
  const std::int64_t rows = std::min<std::int64_t>(octave_odd(n), 5003);
  add(rows, octave_odd(d), octave_odd(k), "mixture");
  add(rows, octave_even(d), octave_even(k), "mixture", 3, 5);
  add(std::min<std::int64_t>(rows, 777), octave_odd(d), octave_odd(k), "lattice", 1);
  add(std::min<std::int64_t>(rows, 401), octave_even(d), octave_odd(k), "offset", 0, 1);
  // The remaining kinds, and more than one inertia block, on few columns.
  for (std::string_view kind : {"duplicates", "subnormal", "nested", "huge"})
    add(251, std::min<std::int64_t>(octave_odd(d), 37), std::min<std::int64_t>(octave_odd(k), 43),
        kind);
  if (n > SY_KMEANS_INERTIA_BLOCK)
    add(SY_KMEANS_INERTIA_BLOCK + 811, std::min<std::int64_t>(octave_odd(d), 9),
        std::min<std::int64_t>(octave_odd(k), 19), "uniform");
  return shapes;
}

}  // namespace switchyard::kmeans

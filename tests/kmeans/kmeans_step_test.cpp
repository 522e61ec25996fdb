// SPDX-License-Identifier: Apache-2.0
// Every backend's primitives against the reference, bit by bit.
#include <gtest/gtest.h>
#include <switchyard/ops/kmeans.h>

#include <cmath>

#include "op/op_spec.hpp"
#include "ops/kmeans_problem.hpp"
#include "plugin_runner.hpp"

namespace switchyard::testing {
namespace {

void expect_same(const OpSpec &spec, PluginRunner &reference, const Shape &shape,
                 std::uint64_t seed) {
  auto problem = spec.make_problem(shape, seed);
  ASSERT_TRUE(problem) << shape.text() << ": " << problem.error().message;
  auto want = ProblemOutputs::make(*problem);
  ASSERT_TRUE(want);
  const auto inputs = static_cast<std::uint32_t>(problem->inputs.size());
  const auto outputs = static_cast<std::uint32_t>(problem->outputs.size());
  CallFrame expected(inputs, outputs);
  bind(*problem, *want, expected);
  auto valid = spec.validate(expected.call());
  ASSERT_TRUE(valid) << shape.text() << ": " << valid.error().message;
  ASSERT_TRUE(reference.run(spec.id(), expected.call(), nullptr, nullptr));
  for (const auto &[id, variant] : fast_kernels(spec.id()))
    for (std::uint32_t threads : {1u, 2u, 3u, 7u}) {
      auto runner = PluginRunner::load(id, threads, true, variant);
      if (!runner->supports(spec.id(), expected.call())) continue;
      auto got = ProblemOutputs::make(*problem);
      CallFrame frame(inputs, outputs);
      bind(*problem, *got, frame);
      auto states = runner->make_states(~0ull);
      // The second call with a state takes the delta path.
      for (Runner::States *s :
           {static_cast<Runner::States *>(nullptr), states.get(), states.get()}) {
        ASSERT_TRUE(runner->run(spec.id(), frame.call(), s, nullptr));
        auto difference = spec.compare(*problem, frame.call(), expected.call(), {});
        EXPECT_FALSE(difference) << id << variant << ", " << threads << " threads, " << shape.text()
                                 << ": " << *difference;
        EXPECT_FALSE(got->overrun()) << id << ", " << shape.text();
      }
    }
}

TEST(KMeansPrimitives, EqualTheReferenceBitByBit) {
  auto reference = reference_runner();
  ASSERT_FALSE(fast_backends().empty());
  for (const OpSpec *spec : {&kmeans_step_spec(), &kmeans_assign_spec(), &kmeans_seed_spec()})
    for (const Shape &shape : spec->conformance_shapes()) expect_same(*spec, *reference, shape, 1);
}

TEST(KMeansPrimitives, GateShapesAreValidAndSmall) {
  for (const OpSpec *spec : {&kmeans_step_spec(), &kmeans_assign_spec(), &kmeans_seed_spec()})
    for (const char *text : {"n=100000,d=128,k=1024", "n=5,d=1,k=1", "n=1000000,d=2,k=1000,pad=1",
                             "n=1e9,d=100000,k=1e6", "n=20000,d=3,k=64,weighted=1"}) {
      const auto shapes = spec->gate_shapes(*Shape::parse(text));
      ASSERT_FALSE(shapes.empty());
      for (const Shape &s : shapes) {
        const auto n = *s.integer("n", 0, 0, INT64_MAX), d = *s.integer("d", 0, 0, INT64_MAX),
                   k = *s.integer("k", 0, 0, INT64_MAX);
        EXPECT_LE(n * d * k, 3'000'000) << s.text();
        EXPECT_TRUE(spec->make_problem(s, 1)) << s.text();
      }
    }
}

TEST(KMeansPrimitives, StateFollowsMovingCentroids) {
  auto reference = reference_runner();
  const auto &spec = kmeans_step_spec();
  constexpr int kClusters = 41, kColumns = 5;
  for (const auto &[id, variant] : fast_kernels(spec.id()))
    for (const char *data : {"mixture", "lattice", "duplicates"}) {
      auto shape = *Shape::parse("n=5000,d=5,k=41,weighted=1,previous=1,distances=1");
      shape.set("data", data);
      if (variant.starts_with(".int8")) shape.set("int8", 1);
      auto problem = *spec.make_problem(shape, 5);
      auto want = *ProblemOutputs::make(problem), got = *ProblemOutputs::make(problem);
      auto runner = PluginRunner::load(id, 3, true, variant);
      auto states = runner->make_states(1u << SY_KMEANS_IN_X | 1u << SY_KMEANS_IN_WEIGHTS |
                                        1u << SY_KMEANS_IN_SHIFTS);
      auto *c = problem.inputs[SY_KMEANS_IN_CENTROIDS].data<float>();
      // Few, most, none and all of the centroids move, by steps that make new ties on the lattice.
      for (int every : {7, 1, 100, 2, 5, 13, 1}) {
        for (int j = every % 3; j < kClusters; j += every)
          for (int m = 0; m < kColumns; ++m)
            c[j * kColumns + m] += 0.5f * static_cast<float>((j + m + every) % 3 - 1);
        CallFrame a(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS),
            b(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
        bind(problem, want, a);
        bind(problem, got, b);
        ASSERT_TRUE(reference->run(spec.id(), a.call(), nullptr, nullptr));
        ASSERT_TRUE(runner->run(spec.id(), b.call(), states.get(), nullptr));
        auto difference = spec.compare(problem, b.call(), a.call(), {});
        EXPECT_FALSE(difference) << id << variant << ", " << data << ", " << every << ": "
                                 << *difference;
      }
    }
}

TEST(KMeansPrimitives, BoundsKeptBetweenStepsLoseNoMinimiser) {
  // What a fit does: moves shrink from step to step, a few centroids jump, some stay. Bounds that
  // were too tight by a rounding would keep a wrong label, which the reference does not have.
  auto reference = reference_runner();
  const auto &spec = kmeans_step_spec();
  int compared = 0;
  for (std::string_view data : kmeans::data_kinds())
    for (const char *sizes : {"n=1500,d=20,k=70", "n=900,d=3,k=40", "n=700,d=130,k=33"}) {
      auto shape = *Shape::parse(sizes);
      shape.set("data", std::string(data)).set("previous", 1).set("distances", 1);
      auto problem = *spec.make_problem(shape, 11);
      auto want = *ProblemOutputs::make(problem), got = *ProblemOutputs::make(problem);
      const auto start = problem.inputs[SY_KMEANS_IN_CENTROIDS].view();
      auto *c = problem.inputs[SY_KMEANS_IN_CENTROIDS].data<float>();
      const std::vector<float> first(c, c + start.elements());
      for (const auto &[id, variant] : fast_kernels(spec.id())) {
        auto runner = PluginRunner::load(id, 2, true, variant);
        CallFrame b(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
        bind(problem, got, b);
        if (!runner->supports(spec.id(), b.call())) continue;
        std::copy(first.begin(), first.end(), c);
        auto states = runner->make_states(~0ull);
        for (int step = 0; step < 9; ++step) {
          CallFrame a(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
          bind(problem, want, a);
          ASSERT_TRUE(reference->run(spec.id(), a.call(), nullptr, nullptr));
          ASSERT_TRUE(runner->run(spec.id(), b.call(), states.get(), nullptr));
          auto difference = spec.compare(problem, b.call(), a.call(), {});
          EXPECT_FALSE(difference)
              << id << variant << ", " << shape.text() << ", step " << step << ": " << *difference;
          ++compared;
          // Towards the rows' means, less and less; every seventh stays, one jumps to a row.
          const auto *labels = want.view(SY_KMEANS_STEP_OUT_LABELS).data<std::int32_t>();
          const auto &x = problem.inputs[SY_KMEANS_IN_X].view();
          const std::int64_t k = start.dim(0), d = start.dim(1);
          for (std::int64_t i = 0; i < x.dim(0); ++i) {
            const std::int64_t j = labels[i];
            if ((j + step) % 7 == 0) continue;
            const float share = j % k == step ? 1.0f : 0.02f / static_cast<float>(1 + step);
            for (std::int64_t m = 0; m < d; ++m)
              c[j * d + m] += share * (x.data<float>()[i * x.stride(0) + m] - c[j * d + m]);
          }
        }
      }
    }
  EXPECT_GT(compared, 500);
}

TEST(KMeansPrimitives, CancelledCallsSaySoAndSpoilNoState) {
  const auto &spec = kmeans_step_spec();
  auto reference = reference_runner();
  auto problem = *spec.make_problem(*Shape::parse("n=20000,d=40,k=200,previous=1"), 3);
  auto want = *ProblemOutputs::make(problem), got = *ProblemOutputs::make(problem);
  CallFrame expected(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
  bind(problem, want, expected);
  ASSERT_TRUE(reference->run(spec.id(), expected.call(), nullptr, nullptr));
  for (const auto &id : fast_backends()) {
    auto runner = PluginRunner::load(id, 2);
    auto states = runner->make_states(~0ull);
    CallFrame frame(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
    bind(problem, got, frame);
    ASSERT_TRUE(runner->run(spec.id(), frame.call(), states.get(), nullptr));
    std::atomic<int> polls{0};
    frame.call().progress = [](void *arg, double done) -> std::int32_t {
      EXPECT_GE(done, 0);
      EXPECT_LE(done, 1);
      return ++*static_cast<std::atomic<int> *>(arg) >= 2;
    };
    frame.call().progress_arg = &polls;
    auto status = runner->run(spec.id(), frame.call(), states.get(), nullptr);
    ASSERT_FALSE(status) << id;
    EXPECT_EQ(status.error().code, ErrorCode::cancelled) << id;
    EXPECT_GE(polls.load(), 2) << id;
    frame.call().progress = nullptr;
    ASSERT_TRUE(runner->run(spec.id(), frame.call(), states.get(), nullptr));
    EXPECT_FALSE(spec.compare(problem, frame.call(), expected.call(), {})) << id;
  }
}

TEST(KMeansValidation, NamesWhatIsWrong) {
  const auto &spec = kmeans_step_spec();
  auto problem = *spec.make_problem(*Shape::parse("n=20,d=4,k=3,weighted=1,previous=1"), 3);
  auto outputs = *ProblemOutputs::make(problem);
  const auto refused = [&](auto &&spoil, ErrorCode code, std::string_view word) {
    CallFrame frame(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
    bind(problem, outputs, frame);
    spoil(frame);
    auto status = spec.validate(frame.call());
    ASSERT_FALSE(status) << word;
    EXPECT_EQ(status.error().code, code) << status.error().message;
    EXPECT_NE(status.error().message.find(word), std::string::npos) << status.error().message;
  };
  const float values[12] = {};
  refused([&](CallFrame &f) { f.input(SY_KMEANS_IN_X, {}); }, ErrorCode::invalid_argument, "x");
  refused(
      [&](CallFrame &f) {
        f.input(SY_KMEANS_IN_CENTROIDS, TensorView(values, {4, 3}));
      },
      ErrorCode::shape, "centroids");
  refused([&](CallFrame &f) { f.input(SY_KMEANS_IN_WEIGHTS, TensorView(values, {12})); },
          ErrorCode::shape, "weights");
  refused([&](CallFrame &f) { f.input(SY_KMEANS_IN_SHIFTS, TensorView(values, {4})); },
          ErrorCode::dtype, "shifts");
  refused([&](CallFrame &f) { f.output(SY_KMEANS_STEP_OUT_SUMS, {}); }, ErrorCode::invalid_argument,
          "sums");
  refused([&](CallFrame &f) { f.call().params = nullptr; }, ErrorCode::invalid_argument,
          "parameters");
  sy_kmeans_params params{};
  const auto with = [&](std::uint32_t flags, float largest) {
    return [&params, flags, largest](CallFrame &f) {
      params.flags = flags;
      params.largest = largest;
      f.params(params);
    };
  };
  refused(with(6, 1), ErrorCode::unsupported, "flags 0x6");
  refused(with(SY_KMEANS_INT8, -1), ErrorCode::invalid_argument, "largest is -1");
  refused(with(SY_KMEANS_INT8, INFINITY), ErrorCode::invalid_argument, "largest is inf");
  // A caller built with version 1.0 knows no `largest`.
  const auto first_version = [&](std::uint32_t flags) {
    return [&params, flags](CallFrame &f) {
      params.flags = flags;
      f.params(params);
      params.struct_size = 16;
      f.call().params_size = 16;
    };
  };
  refused(first_version(SY_KMEANS_INT8), ErrorCode::invalid_argument, "largest");
  CallFrame old(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
  bind(problem, outputs, old);
  first_version(0)(old);
  EXPECT_TRUE(spec.validate(old.call()));
}

TEST(KMeansInt8, LabelsAreWhatTheHeaderSays) {
  // Seven rows, three centroids, by hand: codes of 127, 64, -127 and so on, a tie, a saturated one.
  const float x[] = {1, 0, -1, 0.25f, 0.5f, -0.5f, 1}, c[] = {0.41f, 0.6f, 4};
  auto runner = reference_runner();
  const auto &spec = kmeans_step_spec();
  auto problem = *spec.make_problem(*Shape::parse("n=7,d=1,k=3,int8=1,distances=1"), 1);
  std::copy_n(x, 7, problem.inputs[SY_KMEANS_IN_X].data<float>());
  std::copy_n(c, 3, problem.inputs[SY_KMEANS_IN_CENTROIDS].data<float>());
  auto outputs = *ProblemOutputs::make(problem);
  CallFrame frame(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
  bind(problem, outputs, frame);
  sy_kmeans_params params{};
  params.flags = SY_KMEANS_INT8;
  params.largest = 1;
  frame.params(params);
  ASSERT_TRUE(runner->run(spec.id(), frame.call(), nullptr, nullptr));
  // Codes of x: 127, 0, -127, 32, 64 (63.5 to even), -64, 127; of c: 52, 76, 127.
  const auto *labels = outputs.view(SY_KMEANS_STEP_OUT_LABELS).data<std::int32_t>();
  EXPECT_EQ(std::vector<std::int32_t>(labels, labels + 7),
            (std::vector<std::int32_t>{2, 0, 0, 0, 0, 0, 2}));
  const auto *distances = outputs.view(SY_KMEANS_STEP_OUT_DISTANCES).data<float>();
  EXPECT_EQ(distances[0], 9.0f);  // to the centroid itself, not to its code
}

}  // namespace
}  // namespace switchyard::testing

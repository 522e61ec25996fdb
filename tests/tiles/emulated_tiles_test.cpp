// SPDX-License-Identifier: Apache-2.0
/// Every kernel for AMX tiles against the reference, over emulated tiles: all problems of its
/// operation, tensors between guard pages. Prints how many problems each was given.
#include <switchyard/ops/attention.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/matmul.h>

#include <iostream>

#include "base/status_codes.hpp"
#include "facade/engine_impl.hpp"
#include "host/host.hpp"
#include "ops/kmeans_problem.hpp"
#include "support/engine_support.hpp"
#include "support/sanitized.hpp"
#include "verify/guard_pages.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kEvery = SWITCHYARD_SANITIZED ? 9 : 1;  // sanitizers are slow

bool has_avx512() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

/// Gives every kernel of every operation the shapes that `shapes_of` lists for it.
template <class Shapes>
void check_kernels(const Shapes &shapes_of) {
  report_guard_faults(STDERR_FILENO);
  Options options = testing::test_options();
  options.plugin_paths = {testing::fixture_directory("emulated_tiles")};
  Engine engine = testing::make_engine(options);
  const Registry &registry = *engine.impl().registry;
  std::map<std::string, int> checks;
  for (OpIndex op = 0; op < all_ops().size(); ++op) {
    const OpSpec &spec = *all_ops()[op];
    std::vector<const Candidate *> kernels;
    for (const Candidate *c : registry.candidates(op))
      if (c->backend == "emulated_tiles") {
        kernels.push_back(c);
        checks[c->name] += 0;
      }
    if (kernels.empty()) continue;
    std::size_t turn = 0;
    for (const Shape &shape : shapes_of(spec)) {
      if (turn++ % kEvery != 0) continue;
      const auto problem = spec.make_problem(shape, 20);
      ASSERT_TRUE(problem) << shape.text() << ": " << problem.error().message;
      Expected expected(op, registry.reference(), *problem);
      for (const Candidate *c : kernels)
        for (const std::uint32_t threads : {1u, 3u}) {
          const auto verdict = check_problem(*c, expected, threads, Guards::pages);
          if (!verdict) continue;
          ++checks[c->name];
          EXPECT_EQ(*verdict, "") << c->name << " on " << threads << " threads, " << shape.text();
        }
    }
  }
  for (const auto &[kernel, count] : checks) {
    std::cout << "checks " << kernel << ": " << count << "\n";
    EXPECT_GT(count, 0) << kernel << " was given no problem";
  }
  EXPECT_GE(checks.size(), 5u);
}

TEST(EmulatedTiles, EveryKernelAgreesWithTheReference) {
  if (!has_avx512()) GTEST_SKIP() << "what surrounds the tiles needs AVX-512";
  check_kernels([](const OpSpec &spec) { return spec.conformance_shapes(); });
}

/// One below, at and one above the edges of tiles, steps, panels and blocks.
std::vector<Shape> edges_of(const OpSpec &spec) {
  std::vector<Shape> shapes;
  int turn = 0;
  const auto sized = [](std::initializer_list<std::pair<const char *, std::int64_t>> sizes) {
    Shape s;
    for (const auto &[name, size] : sizes) s.set(name, size);
    return s;
  };
  if (spec.id() == SY_OP_MATMUL) {
    for (const std::int64_t m : {15, 16, 17, 33, 481, 513})
      for (const std::int64_t n : {47, 48, 49, 145})
        for (const std::int64_t k : {31, 32, 33, 512, 513, 544})
          shapes.push_back(sized({{"m", m}, {"n", n}, {"k", k}}).set("dtype", std::string("bf16")));
  } else if (spec.id() == SY_OP_ATTENTION) {
    const std::int64_t queries[] = {1, 16, 17, 47, 48, 49, 100},
                       columns[] = {1, 15, 16, 17, 64, 80};
    for (const std::int64_t d : {1, 2, 31, 32, 33, 64, 96, 130})
      for (const std::int64_t keys : {1, 2, 15, 16, 17, 31, 33, 95, 96, 97, 193}) {
        const std::int64_t group = 1 + turn % 3;
        Shape s = sized({{"b", 1},
                         {"hq", 2 * group},
                         {"hkv", 2},
                         {"lq", queries[turn % 7]},
                         {"lkv", keys},
                         {"d", d},
                         {"dv", columns[turn % 6]}});
        s.set("dtype", std::string("bf16"));
        if (turn % 2 == 0) s.set("causal", std::string("bottom_right"));
        if (turn % 5 == 0) s.set("data", std::string("nan_key"));
        shapes.push_back(std::move(s));
        ++turn;
      }
  } else {
    const auto kinds = kmeans::data_kinds();
    for (const std::int64_t d : {1, 3, 4, 16, 63, 64, 65, 128, 129, 260})
      for (const std::int64_t k : {1, 8, 9, 15, 16, 17, 31, 33, 40, 64})
        for (const bool int8 : {false, true}) {
          if (int8 && spec.id() != SY_OP_KMEANS_STEP) continue;
          Shape s = sized({{"n", 64 + turn % 70}, {"d", d}, {"k", k}});
          s.set("data", std::string(kinds[static_cast<std::size_t>(turn) % kinds.size()]));
          if (int8) s.set("int8", 1);
          shapes.push_back(std::move(s));
          ++turn;
        }
  }
  return shapes;
}

TEST(EmulatedTiles, SizesAtTheEdgesOfTiles) {
  if (!has_avx512()) GTEST_SKIP() << "what surrounds the tiles needs AVX-512";
  check_kernels(edges_of);
}

TEST(AmxPermission, IsAskedForOnceAndRefusedInWords) {
  const std::int32_t state = request_amx();
  EXPECT_EQ(state == SY_OK, amx_refusal().empty()) << amx_refusal();
  EXPECT_EQ(request_amx(), state);
  const sy_host *host = make_host({});
  EXPECT_EQ(host->amx_state(host), state);
}

TEST(AmxPermission, TheCapOnInstructionSetsRefusesItsKernels) {
  Options options = testing::test_options();
  options.isa = "avx512_bf16";
  Engine engine = testing::make_engine(options);
  const Registry &registry = *engine.impl().registry;
  int kernels = 0;
  bool loaded = false;
  for (OpIndex op = 0; op < all_ops().size(); ++op)
    for (const Candidate *c : registry.candidates(op)) {
      loaded = loaded || c->backend == "avx512";
      if (!c->name.ends_with("amx@avx512")) continue;
      ++kernels;
      int accepted = 0, refused_for_tiles = 0;
      for (const Shape &shape : all_ops()[op]->conformance_shapes()) {
        const auto problem = all_ops()[op]->make_problem(shape, 1);
        auto outputs = ProblemOutputs::make(*problem);
        CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                        static_cast<std::uint32_t>(problem->outputs.size()));
        bind(*problem, *outputs, frame);
        sy_error reason = make_abi_error();
        accepted += c->supports(frame.call(), &reason);
        refused_for_tiles += std::string_view(reason.message).find("AMX") != std::string_view::npos;
      }
      EXPECT_EQ(accepted, 0) << c->name;
      EXPECT_GT(refused_for_tiles, 0) << c->name;
    }
  EXPECT_EQ(kernels > 0, loaded);
}

}  // namespace
}  // namespace switchyard

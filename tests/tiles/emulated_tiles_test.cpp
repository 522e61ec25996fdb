// SPDX-License-Identifier: Apache-2.0
/// Every kernel for AMX tiles against the reference, over emulated tiles: all problems of its
/// operation, tensors between guard pages. Prints how many problems each was given.
#include <iostream>

#include "base/status_codes.hpp"
#include "facade/engine_impl.hpp"
#include "host/host.hpp"
#include "support/engine_support.hpp"
#include "support/sanitized.hpp"
#include "verify/guard_pages.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kEvery = SWITCHYARD_SANITIZED ? 9 : 1;  // sanitizers are slow

TEST(EmulatedTiles, EveryKernelAgreesWithTheReference) {
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl"))
    GTEST_SKIP() << "what surrounds the tiles needs AVX-512";
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
    std::size_t turn = 0;
    for (const Shape &shape : spec.conformance_shapes()) {
      if (kernels.empty() || turn++ % kEvery != 0) continue;
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
  EXPECT_GE(checks.size(), 3u);
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

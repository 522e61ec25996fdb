// SPDX-License-Identifier: Apache-2.0
/// Every loaded plugin x operation x generated problem against the reference, also with narrower
/// instruction sets forced. Prints how many checks ran per plugin; zero is a failure.
#include <iostream>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"
#include "support/sanitized.hpp"
#include "verify/guard_pages.hpp"

namespace switchyard {
namespace {

// Sanitizers are slow. For races: kernels with threads of their own, on every fourth shape. For
// memory: every ninth shape, others under each of the three instruction sets.
#if defined(SWITCHYARD_TSAN)
constexpr bool kRacesOnly = true;
constexpr std::size_t kEvery = 4;
#else
constexpr bool kRacesOnly = false;
constexpr std::size_t kEvery = SWITCHYARD_SANITIZED ? 9 : 1;
#endif

struct Case {
  OpIndex op;
  std::string isa;
};

std::string case_name(const ::testing::TestParamInfo<Case> &info) {
  std::string name = std::string(all_ops()[info.param.op]->id()) + "_" +
                     (info.param.isa.empty() ? "widest" : info.param.isa);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (OpIndex op = 0; op < all_ops().size(); ++op)
    for (const char *isa : {"", "avx512", "avx2"}) out.push_back({op, isa});
  return out;
}

class Conformance : public ::testing::TestWithParam<Case> {};

TEST_P(Conformance, EveryKernelAgreesWithTheReference) {
  report_guard_faults(STDERR_FILENO);  // a kernel that strays ends this program with those words
  const auto [op, isa] = GetParam();
  Options options = testing::test_options();
  options.isa = isa;
  Engine engine = testing::make_engine(options);
  const Registry &registry = *engine.impl().registry;
  const OpSpec &spec = *all_ops()[op];
  std::map<std::string, int> checks;
  const auto wanted = [&isa = isa](const Candidate &c) {
    // A device's kernels know nothing of the processor's instruction sets: once is enough.
    if (!isa.empty() && (c.kernel->traits & SY_TRAIT_DEVICE_MEMORY) != 0) return false;
    return !kRacesOnly || (c.kernel->traits & SY_TRAIT_OWN_THREADS) != 0;
  };
  for (const Candidate *c : registry.candidates(op))
    if (wanted(*c)) checks[c->backend] += 0;
  ASSERT_FALSE(checks.empty()) << "no kernel for " << spec.id();

  std::size_t turn = kRacesOnly || isa.empty() ? 0 : isa == "avx2" ? 3 : 6;
  for (const Shape &shape : spec.conformance_shapes()) {
    if (turn++ % kEvery != 0) continue;
    const auto problem = spec.make_problem(shape, 20);
    ASSERT_TRUE(problem) << shape.text() << ": " << problem.error().message;
    Expected expected(op, registry.reference(), *problem);
    for (const Candidate *c : registry.candidates(op))
      for (const std::uint32_t threads : {1u, 3u}) {
        if (!wanted(*c)) break;
        // Only kernels with threads of their own can depend on the number.
        if (threads > 1 && (c->kernel->traits & SY_TRAIT_OWN_THREADS) == 0) continue;
        const auto verdict = check_problem(*c, expected, threads, Guards::pages);
        if (!verdict) continue;
        ++checks[c->backend];
        EXPECT_EQ(*verdict, "") << c->name << " on " << threads << " threads";
      }
    if (HasFailure()) break;
  }
  for (const auto &[backend, count] : checks) {
    std::cout << "checks " << spec.id() << " " << (isa.empty() ? "widest" : isa) << " " << backend
              << ": " << count << "\n";
    EXPECT_GT(count, 0) << backend << " offers " << spec.id()
                        << " but no problem of it was checked";
  }
}

INSTANTIATE_TEST_SUITE_P(All, Conformance, ::testing::ValuesIn(cases()), case_name);

TEST(Conformance, GateShapesAreMadeForEveryConformanceShape) {
  if (kRacesOnly) GTEST_SKIP() << "one thread, and slow under the sanitizer";
  for (const OpSpec *spec : all_ops())
    for (const Shape &shape : spec->conformance_shapes()) {
      const auto problem = spec->make_problem(shape, 1);
      ASSERT_TRUE(problem) << shape.text();
      auto outputs = ProblemOutputs::make(*problem);
      ASSERT_TRUE(outputs);
      CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                      static_cast<std::uint32_t>(problem->outputs.size()));
      bind(*problem, *outputs, frame);
      ASSERT_TRUE(spec->validate(frame.call())) << spec->id() << " " << shape.text();
      const auto gates = spec->gate_shapes(spec->describe(frame.call()));
      EXPECT_FALSE(gates.empty()) << spec->id() << " " << shape.text();
      for (const Shape &gate : gates)
        EXPECT_TRUE(spec->make_problem(gate, 1)) << spec->id() << " " << gate.text();
    }
}

}  // namespace
}  // namespace switchyard

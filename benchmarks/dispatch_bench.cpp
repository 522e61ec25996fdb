// SPDX-License-Identifier: Apache-2.0
// What dispatch costs: one q8_0 block (32 values) through the kernel itself, through a bound call,
// and through Engine::run on a decided key. The kernel is the one the engine chose. A thread
// remembers its latest few calls; engine_run_unremembered goes round more than that.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <switchyard/engine.hpp>
#include <vector>

#include "base/call_frame.hpp"
#include "host/host.hpp"
#include "loader/plugin.hpp"
#include "machine/machine.hpp"

namespace switchyard {
namespace {

constexpr int kMostCallsToDecide = 5'000'000;

/// A quantize call with all its memory; x starts `offset` floats past a cache line.
class TinyCall {
 public:
  explicit TinyCall(std::size_t offset = 0) {
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(i) - 11.5f;
    params_.format = SY_QUANT_Q8_0;
    const std::array<std::int64_t, 1> values{32}, bytes{34};
    frame_.input(SY_QUANTIZE_IN_X, TensorView(x_.data() + offset, dtypes::f32, values));
    frame_.output(SY_QUANTIZE_OUT_CODES, TensorView(block_.data(), dtypes::u8, bytes));
    frame_.params(params_);
  }
  sy_call &call() noexcept { return frame_.call(); }

 private:
  alignas(64) std::array<float, 32 + 16> x_{};
  alignas(64) std::array<std::uint8_t, 34> block_{};
  sy_quantize_params params_{};
  CallFrame frame_{SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS};
};

Options options() {
  Options o;
  o.threads = 1;
  o.cache_dir = "";
  return o;
}

/// An engine that has decided about TinyCall, and who it chose.
struct Decided {
  Engine engine{options()};
  RunInfo info;

  Decided() {
    // Candidates are verified beside the first calls, then tried in turn: decided is when none of
    // a thousand calls was answered by another.
    TinyCall tiny;
    std::string previous;
    for (int same = 0, i = 0; same < 1000 && i < kMostCallsToDecide; ++i) {
      engine.run(SY_OP_QUANTIZE, tiny.call(), nullptr, &info);
      same = info.kernel == previous && info.fallback_reason.empty() ? same + 1 : 0;
      previous = info.kernel;
    }
  }
};

Decided &decided() {
  static Decided it;
  return it;
}

/// The kernel of that name, loaded again apart from the engine.
struct Direct {
  std::shared_ptr<sy_instance> instance;
  const sy_kernel *kernel = nullptr;

  explicit Direct(const RunInfo &info) {
    namespace fs = std::filesystem;
    const sy_host *host = make_host({});
    for (const std::string &directory : builtin_plugin_directories()) {
      std::error_code ignored;
      for (const auto &entry : fs::directory_iterator(directory, ignored)) {
        const auto file = check_plugin_file(entry.path().string());
        const auto plugin = file ? map_plugin(*file) : tl::unexpected<Error>(file.error());
        auto instances =
            plugin ? make_instances(*plugin, host) : tl::unexpected<Error>(plugin.error());
        if (!instances) continue;
        for (const DeviceInstance &device : *instances)
          for (const sy_kernel *k : device.kernels)
            if (std::string(k->name) + "@" + device.name == info.kernel) {
              instance = device.instance;
              kernel = k;
              return;
            }
      }
    }
  }
};

void direct(benchmark::State &state) {
  const Direct target(decided().info);
  if (target.kernel == nullptr) return state.SkipWithError("the chosen kernel was not found");
  TinyCall tiny;
  sy_error error{};
  error.struct_size = sizeof error;
  for (auto _ : state) {
    const std::int32_t status =
        target.kernel->run(target.kernel, target.instance.get(), &tiny.call(), &error);
    if (status != SY_OK) return state.SkipWithError(error.message);
    benchmark::ClobberMemory();
  }
}

void bound(benchmark::State &state) {
  TinyCall tiny;
  auto target = decided().engine.bind(SY_OP_QUANTIZE, tiny.call());
  if (!target) return state.SkipWithError(target.error().message.c_str());
  for (auto _ : state) {
    if (target->run() != SY_OK) return state.SkipWithError("the bound call failed");
    benchmark::ClobberMemory();
  }
}

void engine_run(benchmark::State &state) {
  Engine &engine = decided().engine;
  TinyCall tiny;
  for (auto _ : state) {
    if (engine.run(SY_OP_QUANTIZE, tiny.call()) != SY_OK)
      return state.SkipWithError("the routed call failed");
    benchmark::ClobberMemory();
  }
}

/// A new engine's first calls verify and decide; they are none of what is timed.
bool settle(Engine &engine, sy_call &call) {
  for (int i = 0; i < 1000; ++i)
    if (engine.run(SY_OP_QUANTIZE, call) != SY_OK) return false;
  return true;
}

void engine_run_pinned(benchmark::State &state) {
  Options o = options();
  o.pin[SY_OP_QUANTIZE] = decided().info.backend;
  Engine engine(o);
  TinyCall tiny;
  if (!settle(engine, tiny.call())) return state.SkipWithError("the routed call failed");
  for (auto _ : state) {
    if (engine.run(SY_OP_QUANTIZE, tiny.call()) != SY_OK)
      return state.SkipWithError("the routed call failed");
    benchmark::ClobberMemory();
  }
}

void engine_run_unremembered(benchmark::State &state) {
  Options o = options();
  o.pin[SY_OP_QUANTIZE] = decided().info.backend;
  Engine engine(o);
  std::vector<std::unique_ptr<TinyCall>> calls;
  for (std::size_t i = 1; i <= 8; ++i) calls.push_back(std::make_unique<TinyCall>(i));
  for (const auto &call : calls)
    if (!settle(engine, call->call())) return state.SkipWithError("the routed call failed");
  std::size_t next = 0;
  for (auto _ : state) {
    if (engine.run(SY_OP_QUANTIZE, calls[++next & 7]->call()) != SY_OK)
      return state.SkipWithError("the routed call failed");
    benchmark::ClobberMemory();
  }
}

/// The typed call that Python's Engine.quantize makes: names parsed, result and RunInfo filled in.
void engine_quantize(benchmark::State &state) {
  Engine &engine = decided().engine;
  alignas(64) std::array<float, 32> x{};
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 11.5f;
  alignas(64) std::array<std::uint8_t, 34> block{};
  QuantizeOptions o;
  o.format = "q8_0";
  o.codes_out = TensorView(block.data(), dtypes::u8, std::array<std::int64_t, 1>{34});
  const TensorView view(x.data(), {32});
  for (auto _ : state) {
    auto q = engine.quantize(view, o);
    if (!q) return state.SkipWithError(q.error().message.c_str());
    benchmark::DoNotOptimize(q);
  }
}

BENCHMARK(direct);
BENCHMARK(bound);
BENCHMARK(engine_run);
BENCHMARK(engine_run_pinned);
BENCHMARK(engine_run_unremembered);
BENCHMARK(engine_quantize);

}  // namespace
}  // namespace switchyard

int main(int argc, char **argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::fprintf(stderr, "kernel: %s\n", switchyard::decided().info.kernel.c_str());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

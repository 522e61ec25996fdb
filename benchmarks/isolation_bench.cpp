// SPDX-License-Identifier: Apache-2.0
// What `isolation` costs a decided call: q8_0 of n values by the same kernel, called here (off,
// first_use) and in a worker through shared memory (always); and what an engine costs to make.

#include <benchmark/benchmark.h>

#include <array>
#include <memory>
#include <switchyard/engine.hpp>
#include <vector>

#include "base/call_frame.hpp"

namespace switchyard {
namespace {

constexpr const char *kBackend = "avx2";

Options options(Isolation isolation) {
  Options o;
  o.isolation = isolation;
  o.threads = 1;
  o.shadow_share = 0;
  o.pin = {{"*", kBackend}};
  return o;
}

class Call {
 public:
  explicit Call(std::int64_t n)
      : x_(static_cast<std::size_t>(n), 0.5f), blocks_(static_cast<std::size_t>(n / 32 * 34)) {
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(i % 91) - 40.0f;
    params_.format = SY_QUANT_Q8_0;
    frame_.input(SY_QUANTIZE_IN_X, TensorView(x_.data(), dtypes::f32, std::array{n}));
    frame_.output(SY_QUANTIZE_OUT_CODES,
                  TensorView(blocks_.data(), dtypes::u8, std::array{n / 32 * 34}));
    frame_.params(params_);
  }
  sy_call &call() noexcept { return frame_.call(); }

 private:
  std::vector<float> x_;
  std::vector<std::uint8_t> blocks_;
  sy_quantize_params params_{};
  CallFrame frame_{SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS};
};

void quantize(benchmark::State &state, Isolation isolation) {
  auto engine = Engine::create(options(isolation));
  if (!engine) return state.SkipWithError(engine.error().message.c_str());
  Call call(state.range(0));
  for (int i = 0; i < 64; ++i)
    if (engine->run(SY_OP_QUANTIZE, call.call()) != SY_OK)
      return state.SkipWithError("the call failed");
  for (auto _ : state) {
    if (engine->run(SY_OP_QUANTIZE, call.call()) != SY_OK)
      return state.SkipWithError("the call failed");
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}

void make_engine(benchmark::State &state, Isolation isolation) {
  for (auto _ : state) {
    auto engine = Engine::create(options(isolation));
    if (!engine) return state.SkipWithError(engine.error().message.c_str());
  }
}

// Wall time: with `always` the work is another process's.
#define SWITCHYARD_ISOLATION(NAME, VALUE)                                                     \
  BENCHMARK_CAPTURE(quantize, NAME, VALUE)->Arg(32)->Arg(65536)->Arg(4194304)->UseRealTime(); \
  BENCHMARK_CAPTURE(make_engine, NAME, VALUE)->Unit(benchmark::kMillisecond)->UseRealTime()
SWITCHYARD_ISOLATION(off, Isolation::off);
SWITCHYARD_ISOLATION(first_use, Isolation::first_use);
SWITCHYARD_ISOLATION(always, Isolation::always);

}  // namespace
}  // namespace switchyard

BENCHMARK_MAIN();

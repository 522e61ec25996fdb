// SPDX-License-Identifier: Apache-2.0
// The C host interface: results equal the C++ ones, errors have codes and words, ownership, cancel.
#include <gtest/gtest.h>
#include <switchyard/switchyard.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <switchyard/attention.hpp>
#include <switchyard/engine.hpp>
#include <thread>
#include <vector>

#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using Json = nlohmann::json;

struct Deleter {
  void operator()(sy_engine *e) const { sy_engine_destroy(e); }
  void operator()(sy_result *r) const { sy_result_destroy(r); }
  void operator()(char *s) const { sy_string_free(s); }
};
using EnginePtr = std::unique_ptr<sy_engine, Deleter>;
using ResultPtr = std::unique_ptr<sy_result, Deleter>;
using TextPtr = std::unique_ptr<char, Deleter>;

constexpr sy_dtype kF32{SY_TYPE_FLOAT, 32, 0};

sy_error no_error() { return sy_error{sizeof(sy_error), 0, -1, ""}; }

EnginePtr make(const char *backend = nullptr) {
  sy_engine_options options;
  sy_engine_options_init(&options, sizeof options);
  options.cache_dir = testing::shared_cache().c_str();
  options.backend = backend;
  sy_engine *engine = nullptr;
  sy_error error = no_error();
  EXPECT_EQ(sy_engine_create(&options, &engine, &error), SY_OK) << error.message;
  return EnginePtr(engine);
}

Engine cpp_reference() {
  Options pinned = testing::test_options();
  pinned.pin = {{"*", "reference"}};
  return testing::make_engine(std::move(pinned));
}

std::vector<float> values(std::size_t n, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<float> out(n);
  for (float &v : out) v = static_cast<float>(static_cast<double>(random()) / 2147483648.0 - 1.0);
  return out;
}

sy_tensor tensor(std::vector<float> &data, std::vector<std::int64_t> shape) {
  sy_tensor t;
  EXPECT_EQ(
      sy_tensor_init(&t, data.data(), kF32, static_cast<std::int32_t>(shape.size()), shape.data()),
      SY_OK);
  return t;
}

TEST(CApi, VersionsAndCodesHaveNames) {
  EXPECT_EQ(std::string(sy_version()), std::string(version()));
  EXPECT_EQ(sy_host_api_version(), SY_HOST_API_MAJOR << 16 | SY_HOST_API_MINOR);
  EXPECT_STREQ(sy_code_name(SY_OK), "ok");
  EXPECT_STREQ(sy_code_name(SY_E_SHAPE), "shape");
  EXPECT_STREQ(sy_code_name(SY_E_INVALID_ARGUMENT), "invalid_argument");
  EXPECT_STREQ(sy_code_name(SY_HOST_E_IO), "io");
  EXPECT_STREQ(sy_code_name(SY_HOST_E_USAGE), "usage");
  EXPECT_STREQ(sy_code_name(12345), "unknown");
}

TEST(CApi, TensorsAreCheckedAsTheyAreDescribed) {
  sy_tensor t;
  const std::int64_t shape[] = {3, 4}, negative[] = {-1, 4}, huge[] = {INT64_MAX, 4};
  float data[12];
  ASSERT_EQ(sy_tensor_init(&t, data, kF32, 2, shape), SY_OK);
  EXPECT_EQ(t.strides[0], 4);
  EXPECT_EQ(t.strides[1], 1);
  EXPECT_EQ(t.byte_size, 48u);
  EXPECT_EQ(sy_tensor_init(&t, data, kF32, 9, shape), SY_E_INVALID_ARGUMENT);
  EXPECT_EQ(sy_tensor_init(&t, data, kF32, 2, negative), SY_E_INVALID_ARGUMENT);
  EXPECT_EQ(sy_tensor_init(&t, data, kF32, 2, huge), SY_E_OVERFLOW);
  EXPECT_EQ(sy_tensor_init(&t, data, sy_dtype{SY_TYPE_INT, 4, 0}, 2, shape), SY_E_INVALID_ARGUMENT);
}

TEST(CApi, EngineErrorsHaveCodesAndWords) {
  sy_engine_options options;
  sy_engine *engine = reinterpret_cast<sy_engine *>(1);
  sy_error error = no_error();
  const auto expect = [&](std::int32_t code, const char *words) {
    engine = reinterpret_cast<sy_engine *>(1);
    EXPECT_EQ(sy_engine_create(&options, &engine, &error), code) << error.message;
    EXPECT_EQ(error.code, code);
    EXPECT_NE(std::string(error.message).find(words), std::string::npos) << error.message;
    EXPECT_EQ(engine, nullptr);
    sy_engine_options_init(&options, sizeof options);
    options.cache_dir = "";
  };
  sy_engine_options_init(&options, sizeof options);
  options.preset = "balansed";
  expect(SY_HOST_E_USAGE, "balanced");
  options.backend = "nowhere";
  expect(SY_HOST_E_BACKEND, "reference");
  options.config = "/nonexistent/engine.yaml";
  expect(SY_HOST_E_IO, "/nonexistent/engine.yaml");
  options.policy = "psychic";
  expect(SY_HOST_E_USAGE, "psychic");
  options.struct_size = 0;
  expect(SY_E_INVALID_ARGUMENT, "struct_size");
  EXPECT_EQ(sy_engine_create(nullptr, nullptr, nullptr), SY_E_INVALID_ARGUMENT);
  sy_engine_destroy(nullptr);
  sy_result_destroy(nullptr);
  sy_string_free(nullptr);
}

TEST(CApi, QuantizeAndDequantizeGiveTheBytesOfTheCppInterface) {
  EnginePtr engine = make();
  auto data = values(64 * 128);
  const sy_tensor x = tensor(data, {64, 128});
  sy_quantize_options options;
  sy_quantize_options_init(&options, sizeof options);
  options.format = "mlx_affine4";
  options.group_size = 32;
  sy_error error = no_error();
  sy_result *raw = nullptr;
  ASSERT_EQ(sy_quantize(engine.get(), &x, &options, &raw, &error), SY_OK) << error.message;
  const ResultPtr result(raw);
  auto cpp = Engine(testing::test_options())
                 .quantize(TensorView(x), {.format = "mlx_affine4", .group_size = 32});
  ASSERT_TRUE(cpp);
  for (const auto &[name, want] :
       {std::pair{"codes", &cpp->codes}, {"scales", &cpp->scales}, {"biases", &cpp->biases}}) {
    sy_tensor got;
    ASSERT_EQ(sy_result_array(result.get(), name, &got, &error), SY_OK) << error.message;
    ASSERT_EQ(got.byte_size - got.byte_offset, want->bytes()) << name;
    EXPECT_EQ(
        std::memcmp(static_cast<char *>(got.handle) + got.byte_offset, want->data(), want->bytes()),
        0)
        << name;
  }
  sy_tensor missing;
  EXPECT_EQ(sy_result_array(result.get(), "labels", &missing, &error), SY_HOST_E_USAGE);
  EXPECT_NE(std::string(error.message).find("codes"), std::string::npos) << error.message;
  double bytes = 0;
  ASSERT_EQ(sy_result_number(result.get(), "bytes", &bytes, &error), SY_OK);
  EXPECT_EQ(bytes, static_cast<double>(cpp->bytes()));
  const Json json = Json::parse(sy_result_json(result.get()));
  EXPECT_EQ(json["op"], "quantize");
  EXPECT_EQ(json["arrays"]["scales"]["shape"], (std::vector<int>{64, 4}));

  sy_quantized q{};
  q.struct_size = sizeof q;
  ASSERT_EQ(sy_result_quantized(result.get(), &q, &error), SY_OK);
  ASSERT_EQ(sy_dequantize(engine.get(), &q, nullptr, &raw, &error), SY_OK) << error.message;
  const ResultPtr restored(raw);
  sy_tensor y;
  ASSERT_EQ(sy_result_array(restored.get(), "values", &y, &error), SY_OK);
  std::vector<float> into(data.size());
  const sy_tensor own = tensor(into, {64, 128});
  ASSERT_EQ(sy_dequantize(engine.get(), &q, &own, nullptr, &error), SY_OK) << error.message;
  EXPECT_EQ(std::memcmp(y.handle, into.data(), into.size() * sizeof(float)), 0);
  float worst = 0;
  for (std::size_t i = 0; i < data.size(); ++i)
    worst = std::max(worst, std::abs(data[i] - into[i]));
  EXPECT_LT(worst, 0.2f);
  EXPECT_GT(worst, 0.0f);
}

TEST(CApi, QuantizeErrors) {
  EnginePtr engine = make();
  auto data = values(33);
  const sy_tensor x = tensor(data, {33});
  sy_quantize_options options;
  sy_quantize_options_init(&options, sizeof options);
  sy_result *result = reinterpret_cast<sy_result *>(1);
  sy_error error = no_error();
  EXPECT_EQ(sy_quantize(engine.get(), &x, &options, &result, &error), SY_E_INVALID_ARGUMENT);
  EXPECT_EQ(result, nullptr);
  options.format = "q4_0";
  EXPECT_EQ(sy_quantize(engine.get(), &x, &options, &result, &error), SY_E_SHAPE) << error.message;
  options.format = "q4_zero";
  EXPECT_EQ(sy_quantize(engine.get(), &x, &options, &result, &error), SY_HOST_E_USAGE);
  data[7] = NAN;
  options.format = "ternary";
  EXPECT_EQ(sy_quantize(engine.get(), &x, &options, &result, &error), SY_E_NONFINITE);
  EXPECT_EQ(error.index, 7);
  sy_tensor device = x;
  device.device_kind = SY_DEVICE_CUDA;
  EXPECT_EQ(sy_quantize(engine.get(), &device, &options, &result, &error), SY_E_INVALID_ARGUMENT);
  sy_tensor rank = x;
  rank.rank = 99;
  EXPECT_EQ(sy_quantize(engine.get(), &rank, &options, &result, nullptr), SY_E_INVALID_ARGUMENT);
}

TEST(CApi, KMeansEqualsTheCppInterface) {
  EnginePtr engine = make();
  auto data = values(3000 * 4);
  const sy_tensor x = tensor(data, {3000, 4});
  sy_kmeans_options options;
  sy_kmeans_options_init(&options, sizeof options);
  EXPECT_EQ(options.max_iter, 300);
  EXPECT_EQ(options.tol, 1e-4);
  options.k = 7;
  options.seed = 3;
  sy_error error = no_error();
  sy_result *raw = nullptr;
  ASSERT_EQ(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_OK) << error.message;
  const ResultPtr fit(raw);
  auto cpp = Engine(testing::test_options()).kmeans(TensorView(x), {.k = 7, .seed = 3});
  ASSERT_TRUE(cpp);
  sy_tensor labels;
  ASSERT_EQ(sy_result_array(fit.get(), "labels", &labels, &error), SY_OK);
  EXPECT_EQ(std::memcmp(labels.handle, cpp->labels.data(), cpp->labels.bytes()), 0);
  double inertia = 0, converged = 0;
  ASSERT_EQ(sy_result_number(fit.get(), "inertia", &inertia, &error), SY_OK);
  ASSERT_EQ(sy_result_number(fit.get(), "converged", &converged, &error), SY_OK);
  EXPECT_EQ(inertia, cpp->inertia);
  EXPECT_EQ(converged, cpp->converged ? 1 : 0);
  options.k = 3001;
  EXPECT_NE(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_OK);
  EXPECT_EQ(raw, nullptr);
}

TEST(CApi, ACallersShorterStructKeepsTheDefaultsOfNewerMembers) {
  EnginePtr engine = make();
  auto data = values(500 * 2);
  const sy_tensor x = tensor(data, {500, 2});
  sy_kmeans_options options;
  std::memset(static_cast<void *>(&options), 0xff, sizeof options);
  constexpr std::uint32_t kOld = offsetof(sy_kmeans_options, max_iter);
  sy_kmeans_options_init(&options, kOld);
  EXPECT_EQ(options.max_iter, -1) << "written past the caller's size";
  options.k = 3;
  sy_result *raw = nullptr;
  sy_error error = no_error();
  ASSERT_EQ(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_OK) << error.message;
  sy_result_destroy(raw);
}

TEST(CApi, AttentionEqualsTheCppInterface) {
  EnginePtr engine = make("reference");
  auto q = values(4 * 9 * 16, 1), k = values(2 * 12 * 16, 2), v = values(2 * 12 * 16, 3);
  const sy_tensor tq = tensor(q, {1, 4, 9, 16}), tk = tensor(k, {1, 2, 12, 16}),
                  tv = tensor(v, {1, 2, 12, 16});
  sy_attention_options options;
  sy_attention_options_init(&options, sizeof options);
  options.causal = SY_CAUSAL_BOTTOM_RIGHT;
  options.return_lse = 1;
  sy_error error = no_error();
  sy_result *raw = nullptr;
  ASSERT_EQ(sy_attention(engine.get(), &tq, &tk, &tv, &options, &raw, &error), SY_OK)
      << error.message;
  const ResultPtr result(raw);
  Engine cpp = cpp_reference();
  auto want = cpp.attention(TensorView(tq), TensorView(tk), TensorView(tv),
                            {.causal = SY_CAUSAL_BOTTOM_RIGHT});
  ASSERT_TRUE(want) << want.error().text();
  sy_tensor o, lse;
  ASSERT_EQ(sy_result_array(result.get(), "o", &o, &error), SY_OK);
  ASSERT_EQ(sy_result_array(result.get(), "lse", &lse, &error), SY_OK);
  EXPECT_EQ(std::memcmp(o.handle, want->out.data(), want->out.bytes()), 0);
  std::vector<float> into(q.size());
  const sy_tensor own = tensor(into, {1, 4, 9, 16});
  options.o = &own;
  options.return_lse = 0;
  ASSERT_EQ(sy_attention(engine.get(), &tq, &tk, &tv, &options, nullptr, &error), SY_OK);
  EXPECT_EQ(std::memcmp(into.data(), want->out.data(), want->out.bytes()), 0);
  EXPECT_EQ(Json::parse(sy_result_json(result.get()))["requested_backend"], "reference");
}

TEST(CApi, AttentionTakesAllThatTheCppInterfaceTakes) {
  EnginePtr engine = make("reference");
  // Two sequences of 5 and 8 keys in pages of 4, their pages in no order.
  auto q = values(2 * 4 * 3 * 16, 1), k = values(4 * 2 * 4 * 16, 2), v = values(4 * 2 * 4 * 16, 3);
  const sy_tensor tq = tensor(q, {2, 4, 3, 16}), tk = tensor(k, {4, 2, 4, 16}),
                  tv = tensor(v, {4, 2, 4, 16});
  std::vector<float> slopes{0.5F, 0.25F, 0.125F, 0.0625F};
  const sy_tensor alibi = tensor(slopes, {4});
  std::vector<std::int32_t> lengths{5, 8}, pages{3, 0, 2, 1};
  const TensorView lengths_view(lengths.data(), dtypes::i32, std::array<std::int64_t, 1>{2}),
      pages_view(pages.data(), dtypes::i32, std::array<std::int64_t, 2>{2, 2});
  sy_attention_options options;
  sy_attention_options_init(&options, sizeof options);
  options.causal = SY_CAUSAL_BOTTOM_RIGHT;
  options.window = 3;
  options.keep = 1;
  options.alibi = &alibi;
  options.kv_lengths = &lengths_view.raw();
  options.block_table = &pages_view.raw();
  sy_error error = no_error();
  sy_result *raw = nullptr;
  ASSERT_EQ(sy_attention(engine.get(), &tq, &tk, &tv, &options, &raw, &error), SY_OK)
      << error.message;
  const ResultPtr result(raw);
  Engine cpp = cpp_reference();
  AttentionCall call;
  call.causal = SY_CAUSAL_BOTTOM_RIGHT;
  call.window = 3;
  call.keep = 1;
  call.alibi = TensorView(alibi);
  call.kv_lengths = lengths_view;
  call.block_table = pages_view;
  auto want = attention(cpp, TensorView(tq), TensorView(tk), TensorView(tv), call);
  ASSERT_TRUE(want) << want.error().text();
  sy_tensor o;
  ASSERT_EQ(sy_result_array(result.get(), "o", &o, &error), SY_OK);
  EXPECT_EQ(std::memcmp(o.handle, want->out.data(), want->out.bytes()), 0);
  // What it was told matters: without the slopes it is another result.
  options.alibi = nullptr;
  ASSERT_EQ(sy_attention(engine.get(), &tq, &tk, &tv, &options, &raw, &error), SY_OK)
      << error.message;
  const ResultPtr plain(raw);
  ASSERT_EQ(sy_result_array(plain.get(), "o", &o, &error), SY_OK);
  EXPECT_NE(std::memcmp(o.handle, want->out.data(), want->out.bytes()), 0);
}

TEST(CApi, ProgressAndCancelStopACall) {
  EnginePtr engine = make("reference");
  auto data = values(20000 * 16);
  const sy_tensor x = tensor(data, {20000, 16});
  sy_kmeans_options options;
  sy_kmeans_options_init(&options, sizeof options);
  options.k = 64;
  options.tol = 0;
  int calls = 0;
  options.progress_arg = &calls;
  options.progress = [](void *arg, double done) -> std::int32_t {
    EXPECT_GE(done, 0);
    EXPECT_LE(done, 1);
    return ++*static_cast<int *>(arg) >= 2 ? 1 : 0;
  };
  sy_result *raw = nullptr;
  sy_error error = no_error();
  EXPECT_EQ(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_E_CANCELLED);
  EXPECT_EQ(raw, nullptr);
  EXPECT_GE(calls, 2);
  // sy_engine_cancel, from another thread, once the call has begun.
  std::atomic<bool> begun{false};
  options.progress_arg = &begun;
  options.progress = [](void *arg, double) -> std::int32_t {
    static_cast<std::atomic<bool> *>(arg)->store(true);
    return 0;
  };
  std::thread other([&] {
    while (!begun.load()) std::this_thread::yield();
    sy_engine_cancel(engine.get());
  });
  EXPECT_EQ(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_E_CANCELLED);
  other.join();
  // The next call is not concerned.
  options.max_iter = 1;
  options.k = 2;
  ASSERT_EQ(sy_kmeans(engine.get(), &x, &options, &raw, &error), SY_OK) << error.message;
  sy_result_destroy(raw);
}

TEST(CApi, AttentionAndQuantizeStopToo) {
  EnginePtr engine = make("reference");
  auto q = values(2 * 600 * 64);
  const sy_tensor t = tensor(q, {1, 2, 600, 64});
  const auto stop = [](void *, double) -> std::int32_t { return 1; };
  sy_attention_options attention;
  sy_attention_options_init(&attention, sizeof attention);
  attention.progress = stop;
  sy_result *raw = nullptr;
  sy_error error = no_error();
  EXPECT_EQ(sy_attention(engine.get(), &t, &t, &t, &attention, &raw, &error), SY_E_CANCELLED);
  auto big = values(1 << 21);
  const sy_tensor x = tensor(big, {1 << 13, 256});
  sy_quantize_options quantize;
  sy_quantize_options_init(&quantize, sizeof quantize);
  quantize.format = "q4_k";
  quantize.progress = stop;
  EXPECT_EQ(sy_quantize(engine.get(), &x, &quantize, &raw, &error), SY_E_CANCELLED);
}

TEST(CApi, ExplainMetricsAndRecommendAreJson) {
  EnginePtr engine = make();
  char *raw = nullptr;
  sy_error error = no_error();
  ASSERT_EQ(sy_explain(engine.get(), "quantize", "n=4096,format=q8_0", 0, &raw, &error), SY_OK)
      << error.message;
  const TextPtr explained(raw);
  EXPECT_FALSE(Json::parse(raw)["candidates"].empty());
  EXPECT_EQ(sy_explain(engine.get(), "sort", "n=1", 0, &raw, &error), SY_HOST_E_USAGE);
  EXPECT_EQ(raw, nullptr);
  ASSERT_EQ(sy_metrics(engine.get(), &raw, &error), SY_OK);
  const TextPtr metrics(raw);
  EXPECT_TRUE(Json::parse(raw).contains("backend_summary"));
  ASSERT_EQ(sy_recommend(engine.get(), &raw, &error), SY_OK);
  const TextPtr advice(raw);
  EXPECT_TRUE(Json::parse(raw).is_array());
}

TEST(CApi, RunTakesACallOfTheAbi) {
  EnginePtr engine = make();
  auto data = values(64);
  const sy_tensor x = tensor(data, {64});
  unsigned char blocks[68] = {};
  sy_tensor out;
  const std::int64_t shape[] = {68};
  ASSERT_EQ(sy_tensor_init(&out, blocks, sy_dtype{SY_TYPE_UINT, 8, 0}, 1, shape), SY_OK);
  const sy_tensor *inputs[] = {&x};
  const sy_tensor *outputs[SY_QUANTIZE_OUTPUTS] = {&out};
  sy_quantize_params params{};
  params.struct_size = sizeof params;
  params.format = SY_QUANT_Q8_0;
  sy_call call{};
  call.struct_size = sizeof call;
  call.n_inputs = 1;
  call.n_outputs = SY_QUANTIZE_OUTPUTS;
  call.inputs = inputs;
  call.outputs = outputs;
  call.params = &params;
  call.params_size = sizeof params;
  call.threads = 1;
  sy_error error = no_error();
  ASSERT_EQ(sy_run(engine.get(), "quantize", &call, &error), SY_OK) << error.message;
  auto cpp = Engine(testing::test_options()).quantize(TensorView(x), {.format = "q8_0"});
  ASSERT_TRUE(cpp);
  EXPECT_EQ(std::memcmp(blocks, cpp->codes.data(), sizeof blocks), 0);
  EXPECT_NE(sy_run(engine.get(), "sort", &call, &error), SY_OK);
}

}  // namespace
}  // namespace switchyard

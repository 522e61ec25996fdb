// SPDX-License-Identifier: Apache-2.0
/// The C host interface: operations and their results.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <switchyard/attention.hpp>
#include <tuple>

#include "facade/c_support.hpp"

using namespace switchyard;

void sy_result::finish() {
  nlohmann::ordered_json doc{{"op", op},
                             {"backend", info.backend},
                             {"kernel", info.kernel},
                             {"requested_backend", nullptr},
                             {"verified", info.verified},
                             {"fallback_reason", nullptr},
                             {"time_ms", info.time_ms}};
  if (!info.requested_backend.empty()) doc["requested_backend"] = info.requested_backend;
  if (!info.fallback_reason.empty()) doc["fallback_reason"] = info.fallback_reason;
  for (const auto &[name, value] : numbers) doc[name] = value;
  doc["arrays"] = nlohmann::ordered_json::object();
  for (const auto &[name, array] : arrays)
    doc["arrays"][name] = {
        {"dtype", to_string(array.dtype())},
        {"shape", std::vector<std::int64_t>(array.shape().begin(), array.shape().end())}};
  json = doc.dump();
}

namespace {

/// The struct as far as the caller's size reaches.
template <class T>
void fill(T *out, std::uint32_t struct_size, T defaults) {
  defaults.struct_size = struct_size;
  std::memcpy(static_cast<void *>(out), &defaults, std::min<std::size_t>(struct_size, sizeof(T)));
}

const char *kNoSize = "options->struct_size is not set; the struct's _init function does";

Error no_such(const sy_result &result, const char *what, const char *name) {
  std::string known;
  const auto add = [&](const auto &map) {
    for (const auto &[key, value] : map) known += (known.empty() ? "" : ", ") + key;
  };
  if (std::string_view(what) == "array")
    add(result.arrays);
  else
    add(result.numbers);
  return Error{ErrorCode::usage,
               "a result of " + result.op + " has no " + what + " '" + name + "'; known: " + known,
               {},
               0,
               0,
               -1,
               {}};
}

/// A view that shares nothing: `array` lives on in the result.
void put(sy_result &result, const char *name, Tensor array) {
  if (array.present()) result.arrays.emplace(name, std::move(array));
}

}  // namespace

void sy_quantize_options_init(sy_quantize_options *options, uint32_t struct_size) {
  fill(options, struct_size, sy_quantize_options{});
}
void sy_kmeans_options_init(sy_kmeans_options *options, uint32_t struct_size) {
  const KMeansOptions usual;
  sy_kmeans_options defaults{};
  defaults.n_init = usual.n_init;
  defaults.k = usual.k;
  defaults.max_iter = usual.max_iter;
  defaults.tol = usual.tol;
  fill(options, struct_size, defaults);
}
void sy_attention_options_init(sy_attention_options *options, uint32_t struct_size) {
  fill(options, struct_size, sy_attention_options{});
}

void sy_result_destroy(sy_result *result) { delete result; }

int32_t sy_result_array(const sy_result *result, const char *name, sy_tensor *out,
                        sy_error *error) {
  if (result == nullptr || name == nullptr || out == nullptr)
    return c::invalid("result, name and out must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    const auto at = result->arrays.find(name);
    if (at == result->arrays.end()) return c::report(no_such(*result, "array", name), error);
    *out = at->second.view().raw();
    return SY_OK;
  });
}

int32_t sy_result_number(const sy_result *result, const char *name, double *out, sy_error *error) {
  if (result == nullptr || name == nullptr || out == nullptr)
    return c::invalid("result, name and out must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    const auto at = result->numbers.find(name);
    if (at == result->numbers.end()) return c::report(no_such(*result, "number", name), error);
    *out = at->second;
    return SY_OK;
  });
}

const char *sy_result_json(const sy_result *result) {
  return result != nullptr ? result->json.c_str() : "";
}

int32_t sy_quantize(sy_engine *engine, const sy_tensor *x, const sy_quantize_options *options,
                    sy_result **out, sy_error *error) {
  if (out == nullptr) return c::invalid("out is NULL", error);
  *out = nullptr;
  if (engine == nullptr || x == nullptr || options == nullptr)
    return c::invalid("engine, x and options must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    sy_quantize_options given;
    if (!c::adopt(options, given, sy_quantize_options_init)) return c::invalid(kNoSize, error);
    if (given.format == nullptr) return c::invalid("options->format must be given", error);
    auto view = c::view_of(x, "x");
    if (!view) return c::report(view.error(), error);
    QuantizeOptions o;
    o.format = given.format;
    o.group_size = given.group_size;
    o.granularity = c::text_or(given.granularity, "tensor");
    o.scale = c::text_or(given.scale, "default");
    o.nonfinite = c::text_or(given.nonfinite, "error");
    o.rounding = c::text_or(given.rounding, "nearest");
    o.seed = given.seed;
    const ProgressScope watch(c::progress_of(*engine, given.progress, given.progress_arg));
    auto q = engine->engine.quantize(*view, o);
    if (!q) return c::report(q.error(), error);
    auto result = std::make_unique<sy_result>();
    result->op = SY_OP_QUANTIZE;
    result->info = q->info;
    result->numbers["bytes"] = static_cast<double>(q->bytes());
    put(*result, "codes", std::move(q->codes));
    put(*result, "scales", std::move(q->scales));
    put(*result, "biases", std::move(q->biases));
    result->quantized = std::move(*q);
    result->finish();
    *out = result.release();
    return SY_OK;
  });
}

int32_t sy_result_quantized(const sy_result *result, sy_quantized *out, sy_error *error) {
  if (result == nullptr || out == nullptr || out->struct_size < sizeof(out->struct_size))
    return c::invalid("result, out and out->struct_size must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    if (!result->quantized)
      return c::report(Error{ErrorCode::usage,
                             "the result of " + result->op + ", not of quantize",
                             {},
                             0,
                             0,
                             -1,
                             {}},
                       error);
    const Quantized &q = *result->quantized;
    sy_quantized d{};
    d.struct_size = out->struct_size;
    d.group_size = q.group_size;
    d.format = q.format.c_str();
    d.granularity = q.granularity.c_str();
    const auto find = [&](const char *name) -> const sy_tensor * {
      const auto at = result->arrays.find(name);
      return at == result->arrays.end() ? nullptr : &at->second.view().raw();
    };
    d.codes = find("codes");
    d.scales = find("scales");
    d.biases = find("biases");
    d.rank = static_cast<int32_t>(q.shape.size());
    std::ranges::copy(q.shape, d.shape);
    d.dtype = q.dtype;
    std::memcpy(static_cast<void *>(out), &d, std::min<std::size_t>(d.struct_size, sizeof d));
    return SY_OK;
  });
}

int32_t sy_dequantize(sy_engine *engine, const sy_quantized *quantized, const sy_tensor *y,
                      sy_result **out, sy_error *error) {
  if (out != nullptr) *out = nullptr;
  if (out == nullptr && y == nullptr) return c::invalid("out and y are NULL", error);
  if (engine == nullptr || quantized == nullptr)
    return c::invalid("engine and quantized must be given", error);
  if (quantized->struct_size < sizeof(sy_quantized))
    return c::invalid("quantized->struct_size is not set", error);
  return c::guarded(error, [&]() -> int32_t {
    const sy_quantized &given = *quantized;
    if (given.format == nullptr || given.codes == nullptr || given.rank < 0 ||
        given.rank > SY_MAX_RANK)
      return c::invalid("quantized needs a format, codes and a shape of at most 8 dimensions",
                        error);
    Quantized q;
    q.format = given.format;
    q.group_size = given.group_size;
    q.granularity = c::text_or(given.granularity, "tensor");
    q.shape.assign(given.shape, given.shape + given.rank);
    q.dtype = given.dtype;
    for (const auto &[from, to, name] :
         {std::tuple{given.codes, &q.codes, "codes"}, std::tuple{given.scales, &q.scales, "scales"},
          std::tuple{given.biases, &q.biases, "biases"}}) {
      auto view = c::view_of(from, name);
      if (!view) return c::report(view.error(), error);
      if (view->present()) *to = Tensor::adopt(*view, nullptr);
    }
    auto into = c::view_of(y, "y");
    if (!into) return c::report(into.error(), error);
    auto result = std::make_unique<sy_result>();
    const ProgressScope watch(c::progress_of(*engine, nullptr, nullptr));
    auto values = engine->engine.dequantize(q, *into, &result->info);
    if (!values) return c::report(values.error(), error);
    if (out == nullptr) return SY_OK;
    result->op = SY_OP_DEQUANTIZE;
    if (y == nullptr) put(*result, "values", std::move(*values));
    result->finish();
    *out = result.release();
    return SY_OK;
  });
}

int32_t sy_kmeans(sy_engine *engine, const sy_tensor *x, const sy_kmeans_options *options,
                  sy_result **out, sy_error *error) {
  if (out == nullptr) return c::invalid("out is NULL", error);
  *out = nullptr;
  if (engine == nullptr || x == nullptr) return c::invalid("engine and x must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    sy_kmeans_options given;
    if (!c::adopt(options, given, sy_kmeans_options_init)) return c::invalid(kNoSize, error);
    const auto view = c::view_of(x, "x"), init = c::view_of(given.init_centroids, "init_centroids"),
               weight = c::view_of(given.sample_weight, "sample_weight");
    for (const auto *v : {&view, &init, &weight})
      if (!*v) return c::report(v->error(), error);
    KMeansOptions o;
    o.k = given.k;
    o.init = init->present() ? "given" : c::text_or(given.init, "k-means++");
    o.init_centroids = *init;
    o.sample_weight = *weight;
    o.n_init = given.n_init;
    o.max_iter = given.max_iter;
    o.tol = given.tol;
    o.seed = given.seed;
    o.spherical = given.spherical != 0;
    o.batch_size = given.batch_size;
    o.progress = c::progress_of(*engine, given.progress, given.progress_arg);
    auto fit = engine->engine.kmeans(*view, o);
    if (fit && fit->cancelled) fit = fail(ErrorCode::cancelled, "k-means was asked to stop");
    if (!fit) return c::report(fit.error(), error);
    auto result = std::make_unique<sy_result>();
    result->op = "kmeans";
    result->info = fit->info;
    result->numbers = {{"inertia", fit->inertia},
                       {"n_iter", fit->n_iter},
                       {"converged", fit->converged ? 1 : 0},
                       {"empty_clusters", static_cast<double>(fit->empty_clusters)}};
    put(*result, "labels", std::move(fit->labels));
    put(*result, "centroids", std::move(fit->centroids));
    put(*result, "counts", std::move(fit->counts));
    result->finish();
    *out = result.release();
    return SY_OK;
  });
}

int32_t sy_attention(sy_engine *engine, const sy_tensor *q, const sy_tensor *k, const sy_tensor *v,
                     const sy_attention_options *options, sy_result **out, sy_error *error) {
  if (out != nullptr) *out = nullptr;
  if (engine == nullptr || q == nullptr || k == nullptr || v == nullptr)
    return c::invalid("engine, q, k and v must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    sy_attention_options given;
    if (!c::adopt(options, given, sy_attention_options_init)) return c::invalid(kNoSize, error);
    if (out == nullptr && given.o == nullptr)
      return c::invalid("out and options->o are NULL", error);
    if (given.causal < SY_CAUSAL_NONE || given.causal > SY_CAUSAL_BOTTOM_RIGHT)
      return c::invalid("options->causal is no sy_causal", error);
    const auto qv = c::view_of(q, "q"), kv = c::view_of(k, "k"), vv = c::view_of(v, "v"),
               mask = c::view_of(given.mask, "mask"), sinks = c::view_of(given.sinks, "sinks"),
               o_view = c::view_of(given.o, "o"), alibi = c::view_of(given.alibi, "alibi"),
               lengths = c::view_of(given.kv_lengths, "kv_lengths"),
               table = c::view_of(given.block_table, "block_table");
    for (const auto *view : {&qv, &kv, &vv, &mask, &sinks, &o_view, &alibi, &lengths, &table})
      if (!*view) return c::report(view->error(), error);
    AttentionCall o;
    o.causal = static_cast<sy_causal>(given.causal);
    if (given.window != 0) o.window = given.window;
    o.softcap = given.softcap;
    if (given.scale != 0) o.scale = given.scale;
    o.mask = *mask;
    o.sinks = *sinks;
    o.alibi = *alibi;
    o.kv_lengths = *lengths;
    o.block_table = *table;
    o.keep = given.keep;
    o.return_lse = given.return_lse != 0;
    o.out = *o_view;
    const ProgressScope watch(c::progress_of(*engine, given.progress, given.progress_arg));
    auto done = attention(engine->engine, *qv, *kv, *vv, o);
    if (!done) return c::report(done.error(), error);
    if (out == nullptr) return SY_OK;
    auto result = std::make_unique<sy_result>();
    result->op = SY_OP_ATTENTION;
    result->info = done->info;
    put(*result, "o", std::move(done->out));
    put(*result, "lse", std::move(done->lse));
    result->finish();
    *out = result.release();
    return SY_OK;
  });
}

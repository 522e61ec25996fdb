// SPDX-License-Identifier: Apache-2.0
/// The C host interface: engines, errors, arrays, and what an engine tells of itself.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checked.hpp"
#include "base/status_codes.hpp"
#include "config/options.hpp"
#include "facade/backends.hpp"
#include "facade/c_support.hpp"
#include "facade/recommend.hpp"

using namespace switchyard;

namespace switchyard::c {

std::int32_t code_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::usage:
      return SY_HOST_E_USAGE;
    case ErrorCode::config:
      return SY_HOST_E_CONFIG;
    case ErrorCode::io:
      return SY_HOST_E_IO;
    case ErrorCode::backend:
      return SY_HOST_E_BACKEND;
    case ErrorCode::regression:
      return SY_HOST_E_REGRESSION;
    default:
      return to_status(code);
  }
}

std::int32_t report(const Error &error, sy_error *out) noexcept {
  const std::int32_t code = code_of(error.code);
  if (out == nullptr || out->struct_size < sizeof(sy_error)) return code;
  std::string text;
  try {
    text = error.text();
  } catch (...) {
  }
  const auto length = std::min(text.size(), sizeof(out->message) - 1);
  std::memcpy(out->message, text.data(), length);
  out->message[length] = '\0';
  out->code = code;
  out->index = error.index;
  return code;
}

std::int32_t invalid(const char *message, sy_error *out) noexcept {
  return guarded(out, [&] {
    return report(Error{ErrorCode::invalid_argument, message, {}, 0, 0, -1, {}}, out);
  });
}

Result<TensorView> view_of(const sy_tensor *tensor, const char *what) {
  if (tensor == nullptr) return TensorView();
  const std::string name(what);
  if (tensor->rank < 0 || tensor->rank > SY_MAX_RANK)
    return fail(ErrorCode::invalid_argument,
                name + " has rank " + std::to_string(tensor->rank) + "; 0 to 8 are possible");
  if (tensor->device_kind != SY_DEVICE_HOST)
    return fail(ErrorCode::invalid_argument, name + " must be in host memory");
  bool empty = false;
  for (std::int32_t i = 0; i < tensor->rank; ++i) {
    if (tensor->shape[i] < 0)
      return fail(ErrorCode::shape,
                  name + " has a negative size in dimension " + std::to_string(i));
    empty = empty || tensor->shape[i] == 0;
  }
  if (tensor->handle == nullptr && !empty)
    return fail(ErrorCode::invalid_argument, name + " has no data");
  return TensorView(*tensor);
}

Progress progress_of(sy_engine &engine, sy_progress_fn hook, void *arg) {
  const std::uint64_t before = engine.cancels.load();
  return [&engine, before, hook, arg](double done) {
    return engine.cancels.load() == before && (hook == nullptr || hook(arg, done) == 0);
  };
}

namespace {

std::int32_t give(const std::string &text, char **out) {
  *out = static_cast<char *>(std::malloc(text.size() + 1));
  if (*out == nullptr) throw std::bad_alloc();
  std::memcpy(*out, text.c_str(), text.size() + 1);
  return SY_OK;
}

Result<Options> options_of(const sy_engine_options &given) {
  Options options;
  if (given.preset != nullptr) {
    auto preset = load_preset(given.preset);
    if (!preset) return preset;
    options = std::move(*preset);
  }
  if (given.config != nullptr) {
    auto config = load_engine_config(given.config, options);
    if (!config) return config;
    options = std::move(*config);
  }
  if (given.threads < 0)
    return fail(ErrorCode::usage, "threads must not be negative; 0 = what the process may use");
  if (given.threads > 0) options.threads = given.threads;
  if (given.policy != nullptr) {
    auto policy = parse_policy(given.policy);
    if (!policy) return tl::unexpected(policy.error());
    options.policy = *policy;
  }
  if (given.backend != nullptr) options.pin = {{"*", given.backend}};
  if (given.cache_dir != nullptr) options.cache_dir = given.cache_dir;
  if (given.log_level != nullptr) options.log_level = given.log_level;
  if (auto ok = apply_environment(options); !ok) return tl::unexpected(ok.error());
  return options;
}

}  // namespace
}  // namespace switchyard::c

const char *sy_code_name(int32_t code) {
  if (code == SY_OK) return "ok";
  for (int i = 0; i <= static_cast<int>(ErrorCode::internal); ++i) {
    const auto e = static_cast<ErrorCode>(i);
    if (c::code_of(e) == code) return to_string(e).data();
  }
  if (code == SY_E_DEVICE_LOST || code == SY_E_HARDWARE || code == SY_E_ABI) return "backend";
  return "unknown";
}

const char *sy_version(void) { return version().data(); }
uint32_t sy_host_api_version(void) { return SY_HOST_API_MAJOR << 16 | SY_HOST_API_MINOR; }

int32_t sy_tensor_init(sy_tensor *out, void *data, sy_dtype dtype, int32_t rank,
                       const int64_t *shape) {
  if (out == nullptr || rank < 0 || rank > SY_MAX_RANK || (rank > 0 && shape == nullptr) ||
      dtype.bits == 0 || dtype.bits % 8 != 0)
    return SY_E_INVALID_ARGUMENT;
  std::uint64_t bytes = dtype.bits / 8;
  for (int32_t i = 0; i < rank; ++i) {
    if (shape[i] < 0) return SY_E_INVALID_ARGUMENT;
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(shape[i]), &bytes) ||
        bytes > INT64_MAX)
      return SY_E_OVERFLOW;
  }
  *out = sy_tensor{};
  out->handle = data;
  out->byte_size = bytes;
  out->dtype = dtype;
  out->rank = rank;
  out->device_kind = SY_DEVICE_HOST;
  std::int64_t stride = 1;
  for (int32_t i = rank - 1; i >= 0; --i) {
    out->shape[i] = shape[i];
    out->strides[i] = stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
  }
  return SY_OK;
}

void sy_engine_options_init(sy_engine_options *options, uint32_t struct_size) {
  sy_engine_options defaults{};
  defaults.struct_size = struct_size;
  std::memcpy(options, &defaults, std::min<std::size_t>(struct_size, sizeof defaults));
}

int32_t sy_engine_create(const sy_engine_options *options, sy_engine **out, sy_error *error) {
  if (out == nullptr) return c::invalid("out is NULL", error);
  *out = nullptr;
  return c::guarded(error, [&]() -> int32_t {
    sy_engine_options given;
    if (!c::adopt(options, given, sy_engine_options_init))
      return c::invalid("options->struct_size is not set; sy_engine_options_init does", error);
    auto resolved = c::options_of(given);
    if (!resolved) return c::report(resolved.error(), error);
    auto made = Engine::create(std::move(*resolved));
    if (!made) return c::report(made.error(), error);
    if (given.backend != nullptr)  // it must exist: nothing could be answered otherwise
      if (auto ok = check_backend(*made, given.backend); !ok) return c::report(ok.error(), error);
    *out = new sy_engine(std::move(*made));
    return SY_OK;
  });
}

void sy_engine_destroy(sy_engine *engine) { delete engine; }

void sy_engine_cancel(sy_engine *engine) {
  if (engine != nullptr) engine->cancels.fetch_add(1);
}

int32_t sy_explain(sy_engine *engine, const char *op, const char *shape, int32_t measure,
                   char **json, sy_error *error) {
  if (json == nullptr) return c::invalid("json is NULL", error);
  *json = nullptr;
  if (engine == nullptr || op == nullptr || shape == nullptr)
    return c::invalid("engine, op and shape must be given", error);
  return c::guarded(error, [&]() -> int32_t {
    auto explanation = engine->engine.explain(op, shape, measure != 0);
    if (!explanation) return c::report(explanation.error(), error);
    return c::give(explanation->json(), json);
  });
}

int32_t sy_metrics(sy_engine *engine, char **json, sy_error *error) {
  if (json == nullptr) return c::invalid("json is NULL", error);
  *json = nullptr;
  if (engine == nullptr) return c::invalid("engine is NULL", error);
  return c::guarded(error, [&] { return c::give(engine->engine.metrics().json(), json); });
}

int32_t sy_recommend(sy_engine *engine, char **json, sy_error *error) {
  if (json == nullptr) return c::invalid("json is NULL", error);
  *json = nullptr;
  if (engine == nullptr) return c::invalid("engine is NULL", error);
  return c::guarded(error, [&] {
    auto list = nlohmann::ordered_json::array();
    for (const Recommendation &r : engine->engine.recommend()) list.push_back(to_json(r));
    return c::give(list.dump(), json);
  });
}

void sy_string_free(char *text) { std::free(text); }

int32_t sy_run(sy_engine *engine, const char *op, sy_call *call, sy_error *error) {
  if (engine == nullptr || op == nullptr || call == nullptr)
    return c::invalid("engine, op and call must be given", error);
  return engine->engine.run(op, *call, error);
}

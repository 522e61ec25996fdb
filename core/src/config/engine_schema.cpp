// SPDX-License-Identifier: Apache-2.0
#include "config/engine_schema.hpp"

#include <array>
#include <filesystem>

#include "config/options.hpp"

namespace switchyard::config {
namespace {

constexpr std::string_view kPolicies[] = {"adaptive", "benchmark", "thresholds", "fixed", "frozen"};
constexpr std::string_view kNumerics[] = {"reproducible", "tolerant"};
constexpr std::string_view kIsolations[] = {"off", "first_use", "always"};
constexpr std::string_view kIsas[] = {"avx2", "avx512", "avx512_bf16", "amx"};
constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error", "off"};

constexpr std::array kPreferenceFields = {
    Field{.name = "backend",
          .type = Type::text,
          .doc = "instance (`opencl:0`) or plugin name",
          .required = true},
    Field{.name = "min_size",
          .type = Type::integer,
          .fallback = "0",
          .doc = "taken only for calls of at least this many elements",
          .low = 0},
};
constexpr Section kPreference{"preferences", kPreferenceFields};

constexpr std::array kBackendConfigFields = {
    Field{.name = "prefer_gpu",
          .type = Type::boolean,
          .fallback = "true",
          .doc = "backends with a device of their own, first"},
    Field{.name = "prefer_cpp",
          .type = Type::boolean,
          .fallback = "true",
          .doc = "then vectorised and threaded code on the processor"},
    Field{.name = "prefer_c", .type = Type::boolean, .fallback = "true", .doc = "then plain loops"},
    Field{.name = "min_size_for_gpu",
          .type = Type::integer,
          .fallback = "1000000",
          .doc = "elements from which on a call may go there",
          .low = 0},
    Field{.name = "min_size_for_cpp",
          .type = Type::integer,
          .fallback = "0",
          .doc = "the same for processor code",
          .low = 0},
    Field{.name = "min_size_for_c",
          .type = Type::integer,
          .fallback = "0",
          .doc = "the same for plain loops",
          .low = 0},
};
constexpr Section kBackendConfig{"backend_config", kBackendConfigFields};

const std::array kEngineFields = {
    Field{.name = "preset",
          .type = Type::choice,
          .doc = "the settings that the other keys here start from",
          .choices = preset_names()},
    Field{.name = "policy",
          .type = Type::choice,
          .fallback = "adaptive",
          .doc =
              "how a backend is chosen: `adaptive` measures while working, `benchmark` times every "
              "candidate on first sight, `thresholds` follows `preferences`, `fixed` obeys `pin`, "
              "`frozen` follows `lock_file`",
          .choices = kPolicies},
    Field{.name = "numerics",
          .type = Type::choice,
          .fallback = "reproducible",
          .doc = "`reproducible` never changes an operation's numerics class while tuning",
          .choices = kNumerics},
    Field{
        .name = "isolation",
        .type = Type::choice,
        .fallback = "first_use",
        .doc =
            "`off`: plugins run here at once; `first_use`: unseen files and kernels are tried in a "
            "process of their own first; `always`: all but the reference stays there, each call "
            "goes through shared memory",
        .choices = kIsolations},
    Field{.name = "threads",
          .type = Type::integer,
          .fallback = "0",
          .doc = "most threads a call may use; 0 = what cgroup, affinity and hardware allow",
          .low = 0,
          .high = 4096},
    Field{.name = "pin",
          .type = Type::text_map,
          .doc = "operation (`kmeans`, `attention`, ..., `\"*\"` for all) to backend; a pinned "
                 "backend is never exchanged"},
    Field{.name = "strict",
          .type = Type::boolean,
          .fallback = "false",
          .doc = "an error instead of another backend when the chosen one fails at run time"},
    Field{.name = "preferences",
          .type = Type::section_list,
          .doc = "backends in order of preference, each from a minimum size on",
          .section = &kPreference},
    Field{.name = "backend_config",
          .type = Type::section,
          .doc = "thresholds by groups of backends: sets `preferences` and the policy `thresholds`",
          .section = &kBackendConfig},
    Field{.name = "plugins",
          .type = Type::path_list,
          .doc = "directories searched for plugins before the standard ones"},
    Field{.name = "cache_dir",
          .type = Type::text,
          .fallback = "null",
          .doc =
              "directory of measurements and verdicts; absent = the XDG cache directory, `\"\"` = "
              "keep nothing on disk"},
    Field{.name = "isa",
          .type = Type::choice,
          .fallback = "null",
          .doc = "the highest instruction set that may be used; absent = what the machine has",
          .choices = kIsas},
    Field{.name = "exploration_share",
          .type = Type::number,
          .fallback = "0.02",
          .doc = "share of the run time that trying other candidates may cost",
          .least = 0,
          .most = 1},
    Field{.name = "exploration_ms",
          .type = Type::number,
          .fallback = "200",
          .doc = "milliseconds that trying may cost at the start, before the share allows it",
          .least = 0,
          .most = 1e9},
    Field{.name = "lock_file",
          .type = Type::text,
          .doc = "decisions that the policy `frozen` follows, as `switchyard tune --lock` writes "
                 "them"},
    Field{.name = "margin",
          .type = Type::number,
          .fallback = "0.05",
          .doc = "a challenger must be faster by this share to replace the choice",
          .least = 0,
          .most = 1},
    Field{.name = "shadow_share",
          .type = Type::number,
          .fallback = "0.005",
          .doc = "share of the run time spent on recomputing parts of calls with the reference, so "
                 "that a kernel that turns wrong is found; 0 = never",
          .least = 0,
          .most = 1},
    Field{
        .name = "gate_timeout_ms",
        .type = Type::integer,
        .fallback = "200",
        .doc = "milliseconds that a first call waits for verification before the reference answers",
        .low = 0,
        .high = 3'600'000},
    Field{.name = "log_level",
          .type = Type::choice,
          .fallback = "warning",
          .doc = "least severe messages that are logged",
          .choices = kLevels},
    Field{.name = "verbose",
          .type = Type::boolean,
          .fallback = "false",
          .doc = "log who answered each call"},
    Field{.name = "result_cache",
          .type = Type::integer,
          .fallback = "0",
          .doc = "bytes of results kept by the content of their inputs, least recently used out "
                 "first; 0 = none",
          .low = 0},
};
const Section kEngine{"engine", kEngineFields};

}  // namespace

const Section &engine_section() noexcept { return kEngine; }

std::string absolute_path(const std::string &path, const std::string &directory) {
  return (std::filesystem::path(directory) / path).lexically_normal().string();
}

std::string directory_of(const std::string &path) {
  std::error_code failure;
  const auto absolute = std::filesystem::absolute(path, failure);
  return failure ? std::string("/") : absolute.lexically_normal().parent_path().string();
}

void apply_engine(const View &view, const std::string &directory, Options &o) {
  if (view.has("preset")) o.preset = view.text("preset");
  // The choices are those that the parsers know.
  if (view.has("policy")) o.policy = parse_policy(view.text("policy")).value_or(o.policy);
  if (view.has("numerics")) o.numerics = parse_numerics(view.text("numerics")).value_or(o.numerics);
  if (view.has("isolation"))
    o.isolation = parse_isolation(view.text("isolation")).value_or(o.isolation);
  if (view.has("threads")) o.threads = static_cast<int>(view.integer("threads"));
  if (view.has("pin")) o.pin = view.map("pin");
  if (view.has("strict")) o.strict = view.boolean("strict");
  if (const Node *node = view.node("backend_config")) {
    const View groups(*node, kBackendConfig);
    BackendConfig c;
    c.prefer_gpu = groups.boolean("prefer_gpu");
    c.prefer_cpp = groups.boolean("prefer_cpp");
    c.prefer_c = groups.boolean("prefer_c");
    c.min_size_for_gpu = groups.integer("min_size_for_gpu");
    c.min_size_for_cpp = groups.integer("min_size_for_cpp");
    c.min_size_for_c = groups.integer("min_size_for_c");
    const Policy given = o.policy;
    c.apply(o);
    if (view.has("policy")) o.policy = given;
  }
  if (const Node *list = view.node("preferences")) {
    o.preferences.clear();
    for (const Node &item : list->items) {
      const View preference(item, kPreference);
      o.preferences.push_back({preference.text("backend"), preference.integer("min_size")});
    }
  }
  if (view.has("plugins")) {
    o.plugin_paths.clear();
    for (const std::string &path : view.list("plugins"))
      o.plugin_paths.push_back(absolute_path(path, directory));
  }
  if (view.has("cache_dir")) {
    const std::string path = view.text("cache_dir");
    o.cache_dir = path.empty() ? path : absolute_path(path, directory);
  }
  if (view.has("isa")) o.isa = view.text("isa");
  if (view.has("exploration_share")) o.exploration_share = view.number("exploration_share");
  if (view.has("exploration_ms")) o.exploration_ms = view.number("exploration_ms");
  if (view.has("lock_file")) o.lock_file = absolute_path(view.text("lock_file"), directory);
  if (view.has("shadow_share")) o.shadow_share = view.number("shadow_share");
  if (view.has("margin")) o.margin = view.number("margin");
  if (view.has("gate_timeout_ms"))
    o.gate_timeout_ms = static_cast<std::uint32_t>(view.integer("gate_timeout_ms"));
  if (view.has("log_level")) o.log_level = view.text("log_level");
  if (view.has("verbose")) o.verbose = view.boolean("verbose");
  if (view.has("result_cache"))
    o.result_cache = static_cast<std::uint64_t>(view.integer("result_cache"));
}

Status check_root(const Document &document, const Section &root) {
  // The version first: a later layout's keys would all be unknown.
  const Entry *version = document.root().find(kVersionField.name);
  if (version != nullptr && version->value.kind == Node::Kind::scalar &&
      version->value.value != "1")
    return document.error(version->value.place,
                          "version " + version->value.value + " is not known; write 'version: 1'");
  return check(document, document.root(), root);
}

Result<Options> engine_options(const Document &document, const Node *engine,
                               const std::string &directory, const Options &base) {
  Options options = base;
  if (engine == nullptr) {
    if (base.preset.empty()) return options;
    return load_preset(base.preset);
  }
  const View view(*engine, kEngine);
  const std::string preset = view.has("preset") ? view.text("preset") : base.preset;
  if (!preset.empty()) {
    auto loaded = load_preset(preset);
    if (!loaded) return document.error(engine->place, loaded.error().message);
    options = *std::move(loaded);
  }
  apply_engine(view, directory, options);
  return options;
}

}  // namespace switchyard::config

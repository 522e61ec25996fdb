// SPDX-License-Identifier: Apache-2.0
// The extension switchyard._core: one thin function per call of the C++ Engine. What users see, its
// names, defaults and documentation, is the Python package around it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <switchyard/batch.hpp>
#include <switchyard/engine.hpp>

#include "attention.hpp"
#include "calls.hpp"
#include "config/options.hpp"
#include "facade/backends.hpp"
#include "models.hpp"

namespace switchyard::python {
namespace {

using std::string;

/// The arguments of Python's Engine that are not there for None.
struct Given {
  std::optional<string> policy, cache_dir;
  std::optional<bool> strict, verbose;
  std::optional<std::uint64_t> result_cache;
  std::optional<std::vector<std::pair<string, std::int64_t>>> preferences;
  /// prefer_gpu, prefer_cpp, prefer_c, and their minimum sizes.
  std::optional<std::tuple<bool, bool, bool, std::int64_t, std::int64_t, std::int64_t>> thresholds;
};

void overlay(Options &options, const Given &given) {
  if (given.thresholds) {
    BackendConfig c;
    std::tie(c.prefer_gpu, c.prefer_cpp, c.prefer_c, c.min_size_for_gpu, c.min_size_for_cpp,
             c.min_size_for_c) = *given.thresholds;
    c.apply(options);
  }
  if (given.preferences) {
    options.preferences.clear();
    for (const auto &[backend, size] : *given.preferences)
      options.preferences.push_back({backend, size});
  }
  if (given.policy) options.policy = value(parse_policy(*given.policy));
  if (given.cache_dir) options.cache_dir = *given.cache_dir;
  if (given.strict) options.strict = *given.strict;
  if (given.verbose) options.verbose = *given.verbose;
  if (given.result_cache) options.result_cache = *given.result_cache;
}

Engine make_engine(const string &preset, const string &config, int threads,
                   const std::map<string, string> &pin, const Given &given) {
  Options options;
  if (!config.empty()) {
    options.preset = preset;
    options = value(load_engine_config(config, options));
  } else if (!preset.empty()) {
    options = value(load_preset(preset));
  }
  value(apply_environment(options));
  if (threads > 0) options.threads = threads;
  for (const auto &[op, backend] : pin) options.pin[op] = backend;
  overlay(options, given);
  options.resolved = true;  // nothing is left to fold in, and these arguments come last
  return value(unlocked([&]() -> Result<Engine> {
    auto engine = Engine::create(std::move(options));
    if (!engine) return engine;
    for (const auto &[op, backend] : pin)
      if (auto ok = check_backend(*engine, backend); !ok) return tl::unexpected(ok.error());
    return engine;
  }));
}

nb::dict size_summary(const SizeMetrics &m) {
  nb::dict d;
  d["timed_count"] = m.timed_count;
  d["bytes"] = m.bytes;
  d["flops"] = m.flops;
  d["avg_time_ms"] = m.mean_ms;
  d["gb_per_s"] = m.gb_per_s;
  d["gflop_per_s"] = m.gflop_per_s;
  d["threads"] = m.threads;
  d["bound"] = m.bound;
  d["level"] = m.level;
  d["memory_share"] = m.memory_share;
  d["compute_share"] = m.compute_share;
  d["text"] = m.text;
  return d;
}

nb::dict summary(const BackendMetrics &m) {
  nb::dict d;
  d["count"] = m.count;
  d["timed_count"] = m.timed_count;
  d["fallbacks"] = m.fallbacks;
  d["total_time_ms"] = m.total_ms;
  d["avg_time_ms"] = m.mean_ms;
  d["p50_ms"] = m.p50_ms;
  d["p95_ms"] = m.p95_ms;
  d["bytes"] = m.bytes;
  d["flops"] = m.flops;
  nb::list sizes;
  for (const SizeMetrics &size : m.sizes) sizes.append(size_summary(size));
  if (!m.sizes.empty()) d["sizes"] = sizes;
  return d;
}

nb::dict summaries(const std::map<string, BackendMetrics> &backends) {
  nb::dict d;
  for (const auto &[name, m] : backends) d[name.c_str()] = summary(m);
  return d;
}

nb::dict devices(const Metrics &metrics) {
  nb::dict all;
  for (const auto &[name, m] : metrics.devices) {
    nb::dict d;
    d["kernels"] = m.kernels;
    d["kernel_ms"] = m.kernel_ms;
    d["transfer_ms"] = m.transfer_ms;
    d["bytes_to_device"] = m.bytes_to_device;
    d["bytes_from_device"] = m.bytes_from_device;
    d["programs_built"] = m.programs_built;
    d["programs_cached"] = m.programs_cached;
    d["build_ms"] = m.build_ms;
    all[name.c_str()] = d;
  }
  return all;
}

nb::dict metrics(const Engine &engine) {
  const Metrics m = engine.metrics();
  nb::dict by_op, reasons, d;
  for (const auto &[op, backends] : m.by_op) by_op[op.c_str()] = summaries(backends);
  for (const auto &[reason, count] : m.fallback_reasons) reasons[reason.c_str()] = count;
  d["total_operations"] = m.total_operations;
  d["backend_summary"] = summaries(m.backends);
  d["by_op"] = by_op;
  d["fallback_reasons"] = reasons;
  d["exploration_ms"] = m.exploration_ms;
  d["dispatch_ns"] = m.dispatch_ns;
  nb::dict cache;
  cache["hits"] = m.result_cache.hits;
  cache["misses"] = m.result_cache.misses;
  cache["hit_rate"] = m.result_cache.hit_rate();
  cache["evictions"] = m.result_cache.evictions;
  cache["entries"] = m.result_cache.entries;
  cache["bytes"] = m.result_cache.bytes;
  cache["capacity"] = m.result_cache.capacity;
  d["result_cache"] = cache;
  d["devices"] = devices(m);
  d["limits"] = m.limits;
  return d;
}

nb::list recommend(const Engine &engine) {
  nb::list list;
  for (const Recommendation &r : engine.recommend()) {
    nb::dict d;
    d["what"] = r.what;
    d["evidence"] = r.evidence;
    if (r.expected_gain > 0)
      d["expected_gain"] = r.expected_gain;
    else
      d["expected_gain"] = nb::none();
    list.append(d);
  }
  return list;
}

nb::list plugins(const Engine &engine) {
  nb::list list;
  for (const PluginInfo &p : engine.plugins()) {
    nb::dict d;
    d["id"] = p.id;
    d["version"] = p.version;
    d["path"] = p.path;
    d["status"] = p.status;
    d["reason"] = p.reason;
    d["instances"] = p.instances;
    d["devices"] = p.devices;
    d["kernels"] = p.kernels;
    list.append(d);
  }
  return list;
}

Engine &pinned(Engine &engine, const string &backend) {
  return *value(unlocked([&] { return engine.pinned(backend); }));
}

string explain(Engine &engine, const string &op, const string &shape) {
  return value(unlocked([&] { return engine.explain(op, shape); })).json();
}

std::vector<string> decisions(const Engine &engine) {
  std::vector<string> out;
  for (const Explanation &e : engine.decisions()) out.push_back(e.json());
  return out;
}

/// How the core sees an array: (address of the first element, shape, strides, dtype). For tests.
nb::tuple view_of(nb::handle x) {
  const Array array(x, "x", Access::read);
  const TensorView &view = array.view();
  return nb::make_tuple(reinterpret_cast<std::uintptr_t>(view.data()), to_tuple(view.shape()),
                        to_tuple(view.strides()), to_string(view.dtype()));
}

}  // namespace

NB_MODULE(_core, m) {
  init_arrays();
  const std::string_view release = version();
  m.attr("version") = nb::str(release.data(), release.size());
  using namespace nb::literals;
  const auto a = nb::arg().none();  // an array or None
  m.def("view_of", &view_of, a);
  m.def("available_memory", &available_memory);
  m.def("last_run", &last_run);
  m.def("remember", [](string backend, string kernel, string requested, string verified,
                       string fallback_reason, double time_ms, bool reused) {
    remember({std::move(backend), std::move(kernel), std::move(requested), std::move(verified),
              std::move(fallback_reason), time_ms, reused});
  });
  EngineClass engine(m, "Engine");
  engine
      .def(
          "__init__",
          [](Engine *self, const string &preset, const string &config, int threads,
             const std::map<string, string> &pin, decltype(Given::policy) policy,
             decltype(Given::cache_dir) cache_dir, decltype(Given::strict) strict,
             decltype(Given::verbose) verbose, decltype(Given::result_cache) result_cache,
             decltype(Given::preferences) preferences, decltype(Given::thresholds) thresholds) {
            new (self) Engine(make_engine(preset, config, threads, pin,
                                          {std::move(policy), std::move(cache_dir), strict, verbose,
                                           result_cache, std::move(preferences), thresholds}));
          },
          "preset"_a, "config"_a, "threads"_a, "pin"_a, "policy"_a.none(), "cache_dir"_a.none(),
          "strict"_a.none(), "verbose"_a.none(), "result_cache"_a.none(), "preferences"_a.none(),
          "thresholds"_a.none())
      .def("explain", &explain)
      .def("decisions", &decisions)
      .def("metrics", &metrics)
      .def("recommend", &recommend)
      .def("plugins", &plugins)
      .def("backends", &Engine::backends)
      .def("pinned", &pinned, nb::rv_policy::reference_internal)
      .def("search_log", &Engine::search_log)
      .def("threads", &Engine::threads);
  bind_quantize(m, engine);
  bind_kmeans(engine);
  bind_attention(engine);
  bind_layers(engine);
  bind_models(m);
  bind_advice(m);
  bind_kv_cache(m, engine);
}

}  // namespace switchyard::python

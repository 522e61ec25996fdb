// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A Runner straight over one plugin's C interface: no verification, no choice, any thread count.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/status_codes.hpp"
#include "dispatcher/runner.hpp"
#include "host/host.hpp"

namespace switchyard::testing {

inline void spread(std::uint64_t n, std::uint32_t threads,
                   const std::function<void(std::uint64_t)> &fn) {
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (std::uint64_t i = next++; i < n; i = next++) fn(i);
  };
  std::vector<std::thread> others;
  for (std::uint32_t t = 1; t < threads && t < n; ++t) others.emplace_back(work);
  work();
  for (auto &t : others) t.join();
}

inline const sy_host &plain_host() {
  static const sy_host host = [] {
    sy_host h{};
    h.struct_size = sizeof(h);
    h.abi_major = SY_ABI_MAJOR;
    h.abi_minor = SY_ABI_MINOR;
    h.log = [](const sy_host *, std::int32_t, const char *) {};
    h.clock_ns = [](const sy_host *) -> std::uint64_t { return 0; };
    h.amx_state = [](const sy_host *) { return request_amx(); };
    h.parallel_for = [](const sy_host *, std::uint64_t n, sy_task_fn fn, void *arg,
                        std::uint32_t threads) {
      spread(n, threads, [&](std::uint64_t i) { fn(arg, i); });
    };
    h.get_setting = [](const sy_host *, const char *name) -> const char * {
      return std::string_view(name) == "executor" ? "host" : nullptr;
    };
    h.get_extension = [](const sy_host *, const char *) -> const void * { return nullptr; };
    return h;
  }();
  return host;
}

/// AMX kernels for any processor with AVX-512: tests/tiles.
constexpr std::string_view kEmulated = "emulated_tiles";

class PluginRunner final : public Runner {
 public:
  /// nullptr where the plugin was not built or its hardware is missing.
  /// `variant`: the last part of the kernels' names; "" takes the first kernel of an operation.
  static std::unique_ptr<PluginRunner> load(const std::string &id, std::uint32_t threads,
                                            bool keep_states = true,
                                            const std::string &variant = {}) {
    const std::string folder =
        id == kEmulated ? "/tests/plugins/emulated_tiles" : "/lib/switchyard/plugins";
    const std::string path =
        std::string(SWITCHYARD_BINARY_DIR) + folder + "/switchyard_" + id + ".so";
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == nullptr) return nullptr;
    const auto *plugin = static_cast<const sy_plugin *>(dlsym(library, SY_PLUGIN_SYMBOL));
    if (plugin == nullptr || plugin->probe(&plain_host(), nullptr) != SY_OK) return nullptr;
    sy_instance *instance = nullptr;
    if (plugin->create(&plain_host(), 0, nullptr, 0, &instance, nullptr) != SY_OK) return nullptr;
    return std::unique_ptr<PluginRunner>(
        new PluginRunner(id, plugin, instance, threads, keep_states, variant));
  }
  ~PluginRunner() override { plugin_->destroy(instance_); }

  std::unique_ptr<States> make_states(std::uint64_t constant_inputs) override {
    return std::make_unique<OneState>(*this, constant_inputs);
  }

  Status run(std::string_view op, sy_call &call, States *states, Answer *answer) override {
    const sy_kernel *kernel = find(op, call);
    if (kernel == nullptr) return fail(ErrorCode::unsupported, "no such kernel");
    call.threads = threads_;
    call.state = nullptr;
    if (states != nullptr && keep_states_ && kernel->prepare != nullptr) {
      auto &mine = static_cast<OneState &>(*states);
      if (mine.kernel == nullptr) {
        if (kernel->prepare(kernel, instance_, &call, mine.constant_inputs, &mine.state, nullptr) !=
            SY_OK)
          return fail(ErrorCode::internal, "prepare failed");
        mine.kernel = kernel;
      }
      call.state = mine.state;
    }
    const std::uint64_t bytes =
        kernel->workspace_size != nullptr ? kernel->workspace_size(kernel, instance_, &call) : 0;
    // Poisoned, so that reading what nobody wrote shows.
    std::unique_ptr<void, void (*)(void *)> workspace(
        std::aligned_alloc(64, (bytes + 64) & ~std::uint64_t{63}), std::free);
    std::memset(workspace.get(), 0xFF, bytes);
    call.workspace = workspace.get();
    call.workspace_size = bytes;
    sy_error error = make_abi_error();
    const std::int32_t status = kernel->run(kernel, instance_, &call, &error);
    if (status != SY_OK) return tl::unexpected(from_abi(error, status, kernel->name));
    if (answer != nullptr) *answer = {id_, kernel->name, "no", {}, 0};
    return {};
  }
  std::uint32_t threads() const noexcept override { return threads_; }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override {
    spread(n, threads_, fn);
  }

  const std::string &id() const noexcept { return id_; }
  bool supports(std::string_view op, const sy_call &call) const {
    return find(op, call) != nullptr;
  }
  /// The variants of an operation, in the plugin's order.
  std::vector<std::string> variants(std::string_view op) const {
    std::vector<std::string> names;
    for (std::uint32_t i = 0; i < plugin_->kernel_count(instance_); ++i) {
      const std::string_view name = plugin_->kernel_at(instance_, i)->name;
      if (op == plugin_->kernel_at(instance_, i)->op)
        names.emplace_back(name.substr(name.rfind('.')));
    }
    return names;
  }

 private:
  struct OneState final : States {
    OneState(PluginRunner &r, std::uint64_t constant) : runner(r), constant_inputs(constant) {}
    ~OneState() override {
      if (state != nullptr) kernel->release(kernel, runner.instance_, state);
    }
    PluginRunner &runner;
    std::uint64_t constant_inputs;
    const sy_kernel *kernel = nullptr;
    void *state = nullptr;
  };

  PluginRunner(std::string id, const sy_plugin *plugin, sy_instance *instance,
               std::uint32_t threads, bool keep_states, std::string variant)
      : id_(std::move(id)),
        plugin_(plugin),
        instance_(instance),
        threads_(threads),
        keep_states_(keep_states),
        variant_(std::move(variant)) {}

  const sy_kernel *find(std::string_view op, const sy_call &call) const {
    for (std::uint32_t i = 0; i < plugin_->kernel_count(instance_); ++i) {
      const sy_kernel *k = plugin_->kernel_at(instance_, i);
      if (op == k->op && (variant_.empty() || std::string_view(k->name).ends_with(variant_)) &&
          k->supports(k, instance_, &call, nullptr) == SY_OK)
        return k;
    }
    return nullptr;
  }

  std::string id_;
  const sy_plugin *plugin_;
  sy_instance *instance_;
  std::uint32_t threads_;
  bool keep_states_;
  std::string variant_;
};

/// The first runner's kernels, the second's for operations (or shapes) that it lacks.
class MixedRunner final : public Runner {
 public:
  MixedRunner(PluginRunner &first, std::unique_ptr<PluginRunner> second)
      : first_(first), second_(std::move(second)) {}
  std::unique_ptr<States> make_states(std::uint64_t constant_inputs) override {
    return first_.make_states(constant_inputs);
  }
  Status run(std::string_view op, sy_call &call, States *states, Answer *answer) override {
    return first_.supports(op, call) ? first_.run(op, call, states, answer)
                                     : second_->run(op, call, nullptr, answer);
  }
  std::uint32_t threads() const noexcept override { return first_.threads(); }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override {
    first_.parallel_for(n, fn);
  }

 private:
  PluginRunner &first_;
  std::unique_ptr<PluginRunner> second_;
};

inline std::unique_ptr<PluginRunner> reference_runner() {
  auto r = PluginRunner::load("reference", 1);
  EXPECT_NE(r, nullptr) << "the reference plugin is not built";
  return r;
}

/// Every backend that runs here and offers k-means.
inline std::vector<std::string> fast_backends() {
  std::vector<std::string> ids;
  for (const char *id : {"avx2", "avx512", "openmp", "openblas"})
    if (PluginRunner::load(id, 1) != nullptr) ids.emplace_back(id);
  return ids;
}

/// Every kernel of an operation on those, and on emulated tiles: backend and variant.
inline std::vector<std::pair<std::string, std::string>> fast_kernels(std::string_view op) {
  std::vector<std::pair<std::string, std::string>> kernels;
  std::vector<std::string> backends = fast_backends();
  if (const std::string id(kEmulated); PluginRunner::load(id, 1) != nullptr) backends.push_back(id);
  const bool has_tiles = request_amx() == SY_OK;
  for (const auto &id : backends)
    for (const auto &variant : PluginRunner::load(id, 1)->variants(op))
      if (has_tiles || id == kEmulated || !variant.ends_with("amx"))
        kernels.emplace_back(id, variant);
  return kernels;
}

/// What computes the operations that a backend has no kernel for.
inline std::unique_ptr<PluginRunner> rest_of(const std::string &id, std::uint32_t threads) {
  return PluginRunner::load(id == kEmulated ? "avx512" : id, threads);
}

}  // namespace switchyard::testing

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The emulated CUDA plugin by its C interface, and the faults that its driver plants.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>
#include <string_view>
#include <vector>

#include <switchyard/device_memory.h>
#include <switchyard/plugin.h>

namespace switchyard::testing {

inline const sy_plugin *emulated_plugin() {
  static void *library =
      dlopen(SWITCHYARD_BINARY_DIR "/tests/cuda/plugins/switchyard_cuda.so", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  return static_cast<const sy_plugin *>(dlsym(library, SY_PLUGIN_SYMBOL));
}

inline sy_error no_error() {
  sy_error e{};
  e.struct_size = sizeof e;
  e.index = -1;
  return e;
}

/// An instance of device 0 for the length of a test.
class Instance {
 public:
  Instance() {
    sy_error error = no_error();
    EXPECT_EQ(emulated_plugin()->create(nullptr, 0, nullptr, 0, &instance_, &error), SY_OK)
        << error.message;
  }
  ~Instance() { emulated_plugin()->destroy(instance_); }
  Instance(const Instance &) = delete;
  Instance &operator=(const Instance &) = delete;

  sy_instance *get() const { return instance_; }
  /// The first kernel of `op` whose name holds `part`.
  const sy_kernel *kernel(std::string_view op, std::string_view part = "") const {
    for (std::uint32_t i = 0; i < emulated_plugin()->kernel_count(instance_); ++i) {
      const sy_kernel *k = emulated_plugin()->kernel_at(instance_, i);
      if (op == k->op && std::string_view(k->name).find(part) != std::string_view::npos) return k;
    }
    ADD_FAILURE() << "no kernel " << op << " " << part;
    return nullptr;
  }

 private:
  sy_instance *instance_ = nullptr;
};

/// The N-th call of a driver function answers `code`, until the end of the scope.
class Fault {
 public:
  Fault(const std::string &function, int call, int code) {
    setenv("SWITCHYARD_EMULATED_CODE", std::to_string(code).c_str(), 1);
    setenv("SWITCHYARD_EMULATED_FAIL", (function + ":" + std::to_string(call)).c_str(), 1);
  }
  ~Fault() { unsetenv("SWITCHYARD_EMULATED_FAIL"); }
  Fault(const Fault &) = delete;
  Fault &operator=(const Fault &) = delete;
};

/// A dense tensor over somebody's memory.
inline sy_tensor tensor_of(void *data, std::vector<std::int64_t> shape, sy_dtype dtype) {
  sy_tensor t{};
  t.handle = data;
  t.rank = static_cast<std::int32_t>(shape.size());
  std::int64_t stride = 1;
  for (std::size_t k = shape.size(); k-- > 0;) {
    t.shape[k] = shape[k];
    t.strides[k] = stride;
    stride *= shape[k];
  }
  t.dtype = dtype;
  t.byte_size = static_cast<std::uint64_t>(stride) * dtype.bits / 8;
  return t;
}

inline sy_call call_of(const sy_tensor *const *inputs, std::uint32_t n_inputs,
                       const sy_tensor *const *outputs, std::uint32_t n_outputs, const void *params,
                       std::uint64_t params_size) {
  sy_call call{};
  call.struct_size = sizeof call;
  call.inputs = inputs;
  call.n_inputs = n_inputs;
  call.outputs = outputs;
  call.n_outputs = n_outputs;
  call.params = params;
  call.params_size = params_size;
  call.threads = 1;
  return call;
}

}  // namespace switchyard::testing

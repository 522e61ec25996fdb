// SPDX-License-Identifier: Apache-2.0
/// OpenCL devices behind the plugin interface: an instance for each. Nothing here touches a driver;
/// that happens when the first kernel runs (or in `devices`, when a machine is new).
#include <stdio.h>

#include <memory>
#include <new>

#include "files.hpp"
#include "instance.hpp"

struct sy_instance {
  sy_instance(const switchyard::opencl::Description &about, const sy_host *host,
              std::uint32_t device_index)
      : device(about, host), index(device_index) {}
  switchyard::opencl::Device device;
  const std::uint32_t index;
  std::string numerics;  ///< class of what is not exact: each device's own
  std::vector<sy_kernel> kernels;
};

namespace switchyard::opencl {
namespace {

const KernelDef &def_of(const sy_kernel *k) {
  return *static_cast<const KernelDef *>(k->self_data);
}

/// What holds for every operation: a living device, tensors that it can reach.
std::int32_t supports(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *reason) {
  if (const char *why = i->device.dead()) return cpu::failure(reason, SY_E_DEVICE_LOST, why);
  const auto reachable = [i](const sy_tensor *t) {
    return t == nullptr || t->device_kind == SY_DEVICE_HOST ||
           (t->device_kind == SY_DEVICE_OPENCL &&
            t->device_index == static_cast<std::int32_t>(i->index));
  };
  bool all = true;
  for (std::uint32_t t = 0; t < call->n_inputs; ++t) all = all && reachable(call->inputs[t]);
  for (std::uint32_t t = 0; t < call->n_outputs; ++t) all = all && reachable(call->outputs[t]);
  if (!all)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "a tensor is neither in host memory nor in this device's");
  return def_of(k).supports(def_of(k), i->device.about(), *call, reason);
}

std::uint64_t estimate(const sy_kernel *k, sy_instance *i, const sy_call *call) {
  return def_of(k).estimate(def_of(k), i->device.about(), *call);
}

std::int32_t run(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *error) {
  try {
    return def_of(k).run(def_of(k), i->device, *call, error);
  } catch (const std::bad_alloc &) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no host memory for the call");
  } catch (...) {
    return cpu::failure(error, SY_E_INTERNAL, "an exception ended the call");
  }
}

std::int32_t probe(const sy_host *host, sy_error *error) {
#if defined(SWITCHYARD_SANITIZED)
  (void)host;
  return cpu::failure(error, SY_E_UNSUPPORTED,
                      "not used in sanitizer builds: OpenCL drivers, and the code they compile at "
                      "run time, are not instrumented");
#else
  try {
    std::string reason;
    if (open_api(reason) == nullptr) return cpu::failure(error, SY_E_HARDWARE, reason.c_str());
    if (devices(host).empty())
      return cpu::failure(error, SY_E_HARDWARE, "no OpenCL platform offers a usable device");
    return SY_OK;
  } catch (...) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no memory to look for devices");
  }
#endif
}

std::uint32_t device_count(const sy_host *host) {
  return static_cast<std::uint32_t>(devices(host).size());
}

std::int32_t device_info(const sy_host *host, std::uint32_t device, sy_device_info *out,
                         sy_error *error) {
  if (device >= devices(host).size())
    return cpu::failure(error, SY_E_INVALID_ARGUMENT, "there is no OpenCL device of this number");
  if (out->struct_size < sizeof(sy_device_info))
    return cpu::failure(error, SY_E_ABI, "the host's sy_device_info is too small");
  const Description &d = devices(host)[device];
  // Of a processor the memory is the host's; handles of clCreateBuffer are taken all the same.
  out->kind = d.is_cpu() ? SY_DEVICE_HOST : SY_DEVICE_OPENCL;
  out->memory_bytes = d.unified ? 0 : d.memory;
  out->compute_units = d.units;
  snprintf(out->name, sizeof(out->name), "%.56s (%.24s, driver %.12s, %.1f GiB%s)", d.name.c_str(),
           d.platform.c_str(), d.driver.c_str(),
           static_cast<double>(d.memory) / static_cast<double>(1u << 30),
           d.unified ? " shared" : "");
  const std::string all = d.platform + "|" + d.name + "|" + d.version + "|" + d.driver;
  snprintf(out->runtime_id, sizeof(out->runtime_id), "opencl %.24s %.24s %s", d.platform.c_str(),
           d.driver.c_str(), hex(hash_of(all)).c_str());
  return SY_OK;
}

void add_kernels(sy_instance &instance, const KernelList &list) {
  const Description &about = instance.device.about();
  for (std::uint32_t i = 0; i < list.count; ++i) {
    const KernelDef &def = list.defs[i];
    sy_kernel k{};
    k.struct_size = sizeof(sy_kernel);
    k.traits = SY_TRAIT_DETERMINISTIC | SY_TRAIT_DEVICE_MEMORY;
    if (def.exact) k.traits |= SY_TRAIT_BIT_EXACT;
    if (about.is_cpu()) k.traits |= SY_TRAIT_OWN_THREADS;
    k.op = def.op;
    k.name = def.name;
    k.numerics_class = def.exact ? "exact" : instance.numerics.c_str();
    k.self_data = &def;
    k.supports = supports;
    k.estimate = estimate;
    k.run = run;
    instance.kernels.push_back(k);
  }
}

std::int32_t create(const sy_host *host, std::uint32_t device, const sy_option *const *options,
                    std::uint32_t n_options, sy_instance **out, sy_error *error) {
  if (n_options != 0) {
    const std::string message =
        std::string("unknown option '") + options[0]->name + "'; this plugin takes none";
    return cpu::failure(error, SY_E_INVALID_ARGUMENT, message.c_str());
  }
  if (device >= devices(host).size())
    return cpu::failure(error, SY_E_INVALID_ARGUMENT, "there is no OpenCL device of this number");
  try {
    const Description &about = devices(host)[device];
    auto instance = std::make_unique<sy_instance>(about, host, device);
    instance->numerics =
        "opencl." + hex(hash_of(about.platform + about.name + about.version + about.driver));
    for (const KernelList &list : {quantize_kernels(), dequantize_kernels(), kmeans_kernels(),
                                   kmeans_seed_kernels(), attention_kernels()})
      add_kernels(*instance, list);
    *out = instance.release();
    return SY_OK;
  } catch (...) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
  }
}

void destroy(sy_instance *instance) { delete instance; }

std::uint32_t kernel_count(const sy_instance *instance) {
  return static_cast<std::uint32_t>(instance->kernels.size());
}

const sy_kernel *kernel_at(const sy_instance *instance, std::uint32_t index) {
  return index < instance->kernels.size() ? &instance->kernels[index] : nullptr;
}

const void *get_extension(const char *id) {
  return id != nullptr && std::string_view(id) == "switchyard.device-memory/1" ? device_memory()
                                                                               : nullptr;
}

}  // namespace

Device &device_of(sy_instance *instance) noexcept { return instance->device; }

}  // namespace switchyard::opencl

namespace {
namespace opencl = switchyard::opencl;
}

SY_EXPORT_PLUGIN("opencl") = {
    sizeof(sy_plugin),   SY_ABI_MAJOR,
    SY_ABI_MINOR,        "opencl",
    SWITCHYARD_VERSION,  "",
    SY_PLUGIN_OWN_POOL,  0,
    opencl::probe,       opencl::device_count,
    opencl::device_info, opencl::create,
    opencl::destroy,     opencl::kernel_count,
    opencl::kernel_at,   opencl::get_extension,
};

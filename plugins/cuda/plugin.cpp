// SPDX-License-Identifier: Apache-2.0
/// The CUDA plugin: every NVIDIA device that its kernels are built for is an instance.
#include <cstdio>
#include <memory>
#include <new>
#include <vector>

#include "instance.hpp"

struct sy_instance {
  switchyard::cuda::Device device;
  std::vector<sy_kernel> kernels;
};

namespace switchyard::cuda {
namespace {

constexpr double kLaunchNs = 6'000, kSyncNs = 15'000;
constexpr double kBusBytesPerNs = 20, kMemoryBytesPerNs = 1'500;

const KernelDef &def_of(const sy_kernel *k) {
  return *static_cast<const KernelDef *>(k->self_data);
}

/// The answer of f, which may run out of host memory.
template <class F>
std::int32_t guarded(sy_error *error, F f) {
  try {
    return f();
  } catch (...) {
    return cpu::failure(error, SY_E_OUT_OF_MEMORY, "no host memory for the call");
  }
}

std::int32_t supports(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *reason) {
  if (const char *why = i->device.dead(); why != nullptr)
    return cpu::failure(reason, SY_E_DEVICE_LOST, why);
  const Description &about = i->device.about();
  if (const std::int32_t status = check_places(about, *call, reason); status != SY_OK)
    return status;
  return def_of(k).supports(def_of(k), about, *call, reason);
}

std::uint64_t estimate(const sy_kernel *k, sy_instance *i, const sy_call *call) {
  return def_of(k).estimate(def_of(k), i->device.about(), *call);
}

std::int32_t run(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *error) {
  return guarded(error, [&] { return def_of(k).run(def_of(k), i->device, *call, error); });
}

std::int32_t prepare(const sy_kernel *k, sy_instance *i, const sy_call *call,
                     std::uint64_t constant_inputs, void **state, sy_error *error) {
  return guarded(error, [&] {
    return def_of(k).prepare(def_of(k), i->device, *call, constant_inputs, state, error);
  });
}

void release(const sy_kernel *k, sy_instance *i, void *state) {
  def_of(k).release(i->device, state);
}

std::vector<Description> usable_devices(sy_error *reason) {
  std::vector<Description> devices;
  const Driver *driver = load_driver(reason);
  int count = 0;
  if (driver == nullptr) return devices;
  if (driver->cuDeviceGetCount(&count) != kSuccess || count == 0)
    cpu::failure(reason, SY_E_HARDWARE, "the NVIDIA driver reports no device");
  for (int number = 0; number < count; ++number) {
    Description about;
    if (describe(*driver, number, about, reason) == SY_OK && usable(*driver, about, reason))
      devices.push_back(about);
  }
  return devices;
}

std::int32_t probe(const sy_host *, sy_error *error) {
  return guarded(error, [&] { return usable_devices(error).empty() ? SY_E_HARDWARE : SY_OK; });
}

std::uint32_t device_count(const sy_host *) {
  try {
    return static_cast<std::uint32_t>(usable_devices(nullptr).size());
  } catch (...) {
    return 0;
  }
}

std::int32_t with_device(std::uint32_t device, sy_error *error, Description &out) {
  const std::vector<Description> devices = usable_devices(error);
  if (device >= devices.size())
    return cpu::failure(error, SY_E_INVALID_ARGUMENT, "there is no CUDA device of this number");
  out = devices[device];
  out.number = static_cast<int>(device);
  return SY_OK;
}

std::int32_t device_info(const sy_host *, std::uint32_t device, sy_device_info *out,
                         sy_error *error) {
  return guarded(error, [&] {
    Description about;
    if (const std::int32_t status = with_device(device, error, about); status != SY_OK)
      return status;
    if (out->struct_size < sizeof(sy_device_info))
      return cpu::failure(error, SY_E_ABI, "the host's sy_device_info is too small");
    out->kind = SY_DEVICE_CUDA;
    std::snprintf(out->name, sizeof out->name, "%s", about.name);
    std::snprintf(out->runtime_id, sizeof out->runtime_id, "CUDA driver %d.%d, sm_%d%d",
                  about.driver_version / 1000, about.driver_version % 1000 / 10, about.major,
                  about.minor);
    out->memory_bytes = about.memory_bytes;
    out->compute_units = static_cast<std::uint32_t>(about.processors);
    return static_cast<std::int32_t>(SY_OK);
  });
}

sy_kernel kernel_of(const KernelDef &def) {
  sy_kernel k{};
  k.struct_size = sizeof k;
  k.traits = def.traits;
  k.op = def.op;
  k.name = def.name;
  k.numerics_class = def.numerics_class;
  k.self_data = &def;
  k.supports = supports;
  k.estimate = estimate;
  k.run = run;
  if (def.prepare != nullptr) {
    k.prepare = prepare;
    k.release = release;
  }
  return k;
}

std::int32_t create(const sy_host *, std::uint32_t device, const sy_option *const *options,
                    std::uint32_t n_options, sy_instance **out, sy_error *error) {
  return guarded(error, [&] {
    if (n_options != 0) {
      char text[200];
      std::snprintf(text, sizeof text, "unknown option '%s'; this plugin takes none",
                    options[0]->name);
      return cpu::failure(error, SY_E_INVALID_ARGUMENT, text);
    }
    Description about;
    if (const std::int32_t status = with_device(device, error, about); status != SY_OK)
      return status;
    std::unique_ptr<sy_instance> instance(new sy_instance{{*load_driver(error), about}, {}});
    for (const KernelList list :
         {quantize_kernels(), dequantize_kernels(), kmeans_kernels(), attention_kernels()})
      for (std::uint32_t d = 0; d < list.count; ++d)
        instance->kernels.push_back(kernel_of(list.defs[d]));
    *out = instance.release();
    return static_cast<std::int32_t>(SY_OK);
  });
}

void destroy(sy_instance *instance) { delete instance; }

std::uint32_t kernel_count(const sy_instance *instance) {
  return static_cast<std::uint32_t>(instance->kernels.size());
}

const sy_kernel *kernel_at(const sy_instance *instance, std::uint32_t index) {
  return index < instance->kernels.size() ? &instance->kernels[index] : nullptr;
}

const void *get_extension(const char *id) {
  return std::string_view(id) == SY_DEVICE_MEMORY_EXTENSION ? device_memory() : nullptr;
}

double host_bytes(const sy_tensor *const *tensors, std::uint32_t n) {
  double bytes = 0;
  for (std::uint32_t i = 0; i < n; ++i)
    if (tensors[i] != nullptr && tensors[i]->device_kind == SY_DEVICE_HOST)
      bytes += static_cast<double>(element_count(*tensors[i], Repeats::keep)) *
               (tensors[i]->dtype.bits / 8);
  return bytes;
}

}  // namespace

Device &device_of(sy_instance *instance) noexcept { return instance->device; }

std::uint64_t estimate_of(const sy_call &call, double launches, double device_bytes,
                          double device_ns) {
  const double bus =
      host_bytes(call.inputs, call.n_inputs) + host_bytes(call.outputs, call.n_outputs);
  return static_cast<std::uint64_t>(kSyncNs + launches * kLaunchNs + bus / kBusBytesPerNs +
                                    device_bytes / kMemoryBytesPerNs + device_ns);
}

std::int32_t check_places(const Description &about, const sy_call &call, sy_error *reason) {
  bool all = true;
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    all = all && reachable(call.inputs[i], about.number);
  for (std::uint32_t i = 0; i < call.n_outputs; ++i)
    all = all && reachable(call.outputs[i], about.number);
  if (all) return SY_OK;
  return cpu::failure(reason, SY_E_UNSUPPORTED,
                      "a tensor is neither in host memory nor on this CUDA device");
}

}  // namespace switchyard::cuda

using namespace switchyard::cuda;

SY_EXPORT_PLUGIN("cuda") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "cuda",
    SWITCHYARD_VERSION,
    "",
    0,
    0,
    probe,
    device_count,
    device_info,
    create,
    destroy,
    kernel_count,
    kernel_at,
    get_extension,
};

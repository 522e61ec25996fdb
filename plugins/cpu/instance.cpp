// SPDX-License-Identifier: Apache-2.0
#include "instance.hpp"

#include <stdlib.h>

#include "failure.hpp"

/// One device's kernels. All memory is one block: this header, the kernels, the pointers to them.
struct sy_instance {
  switchyard::cpu::Context context;
  switchyard::cpu::Executor executor;
  sy_kernel *kernels;
  uint32_t count;
};

namespace switchyard::cpu {
namespace {

const KernelDef &def_of(const sy_kernel *k) {
  return *static_cast<const KernelDef *>(k->self_data);
}

int32_t supports(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *reason) {
  return def_of(k).supports(def_of(k), i->context, *call, reason);
}
uint64_t estimate(const sy_kernel *k, sy_instance *i, const sy_call *call) {
  return def_of(k).estimate(def_of(k), i->context, *call);
}
uint64_t workspace_size(const sy_kernel *k, sy_instance *i, const sy_call *call) {
  return def_of(k).workspace_size(def_of(k), i->context, *call);
}
int32_t run(const sy_kernel *k, sy_instance *i, const sy_call *call, sy_error *error) {
  return def_of(k).run(def_of(k), i->context, *call, error);
}
int32_t prepare(const sy_kernel *k, sy_instance *i, const sy_call *call, uint64_t constant_inputs,
                void **state, sy_error *error) {
  return def_of(k).prepare(def_of(k), i->context, *call, constant_inputs, state, error);
}
void release(const sy_kernel *k, sy_instance *i, void *state) {
  def_of(k).release(def_of(k), i->context, state);
}

}  // namespace

sy_instance *make_instance(const InstanceConfig &config) noexcept {
  uint32_t count = 0;
  for (uint32_t l = 0; l < config.n_lists; ++l) count += config.lists[l].count;
  auto *instance = static_cast<sy_instance *>(
      calloc(1, sizeof(sy_instance) + static_cast<size_t>(count) * sizeof(sy_kernel)));
  if (instance == nullptr) return nullptr;
  instance->executor = config.executor;
  instance->context = {&instance->executor, config.executor.host, config.features,
                       config.max_threads};
  instance->kernels = reinterpret_cast<sy_kernel *>(instance + 1);
  for (uint32_t l = 0; l < config.n_lists; ++l)
    for (uint32_t d = 0; d < config.lists[l].count; ++d) {
      const KernelDef &def = config.lists[l].defs[d];
      sy_kernel &k = instance->kernels[instance->count++];
      k.struct_size = sizeof(sy_kernel);
      k.traits = def.traits | config.extra_traits;
      k.op = def.op;
      k.name = def.name;
      k.numerics_class = def.numerics_class;
      k.self_data = &def;
      k.supports = supports;
      k.estimate = def.estimate != nullptr ? estimate : nullptr;
      k.workspace_size = def.workspace_size != nullptr ? workspace_size : nullptr;
      k.run = run;
      const bool stateful = def.prepare != nullptr && def.release != nullptr;
      k.prepare = stateful ? prepare : nullptr;
      k.release = stateful ? release : nullptr;
    }
  return instance;
}

void destroy_instance(sy_instance *instance) noexcept { free(instance); }

uint32_t instance_kernel_count(const sy_instance *instance) noexcept { return instance->count; }

const sy_kernel *instance_kernel_at(const sy_instance *instance, uint32_t index) noexcept {
  return index < instance->count ? &instance->kernels[index] : nullptr;
}

void serial_for(const Executor *, uint64_t n, sy_task_fn fn, void *arg, uint32_t) {
  for (uint64_t i = 0; i < n; ++i) fn(arg, i);
}

void host_for(const Executor *self, uint64_t n, sy_task_fn fn, void *arg, uint32_t max_threads) {
  self->host->parallel_for(self->host, n, fn, arg, max_threads);
}

int32_t refuse_options(const sy_option *const *options, uint32_t n_options,
                       sy_error *error) noexcept {
  if (n_options == 0) return SY_OK;
  char message[200];
  snprintf(message, sizeof(message), "unknown option '%s'; this plugin takes none",
           options[0]->name);
  return failure(error, SY_E_INVALID_ARGUMENT, message);
}

}  // namespace switchyard::cpu

// SPDX-License-Identifier: Apache-2.0
/// The kernels of plugins/cpu in parallel, the widest instruction set picked when the instance is
/// created. Loops run on OpenMP, or on the host's parallel_for where the host's "executor" setting
/// asks for it (thread sanitizers misread OpenMP's barriers).
#include <instance.hpp>

#include <omp.h>
#include <pthread.h>
#include <string.h>
#include <xmmintrin.h>
#include <failure.hpp>
#include <lists.hpp>
#include "join.hpp"
#include "spread.hpp"

namespace {

using namespace switchyard::cpu;

/// GNU's OpenMP waits for ever in a forked child for threads that only the parent has. The host's
/// threads are made anew there.
bool used = false, forked = false;

void in_child() {
  if (used) forked = true;
}

void openmp_for(const Executor *self, uint64_t n, sy_task_fn fn, void *arg, uint32_t max_threads) {
  if (__atomic_load_n(&forked, __ATOMIC_RELAXED)) return host_for(self, n, fn, arg, max_threads);
  __atomic_store_n(&used, true, __ATOMIC_RELAXED);
  const int threads = static_cast<int>(n < max_threads ? n : max_threads);
  const auto count = static_cast<int64_t>(n);
  switchyard::openmp::Spread start;
  switchyard::openmp::Join end;
#pragma omp parallel num_threads(threads)
  {
    start.join();
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(0x1F80);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < count; ++i) fn(arg, static_cast<uint64_t>(i));
    _mm_setcsr(saved);
    end.arrive(omp_get_num_threads());
  }
}

bool on_host_threads(const sy_host *host) {
  const char *executor = host->get_setting(host, "executor");
  return executor != nullptr && strcmp(executor, "host") == 0;
}

int32_t probe(const sy_host *host, sy_error *error) { return require_isa(host, Isa::avx2, error); }

uint32_t device_count(const sy_host *) { return 1; }

int32_t create(const sy_host *host, uint32_t, const sy_option *const *options, uint32_t n_options,
               sy_instance **out, sy_error *error) {
  if (const int32_t status = refuse_options(options, n_options, error); status != SY_OK)
    return status;
  const KernelList narrow[] = {SY_CPU_ALL_LISTS(avx2)};
  const KernelList wide[] = {SY_CPU_ALL_LISTS(avx512)};
  const bool is_wide = widest_isa(host) == Isa::avx512;
  const Executor executor{on_host_threads(host) ? host_for : openmp_for, host};
  static const int watching = pthread_atfork(nullptr, nullptr, in_child);
  if (watching != 0) return failure(error, SY_E_OUT_OF_MEMORY, "pthread_atfork failed");
  *out = make_instance({is_wide ? wide : narrow, sizeof(wide) / sizeof(wide[0]), executor,
                        extra_features(host), UINT32_MAX, SY_TRAIT_OWN_THREADS});
  return *out != nullptr ? SY_OK : failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
}

}  // namespace

SY_EXPORT_PLUGIN("openmp") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "openmp",
    SWITCHYARD_VERSION,
    "",
    SY_PLUGIN_OWN_POOL,
    0,
    probe,
    device_count,
    cpu_device_info,
    create,
    destroy_instance,
    instance_kernel_count,
    instance_kernel_at,
    nullptr,
};

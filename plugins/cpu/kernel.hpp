// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How the CPU kernels are offered to the plugins that ship them (avx2, avx512, openmp).
///
/// Kernel sources in this folder are compiled once per instruction set, each build inside the
/// inline namespace SY_ISA (a macro set by the build: avx2, avx512, ...). They hold kernels only:
/// no std containers, no static constructors, no calls into std templates that could leave weak
/// symbols behind (a test compares the object files). Plain structs without member functions, like
/// those below, may be shared between the builds.

#include <switchyard/plugin.h>

/// The value of a macro as a string: SY_TEXT(SY_ISA) is "avx2".
#define SY_TEXT_OF(x) #x
#define SY_TEXT(x) SY_TEXT_OF(x)

namespace switchyard::cpu {

/// Spreads pieces of a loop over threads. `serial` in the single-threaded plugins.
struct Executor {
  /// Runs fn(arg, i) for each i < n on at most max_threads threads; returns when all are done.
  void (*parallel_for)(const Executor *self, uint64_t n, sy_task_fn fn, void *arg,
                       uint32_t max_threads);
  const sy_host *host;
};

enum : uint32_t {  // instruction sets beyond the build's own that this machine offers
  kFeatureBf16 = 1u << 0,
  kFeatureVnni = 1u << 1,
  kFeatureAmx = 1u << 2,
  kFeatureFastBf16 = 1u << 3,  ///< products of bf16 pairs at the rate of f32 multiply-adds
};

/// What a running kernel knows of where it runs.
struct Context {
  const Executor *executor;
  const sy_host *host;
  uint32_t features;
  uint32_t max_threads;  ///< 1 in the single-threaded plugins; kernels use min(this, call->threads)
};

/// One kernel; `data` is the kernel's own constant (say, its format). Functions as in sy_kernel.
struct KernelDef {
  const char *op;
  const char *name;
  const char *numerics_class;
  uint32_t traits;  ///< SY_TRAIT_*; the plugin adds SY_TRAIT_OWN_THREADS where it has threads
  const void *data;
  int32_t (*supports)(const KernelDef &self, const Context &ctx, const sy_call &call,
                      sy_error *reason);
  uint64_t (*estimate)(const KernelDef &self, const Context &ctx, const sy_call &call);
  uint64_t (*workspace_size)(const KernelDef &self, const Context &ctx, const sy_call &call);
  int32_t (*run)(const KernelDef &self, const Context &ctx, const sy_call &call, sy_error *error);
  int32_t (*prepare)(const KernelDef &self, const Context &ctx, const sy_call &call,
                     uint64_t constant_inputs, void **state, sy_error *error);
  void (*release)(const KernelDef &self, const Context &ctx, void *state);
};

struct KernelList {
  const KernelDef *defs;
  uint32_t count;
};

}  // namespace switchyard::cpu

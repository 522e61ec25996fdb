// SPDX-License-Identifier: Apache-2.0
#pragma once
/// for_each: a lambda on the context's executor. For kernel sources only (needs SY_ISA).

#include "kernel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {

inline uint32_t thread_count(const Context &ctx, const sy_call &call) {
  return call.threads < ctx.max_threads ? call.threads : ctx.max_threads;
}

/// fn(i) for each i < n, on at most `threads` threads.
template <class F>
inline void for_each(const Context &ctx, uint64_t n, uint32_t threads, F &fn) {
  if (threads <= 1 || n <= 1) {
    for (uint64_t i = 0; i < n; ++i) fn(i);
    return;
  }
  ctx.executor->parallel_for(
      ctx.executor, n, [](void *arg, uint64_t i) { (*static_cast<F *>(arg))(i); }, &fn, threads);
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu

/* SPDX-License-Identifier: Apache-2.0 */
/* Right for 300 calls of a process; then SIGSEGV. */
#define FIXTURE_ID "crash_later"
#include <signal.h>
#define FIXTURE_BEFORE_RUN(call)                    \
  do {                                              \
    static _Atomic long calls_so_far;               \
    (void)(call);                                   \
    if (++calls_so_far > 300) (void)raise(SIGSEGV); \
  } while (0)
#include "fixture_plugin.h"

/* SPDX-License-Identifier: Apache-2.0 */
/* Its kernel fails unless it may use three threads. */
#define FIXTURE_ID "needs_threads"
#define FIXTURE_BEFORE_RUN(call) \
  if ((call)->threads != 3) return fixture_fail(error, SY_E_INTERNAL, "not three threads")
#include "fixture_plugin.h"

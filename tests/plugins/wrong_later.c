/* SPDX-License-Identifier: Apache-2.0 */
/* Right for the first 2,000 calls of a process; afterwards one label in 64 is another cluster's. */
#define FIXTURE_ID "wrong_later"
#define FIXTURE_LATER 2000
#define FIXTURE_BEFORE_RUN(call)    \
  static _Atomic long calls_so_far; \
  (void)(call);                     \
  const long this_call = ++calls_so_far
#define FIXTURE_LABEL(i, n, label, k) \
  (this_call > FIXTURE_LATER && (i) % 64 == 63 ? ((label) + 1) % (int32_t)(k) : (label))
#include "fixture_plugin.h"

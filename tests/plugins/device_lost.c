/* SPDX-License-Identifier: Apache-2.0 */
/* Right for 300 calls of a process; then its device is lost for good. */
#define FIXTURE_ID "device_lost"
#define FIXTURE_BEFORE_RUN(call)                                                   \
  do {                                                                             \
    static _Atomic long calls_so_far;                                              \
    (void)(call);                                                                  \
    if (++calls_so_far > 300)                                                      \
      return fixture_fail(error, SY_E_DEVICE_LOST, "the device fell off the bus"); \
  } while (0)
#include "fixture_plugin.h"

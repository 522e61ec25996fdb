/* SPDX-License-Identifier: Apache-2.0 */
/* Right labels; the first distance and inertia partial are NaN. */
#define FIXTURE_ID "nonfinite"
#define FIXTURE_AFTER_RUN(call)                \
  do {                                         \
    (void)(call);                              \
    if (distances != NULL) distances[0] = NAN; \
    if (partials != NULL) partials[0] = NAN;   \
  } while (0)
#include "fixture_plugin.h"

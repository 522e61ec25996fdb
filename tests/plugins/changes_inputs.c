/* SPDX-License-Identifier: Apache-2.0 */
/* Right labels, but a centroid is another one afterwards. */
#define FIXTURE_ID "changes_inputs"
#define FIXTURE_AFTER_RUN(call)                     \
  do {                                              \
    (void)(call);                                   \
    *(volatile float *)(uintptr_t)centroids = 1e9f; \
  } while (0)
#include "fixture_plugin.h"

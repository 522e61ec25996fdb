/* SPDX-License-Identifier: Apache-2.0 */
/* Right labels, but it reads the float before the first centroid. */
#define FIXTURE_ID "reads_before_start"
#define FIXTURE_AFTER_RUN(call)                     \
  do {                                              \
    (void)(call);                                   \
    (void)*(const volatile float *)(centroids - 1); \
  } while (0)
#include "fixture_plugin.h"

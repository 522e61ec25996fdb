/* SPDX-License-Identifier: Apache-2.0 */
/* Right labels, but it reads the row behind the last one. */
#define FIXTURE_ID "reads_past_end"
#define FIXTURE_AFTER_RUN(call)                                          \
  do {                                                                   \
    (void)(call);                                                        \
    (void)*(const volatile float *)(rows + (n - 1) * x->strides[0] + d); \
  } while (0)
#include "fixture_plugin.h"

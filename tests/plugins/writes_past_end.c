/* SPDX-License-Identifier: Apache-2.0 */
/* Right labels, and one more behind the last. */
#define FIXTURE_ID "writes_past_end"
#define FIXTURE_AFTER_RUN(call)                                                          \
  do {                                                                                   \
    if (labels != NULL) *(volatile int32_t *)(labels + (call)->inputs[0]->shape[0]) = 7; \
  } while (0)
#include "fixture_plugin.h"

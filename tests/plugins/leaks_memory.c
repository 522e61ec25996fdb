/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but every call leaves 200 bytes behind. */
#define FIXTURE_ID "leaks_memory"
#include <stdlib.h>
#define FIXTURE_BEFORE_RUN(call)       \
  do {                                 \
    (void)(call);                      \
    void *volatile kept = malloc(200); \
    (void)kept;                        \
  } while (0)
#include "fixture_plugin.h"

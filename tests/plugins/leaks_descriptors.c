/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but every tenth call leaves a file descriptor open. */
#define FIXTURE_ID "leaks_descriptors"
#include <unistd.h>
#define FIXTURE_BEFORE_RUN(call)                       \
  do {                                                 \
    (void)(call);                                      \
    static _Atomic int turn;                           \
    if (turn++ % 10 == 0 && turn < 5000) (void)dup(1); \
  } while (0)
#include "fixture_plugin.h"

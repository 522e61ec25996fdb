/* SPDX-License-Identifier: Apache-2.0 */
/* Its kernel never returns. */
#include <unistd.h>

#define FIXTURE_ID "hang_in_run"
#define FIXTURE_BEFORE_RUN(call) \
  do {                           \
    (void)(call);                \
    for (;;) (void)pause();      \
  } while (0)
#include "fixture_plugin.h"

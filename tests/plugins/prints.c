/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but talkative. */
#define FIXTURE_ID "prints"
#include <stdio.h>
#define FIXTURE_BEFORE_RUN(call)        \
  do {                                  \
    (void)(call);                       \
    (void)fprintf(stderr, "working\n"); \
  } while (0)
#include "fixture_plugin.h"

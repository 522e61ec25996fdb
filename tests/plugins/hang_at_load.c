/* SPDX-License-Identifier: Apache-2.0 */
/* A constructor that never returns. */
#define FIXTURE_ID "hang_at_load"
#include "fixture_plugin.h"

#include <unistd.h>

__attribute__((constructor)) static void hang(void) {
  for (;;) (void)pause();
}

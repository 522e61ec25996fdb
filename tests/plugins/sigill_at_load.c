/* SPDX-License-Identifier: Apache-2.0 */
/* A constructor with an instruction no processor has: dlopen dies of SIGILL. */
#define FIXTURE_ID "sigill_at_load"
#include <signal.h>

#include "fixture_plugin.h"

__attribute__((constructor)) static void illegal(void) {
  /* The default action, also where a sanitizer has put a handler in. */
  (void)signal(SIGILL, SIG_DFL);
  __builtin_trap();
}

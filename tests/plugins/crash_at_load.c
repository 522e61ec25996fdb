/* SPDX-License-Identifier: Apache-2.0 */
/* A constructor that dereferences null: dlopen dies of SIGSEGV. */
#define FIXTURE_ID "crash_at_load"
#include "fixture_plugin.h"

#include <signal.h>

__attribute__((constructor)) static void crash(void) {
  /* The default action, also where a sanitizer has put a handler in. */
  (void)signal(SIGSEGV, SIG_DFL);
  (void)raise(SIGSEGV);
}

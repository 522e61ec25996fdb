/* SPDX-License-Identifier: Apache-2.0 */
/* Loads and creates instances well; its kernel dies of SIGSEGV. */
#include <signal.h>

#define FIXTURE_ID "crash_in_run"
#define FIXTURE_BEFORE_RUN(call)    \
  do {                              \
    (void)(call);                   \
    (void)signal(SIGSEGV, SIG_DFL); \
    (void)raise(SIGSEGV);           \
  } while (0)
#include "fixture_plugin.h"

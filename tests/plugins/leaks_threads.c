/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but every hundredth call starts a thread that stays. */
#define FIXTURE_ID "leaks_threads"
#include <pthread.h>
#include <unistd.h>
static void *sleep_on(void *arg) {
  for (;;) (void)pause();
  return arg;
}
#define FIXTURE_BEFORE_RUN(call)                                                 \
  do {                                                                           \
    (void)(call);                                                                \
    static _Atomic int turn;                                                     \
    pthread_t thread;                                                            \
    if (turn++ % 100 == 50) (void)pthread_create(&thread, NULL, sleep_on, NULL); \
  } while (0)
#include "fixture_plugin.h"

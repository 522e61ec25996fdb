/* SPDX-License-Identifier: Apache-2.0 */
/* Its kernel reports an error on every call. */
#define FIXTURE_ID "fails_in_run"
#define FIXTURE_OP SY_OP_KMEANS_STEP
#define FIXTURE_RUN fail_always
#include "fixture.h"

static int32_t fail_always(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                           sy_error *error) {
  (void)self;
  (void)instance;
  (void)call;
  return fixture_fail(error, SY_E_INTERNAL, "this fixture always fails");
}

#include "fixture_plugin.h"

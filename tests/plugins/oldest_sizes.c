/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest structs that ABI 1.0 allows. Loads: nothing behind struct_size may be read, and what
 * lies there are functions that end the process. */
#define FIXTURE_ID "oldest_sizes"
#include "fixture.h"

#include <stdlib.h>

static int32_t trap_prepare(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                            uint64_t constant_inputs, void **state, sy_error *error) {
  (void)self;
  (void)instance;
  (void)call;
  (void)constant_inputs;
  (void)state;
  (void)error;
  abort();
}

static void trap_release(const sy_kernel *self, sy_instance *instance, void *state) {
  (void)self;
  (void)instance;
  (void)state;
  abort();
}

static const void *trap_get_extension(const char *id) {
  (void)id;
  abort();
}

#define FIXTURE_STRUCT_SIZE offsetof(sy_plugin, get_extension)
#define FIXTURE_KERNEL_STRUCT_SIZE offsetof(sy_kernel, prepare)
#define FIXTURE_PREPARE trap_prepare
#define FIXTURE_RELEASE trap_release
#define FIXTURE_GET_EXTENSION trap_get_extension
#include "fixture_plugin.h"

/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel table and the exported struct of a fixture. Overridable, defined before the include:
 *   FIXTURE_ABI_MAJOR, FIXTURE_ABI_MINOR, FIXTURE_STRUCT_SIZE, FIXTURE_KERNEL_STRUCT_SIZE,
 *   FIXTURE_TRAITS, FIXTURE_STRUCT_ID, FIXTURE_CREATE, FIXTURE_RUN, FIXTURE_EXPORT, and for the
 *   optional members FIXTURE_PREPARE, FIXTURE_RELEASE, FIXTURE_GET_EXTENSION
 */
#include "fixture.h"

#ifndef FIXTURE_ABI_MAJOR
#define FIXTURE_ABI_MAJOR SY_ABI_MAJOR
#endif
#ifndef FIXTURE_ABI_MINOR
#define FIXTURE_ABI_MINOR SY_ABI_MINOR
#endif
#ifndef FIXTURE_STRUCT_SIZE
#define FIXTURE_STRUCT_SIZE sizeof(sy_plugin)
#endif
#ifndef FIXTURE_KERNEL_STRUCT_SIZE
#define FIXTURE_KERNEL_STRUCT_SIZE sizeof(sy_kernel)
#endif
#ifndef FIXTURE_TRAITS
#define FIXTURE_TRAITS (SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC)
#endif
#ifndef FIXTURE_STRUCT_ID
#define FIXTURE_STRUCT_ID FIXTURE_ID
#endif
#ifndef FIXTURE_CREATE
#define FIXTURE_CREATE fixture_create
#endif
#ifndef FIXTURE_RUN
#define FIXTURE_RUN fixture_run
#endif
#ifndef FIXTURE_PREPARE
#define FIXTURE_PREPARE NULL
#endif
#ifndef FIXTURE_RELEASE
#define FIXTURE_RELEASE NULL
#endif
#ifndef FIXTURE_GET_EXTENSION
#define FIXTURE_GET_EXTENSION NULL
#endif
#ifndef FIXTURE_OP
#define FIXTURE_OP SY_OP_KMEANS_ASSIGN
#endif
#ifndef FIXTURE_EXPORT
#define FIXTURE_EXPORT SY_EXPORT_PLUGIN(FIXTURE_ID)
#endif

static const sy_kernel fixture_kernel = {
    (uint32_t)FIXTURE_KERNEL_STRUCT_SIZE,
    FIXTURE_TRAITS,
    FIXTURE_OP,
    FIXTURE_OP ".f32_i32.fixture",
    "exact",
    NULL,
    fixture_supports,
    NULL,
    NULL,
    FIXTURE_RUN,
    FIXTURE_PREPARE,
    FIXTURE_RELEASE,
};

static inline const sy_kernel *fixture_kernel_at(const sy_instance *instance, uint32_t index) {
  (void)instance;
  return index == 0 ? &fixture_kernel : NULL;
}

FIXTURE_EXPORT = {
    (uint32_t)FIXTURE_STRUCT_SIZE,
    FIXTURE_ABI_MAJOR,
    FIXTURE_ABI_MINOR,
    FIXTURE_STRUCT_ID,
    "1",
    "",
    0,
    0,
    fixture_probe,
    fixture_device_count,
    fixture_device_info,
    FIXTURE_CREATE,
    fixture_destroy,
    fixture_kernel_count,
    fixture_kernel_at,
    FIXTURE_GET_EXTENSION,
};

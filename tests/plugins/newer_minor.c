/* SPDX-License-Identifier: Apache-2.0 */
/* Built against a later minor: longer structs, with members this host does not know. Loads. */
#include <switchyard/plugin.h>
#undef SY_ABI_MINOR
#define SY_ABI_MINOR 7u

#include "fixture.h"

typedef struct longer_plugin {
  sy_plugin known;
  void (*appended)(void);
} longer_plugin;

typedef struct longer_kernel {
  sy_kernel known;
  uint64_t appended[4];
} longer_kernel;

static const longer_kernel the_kernel = {
    {sizeof(longer_kernel), SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC, SY_OP_KMEANS_ASSIGN,
     "kmeans.assign.f32_i32.fixture", "exact", NULL, fixture_supports, NULL, NULL, fixture_run,
     NULL, NULL},
    {1, 2, 3, 4},
};

static const sy_kernel *kernel_at(const sy_instance *instance, uint32_t index) {
  (void)instance;
  return index == 0 ? &the_kernel.known : NULL;
}

__attribute__((section(SY_NOTE_SECTION), used, aligned(4))) static const sy_elf_note note = {
    11u,
    (uint32_t)(sizeof(sy_elf_note) - offsetof(sy_elf_note, desc)),
    1u,
    "Switchyard",
    {SY_ABI_MAJOR, SY_ABI_MINOR, "newer_minor"}};

extern __attribute__((visibility("default"))) const longer_plugin switchyard_plugin;
const longer_plugin switchyard_plugin = {
    {sizeof(longer_plugin), SY_ABI_MAJOR, SY_ABI_MINOR, "newer_minor", "1", "", 0, 0, fixture_probe,
     fixture_device_count, fixture_device_info, fixture_create, fixture_destroy,
     fixture_kernel_count, kernel_at, NULL},
    NULL,
};

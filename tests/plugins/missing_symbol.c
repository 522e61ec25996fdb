/* SPDX-License-Identifier: Apache-2.0 */
/* Has the note, but does not export switchyard_plugin. */
#include <switchyard/plugin.h>

#define FIXTURE_ID "missing_symbol"
#define FIXTURE_EXPORT                                                  \
  __attribute__((section(SY_NOTE_SECTION), used,                        \
                 aligned(4))) static const sy_elf_note fixture_note = { \
      11u,                                                              \
      (uint32_t)(sizeof(sy_elf_note) - offsetof(sy_elf_note, desc)),    \
      1u,                                                               \
      "Switchyard",                                                     \
      {SY_ABI_MAJOR, SY_ABI_MINOR, FIXTURE_ID}};                        \
  __attribute__((used)) static const sy_plugin switchyard_plugin
#include "fixture_plugin.h"

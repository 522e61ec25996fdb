/* SPDX-License-Identifier: Apache-2.0 */
/* Exports the struct, but carries no ELF note. */
#define FIXTURE_ID "no_note"
#define FIXTURE_EXPORT                                                             \
  extern __attribute__((visibility("default"))) const sy_plugin switchyard_plugin; \
  const sy_plugin switchyard_plugin
#include "fixture_plugin.h"

/* SPDX-License-Identifier: Apache-2.0 */
/* The note's id and the struct's differ. */
#define FIXTURE_ID "note_disagrees"
#define FIXTURE_STRUCT_ID "somebody_else"
#include "fixture_plugin.h"

/* SPDX-License-Identifier: Apache-2.0 */
/* From the future: note and struct agree on ABI 2.0. */
#include <switchyard/plugin.h>
#undef SY_ABI_MAJOR
#define SY_ABI_MAJOR 2u

#define FIXTURE_ID "abi_major_2"
#include "fixture_plugin.h"

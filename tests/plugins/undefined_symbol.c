/* SPDX-License-Identifier: Apache-2.0 */
/* Needs a function that no library has: dlopen with RTLD_NOW refuses it. */
#include <switchyard/plugin.h>

extern int32_t a_function_that_no_library_defines(void);

#define FIXTURE_ID "undefined_symbol"
#define FIXTURE_PROBE return a_function_that_no_library_defines()
#include "fixture_plugin.h"

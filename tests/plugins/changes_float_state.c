/* SPDX-License-Identifier: Apache-2.0 */
/* Right, but leaves flush-to-zero set. */
#define FIXTURE_ID "changes_float_state"
#if defined(__x86_64__)
#include <xmmintrin.h>
#define FIXTURE_AFTER_RUN(call) (void)(call), _mm_setcsr(_mm_getcsr() | 0x8000u)
#endif
#include "fixture_plugin.h"

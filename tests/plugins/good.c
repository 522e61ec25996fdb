/* SPDX-License-Identifier: Apache-2.0 */
/* A well-behaved plugin by a third party: loads, passes its gate, may answer. */
#define FIXTURE_ID "good"
#include "fixture_plugin.h"

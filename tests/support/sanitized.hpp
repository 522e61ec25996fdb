// SPDX-License-Identifier: Apache-2.0
#pragma once
/// 1 where this build runs under a sanitizer: it has an allocator and memory of its own.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SWITCHYARD_SANITIZED 1
#else
#define SWITCHYARD_SANITIZED 0
#endif

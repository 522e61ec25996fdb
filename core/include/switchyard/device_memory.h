/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/device_memory.h - the extension "switchyard.device-memory/1".
 *
 * A plugin whose instances have memory of their own answers
 * sy_plugin::get_extension(SY_DEVICE_MEMORY_EXTENSION) with a constant
 * sy_device_memory. A host then keeps arrays on the device between calls: it
 * allocates, describes tensors with `device_kind` and the instance's number as
 * `device_index`, and passes them to the instance's kernels that have
 * SY_TRAIT_DEVICE_MEMORY. Tensors of a call may be mixed, some here, some in
 * host memory. Only the instance that allocated a handle may be given it, and
 * while a call with it runs nobody else touches it.
 *
 * All functions are [any-thread]. Handles live until they are released or the
 * instance is destroyed.
 */
#ifndef SWITCHYARD_DEVICE_MEMORY_H
#define SWITCHYARD_DEVICE_MEMORY_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_DEVICE_MEMORY_EXTENSION "switchyard.device-memory/1"

/* What an instance has done since it was created; transfers and kernels apart,
 * by the device's own clock. The host sets struct_size. Append-only. */
typedef struct sy_device_totals {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t kernels;     /* launched */
  uint64_t kernel_ns;   /* their time on the device */
  uint64_t transfer_ns; /* of copies between host and device; 0 where memory is shared */
  uint64_t bytes_to_device;
  uint64_t bytes_from_device;
  uint64_t programs_built;  /* compiled from source */
  uint64_t programs_cached; /* taken from files of an earlier process */
  uint64_t build_ns;        /* of both */
} sy_device_totals;

typedef struct sy_device_memory {
  uint32_t struct_size;
  int32_t device_kind; /* sy_device_kind of the handles */

  /* `bytes` of memory, contents undefined; SY_E_OUT_OF_MEMORY if there is not as much. */
  int32_t (*allocate)(sy_instance *instance, uint64_t bytes, void **handle, sy_error *error);
  void (*release)(sy_instance *instance, void *handle);
  /* Copies, complete on return. */
  int32_t (*upload)(sy_instance *instance, void *handle, uint64_t offset, const void *from,
                    uint64_t bytes, sy_error *error);
  int32_t (*download)(sy_instance *instance, void *handle, uint64_t offset, void *to,
                      uint64_t bytes, sy_error *error);
  void (*totals)(sy_instance *instance, sy_device_totals *out);
} sy_device_memory;

#ifdef __cplusplus
}
#endif
#endif

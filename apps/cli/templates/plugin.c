/* SPDX-License-Identifier: Apache-2.0
 *
 * @NAME@: what a host sees of the plugin. The work is in kernel.c.
 */
#include <stdio.h>
#include <switchyard/plugin.h>

extern const sy_kernel the_kernel; /* kernel.c */

static int32_t fail(sy_error *error, int32_t code, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = -1;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

/* Is the hardware or library there that the plugin needs? Cheap, and in words where not. */
static int32_t probe(const sy_host *host, sy_error *error) {
  (void)host;
  (void)error;
  return SY_OK;
}

static uint32_t device_count(const sy_host *host) {
  (void)host;
  return 1;
}

/* runtime_id changes when results or speed may: name the versions of what you call. */
static int32_t device_info(const sy_host *host, uint32_t device, sy_device_info *out,
                           sy_error *error) {
  (void)host;
  if (device != 0 || out->struct_size < sizeof(*out))
    return fail(error, SY_E_INVALID_ARGUMENT, "there is one device, 0");
  out->kind = SY_DEVICE_HOST;
  (void)snprintf(out->name, sizeof(out->name), "processor");
  (void)snprintf(out->runtime_id, sizeof(out->runtime_id), "@NAME@ 0.1");
  out->compute_units = 1;
  return SY_OK;
}

/* What the kernels keep between calls belongs here; this one keeps nothing. */
struct sy_instance {
  int unused;
};

static int32_t create(const sy_host *host, uint32_t device, const sy_option *const *options,
                      uint32_t n_options, sy_instance **out, sy_error *error) {
  static struct sy_instance the_instance;
  (void)host;
  (void)device;
  (void)options;
  if (n_options != 0) return fail(error, SY_E_INVALID_ARGUMENT, "this plugin has no options");
  *out = &the_instance;
  return SY_OK;
}

static void destroy(sy_instance *instance) { (void)instance; }

static uint32_t kernel_count(const sy_instance *instance) {
  (void)instance;
  return 1;
}

static const sy_kernel *kernel_at(const sy_instance *instance, uint32_t index) {
  (void)instance;
  return index == 0 ? &the_kernel : NULL;
}

SY_EXPORT_PLUGIN("@NAME@") = {
    .struct_size = sizeof(sy_plugin),
    .abi_major = SY_ABI_MAJOR,
    .abi_minor = SY_ABI_MINOR,
    .id = "@NAME@",
    .version = "0.1",
    .build_id = "",
    .probe = probe,
    .device_count = device_count,
    .device_info = device_info,
    .create = create,
    .destroy = destroy,
    .kernel_count = kernel_count,
    .kernel_at = kernel_at,
};

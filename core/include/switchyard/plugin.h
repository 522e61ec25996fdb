/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/plugin.h - the C ABI between Switchyard and its plugins.
 *
 * A plugin is one shared object. It exports one symbol, the constant
 * `switchyard_plugin`, and carries an ELF note `.note.switchyard` with the same
 * facts, so that a host can refuse it before any of its code runs (dlopen
 * already runs constructors). SY_EXPORT_PLUGIN defines both.
 *
 * Rules that hold for everything below
 * ------------------------------------
 * Versions.  Structs only ever grow at the end. `struct_size` is the first
 *   member of each growing struct and is set by whoever fills it in; a reader
 *   never looks past it. Equal ABI majors work together whatever the minors.
 *   Arrays of growing structs are arrays of pointers. sy_tensor and sy_dtype are
 *   frozen and carry no struct_size.
 * Memory.  Whoever allocates frees. Nothing is allocated on one side and freed
 *   on the other. Strings returned by a plugin live as long as the plugin is
 *   mapped, which is until the process ends (plugins are never unloaded).
 * Errors.  No exception, longjmp, abort or exit crosses the boundary, and a
 *   plugin prints nothing. Functions return SY_OK (0) or another sy_status and
 *   describe the failure in the caller's sy_error.
 * Threads.  Each function says who may call it:
 *   [main]            one thread at a time per plugin;
 *   [any-thread]      any number of threads at once;
 *   [one-at-a-time-per-state]  any thread, but never twice at once for a state.
 * Floating point.  `run` and `prepare` are called with the default x86 MXCSR
 *   (0x1F80: round to nearest, no flush to zero, exceptions masked) or its like
 *   elsewhere. Threads that a plugin starts itself must set the same.
 *   AMX tiles are released before returning.
 */
#ifndef SWITCHYARD_PLUGIN_H
#define SWITCHYARD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_ABI_MAJOR 1u
#define SY_ABI_MINOR 0u

#define SY_MAX_RANK 8

/* ------------------------------------------------------------------ status */

/* Stable codes; new ones are appended. */
typedef enum sy_status {
  SY_OK = 0,
  SY_E_INVALID_ARGUMENT = 1, /* a parameter is out of its range */
  SY_E_SHAPE = 2,            /* shapes or strides do not fit together */
  SY_E_DTYPE = 3,            /* element type not allowed here */
  SY_E_NONFINITE = 4, /* NaN or Inf where finite values are required; index names the first */
  SY_E_OVERFLOW =
      5, /* a value does not fit the format (f16 scale), or size arithmetic overflowed */
  SY_E_UNSUPPORTED = 6, /* valid, but not offered by this kernel */
  SY_E_OUT_OF_MEMORY = 7,
  SY_E_CANCELLED = 8,    /* the progress hook asked to stop */
  SY_E_HARDWARE = 9,     /* the needed device or instruction set is missing */
  SY_E_DEVICE_LOST = 10, /* the instance is dead; the host will not call it again */
  SY_E_ABI = 11,         /* versions or struct sizes do not fit */
  SY_E_INTERNAL = 12,    /* a defect in the plugin */
  SY_E_VERIFICATION = 13 /* from the host only: the kernel's results were found wrong */
} sy_status;

/* Why something failed or was refused. Owned by the caller, who sets
 * struct_size; the callee fills in the rest and never writes past struct_size.
 * May be NULL wherever a function takes one. */
typedef struct sy_error {
  uint32_t struct_size;
  int32_t code;      /* sy_status */
  int64_t index;     /* flat element index the error is about, or -1 */
  char message[256]; /* NUL-terminated UTF-8, one sentence: what, where, what to do */
} sy_error;

/* ----------------------------------------------------------------- tensors */

typedef enum sy_type_code {
  SY_TYPE_FLOAT = 0,  /* IEEE 754 binary16/32/64 */
  SY_TYPE_BFLOAT = 1, /* bfloat16 */
  SY_TYPE_INT = 2,
  SY_TYPE_UINT = 3,
  SY_TYPE_BOOL = 4 /* one byte, 0 or 1 */
} sy_type_code;

/* Element type. Frozen. `format` is 0 for plain elements; for quantised bytes
 * (code SY_TYPE_UINT, bits 8 or 32, or SY_TYPE_INT, bits 8) it may hold the
 * sy_quant_format the bytes follow. */
typedef struct sy_dtype {
  uint8_t code; /* sy_type_code */
  uint8_t bits;
  uint16_t format; /* sy_quant_format or 0 */
} sy_dtype;

typedef enum sy_device_kind {
  SY_DEVICE_HOST = 0,   /* `handle` is a pointer this process may dereference */
  SY_DEVICE_OPENCL = 1, /* `handle` is a cl_mem */
  SY_DEVICE_CUDA = 2    /* `handle` is a CUdeviceptr */
} sy_device_kind;

enum {
  SY_TENSOR_READ_ONLY = 1u << 0 /* the callee must not write these bytes */
};

/* A view of memory that somebody else owns. Frozen: its size never changes.
 *
 * Element (i0, i1, ...) lies at handle + byte_offset + bits/8 * sum(i_k * strides[k]).
 * Strides count elements, may be zero (broadcast) or negative, and are always
 * given. byte_size is the number of bytes readable from handle + 0.
 * In `supports`, `estimate` and `workspace_size` the handle may be NULL: decide
 * from the description alone. An empty tensor (some shape[k] == 0) may have a
 * NULL handle too. */
typedef struct sy_tensor {
  void *handle;
  uint64_t byte_offset;
  uint64_t byte_size;
  int64_t shape[SY_MAX_RANK];
  int64_t strides[SY_MAX_RANK];
  sy_dtype dtype;
  int32_t rank;         /* 0..SY_MAX_RANK */
  int32_t device_kind;  /* sy_device_kind */
  int32_t device_index; /* among devices of that kind */
  uint32_t flags;       /* SY_TENSOR_* */
  uint32_t reserved;    /* zero */
} sy_tensor;

/* -------------------------------------------------------------------- host */

typedef enum sy_log_level {
  SY_LOG_DEBUG = 0,
  SY_LOG_INFO = 1,
  SY_LOG_WARNING = 2,
  SY_LOG_ERROR = 3
} sy_log_level;

/* One piece of a parallel loop: called with 0 <= index < n, each index once. */
typedef void (*sy_task_fn)(void *arg, uint64_t index);

/* What the host offers to plugins. Valid until the process ends. Append-only. */
typedef struct sy_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  void *host_data; /* opaque to plugins */

  /* [any-thread] Copies `message`; never blocks for long. */
  void (*log)(const struct sy_host *host, int32_t level, const char *message);

  /* [any-thread] Monotonic nanoseconds. */
  uint64_t (*clock_ns)(const struct sy_host *host);

  /* [any-thread] SY_OK when the operating system lets this process use AMX tile
   * data; the host asks for the permission once, on the first call. */
  int32_t (*amx_state)(const struct sy_host *host);

  /* [any-thread] Runs fn(arg, i) for each i < n on at most max_threads threads,
   * the caller's among them, and returns when all are done. Nested calls run
   * serially. Each worker has the floating-point state described above. */
  void (*parallel_for)(const struct sy_host *host, uint64_t n, sy_task_fn fn, void *arg,
                       uint32_t max_threads);

  /* [any-thread] A setting by name, or NULL. Known names: "isa" (the highest
   * instruction set a plugin may use: avx2 | avx512 | avx512_bf16 | amx),
   * "threads" (the process's thread budget, decimal), "executor" ("host" asks
   * plugins to use parallel_for instead of a pool of their own), "cache_dir". */
  const char *(*get_setting)(const struct sy_host *host, const char *name);

  /* [any-thread] An optional interface by id such as "switchyard.queue/1", or NULL. */
  const void *(*get_extension)(const struct sy_host *host, const char *id);
} sy_host;

/* ------------------------------------------------------------------- calls */

enum {
  SY_CALL_UNTRUSTED_FINITE =
      1u << 0 /* inputs were not scanned: the kernel must check what its op requires */
};

/* One request: the tensors and parameters of an operation. All pointers stay
 * the caller's and are valid until `run` returns (with a queue: until the
 * submitted work has finished). Append-only. */
typedef struct sy_call {
  uint32_t struct_size;
  uint32_t flags; /* SY_CALL_* */
  uint32_t n_inputs;
  uint32_t n_outputs;
  const sy_tensor *const
      *inputs; /* the op's header names the slots; NULL = optional tensor absent */
  const sy_tensor *const *outputs; /* caller-allocated, written by the kernel; NULL = not wanted */
  const void *params;              /* the op's params struct, struct_size first */
  uint64_t params_size;
  void *workspace; /* at least workspace_size bytes, 64-byte aligned, contents undefined */
  uint64_t workspace_size;
  uint32_t threads; /* the most threads the kernel may use, >= 1 */
  uint32_t reserved;
  /* Polled at least every 10 ms of work, from any one thread; NULL = none.
   * `done` is in 0..1. A non-zero answer asks to stop: the kernel returns
   * SY_E_CANCELLED soon, outputs then being undefined. */
  int32_t (*progress)(void *arg, double done);
  void *progress_arg;
  void *state; /* from `prepare`, or NULL */
  void *queue; /* NULL = synchronous. Reserved for the extension switchyard.queue/1 */
} sy_call;

/* ----------------------------------------------------------------- kernels */

typedef struct sy_instance sy_instance; /* defined by the plugin: one per device and engine */

enum {
  SY_TRAIT_BIT_EXACT = 1u << 0, /* output bytes equal the reference kernel's */
  SY_TRAIT_DETERMINISTIC =
      1u << 1, /* the same call gives the same bytes, whatever the thread count */
  SY_TRAIT_OWN_THREADS = 1u << 2,  /* uses more than the calling thread (at most call->threads) */
  SY_TRAIT_DEVICE_MEMORY = 1u << 3 /* accepts tensors of the instance's own device kind */
};

/* One implementation of one operation. Constant while its instance lives. */
typedef struct sy_kernel {
  uint32_t struct_size;
  uint32_t traits;  /* SY_TRAIT_* */
  const char *op;   /* "quantize", "dequantize", "kmeans.step", "kmeans.assign", "attention", ... */
  const char *name; /* by the grammar op.in_out.variant, e.g. "quantize.f32_q4_0.row" */
  /* Kernels of one op with equal strings promise equal bits for any thread
   * count and tiling. Never NULL or empty. */
  const char *numerics_class;
  const void *self_data; /* the plugin's own */

  /* [any-thread] Can this kernel do this call? SY_OK, or a code with the reason
   * in words. Cheap (under 100 ns), allocates nothing, reads no tensor data. */
  int32_t (*supports)(const struct sy_kernel *self, sy_instance *instance, const sy_call *call,
                      sy_error *reason);

  /* [any-thread] Optional. The author's guess of the run time in ns; 0 = none. */
  uint64_t (*estimate)(const struct sy_kernel *self, sy_instance *instance, const sy_call *call);

  /* [any-thread] Optional. Bytes of workspace `run` needs; O(tile), never O(data). */
  uint64_t (*workspace_size)(const struct sy_kernel *self, sy_instance *instance,
                             const sy_call *call);

  /* [any-thread], with a state [one-at-a-time-per-state]. Computes all wanted
   * outputs. Inputs stay unchanged. On failure outputs are undefined. */
  int32_t (*run)(const struct sy_kernel *self, sy_instance *instance, const sy_call *call,
                 sy_error *error);

  /* Optional pair: what may be kept while the inputs whose bits are set in
   * `constant_inputs` (bit i = inputs[i]) keep address and contents until
   * release: packed weights, norms, previous labels, data on a device. `run`
   * must give the same bits with the state and without. [any-thread] */
  int32_t (*prepare)(const struct sy_kernel *self, sy_instance *instance, const sy_call *call,
                     uint64_t constant_inputs, void **state, sy_error *error);
  void (*release)(const struct sy_kernel *self, sy_instance *instance, void *state);
} sy_kernel;

/* ----------------------------------------------------------------- plugins */

/* What a device is, for people and for the keys of stored measurements.
 * The host sets struct_size and zeroes the rest. */
typedef struct sy_device_info {
  uint32_t struct_size;
  int32_t kind;          /* sy_device_kind of the memory it works on */
  char name[128];        /* "AMD EPYC 9R14", "NVIDIA H200" */
  char runtime_id[128];  /* changes when results or speed may: library and driver versions */
  uint64_t memory_bytes; /* 0 = the host's */
  uint32_t compute_units;
  uint32_t reserved;
} sy_device_info;

/* A setting for an instance, from the user's configuration. */
typedef struct sy_option {
  const char *name;
  const char *value;
} sy_option;

enum {
  SY_PLUGIN_OWN_POOL = 1u << 0, /* keeps threads alive between calls (an OpenMP or BLAS pool) */
  SY_PLUGIN_REFERENCE =
      1u << 1 /* defines what is right; heeded only beside the host's own library */
};

/* The one exported constant. */
typedef struct sy_plugin {
  uint32_t struct_size;
  uint16_t abi_major; /* SY_ABI_MAJOR and SY_ABI_MINOR of the header it was built with */
  uint16_t abi_minor;
  const char *id;       /* [a-z][a-z0-9_]*, equals the ELF note's */
  const char *version;  /* the author's, for people */
  const char *build_id; /* for people; the host identifies files by content */
  uint32_t flags;       /* SY_PLUGIN_* */
  uint32_t reserved;

  /* [main] Is the needed hardware or library there? Cheap; SY_OK or the reason. */
  int32_t (*probe)(const sy_host *host, sy_error *error);

  /* [main] Number of devices; 0 is legal. Called after a successful probe. */
  uint32_t (*device_count)(const sy_host *host);
  int32_t (*device_info)(const sy_host *host, uint32_t device, sy_device_info *out,
                         sy_error *error);

  /* [main] An instance for one device. Options unknown to the plugin are an error. */
  int32_t (*create)(const sy_host *host, uint32_t device, const sy_option *const *options,
                    uint32_t n_options, sy_instance **out, sy_error *error);
  /* [main] No call of the instance is running or follows. */
  void (*destroy)(sy_instance *instance);

  /* [any-thread] The instance's kernels; they live as long as the instance. */
  uint32_t (*kernel_count)(const sy_instance *instance);
  const sy_kernel *(*kernel_at)(const sy_instance *instance, uint32_t index);

  /* [any-thread] Optional. An extension by id, such as "switchyard.device-memory/1", or NULL. */
  const void *(*get_extension)(const char *id);
} sy_plugin;

/* ------------------------------------------------------------------ export */

/* The note's bytes: an ELF note with name "Switchyard" and type 1. */
typedef struct sy_elf_note {
  uint32_t namesz; /* 11, with the NUL */
  uint32_t descsz; /* sizeof(desc) */
  uint32_t type;   /* 1 */
  char name[12];
  struct {
    uint32_t abi_major;
    uint32_t abi_minor;
    char id[56];
  } desc;
} sy_elf_note;

#define SY_NOTE_SECTION ".note.switchyard"
#define SY_PLUGIN_SYMBOL "switchyard_plugin"

#ifdef __cplusplus
#define SY_DETAIL_EXTERN_C extern "C"
#else
#define SY_DETAIL_EXTERN_C extern
#endif

/* Use once per plugin, at file scope, followed by the initialiser of sy_plugin:
 *
 *   SY_EXPORT_PLUGIN("mine") = {sizeof(sy_plugin), SY_ABI_MAJOR, SY_ABI_MINOR, "mine", ...};
 */
#define SY_EXPORT_PLUGIN(ID)                                                                   \
  __attribute__((section(SY_NOTE_SECTION), used,                                               \
                 aligned(4))) static const sy_elf_note sy_detail_note = {                      \
      11u,                                                                                     \
      (uint32_t)(sizeof(sy_elf_note) - offsetof(sy_elf_note, desc)),                           \
      1u,                                                                                      \
      "Switchyard",                                                                            \
      {SY_ABI_MAJOR, SY_ABI_MINOR, ID}};                                                       \
  SY_DETAIL_EXTERN_C __attribute__((visibility("default"))) const sy_plugin switchyard_plugin; \
  const sy_plugin switchyard_plugin

#ifdef __cplusplus
}
#endif
#endif /* SWITCHYARD_PLUGIN_H */

/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/switchyard.h - the host interface in C: engines, operations, results.
 *
 *   sy_engine *engine = NULL;
 *   sy_error error = {sizeof(sy_error), 0, -1, ""};
 *   if (sy_engine_create(NULL, &engine, &error) != SY_OK) { puts(error.message); return 1; }
 *
 * Rules that hold for everything below
 * ------------------------------------
 * Stability.  Functions are only ever added, and keep their meaning within a major version
 *   (SY_HOST_API_MAJOR). Handles are opaque. Structs with `struct_size` grow at the end: set it
 *   through the struct's _init function, which also fills in the defaults; members beyond what the
 *   caller's header knew keep their defaults.
 * Errors.  Functions return SY_OK (0), another sy_status, or one of the codes below, and describe
 *   the failure in the caller's sy_error (which may be NULL): what, where, what to do. On failure
 *   nothing is returned through out-pointers: they are set to NULL. No exception leaves the
 * library, and it prints nothing but what the log level asks for, on stderr. Ownership.  What a
 * function hands out through an out-pointer is the caller's, who ends it with the matching _destroy
 * or _free. Strings and views that a function returns belong to the object that they came from and
 * live as long. Arrays given to a function are read or written only during the call and are never
 * kept. Threads.  An engine may be used by any number of threads at once; it must outlive its
 * calls, not its results. A result may be read by any number of threads at once. Arrays.  sy_tensor
 * (plugin.h) describes memory of the caller's: any strides, counted in elements. sy_tensor_init
 * fills one in for plain C order.
 */
#ifndef SWITCHYARD_SWITCHYARD_H
#define SWITCHYARD_SWITCHYARD_H

#include <switchyard/ops/attention.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/quantize.h>
#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SY_HOST_API __attribute__((visibility("default")))
#else
#define SY_HOST_API
#endif

#define SY_HOST_API_MAJOR 1u
#define SY_HOST_API_MINOR 0u

/* Codes beside sy_status that only hosts see. Stable; new ones are appended. */
enum {
  SY_HOST_E_USAGE = 64,   /* an unknown name or a bad value of an option */
  SY_HOST_E_CONFIG = 65,  /* YAML; the message begins with file:line:column */
  SY_HOST_E_IO = 66,      /* a missing, unreadable or corrupt file */
  SY_HOST_E_BACKEND = 67, /* an unknown, refused or failing backend */
  SY_HOST_E_REGRESSION = 68
};

/* The name of a code, such as "shape" or "io"; "ok" for SY_OK, "unknown" for others. Static.
 * [any-thread] */
SY_HOST_API const char *sy_code_name(int32_t code);

/* The library's version, "0.1.0", and its host interface's: major * 65536 + minor. [any-thread] */
SY_HOST_API const char *sy_version(void);
SY_HOST_API uint32_t sy_host_api_version(void);

/* Polled from one thread at a time, a few hundred times a second at most, with `done` in 0..1. A
 * non-zero answer asks the call to stop: it ends with SY_E_CANCELLED. NULL = nobody asks. */
typedef int32_t (*sy_progress_fn)(void *arg, double done);

/* Fills in *out for data in C order. SY_E_INVALID_ARGUMENT: rank above SY_MAX_RANK, negative sizes,
 * or bits that are no whole bytes; SY_E_OVERFLOW: more bytes than can be counted. `data` may be
 * NULL where shape has a zero. [any-thread] */
SY_HOST_API int32_t sy_tensor_init(sy_tensor *out, void *data, sy_dtype dtype, int32_t rank,
                                   const int64_t *shape);

/* ----------------------------------------------------------------- engines */

typedef struct sy_engine sy_engine;

/* NULL members mean the default. Precedence: preset < config file < members here < SWITCHYARD_*
 * variables of the environment. */
typedef struct sy_engine_options {
  uint32_t struct_size;
  int32_t threads;       /* most threads of a call; 0 = what the process may use */
  const char *preset;    /* "production-cpu", "balanced", ... */
  const char *config;    /* YAML file with `version: 1` and `engine:` */
  const char *policy;    /* "adaptive", "benchmark", "thresholds", "fixed", "frozen" */
  const char *backend;   /* pins every operation to it: there is no fallback then */
  const char *cache_dir; /* of verdicts and timings; "" = keep nothing on disk */
  const char *log_level; /* "debug", "info", "warning", "error", "off" */
} sy_engine_options;

/* [any-thread] */
SY_HOST_API void sy_engine_options_init(sy_engine_options *options, uint32_t struct_size);

/* Loads the plugins; a bad plugin is no error. `options` may be NULL. [any-thread] */
SY_HOST_API int32_t sy_engine_create(const sy_engine_options *options, sy_engine **out,
                                     sy_error *error);

/* NULL is fine. No call of the engine may be running. [any-thread] */
SY_HOST_API void sy_engine_destroy(sy_engine *engine);

/* Asks the calls that are running now to stop; they end with SY_E_CANCELLED, those that start later
 * are not concerned. Returns at once. [any-thread] */
SY_HOST_API void sy_engine_cancel(sy_engine *engine);

/* ----------------------------------------------------------------- results */

/* What an operation gives: arrays by name, numbers by name, and who answered. */
typedef struct sy_result sy_result;

/* NULL is fine. Ends the views and strings taken from it too. [any-thread] */
SY_HOST_API void sy_result_destroy(sy_result *result);

/* A view of an array of the result, by its name below. SY_HOST_E_USAGE: there is none of that name.
 * [any-thread] */
SY_HOST_API int32_t sy_result_array(const sy_result *result, const char *name, sy_tensor *out,
                                    sy_error *error);

/* A number by its name below. Likewise. [any-thread] */
SY_HOST_API int32_t sy_result_number(const sy_result *result, const char *name, double *out,
                                     sy_error *error);

/* One JSON object: op, backend, kernel, requested_backend, verified ("gate" | "cached" | "no"),
 * fallback_reason, time_ms, the numbers, and for each array its dtype and shape. [any-thread] */
SY_HOST_API const char *sy_result_json(const sy_result *result);

/* -------------------------------------------------------------- operations */

typedef struct sy_quantize_options {
  uint32_t struct_size;
  int32_t group_size;      /* values per scale; 0 = the format's default */
  const char *format;      /* "q4_0", "mlx_affine4", "ternary", ...; must be given */
  const char *granularity; /* "tensor" (default), "row", "group", "channel" */
  const char *scale;       /* "default", "absmax", "absmean", "floor", "rceil" */
  const char *nonfinite;   /* "error" (default), "saturate" */
  const char *rounding;    /* "nearest" (default), "stochastic" */
  uint64_t seed;           /* of stochastic rounding */
  sy_progress_fn progress;
  void *progress_arg;
} sy_quantize_options;
SY_HOST_API void sy_quantize_options_init(sy_quantize_options *options, uint32_t struct_size);

/* Quantises x (f32, f16 or bf16). Arrays: "codes" (for block formats these are the blocks),
 * "scales" and "biases" where the format has them. Numbers: "bytes" of all arrays. ops/quantize.h
 * gives dtypes and shapes. [any-thread] */
SY_HOST_API int32_t sy_quantize(sy_engine *engine, const sy_tensor *x,
                                const sy_quantize_options *options, sy_result **out,
                                sy_error *error);

/* Quantised values: a result of sy_quantize, or arrays from elsewhere. */
typedef struct sy_quantized {
  uint32_t struct_size;
  int32_t group_size;
  const char *format;
  const char *granularity; /* NULL = "tensor" */
  const sy_tensor *codes;
  const sy_tensor *scales; /* NULL where the format has none */
  const sy_tensor *biases;
  int64_t shape[SY_MAX_RANK]; /* of the original */
  int32_t rank;
  sy_dtype dtype; /* of the original */
} sy_quantized;

/* Describes the result of sy_quantize; the pointers belong to the result. Set out->struct_size
 * first. SY_HOST_E_USAGE: the result of another operation. [any-thread] */
SY_HOST_API int32_t sy_result_quantized(const sy_result *result, sy_quantized *out,
                                        sy_error *error);

/* Restores values. `y` (the original's shape; its dtype decides) is written to; NULL: the result
 * has an array "values" of the original dtype. `out` may be NULL where y is given. [any-thread] */
SY_HOST_API int32_t sy_dequantize(sy_engine *engine, const sy_quantized *quantized,
                                  const sy_tensor *y, sy_result **out, sy_error *error);

typedef struct sy_kmeans_options {
  uint32_t struct_size;
  int32_t n_init;                  /* runs, of which the best is kept; 1 */
  int64_t k;                       /* 8 */
  const char *init;                /* "k-means++" (default), "k-means||", "random" */
  const sy_tensor *init_centroids; /* f32 [k, d]: instead of `init` */
  const sy_tensor *sample_weight;  /* f32 [n] */
  int32_t max_iter;                /* 300 */
  int32_t spherical;               /* 1: rows and centroids of length 1 */
  double tol;                      /* 1e-4 */
  uint64_t seed;
  int64_t batch_size; /* > 0: mini-batches of so many rows */
  sy_progress_fn progress;
  void *progress_arg;
} sy_kmeans_options;
SY_HOST_API void sy_kmeans_options_init(sy_kmeans_options *options, uint32_t struct_size);

/* Clusters the rows of x (f32 [n, d]); the same bits on every backend. Arrays: "labels" i32 [n],
 * "centroids" f32 [k, d], "counts" i64 [k]. Numbers: "inertia", "n_iter", "converged" (0 or 1),
 * "empty_clusters". [any-thread] */
SY_HOST_API int32_t sy_kmeans(sy_engine *engine, const sy_tensor *x,
                              const sy_kmeans_options *options, sy_result **out, sy_error *error);

typedef struct sy_attention_options {
  uint32_t struct_size;
  int32_t causal;         /* sy_causal; SY_CAUSAL_NONE */
  int64_t window;         /* keys that a query sees, itself included; 0 = all */
  float scale;            /* 0 = 1 / sqrt(head_dim) */
  float softcap;          /* 0 = none */
  const sy_tensor *mask;  /* bool or additive; broadcast from the right */
  const sy_tensor *sinks; /* f32 [query heads] */
  const sy_tensor *o;     /* written to instead of an array of the result's */
  int32_t return_lse;     /* 1: also "lse", f32 [batch, query heads, queries] */
  int32_t reserved;
  sy_progress_fn progress;
  void *progress_arg;
  const sy_tensor *alibi;      /* f32 [query heads]: slopes */
  const sy_tensor *kv_lengths; /* i32 [batch]: keys that exist per sequence */
  /* i32 [batch, pages of the longest]: k and v are pages [pages, kv heads, page size, head_dim];
   * needs kv_lengths */
  const sy_tensor *block_table;
  int64_t keep; /* the first keys, which a window does not hide */
} sy_attention_options;
SY_HOST_API void sy_attention_options_init(sy_attention_options *options, uint32_t struct_size);

/* Attention of q [batch, query heads, queries, head_dim] over k and v [batch, kv heads, keys,
 * head_dim], all f32, f16 or bf16. `options` may be NULL. Array: "o" in q's dtype, unless given.
 * `out` may be NULL where options->o is given. [any-thread] */
SY_HOST_API int32_t sy_attention(sy_engine *engine, const sy_tensor *q, const sy_tensor *k,
                                 const sy_tensor *v, const sy_attention_options *options,
                                 sy_result **out, sy_error *error);

/* Any operation, in the words of its header under ops/: inputs, outputs and parameters are the
 * caller's. Nothing is allocated for a call like one that was seen before. [any-thread] */
SY_HOST_API int32_t sy_run(sy_engine *engine, const char *op, sy_call *call, sy_error *error);

/* ------------------------------------------------------- what, why and how */

/* Why a backend would answer a call of this shape ("n=100000,d=16,k=8"), every candidate with its
 * timing or refusal, as JSON. `measure`: time the candidates first. The caller frees *json.
 * [any-thread] */
SY_HOST_API int32_t sy_explain(sy_engine *engine, const char *op, const char *shape,
                               int32_t measure, char **json, sy_error *error);

/* Counts and times by backend and operation, as JSON. The caller frees *json. [any-thread] */
SY_HOST_API int32_t sy_metrics(sy_engine *engine, char **json, sy_error *error);

/* A JSON list of {what, evidence, expected_gain, command}. The caller frees *json. [any-thread] */
SY_HOST_API int32_t sy_recommend(sy_engine *engine, char **json, sy_error *error);

/* Ends a string from one of the three above; NULL is fine. [any-thread] */
SY_HOST_API void sy_string_free(char *text);

#ifdef __cplusplus
}
#endif
#endif /* SWITCHYARD_SWITCHYARD_H */

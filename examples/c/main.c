/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <switchyard/switchyard.h>

#define N 20000
static float points[N][4];

static int stop_never(void *calls, double done) {
  (void)done;
  ++*(int *)calls;
  return 0;
}

int main(void) {
  for (int i = 0; i < N; ++i)
    for (int j = 0; j < 4; ++j)
      points[i][j] = (float)((i * 4 + j) * 2654435761u % 1000) + (i % 3 == 0 ? 5000.0f : 0.0f);

  sy_error error = {sizeof(sy_error), 0, -1, ""};
  sy_engine *engine = NULL;
  if (sy_engine_create(NULL, &engine, &error) != SY_OK) return puts(error.message), 1;

  const int64_t shape[2] = {N, 4};
  sy_tensor x;
  sy_tensor_init(&x, points, (sy_dtype){SY_TYPE_FLOAT, 32, 0}, 2, shape);

  sy_kmeans_options options;
  sy_kmeans_options_init(&options, sizeof options);
  int polled = 0;
  options.k = 8;
  options.progress = stop_never;
  options.progress_arg = &polled;
  sy_result *fit = NULL;
  if (sy_kmeans(engine, &x, &options, &fit, &error) != SY_OK) return puts(error.message), 1;
  sy_tensor centroids;
  double inertia = 0;
  sy_result_array(fit, "centroids", &centroids, &error);
  sy_result_number(fit, "inertia", &inertia, &error);
  printf("inertia %.6g, first centroid %.3f\n", inertia, *(const float *)centroids.handle);
  puts(sy_result_json(fit));
  sy_result_destroy(fit);

  /* The same memory as rows of 32 values, in 8 bits each. */
  const int64_t rows[2] = {N / 8, 32};
  sy_tensor_init(&x, points, (sy_dtype){SY_TYPE_FLOAT, 32, 0}, 2, rows);
  sy_quantize_options how;
  sy_quantize_options_init(&how, sizeof how);
  how.format = "q8_0";
  sy_result *packed = NULL;
  if (sy_quantize(engine, &x, &how, &packed, &error) != SY_OK) return puts(error.message), 1;
  double bytes = 0;
  sy_result_number(packed, "bytes", &bytes, &error);
  printf("%zu bytes became %.0f\n", sizeof points, bytes);
  sy_result_destroy(packed);

  how.format = "q3_z"; /* errors come as a code and a sentence */
  const int32_t code = sy_quantize(engine, &x, &how, &packed, &error);
  printf("%s: %s\n", sy_code_name(code), error.message);
  sy_engine_destroy(engine);
  return 0;
}

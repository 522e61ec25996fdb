// SPDX-License-Identifier: Apache-2.0
// What the device itself can do: GB/s of a copy (bytes read and written) and TFLOP/s of cuBLAS'
// bf16 matrix product, as two numbers.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

static void check(int status) {
  if (status == 0) return;
  std::fprintf(stderr, "peaks: error %d\n", status);
  std::exit(1);
}

__global__ void fill(__nv_bfloat16 *p, size_t n) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    p[i] = __float2bfloat16(static_cast<float>(i * 2654435761u % 2048) / 1024.0f - 1.0f);
}

template <class F>
static double best_ms(F run) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  double best = 1e30;
  for (int i = 0; i < 12; ++i) {
    float ms = 0;
    check(cudaEventRecord(begin));
    run();
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 2) best = std::min(best, static_cast<double>(ms));
  }
  return best;
}

int main() {
  constexpr size_t kBytes = size_t{4} << 30;
  constexpr int kSize = 8192;
  char *a = nullptr, *b = nullptr;
  check(cudaMalloc(&a, kBytes));
  check(cudaMalloc(&b, kBytes));
  const double copy =
      best_ms([&] { check(cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice)); });
  auto *x = reinterpret_cast<__nv_bfloat16 *>(a), *y = x + size_t{kSize} * kSize;
  auto *z = reinterpret_cast<__nv_bfloat16 *>(b);
  fill<<<1024, 256>>>(x, size_t{2} * kSize * kSize);
  cublasHandle_t handle;
  check(cublasCreate(&handle));
  const float one = 1, zero = 0;
  const double gemm = best_ms([&] {
    check(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, kSize, kSize, kSize, &one, x, CUDA_R_16BF,
                       kSize, y, CUDA_R_16BF, kSize, &zero, z, CUDA_R_16BF, kSize,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  });
  std::printf("%.0f %.0f\n", 2.0 * kBytes / copy * 1e-6, 2.0 * kSize * kSize * kSize / gemm * 1e-9);
  return 0;
}

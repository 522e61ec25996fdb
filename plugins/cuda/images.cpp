// SPDX-License-Identifier: Apache-2.0
/// The compiled kernels as data of this library: one binary for each architecture, and PTX for
/// those to come.
#include "device.hpp"

asm(".section .rodata\n.balign 16\n"
    ".global sy_cuda_exact\n.hidden sy_cuda_exact\nsy_cuda_exact:\n"
    ".incbin \"" SY_CUDA_IMAGES
    "/exact.fatbin\"\n.balign 16\n"
    ".global sy_cuda_attention\n.hidden sy_cuda_attention\nsy_cuda_attention:\n"
    ".incbin \"" SY_CUDA_IMAGES
    "/attention.fatbin\"\n.balign 16\n"
    ".previous\n");

extern "C" const char sy_cuda_exact[], sy_cuda_attention[];

namespace switchyard::cuda {

Image image_of(Family family) noexcept {
  return family == Family::exact ? Image{sy_cuda_exact, "loading the exact kernels"}
                                 : Image{sy_cuda_attention, "loading attention's kernels"};
}

}  // namespace switchyard::cuda

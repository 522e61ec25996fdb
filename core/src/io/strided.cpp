// SPDX-License-Identifier: Apache-2.0
#include "io/strided.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace switchyard {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

template <class Word>
void copy_run(std::byte *to, const std::byte *from, std::int64_t stride, std::int64_t n) noexcept {
  const std::ptrdiff_t step = stride * static_cast<std::ptrdiff_t>(sizeof(Word));
  for (std::int64_t i = 0; i < n; ++i, to += sizeof(Word), from += step)
    std::memcpy(to, from, sizeof(Word));
}

void copy_run(std::size_t size, std::byte *to, const std::byte *from, std::int64_t stride,
              std::int64_t n) noexcept {
  switch (size) {
    case 1:
      return copy_run<std::uint8_t>(to, from, stride, n);
    case 2:
      return copy_run<std::uint16_t>(to, from, stride, n);
    case 4:
      return copy_run<std::uint32_t>(to, from, stride, n);
    default:
      return copy_run<std::uint64_t>(to, from, stride, n);
  }
}

}  // namespace

Status for_each_piece(const TensorView &array,
                      const std::function<Status(std::span<const std::byte>)> &use) {
  if (array.raw().device_kind != SY_DEVICE_HOST)
    return fail(ErrorCode::unsupported, "the array is in device memory; copy it to the host first");
  const std::int64_t elements = array.elements();
  if (elements == 0) return {};
  const std::size_t size = size_of(array.dtype());
  const auto *base = array.data<const std::byte>();
  if (array.contiguous()) return use({base, static_cast<std::size_t>(elements) * size});

  // Rank 0 is contiguous, so there is a last axis to run along.
  const int last = array.rank() - 1;
  std::array<std::int64_t, SY_MAX_RANK> index{};
  std::vector<std::byte> piece(kPiece);
  const auto room = static_cast<std::int64_t>(kPiece / size);
  std::int64_t filled = 0;
  while (true) {
    std::int64_t at = 0;
    for (int axis = 0; axis < last; ++axis) at += index[axis] * array.stride(axis);
    for (std::int64_t done = 0; done < array.dim(last);) {
      const std::int64_t n = std::min(array.dim(last) - done, room - filled);
      copy_run(size, piece.data() + static_cast<std::size_t>(filled) * size,
               base + (at + done * array.stride(last)) * static_cast<std::ptrdiff_t>(size),
               array.stride(last), n);
      done += n;
      filled += n;
      if (filled < room) continue;
      if (auto s = use({piece.data(), static_cast<std::size_t>(filled) * size}); !s) return s;
      filled = 0;
    }
    int axis = last - 1;
    while (axis >= 0 && ++index[axis] == array.dim(axis)) index[axis--] = 0;
    if (axis < 0) break;
  }
  if (filled == 0) return {};
  return use({piece.data(), static_cast<std::size_t>(filled) * size});
}

}  // namespace switchyard

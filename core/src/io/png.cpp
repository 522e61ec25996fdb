// SPDX-License-Identifier: Apache-2.0
#include "io/png.hpp"

#include <fmt/format.h>
#include <png.h>

#include <cstring>
#include <vector>

#include "io/cast.hpp"
#include "io/file.hpp"

namespace switchyard {
namespace {

constexpr std::int64_t kLargestSide = 1 << 24;
constexpr std::uint64_t kLargestFile = 1u << 30;
constexpr std::uint64_t kDeflateRatio = 1032;  // no deflate stream grows by more
constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr std::string_view kEnd("\0\0\0\0IEND\xae\x42\x60\x82", 12);
constexpr std::size_t kHeaderEnd = 33;  // signature and IHDR

std::uint32_t big_endian(std::string_view text, std::size_t at) noexcept {
  std::uint32_t value = 0;
  std::memcpy(&value, text.data() + at, sizeof value);
  return __builtin_bswap32(value);
}

/// libpng's simplified interface: errors come back as return values instead of longjmp.
struct Image {
  png_image png{};
  Image() { png.version = PNG_IMAGE_VERSION; }
  ~Image() { png_image_free(&png); }
  Image(const Image &) = delete;
  Image &operator=(const Image &) = delete;
};

}  // namespace

Status write_png(const std::string &path, const TensorView &image) {
  if (!same(image.dtype(), dtypes::u8))
    return file_error(path, "a PNG image needs u8 values, not " + to_string(image.dtype()),
                      ErrorCode::dtype);
  const bool fits = image.rank() == 3 && image.dim(2) == 3 && image.dim(0) > 0 &&
                    image.dim(1) > 0 && image.dim(0) <= kLargestSide &&
                    image.dim(1) <= kLargestSide;
  if (!fits)
    return file_error(
        path, "a PNG image needs the shape [height, width, 3], not " + shape_text(image.shape()),
        ErrorCode::shape);
  auto pixels = contiguous_copy(image);
  if (!pixels) return tl::unexpected(pixels.error());
  Image out;
  out.png.height = static_cast<png_uint_32>(image.dim(0));
  out.png.width = static_cast<png_uint_32>(image.dim(1));
  out.png.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(out.png);
  std::vector<char> encoded(bytes);
  if (png_image_write_to_memory(&out.png, encoded.data(), &bytes, 0, pixels->data(), 0, nullptr) ==
      0)
    return file_error(path, fmt::format("cannot write: {}", out.png.message));
  return write_file(path, std::string_view(encoded.data(), bytes));
}

Result<Tensor> read_png(const std::string &path) {
  auto text = read_text_file(path, kLargestFile);
  if (!text) return tl::unexpected(text.error());
  if (!text->starts_with(kSignature) || text->size() < kHeaderEnd ||
      text->compare(12, 4, "IHDR") != 0)
    return file_error(path, "corrupt or not a PNG file");
  if ((*text)[24] != 8 || (*text)[25] != PNG_COLOR_TYPE_RGB)
    return file_error(path, "is a PNG file, but not of 8-bit RGB colours", ErrorCode::unsupported);
  const std::int64_t width = big_endian(*text, 16), height = big_endian(*text, 20);
  if (width < 1 || height < 1 || width > kLargestSide || height > kLargestSide ||
      static_cast<std::uint64_t>(width * height * 3) / kDeflateRatio > text->size())
    return file_error(path, fmt::format("corrupt: {} x {} pixels are impossible in {} bytes", width,
                                        height, text->size()));
  // libpng does not ask for the last chunk, which shows that nothing was cut off.
  if (text->find(kEnd) == std::string::npos)
    return file_error(path, "truncated: its end is missing");
  Image in;
  if (png_image_begin_read_from_memory(&in.png, text->data(), text->size()) == 0)
    return file_error(path, fmt::format("corrupt: {}", in.png.message));
  in.png.format = PNG_FORMAT_RGB;
  if (in.png.width != width || in.png.height != height)
    return file_error(path, "corrupt: its size is given twice, differently");
  auto pixels = Tensor::empty(dtypes::u8, std::vector<std::int64_t>{height, width, 3});
  if (!pixels) return pixels;
  const png_color background = {0, 0, 0};  // for pixels that a tRNS chunk calls transparent
  if (png_image_finish_read(&in.png, &background, pixels->data(), 0, nullptr) == 0)
    return file_error(path, fmt::format("corrupt: {}", in.png.message));
  return pixels;
}

}  // namespace switchyard

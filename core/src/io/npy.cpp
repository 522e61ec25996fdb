// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.hpp"
#include "io/npy_header.hpp"
#include "io/strided.hpp"
#include "io/utf8.hpp"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little,
              "arrays are stored as they lie in memory");

constexpr char kMagic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
constexpr std::uint64_t kLongestHeader = 1u << 20;
constexpr std::uint64_t kLongestText = 64u << 20;
constexpr std::uint64_t kTile = 4u << 20;

struct Opened {
  NpyHeader header;
  std::uint64_t data_offset = 0;
};

Result<Opened> open_npy(const NpySource &source) {
  std::byte prefix[12] = {};
  if (source.size < sizeof prefix)
    return file_error(source.path, "is not a .npy file: it is too short");
  if (auto s = source.next({prefix, 8}); !s) return tl::unexpected(s.error());
  if (std::memcmp(prefix, kMagic, sizeof kMagic) != 0)
    return file_error(source.path, "is not a .npy file: it does not begin with \\x93NUMPY");
  const auto major = std::to_integer<unsigned>(prefix[6]);
  if (major < 1 || major > 3)
    return file_error(source.path, fmt::format(".npy version {} is not known (1 to 3 are)", major));
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  if (auto s = source.next({prefix + 8, length_bytes}); !s) return tl::unexpected(s.error());
  std::uint32_t length = 0;
  std::memcpy(&length, prefix + 8, length_bytes);
  Opened opened;
  opened.data_offset = 8 + length_bytes + length;
  if (length > kLongestHeader || opened.data_offset > source.size)
    return file_error(source.path, fmt::format("corrupt .npy header: its length of {} bytes is "
                                               "impossible in {} bytes",
                                               length, source.size));
  std::string text(length, '\0');
  if (auto s = source.next(std::as_writable_bytes(std::span(text))); !s)
    return tl::unexpected(s.error());
  auto header = parse_npy_header(source.path, text);
  if (!header) return tl::unexpected(header.error());
  opened.header = std::move(*header);
  return opened;
}

Status check_length(const NpySource &source, const Opened &opened, std::uint64_t needed,
                    const std::string &what) {
  const std::uint64_t there = source.size - opened.data_offset;
  if (there < needed)
    return file_error(source.path, fmt::format("truncated: {} needs {} bytes of data, {} are there",
                                               what, needed, there));
  if (there > needed)
    return file_error(source.path, fmt::format("corrupt: {} bytes follow the {} bytes of {}",
                                               there - needed, needed, what));
  return {};
}

template <class Word>
void swap_words(std::byte *data, std::uint64_t bytes) noexcept {
  for (std::uint64_t at = 0; at < bytes; at += sizeof(Word)) {
    Word w;
    std::memcpy(&w, data + at, sizeof w);
    if constexpr (sizeof(Word) == 2)
      w = __builtin_bswap16(w);
    else if constexpr (sizeof(Word) == 4)
      w = __builtin_bswap32(w);
    else
      w = __builtin_bswap64(w);
    std::memcpy(data + at, &w, sizeof w);
  }
}

void swap_bytes(const Tensor &array, std::uint64_t bytes) noexcept {
  switch (size_of(array.dtype())) {
    case 2:
      return swap_words<std::uint16_t>(array.data<std::byte>(), bytes);
    case 4:
      return swap_words<std::uint32_t>(array.data<std::byte>(), bytes);
    case 8:
      return swap_words<std::uint64_t>(array.data<std::byte>(), bytes);
    default:
      return;
  }
}

void scatter(std::size_t size, std::byte *to, std::uint64_t step, const std::byte *from,
             std::uint64_t n) noexcept {
  for (std::uint64_t i = 0; i < n; ++i) std::memcpy(to + i * step, from + i * size, size);
}

/// Reads Fortran order into C order tile by tile: the file is a matrix of columns, one per setting
/// of all axes but the first, each with the first axis running along it.
Status read_columns(const InputFile &file, std::uint64_t data_offset, const Tensor &out) {
  const std::span<const std::int64_t> shape = out.shape();
  const std::size_t size = size_of(out.dtype());
  const auto rows = static_cast<std::uint64_t>(shape[0]);
  const std::uint64_t columns = static_cast<std::uint64_t>(out.elements()) / rows;
  const std::uint64_t tile_rows = std::min<std::uint64_t>(rows, 16384 / size);
  const std::uint64_t tile_columns =
      std::min(columns, std::max<std::uint64_t>(1, kTile / (tile_rows * size)));
  std::vector<std::byte> tile(tile_rows * tile_columns * size);
  std::vector<std::uint64_t> place(tile_columns);  // C index of each column's first element
  for (std::uint64_t c0 = 0; c0 < columns; c0 += tile_columns) {
    const std::uint64_t nc = std::min(tile_columns, columns - c0);
    for (std::uint64_t c = 0; c < nc; ++c) {
      std::uint64_t rest = c0 + c, stride_product = columns, index = 0;
      for (std::size_t axis = 1; axis < shape.size(); ++axis) {
        const auto extent = static_cast<std::uint64_t>(shape[axis]);
        stride_product /= extent;
        index += rest % extent * stride_product;
        rest /= extent;
      }
      place[c] = index;
    }
    for (std::uint64_t r0 = 0; r0 < rows; r0 += tile_rows) {
      const std::uint64_t nr = std::min(tile_rows, rows - r0);
      const bool whole = nr == rows;  // then neighbouring columns lie together
      for (std::uint64_t c = 0; c < nc; c += whole ? nc : 1) {
        const std::uint64_t at = data_offset + ((c0 + c) * rows + r0) * size;
        const std::span<std::byte> part(tile.data() + c * nr * size, (whole ? nc : 1) * nr * size);
        if (auto s = file.read(at, part); !s) return s;
      }
      for (std::uint64_t c = 0; c < nc; ++c)
        scatter(size, out.data<std::byte>() + (r0 * columns + place[c]) * size, columns * size,
                tile.data() + c * nr * size, nr);
    }
  }
  return {};
}

/// The same from a source that can only be read in order: by way of a temporary array.
Status read_transposed(const NpySource &source, const Tensor &out) {
  auto raw = Tensor::empty(out.dtype(), out.shape());
  if (!raw) return tl::unexpected(raw.error());
  const std::size_t bytes = static_cast<std::size_t>(out.elements()) * size_of(out.dtype());
  if (auto s = source.next({raw->data<std::byte>(), bytes}); !s) return s;
  std::vector<std::int64_t> strides(out.shape().size());
  std::int64_t step = 1;
  for (std::size_t axis = 0; axis < strides.size(); ++axis) {
    strides[axis] = step;
    step *= out.shape()[axis];
  }
  auto *to = out.data<std::byte>();
  return for_each_piece(TensorView(raw->data(), out.dtype(), out.shape(), strides),
                        [&](std::span<const std::byte> piece) -> Status {
                          std::memcpy(to, piece.data(), piece.size());
                          to += piece.size();
                          return {};
                        });
}

}  // namespace

Result<Tensor> read_npy(const NpySource &source) {
  auto opened = open_npy(source);
  if (!opened) return tl::unexpected(opened.error());
  const NpyHeader &header = opened->header;
  auto dtype = npy_dtype(source.path, header);
  if (!dtype) return tl::unexpected(dtype.error());
  const std::string what = to_string(*dtype) + " " + shape_text(header.shape);
  const auto bytes = array_bytes(*dtype, header.shape);
  if (!bytes)
    return file_error(source.path, "corrupt .npy header: the size of " + what + " overflows");
  if (auto s = check_length(source, *opened, *bytes, what); !s) return tl::unexpected(s.error());
  auto array = Tensor::empty(*dtype, header.shape);
  if (!array) {
    array.error().file = source.path;
    return array;
  }
  if (*bytes == 0) return array;
  const bool columns = header.fortran && header.shape.size() > 1;
  const Status read = !columns ? source.next({array->data<std::byte>(), *bytes})
                      : source.file != nullptr
                          ? read_columns(*source.file, opened->data_offset, *array)
                          : read_transposed(source, *array);
  if (!read) return tl::unexpected(read.error());
  if (header.order == '>') swap_bytes(*array, *bytes);
  if (same(*dtype, dtypes::boolean))
    for (std::uint64_t i = 0; i < *bytes; ++i)
      if (array->data<std::uint8_t>()[i] > 1)
        return file_error(source.path, fmt::format("corrupt: element {} is not a bool", i));
  return array;
}

Result<Tensor> read_npy(const std::string &path) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  std::uint64_t at = 0;
  NpySource source;
  source.path = path;
  source.size = file->size();
  source.next = [&](std::span<std::byte> out) -> Status {
    auto status = file->read(at, out);
    at += out.size();
    return status;
  };
  source.file = &*file;
  return read_npy(source);
}

Result<std::string> read_npy_text(const NpySource &source) {
  auto opened = open_npy(source);
  if (!opened) return tl::unexpected(opened.error());
  const NpyHeader &header = opened->header;
  const bool wide = header.kind == 'U';
  if ((!wide && header.kind != 'S') || !header.shape.empty())
    return file_error(source.path, "does not hold one text (a zero-dimensional array of U or S)",
                      ErrorCode::dtype);
  if (header.size > kLongestText) return file_error(source.path, "the text is too long");
  const std::uint64_t bytes = header.size * (wide ? 4 : 1);
  if (auto s = check_length(source, *opened, bytes, "the text"); !s)
    return tl::unexpected(s.error());
  std::string raw(bytes, '\0');
  if (auto s = source.next(std::as_writable_bytes(std::span(raw))); !s)
    return tl::unexpected(s.error());
  std::string text;
  if (wide && header.order == '>')
    swap_words<std::uint32_t>(reinterpret_cast<std::byte *>(raw.data()), bytes);
  for (std::uint64_t at = 0; wide && at < bytes; at += 4) {
    std::uint32_t c = 0;
    std::memcpy(&c, raw.data() + at, 4);
    if (!append_utf8(text, c)) return file_error(source.path, "corrupt: not a Unicode character");
  }
  if (!wide) text = std::move(raw);
  text.erase(text.find_last_not_of('\0') + 1);  // NumPy pads with NUL
  if (!is_utf8(text)) return file_error(source.path, "corrupt: the text is not UTF-8");
  return text;
}

namespace {

/// `room` spaces are left for the first dimension to grow in place, as NumPy does.
std::string framed_header(std::string_view descr, std::string_view shape, std::size_t room) {
  std::string dict =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr, shape);
  dict.append(room, ' ');
  const std::size_t prefix = sizeof kMagic + 4;
  const std::size_t total = (prefix + dict.size() + 1 + 63) / 64 * 64;  // data aligned to 64 bytes
  dict.append(total - prefix - dict.size() - 1, ' ').push_back('\n');
  std::string header(kMagic, sizeof kMagic);
  header +=
      {'\x01', '\x00', static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8)};
  return header + dict;
}

}  // namespace

Result<std::string> npy_header(DType dtype, std::span<const std::int64_t> shape) {
  if (dtype.code == SY_TYPE_BFLOAT)
    return fail(ErrorCode::dtype,
                ".npy files cannot hold bf16; write .safetensors, or cast to f32");
  const char kind = dtype.code == SY_TYPE_FLOAT  ? 'f'
                    : dtype.code == SY_TYPE_INT  ? 'i'
                    : dtype.code == SY_TYPE_UINT ? 'u'
                                                 : 'b';
  std::string text = "(";
  for (std::int64_t n : shape) text += fmt::format("{}, ", n);
  if (shape.size() > 1) text.resize(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  text += ')';
  return framed_header(fmt::format("{}{}{}", size_of(dtype) == 1 ? '|' : '<', kind, size_of(dtype)),
                       text, shape.empty() ? 0 : 21 - fmt::formatted_size("{}", shape.front()));
}

Result<std::string> npy_text(std::string_view utf8) {
  if (!is_utf8(utf8)) return fail(ErrorCode::invalid_argument, "the text is not UTF-8");
  const std::u32string wide = decode_utf8(utf8);
  std::string out =
      framed_header(fmt::format("<U{}", std::max<std::size_t>(1, wide.size())), "()", 0);
  const std::size_t at = out.size();
  out.resize(at + 4 * std::max<std::size_t>(1, wide.size()));
  std::memcpy(out.data() + at, wide.data(), 4 * wide.size());
  return out;
}

Status write_npy(const std::string &path, const TensorView &array) {
  auto header = npy_header(array.dtype(), array.shape());
  if (!header) {
    header.error().file = path;
    return tl::unexpected(header.error());
  }
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  if (auto s = file->append(std::string_view(*header)); !s) return s;
  auto written = for_each_piece(
      array, [&](std::span<const std::byte> piece) -> Status { return file->append(piece); });
  if (!written) return written;
  return file->commit();
}

Result<NpyRows> NpyRows::open(const std::string &path) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  NpySource source{path, file->size(), {}, &*file};
  std::uint64_t at = 0;
  source.next = [&](std::span<std::byte> out) {
    auto s = file->read(at, out);
    at += out.size();
    return s;
  };
  auto opened = open_npy(source);
  if (!opened) return tl::unexpected(opened.error());
  auto dtype = npy_dtype(path, opened->header);
  if (!dtype) return tl::unexpected(dtype.error());
  const auto &shape = opened->header.shape;
  if (shape.size() != 2)
    return file_error(
        path, fmt::format("rows of columns are needed, [n, d]; this is {}", shape_text(shape)),
        ErrorCode::shape);
  if ((opened->header.fortran && shape[0] > 1 && shape[1] > 1) || opened->header.order == '>')
    return file_error(path,
                      "only C-ordered little-endian files can be read row by row; rewrite it with "
                      "numpy.ascontiguousarray",
                      ErrorCode::unsupported);
  const auto bytes = array_bytes(*dtype, shape);
  if (!bytes) return file_error(path, "its shape is impossible");
  if (auto s = check_length(source, *opened, *bytes, shape_text(shape)); !s)
    return tl::unexpected(s.error());
  return NpyRows(std::move(*file), *dtype, shape[0], shape[1], opened->data_offset);
}

Status NpyRows::read(std::int64_t first, std::int64_t count, void *out) const {
  const std::uint64_t row = static_cast<std::uint64_t>(columns_) * size_of(dtype_);
  return file_.read(offset_ + static_cast<std::uint64_t>(first) * row,
                    {static_cast<std::byte *>(out), static_cast<std::size_t>(count) * row});
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/checked.hpp"
#include "io/gguf.hpp"
#include "io/utf8.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kLargestHeader = std::uint64_t{1} << 28;
constexpr std::uint64_t kLargestName = 65'535;
constexpr std::uint32_t kMostDimensions = 4;
constexpr int kDeepestArray = 4;
/// The least that a file spends on one entry and on one tensor: both bound a count by the size.
constexpr std::uint64_t kLeastEntry = 8 + 4 + 1, kLeastTensor = 8 + 4 + 4 + 8;

/// Bytes of a value of fixed size; 0 for texts and arrays; nullopt for an unknown kind.
std::optional<std::uint64_t> fixed_size(std::uint32_t kind) noexcept {
  constexpr std::array<std::uint8_t, 13> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (kind >= sizes.size()) return std::nullopt;
  return sizes[kind];
}

/// Reads a header front to back through a small window. The first error sticks; after it, every
/// read gives zeros.
class Cursor {
 public:
  explicit Cursor(const InputFile &file) : file_(file) {}

  std::uint64_t position() const noexcept { return base_ + at_; }
  std::uint64_t remaining() const noexcept { return file_.size() - position(); }
  bool failed() const noexcept { return error_.has_value(); }
  const Error &error() const noexcept { return *error_; }
  void fail(std::string message, ErrorCode code = ErrorCode::io) {
    if (!error_) error_ = file_error(file_.path(), std::move(message), code).value();
  }

  template <class T>
  T take() {
    T value{};
    take(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  /// Appends `count` bytes to `out`, after checking that the file has them.
  void append(std::string &out, std::uint64_t count) {
    if (!has(count)) return;
    const std::size_t before = out.size();
    out.resize(before + count);
    take(std::as_writable_bytes(std::span(out)).subspan(before));
  }

  bool has(std::uint64_t count) {
    if (count > remaining())
      fail(fmt::format("truncated or corrupt: {} bytes at offset {} are needed, {} are there",
                       count, position(), remaining()));
    else if (position() + count > kLargestHeader)
      fail(fmt::format("refused: its header is larger than {} bytes", kLargestHeader));
    return !failed();
  }

 private:
  void take(std::span<std::byte> out) {
    while (!out.empty() && has(out.size())) {
      if (at_ == window_.size() && !refill()) return;
      const std::size_t n = std::min(out.size(), window_.size() - at_);
      std::memcpy(out.data(), window_.data() + at_, n);
      at_ += n;
      out = out.subspan(n);
    }
  }

  bool refill() {
    base_ += at_;
    at_ = 0;
    window_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(file_.size() - base_, 65'536)));
    const auto ok = file_.read(base_, window_);
    if (!ok) {
      error_ = ok.error();
      window_.clear();
    }
    return ok.has_value();
  }

  const InputFile &file_;
  std::vector<std::byte> window_;
  std::uint64_t base_ = 0;
  std::size_t at_ = 0;
  std::optional<Error> error_;
};

std::string take_name(Cursor &in, std::string_view what) {
  const auto length = in.take<std::uint64_t>();
  if (!in.failed() && (length == 0 || length > kLargestName))
    in.fail(fmt::format("corrupt: {} of {} bytes", what, length));
  std::string name;
  if (!in.failed()) in.append(name, length);
  if (!in.failed() && (!is_utf8(name) || name.find('\0') != std::string::npos))
    in.fail(fmt::format("corrupt: {} is not UTF-8", what));
  return name;
}

/// Appends the bytes of a value; arrays may hold arrays, to a small depth.
void take_value(Cursor &in, std::uint32_t kind, std::string &out, int depth) {
  const auto size = fixed_size(kind);
  const auto copy_number = [&]<class T>(T) {
    const T value = in.take<T>();
    out.append(reinterpret_cast<const char *>(&value), sizeof value);
    return value;
  };
  if (!size) return in.fail(fmt::format("corrupt: a value of the unknown kind {}", kind));
  if (*size > 0) return in.append(out, *size);
  if (static_cast<GgufKind>(kind) == GgufKind::text)
    return in.append(out, copy_number(std::uint64_t{}));
  if (depth >= kDeepestArray) return in.fail("corrupt: arrays nested too deeply");
  const auto element = copy_number(std::uint32_t{});
  const auto count = copy_number(std::uint64_t{});
  const auto element_size = fixed_size(element);
  if (in.failed()) return;
  if (!element_size)
    return in.fail(fmt::format("corrupt: an array of the unknown kind {}", element));
  if (*element_size > 0) {
    const auto bytes = checked_mul(count, *element_size);
    if (!bytes) return in.fail(fmt::format("corrupt: an array of {} values", count));
    return in.append(out, *bytes);
  }
  // Texts and arrays have a count of at least eight bytes each.
  if (count > in.remaining() / 8)
    return in.fail(fmt::format("truncated or corrupt: an array of {} values", count));
  for (std::uint64_t i = 0; i < count && !in.failed(); ++i) take_value(in, element, out, depth + 1);
}

GgufTensor take_tensor(Cursor &in) {
  GgufTensor tensor;
  tensor.name = take_name(in, "a tensor's name");
  const auto rank = in.take<std::uint32_t>();
  if (!in.failed() && rank > kMostDimensions)
    in.fail(fmt::format("tensor '{}' has {} dimensions, but GGUF allows {}", tensor.name, rank,
                        kMostDimensions),
            ErrorCode::shape);
  for (std::uint32_t i = 0; i < rank && !in.failed(); ++i) {
    const auto n = in.take<std::uint64_t>();
    if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      in.fail(fmt::format("corrupt: tensor '{}' has a dimension of {}", tensor.name, n));
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(n));
  }
  const auto type = in.take<std::uint32_t>();
  tensor.offset = in.take<std::uint64_t>();
  if (in.failed()) return tensor;
  tensor.type = find_ggml_type(type);
  if (tensor.type == nullptr) {
    in.fail(fmt::format("tensor '{}' is of the unknown ggml type {}", tensor.name, type),
            ErrorCode::dtype);
    return tensor;
  }
  const auto bytes = ggml_bytes(*tensor.type, tensor.shape);
  if (!bytes)
    in.fail(
        fmt::format("corrupt: tensor '{}' of shape {} overflows, or its rows are no multiple "
                    "of {}'s block of {} values",
                    tensor.name, shape_text(tensor.shape), tensor.type->name, tensor.type->block));
  tensor.bytes = bytes.value_or(0);
  return tensor;
}

std::uint64_t padding(std::uint64_t position, std::uint64_t alignment) noexcept {
  return (alignment - position % alignment) % alignment;
}

/// Tensors lie one after another, each at the next aligned place.
Status check_places(const std::string &path, std::span<const GgufTensor> tensors,
                    std::uint64_t alignment, std::uint64_t data_bytes) {
  std::uint64_t at = 0;
  for (const GgufTensor &t : tensors) {
    if (t.offset != at)
      return file_error(path, fmt::format("corrupt: tensor '{}' begins at {}, {}; {} was expected",
                                          t.name, t.offset,
                                          t.offset % alignment != 0 ? "which is not aligned"
                                          : t.offset < at ? "which overlaps the one before"
                                                          : "which leaves a hole",
                                          at));
    const auto end = checked_add(at, t.bytes);
    if (!end || *end > data_bytes)
      return file_error(path, fmt::format("truncated or corrupt: tensor '{}' of {} bytes at {} "
                                          "does not fit into {} bytes of data",
                                          t.name, t.bytes, at, data_bytes));
    at = *end + padding(*end, alignment);
  }
  return {};
}

template <class T>
std::optional<std::uint64_t> integer(const std::string &bytes) noexcept {
  T value{};
  if (bytes.size() != sizeof value) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof value);
  if (value < T{}) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

}  // namespace

std::optional<std::string> GgufValue::text() const {
  if (kind != GgufKind::text || bytes.size() < 8) return std::nullopt;
  return bytes.substr(8);
}

std::optional<std::uint64_t> GgufValue::unsigned_integer() const noexcept {
  switch (kind) {
    case GgufKind::u8:
      return integer<std::uint8_t>(bytes);
    case GgufKind::i8:
      return integer<std::int8_t>(bytes);
    case GgufKind::u16:
      return integer<std::uint16_t>(bytes);
    case GgufKind::i16:
      return integer<std::int16_t>(bytes);
    case GgufKind::u32:
      return integer<std::uint32_t>(bytes);
    case GgufKind::i32:
      return integer<std::int32_t>(bytes);
    case GgufKind::u64:
      return integer<std::uint64_t>(bytes);
    case GgufKind::i64:
      return integer<std::int64_t>(bytes);
    default:
      return std::nullopt;
  }
}

Result<GgufReader> GgufReader::open(const std::string &path) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  GgufReader reader(std::move(*file));
  Cursor in(reader.file_);
  const auto magic = in.take<std::uint32_t>();
  if (!in.failed() && magic != kMagic)
    return file_error(path, "is not a GGUF file: it does not begin with 'GGUF'");
  const auto version = in.take<std::uint32_t>();
  if (!in.failed() && (version & 0xffffu) == 0)
    return file_error(path, "is a big-endian GGUF file, which is not supported");
  if (!in.failed() && version != 2 && version != 3)
    return file_error(path, fmt::format("is of GGUF version {}; 2 and 3 are supported", version));
  const auto tensors = in.take<std::uint64_t>();
  const auto entries = in.take<std::uint64_t>();
  if (!in.failed() &&
      (tensors > in.remaining() / kLeastTensor || entries > in.remaining() / kLeastEntry))
    return file_error(path, fmt::format("truncated or corrupt: {} tensors and {} values cannot be "
                                        "in {} bytes",
                                        tensors, entries, reader.file_.size()));
  for (std::uint64_t i = 0; i < entries && !in.failed(); ++i) {
    GgufEntry entry;
    entry.key = take_name(in, "a key");
    const auto kind = in.take<std::uint32_t>();
    entry.value.kind = static_cast<GgufKind>(kind);
    if (!in.failed()) take_value(in, kind, entry.value.bytes, 0);
    if (!in.failed()) reader.entries_.push_back(std::move(entry));
  }
  for (std::uint64_t i = 0; i < tensors && !in.failed(); ++i) {
    auto tensor = take_tensor(in);
    if (!in.failed() && !reader.by_name_.emplace(tensor.name, reader.tensors_.size()).second)
      in.fail(fmt::format("corrupt: two tensors are named '{}'", tensor.name));
    reader.tensors_.push_back(std::move(tensor));
  }
  if (in.failed()) return tl::unexpected(in.error());

  std::vector<std::string_view> keys;
  for (const GgufEntry &e : reader.entries_) keys.push_back(e.key);
  std::ranges::sort(keys);
  if (const auto twice = std::ranges::adjacent_find(keys); twice != keys.end())
    return file_error(path, fmt::format("corrupt: the key '{}' is given twice", *twice));
  if (const GgufValue *value = reader.value("general.alignment")) {
    const auto given = value->unsigned_integer();
    if (value->kind != GgufKind::u32 || !given || !std::has_single_bit(*given))
      return file_error(path, "corrupt: 'general.alignment' is not a power of two");
    reader.alignment_ = *given;
  }
  const auto start =
      checked_add(in.position(), tensors == 0 ? 0 : padding(in.position(), reader.alignment_));
  if (!start || *start > reader.file_.size())
    return file_error(path, "truncated: it ends before the data");
  reader.data_offset_ = *start;
  if (auto ok =
          check_places(path, reader.tensors_, reader.alignment_, reader.file_.size() - *start);
      !ok)
    return tl::unexpected(ok.error());
  return reader;
}

const GgufValue *GgufReader::value(std::string_view key) const noexcept {
  for (const GgufEntry &e : entries_)
    if (e.key == key) return &e.value;
  return nullptr;
}

const GgufTensor *GgufReader::find(std::string_view name) const noexcept {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

Status GgufReader::read(const GgufTensor &tensor, std::uint64_t offset,
                        std::span<std::byte> out) const {
  const auto end = checked_add<std::uint64_t>(offset, out.size());
  if (!end || *end > tensor.bytes)
    return fail(ErrorCode::internal,
                fmt::format("a read past the end of tensor '{}'", tensor.name));
  return file_.read(data_offset_ + tensor.offset + offset, out);
}

}  // namespace switchyard

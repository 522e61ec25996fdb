// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>

#include "io/npy.hpp"
#include "io/npy_header.hpp"
#include "io/npz.hpp"
#include "io/strided.hpp"
#include "io/utf8.hpp"
#include "io/zip_format.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kWide = 0xffffffffu;  // "see the zip64 field"
constexpr std::size_t kOutputBytes = 256 * 1024;

std::uint16_t flags_of(const std::string &name) {
  const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return c >= 0; });
  return ascii ? std::uint16_t{0} : zip::kFlagUtf8;
}

}  // namespace

/// Takes an entry's bytes: counts, sums and stores or deflates them.
struct NpzWriter::Sink {
  Sink(AtomicFile &to, bool deflating) : file(to), deflated(deflating) {}
  ~Sink() {
    if (open) deflateEnd(&stream);
  }
  Sink(const Sink &) = delete;
  Sink &operator=(const Sink &) = delete;

  Status begin() {
    start = file.size();
    if (!deflated) return {};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
      return fail(ErrorCode::out_of_memory, "no memory to compress");
    open = true;
    output.resize(kOutputBytes);
    return {};
  }
  Status add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::size_t n = std::min<std::size_t>(bytes.size(), 1u << 30);
      const auto *data = reinterpret_cast<const Bytef *>(bytes.data());
      crc = crc32(crc, data, static_cast<uInt>(n));
      if (deflated) {
        stream.next_in = const_cast<Bytef *>(data);  // zlib only reads it
        stream.avail_in = static_cast<uInt>(n);
        if (auto s = drain(Z_NO_FLUSH); !s) return s;
      } else if (auto s = file.append(bytes.first(n)); !s) {
        return s;
      }
      bytes = bytes.subspan(n);
    }
    return {};
  }
  Status drain(int flush) {
    int rc = Z_OK;
    do {
      stream.next_out = reinterpret_cast<Bytef *>(output.data());
      stream.avail_out = static_cast<uInt>(output.size());
      rc = deflate(&stream, flush);
      const std::size_t made = output.size() - stream.avail_out;
      if (auto s = file.append(std::span(output).first(made)); !s) return s;
    } while (stream.avail_out == 0 && rc == Z_OK);
    return {};
  }
  Status finish() { return deflated ? drain(Z_FINISH) : Status{}; }

  AtomicFile &file;
  bool deflated, open = false;
  std::uint64_t start = 0;
  uLong crc = crc32(0, nullptr, 0);
  z_stream stream{};
  std::vector<std::byte> output;
};

Result<NpzWriter> NpzWriter::create(const std::string &path, Settings settings) {
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  return NpzWriter(std::move(*file), settings);
}

Status NpzWriter::begin(std::string_view key, std::uint64_t size) {
  if (key.empty() || key.size() > 4096 || !is_utf8(key) || key.find('\0') != key.npos)
    return fail(ErrorCode::invalid_argument, "an .npz key must be short, non-empty UTF-8");
  Record r{std::string(key) + ".npy", size, 0, file_.size(), 0};
  for (const Record &other : records_)
    if (other.name == r.name)
      return fail(ErrorCode::invalid_argument, fmt::format("the .npz key '{}' is used twice", key));
  // Deflating may grow data a little: the room for wide sizes is kept from half the limit on.
  const bool wide = size >= settings_.zip64_from / 2;
  std::string header;
  zip::put(header, zip::kLocal, static_cast<std::uint16_t>(wide ? 45 : 20), flags_of(r.name),
           settings_.deflate ? zip::kDeflated : zip::kStored, zip::kNoTime, zip::kNoDate,
           std::uint32_t{0}, kWide, kWide, static_cast<std::uint16_t>(r.name.size()),
           static_cast<std::uint16_t>(wide ? 20 : 0));
  header += r.name;
  if (wide) zip::put(header, zip::kExtra64, std::uint16_t{16}, std::uint64_t{0}, std::uint64_t{0});
  records_.push_back(std::move(r));
  return file_.append(std::string_view(header));
}

Status NpzWriter::end(Sink &sink) {
  if (auto s = sink.finish(); !s) return s;
  Record &r = records_.back();
  r.compressed_size = file_.size() - sink.start;
  r.crc = static_cast<std::uint32_t>(sink.crc);
  std::string sizes, wide_sizes;
  zip::put(sizes, r.crc);
  if (r.size >= settings_.zip64_from / 2) {
    zip::put(wide_sizes, r.size, r.compressed_size);
    zip::put(sizes, kWide, kWide);
    const std::uint64_t at = r.offset + zip::kLocalBytes + r.name.size() + 4;
    if (auto s = file_.write_at(at, std::as_bytes(std::span(wide_sizes))); !s) return s;
  } else {
    zip::put(sizes, static_cast<std::uint32_t>(r.compressed_size),
             static_cast<std::uint32_t>(r.size));
  }
  return file_.write_at(r.offset + 14, std::as_bytes(std::span(sizes)));
}

Status NpzWriter::add(std::string_view key, const TensorView &array) {
  auto header = npy_header(array.dtype(), array.shape());
  if (!header) return tl::unexpected(header.error());
  const auto bytes = array_bytes(array.dtype(), array.shape());
  if (!bytes) return fail(ErrorCode::overflow, "the array's size overflows");
  if (auto s = begin(key, header->size() + *bytes); !s) return s;
  Sink sink(file_, settings_.deflate);
  if (auto s = sink.begin(); !s) return s;
  if (auto s = sink.add(std::as_bytes(std::span(*header))); !s) return s;
  auto written = for_each_piece(
      array, [&](std::span<const std::byte> piece) -> Status { return sink.add(piece); });
  return written ? end(sink) : written;
}

Status NpzWriter::add_text(std::string_view key, std::string_view utf8) {
  auto text = npy_text(utf8);
  if (!text) return tl::unexpected(text.error());
  if (auto s = begin(key, text->size()); !s) return s;
  Sink sink(file_, settings_.deflate);
  if (auto s = sink.begin(); !s) return s;
  if (auto s = sink.add(std::as_bytes(std::span(*text))); !s) return s;
  return end(sink);
}

Status NpzWriter::finish() {
  const std::uint64_t start = file_.size();
  std::string directory;
  bool wide_archive = records_.size() >= 0xffff || start >= settings_.zip64_from;
  for (const Record &r : records_) {
    const bool wide = r.size >= settings_.zip64_from || r.compressed_size >= settings_.zip64_from ||
                      r.offset >= settings_.zip64_from;
    wide_archive = wide_archive || wide;
    zip::put(directory, zip::kCentral, static_cast<std::uint16_t>(wide ? 45 : 20),
             static_cast<std::uint16_t>(wide ? 45 : 20), flags_of(r.name),
             settings_.deflate ? zip::kDeflated : zip::kStored, zip::kNoTime, zip::kNoDate, r.crc,
             wide ? kWide : static_cast<std::uint32_t>(r.compressed_size),
             wide ? kWide : static_cast<std::uint32_t>(r.size),
             static_cast<std::uint16_t>(r.name.size()), static_cast<std::uint16_t>(wide ? 28 : 0),
             std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0}, std::uint32_t{0},
             wide ? kWide : static_cast<std::uint32_t>(r.offset));
    directory += r.name;
    if (wide)
      zip::put(directory, zip::kExtra64, std::uint16_t{24}, r.size, r.compressed_size, r.offset);
  }
  const std::uint64_t bytes = directory.size(), end64 = start + bytes, count = records_.size();
  if (wide_archive) {
    zip::put(directory, zip::kEnd64, std::uint64_t{zip::kEnd64Bytes - 12}, std::uint16_t{45},
             std::uint16_t{45}, std::uint32_t{0}, std::uint32_t{0}, count, count, bytes, start);
    zip::put(directory, zip::kLocator64, std::uint32_t{0}, end64, std::uint32_t{1});
  }
  const auto entries = wide_archive ? std::uint16_t{0xffff} : static_cast<std::uint16_t>(count);
  zip::put(directory, zip::kEnd, std::uint16_t{0}, std::uint16_t{0}, entries, entries,
           wide_archive ? kWide : static_cast<std::uint32_t>(bytes),
           wide_archive ? kWide : static_cast<std::uint32_t>(start), std::uint16_t{0});
  if (auto s = file_.append(std::string_view(directory)); !s) return s;
  return file_.commit();
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <set>

#include "base/checked.hpp"
#include "base/suggest.hpp"
#include "io/npy.hpp"
#include "io/npz.hpp"
#include "io/utf8.hpp"
#include "io/zip_format.hpp"

namespace switchyard {
namespace {

constexpr std::uint64_t kLargestDirectory = 64u << 20;
constexpr std::uint64_t kDeflateRatio = 1032;  // no deflate stream grows by more
constexpr std::size_t kInputBytes = 256 * 1024;

tl::unexpected<Error> corrupt(const std::string &path, std::string_view what) {
  return file_error(path, fmt::format("corrupt .npz file: {}", what));
}

struct Directory {
  std::uint64_t offset = 0, bytes = 0, entries = 0;
  std::uint64_t limit = 0;  // where the structures after it begin
};

Result<Directory> find_directory(const InputFile &file) {
  const std::string &path = file.path();
  if (file.size() < zip::kEndBytes) return corrupt(path, "it is too short for a zip archive");
  const std::uint64_t tail = std::min<std::uint64_t>(file.size(), zip::kEndBytes + 65535);
  std::vector<std::byte> bytes(tail);
  if (auto s = file.read(file.size() - tail, bytes); !s) return tl::unexpected(s.error());
  std::size_t at = bytes.size() - zip::kEndBytes + 1;
  const auto is_end = [&](std::size_t i) {
    return zip::get<std::uint32_t>(&bytes[i]) == zip::kEnd &&
           zip::get<std::uint16_t>(&bytes[i + 20]) == bytes.size() - zip::kEndBytes - i;
  };
  do {
    if (at == 0) return corrupt(path, "the zip directory is missing (truncated?)");
    --at;
  } while (!is_end(at));
  const std::byte *end = &bytes[at];
  if (zip::get<std::uint16_t>(end + 4) != 0 || zip::get<std::uint16_t>(end + 6) != 0)
    return corrupt(path, "archives in several parts are not supported");
  Directory d;
  d.limit = file.size() - tail + at;
  d.entries = zip::get<std::uint16_t>(end + 10);
  d.bytes = zip::get<std::uint32_t>(end + 12);
  d.offset = zip::get<std::uint32_t>(end + 16);
  const bool wide = d.entries == 0xffff || d.bytes == 0xffffffff || d.offset == 0xffffffff;
  if (wide && d.limit >= zip::kLocatorBytes) {
    std::byte locator[zip::kLocatorBytes], end64[zip::kEnd64Bytes];
    if (auto s = file.read(d.limit - sizeof locator, locator); !s) return tl::unexpected(s.error());
    if (zip::get<std::uint32_t>(locator) == zip::kLocator64) {
      const auto where = zip::get<std::uint64_t>(locator + 8);
      if (where > file.size() || file.size() - where < sizeof end64)
        return corrupt(path, "the zip64 directory lies outside the file");
      if (auto s = file.read(where, end64); !s) return tl::unexpected(s.error());
      if (zip::get<std::uint32_t>(end64) != zip::kEnd64)
        return corrupt(path, "the zip64 directory is damaged");
      d.limit = where;
      d.entries = zip::get<std::uint64_t>(end64 + 32);
      d.bytes = zip::get<std::uint64_t>(end64 + 40);
      d.offset = zip::get<std::uint64_t>(end64 + 48);
    }
  }
  const auto stop = checked_add(d.offset, d.bytes);
  if (!stop || *stop > d.limit) return corrupt(path, "the zip directory lies outside the file");
  if (d.bytes > kLargestDirectory) return corrupt(path, "the zip directory is too large");
  if (d.entries > d.bytes / zip::kCentralBytes)
    return corrupt(path, "the zip directory is too small for its entries");
  return d;
}

/// Sizes and offset that do not fit 32 bits, from the zip64 extra field. False if one is missing.
bool read_extra64(std::span<const std::byte> extra, NpzReader::Entry &entry) {
  constexpr std::uint64_t absent = 0xffffffff;
  if (entry.size != absent && entry.compressed_size != absent && entry.header_offset != absent)
    return true;
  while (extra.size() >= 4) {
    const std::size_t bytes = zip::get<std::uint16_t>(&extra[2]);
    if (bytes > extra.size() - 4) return false;
    if (zip::get<std::uint16_t>(&extra[0]) == zip::kExtra64) {
      std::span<const std::byte> field = extra.subspan(4, bytes);
      for (std::uint64_t *value : {&entry.size, &entry.compressed_size, &entry.header_offset}) {
        if (*value != absent) continue;
        if (field.size() < 8) return false;
        *value = zip::get<std::uint64_t>(field.data());
        field = field.subspan(8);
      }
      return true;
    }
    extra = extra.subspan(4 + bytes);
  }
  // Without the field the number is meant as it stands.
  return true;
}

/// The data of one entry, read in order; checks the CRC at the end.
class EntryStream {
 public:
  EntryStream(const InputFile &file, const NpzReader::Entry &entry, std::uint64_t data)
      : file_(file), entry_(entry), at_(data), end_(data + entry.compressed_size) {}
  ~EntryStream() {
    if (inflating_) inflateEnd(&stream_);
  }
  EntryStream(const EntryStream &) = delete;
  EntryStream &operator=(const EntryStream &) = delete;

  Status open() {
    if (entry_.method == zip::kStored) return {};
    if (inflateInit2(&stream_, -MAX_WBITS) != Z_OK)
      return fail(ErrorCode::out_of_memory, "no memory to decompress " + file_.path());
    inflating_ = true;
    input_.resize(kInputBytes);
    return {};
  }

  Status next(std::span<std::byte> out) {
    if (out.size() > entry_.size - done_) return bad("its data end early");
    if (inflating_) {
      if (auto s = inflate_into(out); !s) return s;
    } else {
      if (auto s = file_.read(at_, out); !s) return s;
      at_ += out.size();
    }
    done_ += out.size();
    for (std::span<const std::byte> rest = out; !rest.empty();) {
      const std::size_t n = std::min<std::size_t>(rest.size(), 1u << 30);
      crc_ = crc32(crc_, reinterpret_cast<const Bytef *>(rest.data()), static_cast<uInt>(n));
      rest = rest.subspan(n);
    }
    return {};
  }

  Status finish() {
    if (done_ != entry_.size) return bad("data are left over");
    if (inflating_) {
      stream_.avail_out = 0;
      stream_.next_out = reinterpret_cast<Bytef *>(&none_);
      while (!ended_) {
        if (auto s = step(); !s) return s;
        if (!ended_ && stream_.avail_in != 0) return bad("it decompresses to more than it says");
      }
      if (stream_.avail_in != 0 || at_ != end_) return bad("compressed data are left over");
    }
    if (static_cast<std::uint32_t>(crc_) != entry_.crc) return bad("its CRC does not match");
    return {};
  }

 private:
  Status bad(std::string_view what) const {
    return corrupt(file_.path(), fmt::format("entry '{}': {}", entry_.name, what));
  }
  Status refill() {
    if (stream_.avail_in != 0 || at_ == end_) return {};
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(end_ - at_, input_.size()));
    if (auto s = file_.read(at_, std::span(input_).first(n)); !s) return s;
    at_ += n;
    stream_.next_in = reinterpret_cast<Bytef *>(input_.data());
    stream_.avail_in = static_cast<uInt>(n);
    return {};
  }
  Status step() {
    if (auto s = refill(); !s) return s;
    const int rc = inflate(&stream_, Z_NO_FLUSH);
    ended_ = rc == Z_STREAM_END;
    if (ended_ || rc == Z_OK) return {};
    if (rc == Z_MEM_ERROR) return fail(ErrorCode::out_of_memory, "no memory to decompress");
    if (rc == Z_BUF_ERROR && stream_.avail_in == 0 && at_ == end_)
      return bad("its compressed data end early");
    if (rc == Z_BUF_ERROR) return bad("it decompresses to more than it says");
    return bad("its compressed data are damaged");
  }
  Status inflate_into(std::span<std::byte> out) {
    while (!out.empty()) {
      const std::size_t n = std::min<std::size_t>(out.size(), 1u << 30);
      stream_.next_out = reinterpret_cast<Bytef *>(out.data());
      stream_.avail_out = static_cast<uInt>(n);
      while (stream_.avail_out != 0) {
        if (ended_) return bad("it decompresses to less than it says");
        if (auto s = step(); !s) return s;
      }
      out = out.subspan(n);
    }
    return {};
  }

  const InputFile &file_;
  const NpzReader::Entry &entry_;
  std::uint64_t at_, end_, done_ = 0;
  uLong crc_ = crc32(0, nullptr, 0);
  z_stream stream_{};
  bool inflating_ = false, ended_ = false;
  std::vector<std::byte> input_;
  std::byte none_{};  // zlib wants a place even for no output
};

}  // namespace

Result<NpzReader> NpzReader::open(const std::string &path) {
  auto opened = InputFile::open(path);
  if (!opened) return tl::unexpected(opened.error());
  NpzReader reader(std::move(*opened));
  const InputFile &file = reader.file_;
  auto directory = find_directory(file);
  if (!directory) return tl::unexpected(directory.error());
  reader.directory_offset_ = directory->offset;
  std::vector<std::byte> bytes(directory->bytes);
  if (auto s = file.read(directory->offset, bytes); !s) return tl::unexpected(s.error());

  std::set<std::string, std::less<>> keys;
  std::span<const std::byte> rest = bytes;
  for (std::uint64_t i = 0; i < directory->entries; ++i) {
    if (rest.size() < zip::kCentralBytes || zip::get<std::uint32_t>(&rest[0]) != zip::kCentral)
      return corrupt(path, "the zip directory is damaged");
    Entry e;
    e.flags = zip::get<std::uint16_t>(&rest[8]);
    e.method = zip::get<std::uint16_t>(&rest[10]);
    e.crc = zip::get<std::uint32_t>(&rest[16]);
    e.compressed_size = zip::get<std::uint32_t>(&rest[20]);
    e.size = zip::get<std::uint32_t>(&rest[24]);
    e.header_offset = zip::get<std::uint32_t>(&rest[42]);
    const std::size_t name = zip::get<std::uint16_t>(&rest[28]),
                      extra = zip::get<std::uint16_t>(&rest[30]),
                      comment = zip::get<std::uint16_t>(&rest[32]);
    if (name + extra + comment > rest.size() - zip::kCentralBytes)
      return corrupt(path, "the zip directory is damaged");
    e.name.assign(reinterpret_cast<const char *>(rest.data()) + zip::kCentralBytes, name);
    if (!read_extra64(rest.subspan(zip::kCentralBytes + name, extra), e))
      return corrupt(path, "a zip64 size is missing");
    rest = rest.subspan(zip::kCentralBytes + name + extra + comment);
    if (name == 0 || e.name.find('\0') != std::string::npos || !is_utf8(e.name))
      return corrupt(path, "an entry's name is not text");
    const auto stop = checked_add(e.header_offset, e.compressed_size);
    if (!stop || *stop > directory->offset ||
        directory->offset - *stop < zip::kLocalBytes + e.name.size())
      return corrupt(path, fmt::format("entry '{}' lies outside the file", e.name));
    if (e.method == zip::kStored ? e.size != e.compressed_size
                                 : e.size / kDeflateRatio > e.compressed_size)
      return corrupt(path, fmt::format("entry '{}' has an impossible size", e.name));
    e.key = e.name.ends_with(".npy") ? e.name.substr(0, e.name.size() - 4) : e.name;
    if (!keys.insert(e.key).second)
      return corrupt(path, fmt::format("two entries are named '{}'", e.key));
    reader.entries_.push_back(std::move(e));
  }
  if (!rest.empty()) return corrupt(path, "the zip directory is larger than its entries");

  std::vector<const Entry *> order;
  for (const Entry &e : reader.entries_) order.push_back(&e);
  std::sort(order.begin(), order.end(),
            [](auto *a, auto *b) { return a->header_offset < b->header_offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const Entry &a = *order[i - 1];
    if (a.header_offset + zip::kLocalBytes + a.name.size() + a.compressed_size >
        order[i]->header_offset)
      return corrupt(path, fmt::format("entries '{}' and '{}' overlap", a.name, order[i]->name));
  }
  return reader;
}

const NpzReader::Entry *NpzReader::find(std::string_view key) const noexcept {
  for (const Entry &e : entries_)
    if (e.key == key) return &e;
  return nullptr;
}

template <class T, class Read>
Result<T> NpzReader::read_entry(std::string_view key, Read read) const {
  const Entry *entry = find(key);
  if (entry == nullptr) {
    std::vector<std::string_view> known;
    for (const Entry &e : entries_) known.push_back(e.key);
    return file_error(path(), fmt::format("has no array '{}'{}", key, did_you_mean(key, known)),
                      ErrorCode::usage);
  }
  if ((entry->flags & zip::kFlagEncrypted) != 0)
    return file_error(path(), fmt::format("entry '{}' is encrypted", entry->name),
                      ErrorCode::unsupported);
  if (entry->method != zip::kStored && entry->method != zip::kDeflated)
    return file_error(path(),
                      fmt::format("entry '{}' uses zip method {}; only stored and deflated "
                                  "entries can be read",
                                  entry->name, entry->method),
                      ErrorCode::unsupported);
  std::vector<std::byte> local(zip::kLocalBytes + entry->name.size());
  if (auto s = file_.read(entry->header_offset, local); !s) return tl::unexpected(s.error());
  const std::string_view name(reinterpret_cast<const char *>(local.data()) + zip::kLocalBytes,
                              entry->name.size());
  if (zip::get<std::uint32_t>(&local[0]) != zip::kLocal ||
      zip::get<std::uint16_t>(&local[8]) != entry->method ||
      zip::get<std::uint16_t>(&local[26]) != entry->name.size() || name != entry->name)
    return corrupt(path(), fmt::format("entry '{}' differs from the zip directory", entry->name));
  const std::uint64_t data =
      entry->header_offset + local.size() + zip::get<std::uint16_t>(&local[28]);
  if (data + entry->compressed_size > directory_offset_)
    return corrupt(path(), fmt::format("entry '{}' lies outside the file", entry->name));

  EntryStream stream(file_, *entry, data);
  if (auto s = stream.open(); !s) return tl::unexpected(s.error());
  NpySource source;
  source.path = path() + ":" + entry->key;
  source.size = entry->size;
  source.next = [&](std::span<std::byte> out) { return stream.next(out); };
  Result<T> value = read(source);
  if (!value) return value;
  if (auto s = stream.finish(); !s) return tl::unexpected(s.error());
  return value;
}

Result<Tensor> NpzReader::read(std::string_view key) const {
  return read_entry<Tensor>(key, [](const NpySource &source) { return read_npy(source); });
}

Result<std::string> NpzReader::read_text(std::string_view key) const {
  return read_entry<std::string>(key, [](const NpySource &s) { return read_npy_text(s); });
}

}  // namespace switchyard

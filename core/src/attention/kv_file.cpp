// SPDX-License-Identifier: Apache-2.0
/// Caches as files: eight bytes that name the kind of file, the length of a JSON header, the
/// header, the rows of the tokens held - array by array, sequence by sequence, head by head -, and
/// a checksum of all before it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "attention/kv_impl.hpp"
#include "base/suggest.hpp"
#include "io/file.hpp"
#include "models/checksum.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kMagic = "SYKVC\x01\r\n";
constexpr std::uint64_t kMostHeader = 1 << 20;
constexpr std::size_t kChecksum = 16;

constexpr std::string_view kKinds[] = {"contiguous", "rotating", "paged"};
constexpr std::string_view kFormats[] = {"plain", "q8", "q4"};

template <class E, std::size_t N>
Result<E> parse(std::string_view what, std::string_view name, const std::string_view (&known)[N]) {
  const auto *found = std::ranges::find(known, name);
  if (found != std::end(known)) return static_cast<E>(found - std::begin(known));
  return fail(ErrorCode::usage,
              fmt::format("{} {} is unknown{}; known are {}", what, name,
                          did_you_mean(std::string(name), known), fmt::join(known, ", ")));
}

/// What a file must agree with to be this cache.
nlohmann::ordered_json parameters(const KVCacheOptions &o, const std::string &key) {
  const bool rotating = o.kind == KVKind::rotating;
  return {{"kind", to_string(o.kind)},
          {"format", to_string(o.format)},
          {"dtype", to_string(o.dtype)},
          {"batch", o.batch},
          {"kv_heads", o.kv_heads},
          {"head_dim", o.head_dim},
          {"value_dim", o.value_dim},
          {"capacity", rotating ? o.capacity : 0},
          {"keep", o.keep},
          {"rewind", o.rewind},
          {"page_size", o.kind == KVKind::paged ? o.page_size : 0},
          {"key", key}};
}

/// Calls f(bytes of a run of rows) for all tokens held, in the file's order.
template <class F>
Status each_run(const KVCacheOptions &o, const KVGeometry &g, std::int64_t held, const F &f) {
  for (std::size_t i = 0; i < g.planes.size(); ++i)
    for (std::int64_t b = 0; b < o.batch; ++b)
      for (std::int64_t h = 0; h < o.kv_heads; ++h) {
        const std::int64_t most =
            o.kind == KVKind::paged ? o.page_size : std::max<std::int64_t>(held, 1);
        for (std::int64_t j = 0; j < held; j += most)
          if (auto ok =
                  f(i, b, h, j,
                    std::min(most, held - j) * static_cast<std::int64_t>(g.planes[i].row_bytes()));
              !ok)
            return ok;
      }
  return {};
}

/// A file read from the front, with the checksum of what was read.
class Reader {
 public:
  explicit Reader(InputFile &file) : file_(file) {}
  Status read(std::span<std::byte> out) {
    if (auto ok = file_.read(at_, out); !ok) return ok;
    at_ += out.size();
    sum_.add(out);
    return {};
  }
  std::uint64_t at() const noexcept { return at_; }
  std::string checksum() const { return sum_.text(); }

 private:
  InputFile &file_;
  std::uint64_t at_ = 0;
  models::Checksum sum_;
};

struct Header {
  nlohmann::ordered_json parameters;
  std::int64_t length = 0, dropped = 0;
};

Result<Header> read_header(Reader &reader, const InputFile &file) {
  const auto damaged = [&](std::string_view why) {
    return file_error(file.path(), fmt::format("is no cache that can be loaded: {}", why));
  };
  std::array<std::byte, 16> front{};
  if (file.size() < front.size() + kChecksum) return damaged("it is too short");
  if (auto ok = reader.read(front); !ok) return tl::unexpected(ok.error());
  if (std::memcmp(front.data(), kMagic.data(), kMagic.size()) != 0)
    return damaged("it does not begin as one");
  std::uint64_t size = 0;
  std::memcpy(&size, front.data() + 8, sizeof size);
  if (size > kMostHeader || size > file.size() - front.size() - kChecksum)
    return damaged("its header does not fit into it");
  std::string text(size, '\0');
  if (auto ok = reader.read(std::as_writable_bytes(std::span(text))); !ok)
    return tl::unexpected(ok.error());
  const auto doc = nlohmann::ordered_json::parse(text, nullptr, false);
  const auto number = [&](const char *name) {
    return doc.is_object() && doc.contains(name) && doc[name].is_number_integer()
               ? doc[name].get<std::int64_t>()
               : -1;
  };
  Header header;
  header.length = number("length");
  header.dropped = number("dropped");
  if (header.length < 0 || header.dropped < 0 || header.dropped > header.length ||
      !doc.contains("parameters") || !doc["parameters"].is_object())
    return damaged("its header makes no sense");
  header.parameters = doc["parameters"];
  return header;
}

/// The first thing that differs, in words.
std::string difference(const nlohmann::ordered_json &got, const nlohmann::ordered_json &want) {
  for (const auto &[name, value] : want.items())
    if (!got.contains(name) || got[name] != value)
      return fmt::format("its {} is {}, not {}", name,
                         got.contains(name) ? got[name].dump() : "missing", value.dump());
  return "";
}

}  // namespace

std::string_view to_string(KVKind kind) noexcept { return kKinds[static_cast<std::size_t>(kind)]; }
std::string_view to_string(KVFormat format) noexcept {
  return kFormats[static_cast<std::size_t>(format)];
}
Result<KVKind> parse_kv_kind(std::string_view name) {
  return parse<KVKind>("cache kind", name, kKinds);
}
Result<KVFormat> parse_kv_format(std::string_view name) {
  return parse<KVFormat>("cache format", name, kFormats);
}

Status KVCache::save(const std::string &path, const std::string &key) const {
  const Impl &c = *impl_;
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  const nlohmann::ordered_json doc{
      {"length", c.length}, {"dropped", c.dropped}, {"parameters", parameters(c.options, key)}};
  const std::string header = doc.dump();
  const std::uint64_t size = header.size();
  models::Checksum sum;
  const auto put = [&](std::span<const std::byte> bytes) {
    sum.add(bytes);
    return file->append(bytes);
  };
  if (auto ok = put(std::as_bytes(std::span(kMagic))); !ok) return ok;
  if (auto ok = put(std::as_bytes(std::span(&size, 1))); !ok) return ok;
  if (auto ok = put(std::as_bytes(std::span(header))); !ok) return ok;
  std::shared_lock<std::shared_mutex> lock;
  if (c.paged()) lock = std::shared_lock(c.pool->mutex);
  const auto rows = [&](std::size_t i, std::int64_t b, std::int64_t h, std::int64_t j,
                        std::int64_t bytes) {
    const std::byte *from =
        c.paged() ? c.pool->planes.row(
                        i, c.pages[static_cast<std::size_t>(j / c.options.page_size)], h, 0)
                  : c.planes.row(i, b, h, j);
    return put({from, static_cast<std::size_t>(bytes)});
  };
  if (auto ok = each_run(c.options, c.geometry, c.held(), rows); !ok) return ok;
  if (auto ok = file->append(sum.text()); !ok) return ok;
  return file->commit();
}

Result<KVCache> KVCache::load(Engine &engine, const std::string &path,
                              const KVCacheOptions &expected, const std::string &key) {
  auto made = create(engine, expected);
  if (!made) return made;
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  Reader reader(*file);
  const auto header = read_header(reader, *file);
  if (!header) return tl::unexpected(header.error());
  Impl &c = *made->impl_;
  if (const std::string other = difference(header->parameters, parameters(c.options, key));
      !other.empty())
    return file_error(path, "is another cache: " + other, ErrorCode::invalid_argument);
  const std::int64_t held = header->length - header->dropped;
  const std::uint64_t room = file->size() - reader.at() - kChecksum;
  const std::uint64_t token =
      c.geometry.token_bytes() * static_cast<std::uint64_t>(c.options.batch);
  if (room % token != 0 || room / token != static_cast<std::uint64_t>(held) ||
      (c.rotating() ? held > c.planes.slots() : header->dropped != 0) ||
      (header->dropped > 0 && held < c.options.capacity))
    return file_error(path, fmt::format("is damaged: it should hold {} tokens of {} bytes, and has "
                                        "{} bytes for them",
                                        held, token, room));
  c.length = 0;
  if (auto ok = c.paged() ? c.own_pages(held) : c.make_room(held); !ok)
    return tl::unexpected(ok.error());
  const auto rows = [&](std::size_t i, std::int64_t b, std::int64_t h, std::int64_t j,
                        std::int64_t bytes) {
    std::byte *to = c.paged()
                        ? c.pool->planes.row(
                              i, c.pages[static_cast<std::size_t>(j / c.options.page_size)], h, 0)
                        : c.planes.row(i, b, h, j);
    return reader.read({to, static_cast<std::size_t>(bytes)});
  };
  if (auto ok = each_run(c.options, c.geometry, held, rows); !ok) return tl::unexpected(ok.error());
  const std::string wanted = reader.checksum();
  std::string stored(kChecksum, '\0');
  if (auto ok = file->read(reader.at(), std::as_writable_bytes(std::span(stored))); !ok)
    return tl::unexpected(ok.error());
  if (stored != wanted)
    return file_error(path, "is damaged: its checksum does not fit its contents");
  c.length = header->length;
  c.dropped = header->dropped;
  return made;
}

}  // namespace switchyard

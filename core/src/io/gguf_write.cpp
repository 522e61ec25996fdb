// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <set>

#include "base/checked.hpp"
#include "io/gguf.hpp"
#include "io/utf8.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kLongestName = 63, kLongestKey = 65'535;
constexpr std::size_t kMostDimensions = 4;

template <class T>
void put(std::string &out, T value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);  // little-endian hosts only
}

void put_text(std::string &out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

bool is_name(std::string_view name, std::size_t longest) noexcept {
  return !name.empty() && name.size() <= longest && is_utf8(name) &&
         name.find('\0') == std::string_view::npos;
}

std::optional<std::uint64_t> align(std::uint64_t position) noexcept {
  const auto up = checked_add(position, kGgufAlignment - 1);
  return up ? std::optional(*up / kGgufAlignment * kGgufAlignment) : std::nullopt;
}

}  // namespace

GgufValue GgufValue::of_text(std::string_view text) {
  GgufValue value{GgufKind::text, {}};
  put_text(value.bytes, text);
  return value;
}

GgufValue GgufValue::of_u32(std::uint32_t number) {
  GgufValue value{GgufKind::u32, {}};
  put(value.bytes, number);
  return value;
}

Result<GgufLayout> gguf_layout(const std::string &path, std::span<const GgufEntry> entries,
                               std::span<const GgufSpec> specs) {
  GgufLayout layout;
  std::string &out = layout.header;
  std::set<std::string_view> keys;
  for (const GgufEntry &e : entries)
    if (e.key != "general.alignment") {
      if (!is_name(e.key, kLongestKey) || !keys.insert(e.key).second)
        return file_error(
            path, fmt::format("the key '{}' is empty, too long, not UTF-8 or given twice", e.key),
            ErrorCode::invalid_argument);
    }
  out = "GGUF";
  put<std::uint32_t>(out, 3);
  put<std::uint64_t>(out, specs.size());
  put<std::uint64_t>(out, keys.size());
  for (const GgufEntry &e : entries) {
    if (e.key == "general.alignment") continue;
    put_text(out, e.key);
    put(out, static_cast<std::uint32_t>(e.value.kind));
    out += e.value.bytes;
  }
  std::set<std::string_view> names;
  std::uint64_t at = 0;
  for (const GgufSpec &s : specs) {
    if (!is_name(s.name, kLongestName) || !names.insert(s.name).second)
      return file_error(path,
                        fmt::format("tensor '{}' needs another name: GGUF allows 1 to {} bytes of "
                                    "UTF-8, each name once",
                                    s.name, kLongestName),
                        ErrorCode::invalid_argument);
    if (s.shape.empty() || s.shape.size() > kMostDimensions)
      return file_error(path,
                        fmt::format("tensor '{}' of shape {} does not fit: GGUF allows 1 to {} "
                                    "dimensions",
                                    s.name, shape_text(s.shape), kMostDimensions),
                        ErrorCode::shape);
    const auto bytes = ggml_bytes(*s.type, s.shape);
    const auto end = bytes ? checked_add(at, *bytes) : std::nullopt;
    const auto next = end ? align(*end) : std::nullopt;
    if (!next)
      return file_error(path,
                        fmt::format("tensor '{}' of shape {} overflows, or its rows are no "
                                    "multiple of {}'s block",
                                    s.name, shape_text(s.shape), s.type->name),
                        ErrorCode::overflow);
    put_text(out, s.name);
    put(out, static_cast<std::uint32_t>(s.shape.size()));
    for (auto n = s.shape.rbegin(); n != s.shape.rend(); ++n)
      put(out, static_cast<std::uint64_t>(*n));
    put(out, s.type->id);
    put(out, at);
    layout.offsets.push_back(at);
    at = *next;
  }
  out.append(*align(out.size()) - out.size(), '\0');
  for (std::uint64_t &offset : layout.offsets) {
    const auto absolute = checked_add<std::uint64_t>(offset, out.size());
    if (!absolute) return file_error(path, "the file is too large", ErrorCode::overflow);
    offset = *absolute;
  }
  const auto size = checked_add<std::uint64_t>(at, out.size());
  if (!size) return file_error(path, "the file is too large", ErrorCode::overflow);
  layout.size = *size;
  return layout;
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include "loader/elf_symbols.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked.hpp"
#include "io/file.hpp"

namespace switchyard {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 32;

/// False when the range lies outside the bytes.
template <class T>
bool copy(const std::string &bytes, std::uint64_t offset, T *out, std::uint64_t count) {
  const auto size = checked_mul<std::uint64_t>(count, sizeof(T));
  const auto end = size ? checked_add(offset, *size) : std::nullopt;
  if (!end || *end > bytes.size()) return false;
  std::memcpy(out, bytes.data() + offset, *size);
  return true;
}

}  // namespace

Result<std::vector<std::string>> exported_symbols(const std::string &path) {
  const auto refuse = [&path] {
    return fail(ErrorCode::io, path + ": its ELF tables are missing or malformed");
  };
  const auto bytes = read_text_file(path, kMostBytes);
  if (!bytes) return tl::unexpected(bytes.error());
  Elf64_Ehdr header{};
  if (!copy(*bytes, 0, &header, 1) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr))
    return refuse();
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  if (!copy(*bytes, header.e_shoff, sections.data(), sections.size())) return refuse();
  std::vector<std::string> out;
  for (const Elf64_Shdr &s : sections) {
    if (s.sh_type != SHT_DYNSYM) continue;
    if (s.sh_link >= sections.size() || s.sh_size > bytes->size()) return refuse();
    std::vector<Elf64_Sym> symbols(s.sh_size / sizeof(Elf64_Sym));
    std::string names(std::min<std::uint64_t>(sections[s.sh_link].sh_size, bytes->size()), '\0');
    if (!copy(*bytes, s.sh_offset, symbols.data(), symbols.size()) ||
        !copy(*bytes, sections[s.sh_link].sh_offset, names.data(), names.size()))
      return refuse();
    for (const Elf64_Sym &symbol : symbols) {
      const auto binding = ELF64_ST_BIND(symbol.st_info);
      const bool defined = symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS;
      if (!defined || (binding != STB_GLOBAL && binding != STB_WEAK)) continue;
      if (symbol.st_name >= names.size()) return refuse();
      out.emplace_back(names.c_str() + symbol.st_name);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
#include "loader/elf_note.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <switchyard/plugin.h>
#include <cstring>
#include <vector>

#include "base/checked.hpp"

namespace switchyard {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#else
#error "name this machine's ELF number here"
#endif

constexpr std::uint64_t kMaxSections = 4096;
constexpr std::uint64_t kMaxNames = 1u << 20;

class ElfFile {
 public:
  ElfFile(int fd, std::uint64_t size) : fd_(fd), size_(size) {}

  /// False when the range lies outside the file or cannot be read.
  bool read(std::uint64_t offset, void *out, std::uint64_t bytes) const {
    const auto end = checked_add(offset, bytes);
    if (!end || *end > size_) return false;
    auto *p = static_cast<char *>(out);
    while (bytes > 0) {
      const ssize_t got = pread(fd_, p, bytes, static_cast<off_t>(offset));
      if (got <= 0) return false;
      p += got;
      offset += static_cast<std::uint64_t>(got);
      bytes -= static_cast<std::uint64_t>(got);
    }
    return true;
  }

 private:
  int fd_;
  std::uint64_t size_;
};

}  // namespace

Result<PluginNote> read_plugin_note(int fd, const std::string &path) {
  const auto refuse = [&path](std::string_view why) {
    return fail(ErrorCode::backend, fmt::format("{}: {}", path, why));
  };
  struct stat st {};
  if (fstat(fd, &st) != 0) return refuse("cannot be examined");
  const ElfFile file(fd, static_cast<std::uint64_t>(st.st_size));

  Elf64_Ehdr header{};
  if (!file.read(0, &header, sizeof(header)) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return refuse("not an ELF shared object, or truncated");
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine)
    return refuse("built for another kind of processor");
  if (header.e_type != ET_DYN) return refuse("not a shared object");
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum == 0 ||
      header.e_shnum > kMaxSections || header.e_shstrndx >= header.e_shnum)
    return refuse("its section table is missing or malformed");

  std::vector<Elf64_Shdr> sections(header.e_shnum);
  if (!file.read(header.e_shoff, sections.data(), sections.size() * sizeof(Elf64_Shdr)))
    return refuse("truncated: its section table lies outside the file");
  const Elf64_Shdr &names_section = sections[header.e_shstrndx];
  if (names_section.sh_size == 0 || names_section.sh_size > kMaxNames)
    return refuse("its section names are missing or malformed");
  std::string names(names_section.sh_size, '\0');
  if (!file.read(names_section.sh_offset, names.data(), names.size()))
    return refuse("truncated: its section names lie outside the file");

  for (const Elf64_Shdr &section : sections) {
    if (section.sh_name >= names.size() ||
        std::strncmp(names.c_str() + section.sh_name, SY_NOTE_SECTION,
                     names.size() - section.sh_name) != 0)
      continue;
    sy_elf_note note{};
    if (section.sh_size < sizeof(note) || !file.read(section.sh_offset, &note, sizeof(note)))
      return refuse("its note " SY_NOTE_SECTION " is truncated");
    if (note.type != 1 || note.namesz != 11 || std::memcmp(note.name, "Switchyard", 11) != 0 ||
        note.descsz < sizeof(note.desc))
      return refuse("its note " SY_NOTE_SECTION " is malformed");
    return PluginNote{note.desc.abi_major, note.desc.abi_minor,
                      std::string(note.desc.id, strnlen(note.desc.id, sizeof(note.desc.id)))};
  }
  return refuse("not a Switchyard plugin (it has no note " SY_NOTE_SECTION
                "; does it use SY_EXPORT_PLUGIN?)");
}

}  // namespace switchyard

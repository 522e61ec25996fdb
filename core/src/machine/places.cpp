// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "machine/machine.hpp"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

/// The directory of the object (library or program) that holds this function.
fs::path own_directory() {
  Dl_info info{};
  std::error_code ignored;
  // For a program dladdr gives argv[0], which may be relative or a bare name.
  const fs::path exe = fs::read_symlink("/proc/self/exe", ignored);
  if (dladdr(reinterpret_cast<void *>(&own_directory), &info) != 0 && info.dli_fname != nullptr) {
    const fs::path object = fs::canonical(info.dli_fname, ignored);
    if (!ignored && object.has_parent_path() &&
        std::string_view(info.dli_fname).find('/') != std::string_view::npos)
      return object.parent_path();
  }
  return exe.parent_path();
}

void add(std::vector<std::string> &out, const fs::path &path) {
  const std::string text = path.lexically_normal().string();
  for (const auto &known : out)
    if (known == text) return;
  out.push_back(text);
}

}  // namespace

std::vector<std::string> builtin_plugin_directories() {
  const fs::path here = own_directory();
  std::vector<std::string> out;
  add(out, here / "switchyard" / "plugins");                        // beside the library
  add(out, here / "plugins");                                       // in a Python package
  add(out, here.parent_path() / "lib" / "switchyard" / "plugins");  // beside a program
  add(out, here.parent_path() / SWITCHYARD_LIBDIR / "switchyard" / "plugins");
  add(out, SWITCHYARD_INSTALL_PLUGINS);
  return out;
}

std::optional<std::string> find_worker() {
  const fs::path here = own_directory();
  const char *name = "switchyard-worker";
  for (const fs::path &directory :
       {here, here.parent_path() / "bin", here / "switchyard",
        here.parent_path() / "lib" / "switchyard",
        here.parent_path() / SWITCHYARD_LIBDIR / "switchyard", fs::path(SWITCHYARD_INSTALL_BIN)}) {
    const fs::path candidate = (directory / name).lexically_normal();
    if (access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate))
      return candidate.string();
  }
  return std::nullopt;
}

std::string resolve_cache_dir(const std::optional<std::string> &option) {
  if (option) return *option;
  if (const char *xdg = secure_getenv("XDG_CACHE_HOME"); xdg != nullptr && xdg[0] == '/')
    return std::string(xdg) + "/switchyard";
  if (const char *home = secure_getenv("HOME"); home != nullptr && home[0] == '/')
    return std::string(home) + "/.cache/switchyard";
  return "";
}

}  // namespace switchyard

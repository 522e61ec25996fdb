// SPDX-License-Identifier: Apache-2.0
#include "write.hpp"

#include <fmt/chrono.h>

#include <ctime>

#include "../limits.hpp"
#include "io/file.hpp"
#include "machine/machine.hpp"
#include "page.hpp"

namespace switchyard::cli::report {

Json limits_here(const std::optional<std::string> &cache_dir) {
  const auto limits = cached_limits(resolve_cache_dir(cache_dir));
  if (!limits) return nullptr;
  return Json{{"limits", bandwidth_json(*limits)}, {"compute_limits", compute_json(*limits)}};
}

Status write_page(const std::string &path, const Report &report) {
  const std::string made = fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time(nullptr)));
  return write_file(path, page(report, made));
}

}  // namespace switchyard::cli::report

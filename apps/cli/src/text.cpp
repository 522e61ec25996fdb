// SPDX-License-Identifier: Apache-2.0
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard::cli {

std::string duration(double ms) {
  if (ms < 0) return "-";
  if (ms < 1e-3) return fmt::format("{:.0f} ns", ms * 1e6);
  if (ms < 1) return fmt::format("{:.3g} us", ms * 1e3);
  if (ms < 1000) return fmt::format("{:.3g} ms", ms);
  return fmt::format("{:.3g} s", ms / 1e3);
}

std::string byte_size(double bytes) {
  constexpr const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string times_faster(double factor) {
  if (factor <= 0) return "-";
  return factor < 10 ? fmt::format("{:.2f}x", factor) : fmt::format("{:.0f}x", factor);
}

std::string verified_text(std::string_view verified) {
  if (verified == "gate") return "verified against the reference just now";
  if (verified == "cached") return "verified against the reference earlier";
  return "NOT verified";
}

Table::Table(std::vector<std::string> header, std::string_view align) : align_(align) {
  rows_.push_back(std::move(header));
}

void Table::add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

std::string Table::text(std::string_view indent) const {
  std::vector<std::size_t> width(rows_.front().size(), 0);
  for (const auto &row : rows_)
    for (std::size_t i = 0; i < row.size() && i < width.size(); ++i)
      width[i] = std::max(width[i], row[i].size());
  std::string out;
  for (const auto &row : rows_) {
    std::string line(indent);
    for (std::size_t i = 0; i < row.size() && i < width.size(); ++i) {
      const bool right = i < align_.size() && align_[i] == 'r';
      line +=
          right ? fmt::format("{:>{}}", row[i], width[i]) : fmt::format("{:<{}}", row[i], width[i]);
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

}  // namespace switchyard::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Words and tables for people.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

std::string duration(double ms);          ///< "1.23 ms", "45.6 us", "2.1 s"
std::string byte_size(double bytes);      ///< "1.5 MiB"
std::string times_faster(double factor);  ///< "12.3x", or "-" for 0

/// "verified against the reference", "verified earlier ...", "NOT verified".
std::string verified_text(std::string_view verified);

/// Columns padded to their widest cell, two spaces apart. Column i is right-aligned where
/// `right[i]` is 'r'.
class Table {
 public:
  Table(std::vector<std::string> header, std::string_view align);
  void add(std::vector<std::string> row);
  std::string text(std::string_view indent = "") const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::string align_;
};

}  // namespace switchyard::cli

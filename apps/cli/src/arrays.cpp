// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "cancel.hpp"
#include "io/array_file.hpp"
#include "io/file.hpp"

namespace switchyard::cli {

Result<Tensor> load_input(const std::string &name, const std::string &dtype) {
  auto array = read_array(name);
  if (!array) return array;
  const DType have = array->dtype();
  const bool floating = have.code == SY_TYPE_FLOAT || have.code == SY_TYPE_BFLOAT;
  if (!dtype.empty() && floating) {
    auto wanted = parse_dtype(dtype);
    if (!wanted) return tl::unexpected(wanted.error());
    return same(have, *wanted) ? std::move(array) : cast(*array, *wanted);
  }
  if (same(have, dtypes::f64))
    return file_error(name, "the array is f64, which no operation takes; add --dtype f32",
                      ErrorCode::dtype);
  return array;
}

Result<Tensor> load_optional(const std::string &name) {
  if (name.empty()) return Tensor{};
  return read_array(name);
}

std::string extension_of(const std::string &path) {
  std::string ext = std::filesystem::path(parse_array_name(path).path).extension().string();
  std::transform(ext.begin(), ext.end(), ext.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ext;
}

Status check_output(const std::string &path, std::initializer_list<std::string_view> extensions) {
  if (path.empty()) return {};
  const std::string ext = extension_of(path);
  if (std::find(extensions.begin(), extensions.end(), ext) == extensions.end())
    return fail(ErrorCode::usage, fmt::format("cannot write '{}': its name must end in {}", path,
                                              fmt::join(extensions, " or ")));
  std::error_code ignored;
  const auto directory = std::filesystem::path(parse_array_name(path).path).parent_path();
  if (!directory.empty() && !std::filesystem::is_directory(directory, ignored))
    return file_error(path, fmt::format("directory '{}' does not exist", directory.string()));
  return {};
}

Status write_outputs(const std::vector<OutputArray> &outputs, Json &written) {
  if (auto ok = check_cancelled(); !ok) return ok;
  for (const OutputArray &out : outputs) {
    if (out.path.empty()) continue;
    if (auto ok = write_array(out.path, out.view); !ok) return ok;
    written[out.slot] = out.path;
  }
  return {};
}

Json shape_json(std::span<const std::int64_t> shape) {
  return Json(std::vector<std::int64_t>(shape.begin(), shape.end()));
}

}  // namespace switchyard::cli

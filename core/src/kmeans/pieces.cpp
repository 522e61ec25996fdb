// SPDX-License-Identifier: Apache-2.0
#include "kmeans/pieces.hpp"

#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/checked.hpp"
#include "io/cast.hpp"
#include "io/file.hpp"

namespace switchyard::kmeans {

Result<Pieces> Pieces::open(const std::string &path, std::uint64_t memory) {
  auto file = NpyRows::open(path);
  if (!file) return tl::unexpected(file.error());
  if (!same(file->dtype(), dtypes::f32) && !same(file->dtype(), dtypes::f16))
    return file_error(path,
                      fmt::format("holds {}; f32 or f16 rows are needed", to_string(file->dtype())),
                      ErrorCode::dtype);
  if (file->rows() < 1 || file->columns() < 1)
    return file_error(path, "holds no rows", ErrorCode::shape);
  const bool wide = same(file->dtype(), dtypes::f32);
  const std::uint64_t row = static_cast<std::uint64_t>(file->columns()) * (wide ? 4 : 6) + 16;
  const auto fit = static_cast<std::int64_t>(memory / row);
  const std::int64_t blocks = std::max<std::int64_t>(1, fit / SY_KMEANS_INERTIA_BLOCK);
  return Pieces(std::move(*file), blocks * SY_KMEANS_INERTIA_BLOCK);
}

Result<TensorView> Pieces::range(std::int64_t first, std::int64_t count) {
  const bool wide = same(file_.dtype(), dtypes::f32);
  if (!values_.present()) {
    const std::array shape{std::min(rows_, n()), d()};
    auto values = Tensor::empty(dtypes::f32, shape);
    if (!values) return tl::unexpected(values.error());
    values_ = std::move(*values);
    if (!wide) {
      auto raw = Tensor::empty(file_.dtype(), shape);
      if (!raw) return tl::unexpected(raw.error());
      raw_ = std::move(*raw);
    }
  }
  const std::array shape{std::min(count, n() - first), d()};
  if (auto s = file_.read(first, shape[0], wide ? values_.data() : raw_.data()); !s)
    return tl::unexpected(s.error());
  if (!wide) {
    auto cast_rows = cast(TensorView(raw_.data(), file_.dtype(), shape), dtypes::f32);
    if (!cast_rows) return tl::unexpected(cast_rows.error());
    std::copy_n(cast_rows->data<float>(), cast_rows->elements(), values_.data<float>());
  }
  return TensorView(values_.data<float>(), {shape[0], shape[1]});
}

Result<Tensor> Pieces::gather(const std::vector<std::int64_t> &rows) {
  auto out = Tensor::empty(dtypes::f32, std::array{static_cast<std::int64_t>(rows.size()), d()});
  if (!out) return out;
  float *to = out->data<float>();
  for (std::int64_t row : rows) {
    auto x = range(row, 1);
    if (!x) return tl::unexpected(x.error());
    to = std::copy_n(x->data<float>(), d(), to);
  }
  return out;
}

Result<LabelFile> LabelFile::create() {
  std::FILE *file = std::tmpfile();
  if (file == nullptr)
    return fail(ErrorCode::io, "a temporary file for the labels could not be made");
  return LabelFile(file);
}

LabelFile::~LabelFile() {
  if (file_ != nullptr) std::fclose(file_);
}

Status LabelFile::write(std::int64_t first, std::span<const std::int32_t> labels) {
  auto bytes = std::as_bytes(labels);
  for (off_t at = static_cast<off_t>(first) * 4; !bytes.empty();) {
    const ssize_t n = ::pwrite(fileno(file_), bytes.data(), bytes.size(), at);
    if (n <= 0) return fail(ErrorCode::io, "the labels could not be written to a temporary file");
    at += n;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status LabelFile::read(std::int64_t first, std::span<std::int32_t> labels) {
  auto bytes = std::as_writable_bytes(labels);
  for (off_t at = static_cast<off_t>(first) * 4; !bytes.empty();) {
    const ssize_t n = ::pread(fileno(file_), bytes.data(), bytes.size(), at);
    if (n <= 0) return fail(ErrorCode::io, "the labels could not be read from a temporary file");
    at += n;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace switchyard::kmeans

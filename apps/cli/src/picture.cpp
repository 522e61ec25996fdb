// SPDX-License-Identifier: Apache-2.0
#include "picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "arrays.hpp"
#include "io/png.hpp"

namespace switchyard::cli {

bool is_picture(const std::string &name) { return extension_of(name) == ".png"; }

Result<Tensor> load_points(const std::string &name, const std::string &dtype) {
  if (!is_picture(name)) return load_input(name, dtype);
  auto image = read_png(name);
  if (!image) return image;
  const std::int64_t shape[] = {image->view().dim(0) * image->view().dim(1), 3};
  auto points = Tensor::empty(dtypes::f32, shape);
  if (!points) return points;
  const auto *from = image->data<const std::uint8_t>();
  std::copy(from, from + points->elements(), points->data<float>());
  return points;
}

Status check_picture(const std::string &out, const std::string &in) {
  if (out.empty()) return {};
  if (auto ok = check_output(out, {".png"}); !ok) return ok;
  if (is_picture(in)) return {};
  return fail(ErrorCode::usage,
              fmt::format("a picture can be written only of a picture: '{}' is no .png file", in));
}

Status write_clustered_picture(const std::string &out, const std::string &in,
                               const TensorView &labels, const TensorView &centroids) {
  if (auto ok = check_picture(out, in); !ok) return ok;
  auto image = read_png(in);
  if (!image) return tl::unexpected(image.error());
  if (image->elements() != 3 * labels.elements() || centroids.dim(1) != 3)
    return fail(ErrorCode::shape, fmt::format("{} has changed since it was clustered", in));
  auto *pixel = image->data<std::uint8_t>();
  const auto *label = labels.data<const std::int32_t>();
  const auto *centre = centroids.data<const float>();
  for (std::int64_t i = 0; i < labels.elements(); ++i)
    for (int c = 0; c < 3; ++c)
      *pixel++ = static_cast<std::uint8_t>(std::lround(
          std::clamp(centre[3 * static_cast<std::int64_t>(label[i]) + c], 0.0f, 255.0f)));
  return write_png(out, *image);
}

}  // namespace switchyard::cli

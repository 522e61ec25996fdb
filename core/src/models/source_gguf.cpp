// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/checked.hpp"
#include "models/source.hpp"

namespace switchyard::models {
namespace {

class GgufSource final : public Source {
 public:
  explicit GgufSource(GgufReader file) : file_(std::move(file)) {
    path_ = file_.path();
    files_ = {path_};
    for (const GgufTensor &g : file_.tensors()) {
      SourceTensor t;
      t.info = {g.name, g.shape, "", std::string(g.type->name), g.bytes, 0};
      t.info.values = checked_elements(g.shape).value_or(0);
      t.type = g.type;
      if (g.type->plain()) {
        t.dtype = g.type->dtype;
      } else if (const QuantFormat *format = format_of_ggml(g.type->name)) {
        TensorChoice choice;
        choice.format = format->name;
        auto spec = quant_spec(choice, g.shape, dtypes::f32);
        if (spec) t.quant = std::move(*spec);
        if (spec) t.dtype = dtypes::f32;
      }
      if (t.dtype) t.info.dtype = to_string(*t.dtype);
      tensors_.push_back(std::move(t));
    }
  }

  std::span<const GgufEntry> entries() const noexcept override { return file_.entries(); }

  Status read_bytes(const SourceTensor &tensor, std::uint64_t offset,
                    std::span<std::byte> out) const override {
    return file_.read(*file_.find(tensor.info.name), offset, out);
  }

  Result<Quantized> read_quantized(const SourceTensor &tensor, std::int64_t first,
                                   std::int64_t count, std::int64_t cols,
                                   Scratch (&memory)[3]) const override {
    Quantized q;
    q.format = tensor.quant->choice.format;
    q.shape = {count, cols};
    auto part = quant_spec(tensor.quant->choice, q.shape, dtypes::f32);
    if (!part) return tl::unexpected(part.error());
    auto view = memory[0].array(part->layout.codes.dtype, part->layout.codes.shape());
    if (!view) return tl::unexpected(view.error());
    const std::uint64_t bytes = bytes_of(part->layout.codes);
    const std::uint64_t per_row = count > 0 ? bytes / static_cast<std::uint64_t>(count) : 0;
    q.codes = Tensor::adopt(*view, nullptr);
    if (auto ok = read_bytes(tensor, static_cast<std::uint64_t>(first) * per_row,
                             {view->data<std::byte>(), bytes});
        !ok)
      return tl::unexpected(ok.error());
    return q;
  }

 private:
  GgufReader file_;
};

}  // namespace

Result<std::unique_ptr<Source>> open_gguf_source(const std::string &path) {
  auto file = GgufReader::open(path);
  if (!file) return tl::unexpected(file.error());
  return std::make_unique<GgufSource>(std::move(*file));
}

}  // namespace switchyard::models

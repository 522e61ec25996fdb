// SPDX-License-Identifier: Apache-2.0
#include "quantized_file.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "arrays.hpp"
#include "io/array_file.hpp"
#include "io/npz.hpp"
#include "io/safetensors.hpp"
#include "models/source.hpp"
#include "ops/quantize_formats.hpp"
#include "quantize/quantize.hpp"

namespace switchyard::cli {
namespace {

constexpr const char *kMeta = "meta";

tl::unexpected<Error> corrupt(const std::string &path, const std::string &what) {
  return file_error(path, "not a file of quantised arrays: " + what);
}

/// The options that a file's metadata name; nullopt unless they are complete.
std::optional<Quantized> parse_meta(const Json &meta) {
  const auto parsed = models::parse_quantized_meta(meta);
  if (!parsed) return std::nullopt;
  Quantized q;
  q.format = parsed->choice.format;
  q.group_size = parsed->choice.group_size;
  q.granularity = parsed->choice.granularity;
  q.shape = parsed->shape;
  q.dtype = parsed->dtype;
  return q;
}

/// A block format as the one tensor of a GGUF file.
Status write_gguf(const std::string &path, const Quantized &q) {
  auto format = parse_quant_format(q.format);
  if (!format) return tl::unexpected(format.error());
  const GgmlType *type = find_ggml_type(models::ggml_name(**format));
  if (type == nullptr)
    return file_error(
        path, fmt::format("format {} has no GGUF type; write .npz or .safetensors", q.format),
        ErrorCode::usage);
  const std::vector<GgufEntry> entries = {{"general.architecture", GgufValue::of_text("unknown")},
                                          {"general.quantization_version", GgufValue::of_u32(2)}};
  const std::vector<GgufSpec> specs = {{"data", type, q.shape}};
  auto layout = gguf_layout(path, entries, specs);
  if (!layout) return tl::unexpected(layout.error());
  std::string bytes = layout->header;
  bytes.append(q.codes.data<const char>(), q.codes.bytes());
  bytes.resize(layout->size);
  return write_file(path, bytes);
}

bool fits(const Tensor &array, const QuantArray &want) {
  return same(array.dtype(), want.dtype) && std::ranges::equal(array.shape(), want.shape());
}

}  // namespace

ArrayNames array_names(bool blocks) { return {blocks ? "blocks" : "codes", "scales", "biases"}; }

Status check_quantize_options(const QuantizeOptions &options) {
  auto params = quantize_params_of(options);
  if (!params) return tl::unexpected(params.error());
  return {};
}

Json quantized_meta(const Quantized &q) {
  return models::quantized_meta({q.format, q.group_size, q.granularity, "default"}, q.shape,
                                q.dtype);
}

Status write_quantized(const std::string &path, const Quantized &q) {
  if (extension_of(path) == ".gguf") return write_gguf(path, q);
  const ArrayNames names = array_names(q.is_blocks());
  std::vector<NamedTensor> arrays{{names.codes, q.codes}};
  if (q.scales.present()) arrays.push_back({names.scales, q.scales});
  if (q.biases.present()) arrays.push_back({names.biases, q.biases});
  const std::string meta = quantized_meta(q).dump();
  if (extension_of(path) == ".safetensors") return write_safetensors(path, arrays, {{kMeta, meta}});
  auto writer = NpzWriter::create(path);
  if (!writer) return tl::unexpected(writer.error());
  for (const NamedTensor &array : arrays)
    if (auto ok = writer->add(array.name, array.view); !ok) return ok;
  if (auto ok = writer->add_text(kMeta, meta); !ok) return ok;
  return writer->finish();
}

Result<Quantized> read_quantized(const std::string &path) {
  if (extension_of(path) == ".safetensors") {
    auto file = SafetensorsReader::open(path);
    if (!file) return tl::unexpected(file.error());
    const auto text = file->metadata().find(kMeta);
    if (text == file->metadata().end()) return corrupt(path, "it has no 'meta'");
    const Json meta = Json::parse(text->second, nullptr, false);
    return assemble(path, meta, array_names(file->find("blocks") != nullptr),
                    [&](const std::string &name) { return file->read(name); });
  }
  auto file = NpzReader::open(path);
  if (!file) return tl::unexpected(file.error());
  if (!file->has(kMeta)) return corrupt(path, "it has no 'meta'");
  auto text = file->read_text(kMeta);
  if (!text) return tl::unexpected(text.error());
  const Json meta = Json::parse(*text, nullptr, false);
  return assemble(path, meta, array_names(file->has("blocks")),
                  [&](const std::string &name) { return file->read(name); });
}

Result<Quantized> assemble(const std::string &path, const Json &meta, const ArrayNames &names,
                           const ReadArray &read) {
  auto q = parse_meta(meta);
  if (!q) return corrupt(path, "'meta' is not a JSON object of format, shape, dtype, group_size");
  auto params = quantize_params_of(format_options(*q));
  if (!params) return corrupt(path, params.error().message);
  auto layout = quant_layout(*params, q->shape, q->dtype);
  if (!layout) return corrupt(path, layout.error().message);
  const auto take = [&](const std::string &name, const QuantArray &want, Tensor &into) -> Status {
    auto array = read(name);
    if (!array) {
      Error error = array.error();
      error.code = ErrorCode::io;  // a missing array is the file's fault, not the caller's
      return tl::unexpected(error);
    }
    if (!fits(*array, want))
      return corrupt(
          path, fmt::format("'{}' is {} {}, but '{}' of shape {} needs {} {}", name,
                            to_string(array->dtype()), shape_text(array->shape()), q->format,
                            shape_text(q->shape), to_string(want.dtype), shape_text(want.shape())));
    into = std::move(*array);
    return {};
  };
  if (auto ok = take(names.codes, layout->codes, q->codes); !ok) return tl::unexpected(ok.error());
  if (layout->scales)
    if (auto ok = take(names.scales, *layout->scales, q->scales); !ok)
      return tl::unexpected(ok.error());
  if (layout->biases)
    if (auto ok = take(names.biases, *layout->biases, q->biases); !ok)
      return tl::unexpected(ok.error());
  return std::move(*q);
}

}  // namespace switchyard::cli

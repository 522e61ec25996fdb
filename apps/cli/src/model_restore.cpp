// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <set>

#include "cancel.hpp"
#include "io/file.hpp"
#include "model_file.hpp"

namespace switchyard::cli {

Result<ModelReport> dequantize_model(Engine &engine, const std::string &in, const std::string &out,
                                     const NameFilter &wanted) {
  auto model = SafetensorsModel::open(in);
  if (!model) return tl::unexpected(model.error());
  const auto text = model->metadata().find("meta");
  const Json meta =
      text == model->metadata().end() ? Json() : Json::parse(text->second, nullptr, false);
  const auto entries = meta.find("tensors");
  if (entries == meta.end() || !entries->is_object())
    return file_error(in, "its 'meta' lists no quantised tensors");

  // Shapes first: the output's layout must be known before its data.
  std::vector<SafetensorSpec> specs;
  std::set<std::string> parts;
  const ReadArray read = [&](const std::string &name) { return model->read(name); };
  for (const auto &[name, entry] : entries->items()) {
    EndAtOnce scope;
    auto q = assemble(in, entry, model_names(name), read);
    if (!q) return tl::unexpected(q.error());
    const ArrayNames names = model_names(name);
    parts.insert({names.codes, names.scales, names.biases});
    if (wanted(name)) specs.push_back({name, q->dtype, q->shape});
  }
  std::vector<const SafetensorInfo *> copied;
  for (const std::string &name : model->names()) {
    const SafetensorInfo &info = *model->find(name);
    if (parts.contains(name) || !wanted(name)) continue;
    if (!info.dtype)
      return file_error(in,
                        fmt::format("tensor '{}': dtype {} cannot be read", name, info.dtype_name),
                        ErrorCode::dtype);
    copied.push_back(&info);
    specs.push_back({name, *info.dtype, info.shape});
  }
  std::optional<SafetensorsWriter> writer;
  if (!out.empty()) {
    auto created = SafetensorsWriter::create(out, specs);
    if (!created) return tl::unexpected(created.error());
    writer.emplace(std::move(*created));
  }

  ModelReport report;
  for (const auto &[name, entry] : entries->items()) {
    if (!wanted(name)) continue;
    show_status(fmt::format("dequantize {}", name));
    if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
    auto q = assemble(in, entry, model_names(name), read);
    if (!q) return tl::unexpected(q.error());
    RunInfo info;
    auto y = [&] {
      EndAtOnce scope;
      return engine.dequantize(*q, {}, &info);
    }();
    if (!y) return tl::unexpected(y.error());
    if (writer)
      if (auto ok = writer->write(name, *y); !ok) return tl::unexpected(ok.error());
    const std::uint64_t after = static_cast<std::uint64_t>(y->elements()) * size_of(y->dtype());
    report.tensors.push_back({name, q->shape, q->bytes(), after, {}, info});
    report.bytes_before += q->bytes();
    report.bytes_after += after;
    report.time_ms += info.time_ms;
  }
  for (const SafetensorInfo *info : copied) {
    ++report.copied;
    if (!writer) continue;
    auto x = model->read(info->name);
    if (!x) return tl::unexpected(x.error());
    if (auto ok = writer->write(info->name, *x); !ok) return tl::unexpected(ok.error());
  }
  clear_status();
  if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
  if (writer)
    if (auto ok = writer->finish(); !ok) return tl::unexpected(ok.error());
  return report;
}

}  // namespace switchyard::cli

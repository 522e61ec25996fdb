// SPDX-License-Identifier: Apache-2.0
#include "bench_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "io/file.hpp"
#include "machine/machine.hpp"
#include "machine_report.hpp"

namespace switchyard::cli {
namespace {

constexpr const char *kKind = "switchyard measurements";
constexpr std::uint64_t kMostBytes = 64u << 20;

}  // namespace

Json BenchFile::describe(const Engine &engine, std::uint64_t seed, const std::string &label) {
  const switchyard::Machine &here = machine();
  Json head;
  head["label"] = label;
  head["machine"] = Json{{"fingerprint", here.fingerprint},
                         {"cpu", here.cpu},
                         {"cores", here.allowed_cores},
                         {"isa", read_machine().isa}};
  head["version"] = std::string(version());
  head["threads"] = engine.threads();
  head["isa_cap"] = engine.options().isa;
  head["seed"] = seed;
  head["plugins"] = Json::object();
  for (const PluginInfo &p : engine.plugins())
    if (p.status == "loaded") head["plugins"][p.id] = p.content_hash;
  return head;
}

Result<BenchFile> BenchFile::open(const std::string &path, Json head) {
  BenchFile out{std::move(head), {}};
  if (access(path.c_str(), F_OK) != 0) return out;
  const auto text = read_text_file(path, kMostBytes);
  if (!text) return tl::unexpected(text.error());
  const Json doc = Json::parse(*text, nullptr, false);
  const auto damaged = [&] {
    return file_error(path,
                      "not a file of `switchyard bench --resume`, or damaged; remove it or "
                      "name another");
  };
  if (!doc.is_object() || doc.value("kind", Json()) != Json(kKind) || !doc.contains("head") ||
      !doc.contains("shapes") || !doc["shapes"].is_array() || !doc["head"].is_object())
    return damaged();
  for (const auto &[key, value] : out.head.items())
    if (key != "label" && doc["head"].value(key, Json()) != value)
      return file_error(path, fmt::format("measured under other circumstances ({} differs); name "
                                          "another file",
                                          key));
  if (out.head["label"] == "") out.head["label"] = doc["head"].value("label", "");
  for (const Json &json : doc["shapes"]) {
    auto row = BenchRow::from_json(json);
    if (!row) return damaged();
    out.rows.push_back(std::move(*row));
  }
  return out;
}

const BenchRow *BenchFile::find(const OpShape &shape) const {
  for (const BenchRow &row : rows)
    if (row.op == shape.op && row.shape == shape.shape.text()) return &row;
  return nullptr;
}

Status BenchFile::save(const std::string &path) const {
  Json doc{{"schema_version", 1}, {"kind", kKind}, {"head", head}};
  doc["shapes"] = Json::array();
  for (const BenchRow &row : rows) doc["shapes"].push_back(row.json());
  return write_file(path, doc.dump(1) + "\n");
}

}  // namespace switchyard::cli

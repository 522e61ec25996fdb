// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "base/suggest.hpp"
#include "config/engine_schema.hpp"
#include "config/run_schema.hpp"
#include "io/array_file.hpp"

namespace switchyard {
namespace {

using config::Document;
using config::Entry;
using config::Node;
using config::View;

constexpr std::string_view kInits[] = {"k-means++", "k-means||", "random"};

std::map<std::string, std::string> absolute(std::map<std::string, std::string> slots,
                                            const std::string &directory) {
  for (auto &[slot, path] : slots) path = config::absolute_path(path, directory);
  return slots;
}

/// The mapping's section, by its `op`.
Result<const config::Section *> section_of(const Document &document, const Node &node,
                                           std::size_t number) {
  if (node.kind != Node::Kind::map)
    return document.error(
        node.place, fmt::format("job {}: expected a mapping, found {}", number, node.found()));
  const Entry *op = node.find("op");
  if (op == nullptr)
    return document.error(node.place, fmt::format("job {}: the key 'op' is missing", number));
  if (op->value.kind != Node::Kind::scalar)
    return document.error(op->place,
                          fmt::format("op: expected an operation, found {}", op->value.found()));
  if (const config::Section *section = config::job_section(op->value.value)) return section;
  const auto ops = config::job_ops();
  const std::string hint = did_you_mean(op->value.value, ops);
  return document.error(
      op->value.place,
      fmt::format("op: unknown operation '{}'{}", op->value.value,
                  hint.empty() ? "; one of quantize, dequantize, kmeans, attention" : hint));
}

void read_quantize(const View &view, Job &job) {
  QuantizeOptions &o = job.quantize;
  o.format = view.text("format");
  o.group_size = static_cast<int>(view.integer("group_size"));
  o.granularity = view.text("granularity");
  o.scale = view.text("scale");
  o.nonfinite = view.text("nonfinite");
  o.rounding = view.text("rounding");
  o.seed = static_cast<std::uint64_t>(view.integer("seed"));
}

/// A start is a rule's name or a file; a mistyped rule must not become a missing file.
Status read_init(const Document &document, const View &view, const std::string &directory,
                 Job &job) {
  const std::string init = view.text("init");
  if (std::find(std::begin(kInits), std::end(kInits), init) != std::end(kInits)) {
    job.kmeans.init = init;
    return {};
  }
  if (init.find('.') == std::string::npos && init.find('/') == std::string::npos)
    return document.error(view.node("init")->place,
                          fmt::format("init: unknown rule '{}'{}", init, [&] {
                            const std::string hint = did_you_mean(init, kInits);
                            return hint.empty() ? std::string(
                                                      "; k-means++, k-means||, "
                                                      "random or an array file")
                                                : hint;
                          }()));
  job.kmeans.init = "given";
  job.inputs["init"] = config::absolute_path(init, directory);
  return {};
}

void read_kmeans(const View &view, Job &job) {
  KMeansOptions &o = job.kmeans;
  o.k = view.integer("k");
  o.n_init = static_cast<int>(view.integer("n_init"));
  o.max_iter = static_cast<int>(view.integer("max_iter"));
  o.tol = view.number("tol");
  o.seed = static_cast<std::uint64_t>(view.integer("seed"));
  o.int8 = view.boolean("int8");
}

void read_attention(const View &view, Job &job) {
  AttentionOptions &o = job.attention;
  const std::string causal = view.text("causal");
  o.causal = causal == "top_left"                           ? SY_CAUSAL_TOP_LEFT
             : causal == "true" || causal == "bottom_right" ? SY_CAUSAL_BOTTOM_RIGHT
                                                            : SY_CAUSAL_NONE;
  if (view.has("window")) o.window = view.integer("window");
  if (view.has("softcap")) o.softcap = static_cast<float>(view.number("softcap"));
  if (view.has("scale")) o.scale = static_cast<float>(view.number("scale"));
  o.return_lse = job.outputs.contains("lse");
}

Status read_filter(const Document &document, const View &view, Job &job) {
  const Node *node = view.node("tensors");
  if (node == nullptr) return {};
  const View filter(*node, *config::job_section(job.op)->find("tensors")->section);
  job.tensors.given = true;
  job.tensors.include = filter.list("include");
  job.tensors.exclude = filter.list("exclude");
  const auto out = job.outputs.find("out");
  if (out != job.outputs.end() && !out->second.ends_with(".safetensors"))
    return document.error(view.node("output")->place,
                          "output: a job over a model's tensors writes a .safetensors file");
  return {};
}

Result<Job> read_job(const Document &document, const Node &node, std::size_t number,
                     const std::string &directory) {
  auto section = section_of(document, node, number);
  if (!section) return tl::unexpected(section.error());
  if (auto s = config::check(document, node, **section); !s) return tl::unexpected(s.error());
  const View view(node, **section);
  Job job;
  job.op = view.text("op");
  job.line = node.place.line;
  job.name = view.has("name") ? view.text("name") : fmt::format("job {}", number);
  job.inputs = absolute(view.slots("input"), directory);
  job.outputs = absolute(view.slots("output"), directory);
  job.dtype = view.text("dtype");
  job.compare = view.list("compare");
  job.compare_limit = view.integer("compare_limit");
  job.repeat = static_cast<int>(view.integer("repeat"));
  Status status;
  if (job.op == "quantize") read_quantize(view, job);
  if (job.op == "quantize" || job.op == "dequantize") status = read_filter(document, view, job);
  if (job.op == "kmeans") {
    read_kmeans(view, job);
    status = read_init(document, view, directory, job);
  }
  if (job.op == "attention") read_attention(view, job);
  if (!status) return tl::unexpected(status.error());
  return job;
}

Result<RunConfig> read_run(Document &document, const std::vector<std::string> &overrides) {
  for (const std::string &text : overrides)
    if (auto s = document.set(text); !s) return tl::unexpected(s.error());
  if (auto s = config::check_root(document, config::run_section()); !s)
    return tl::unexpected(s.error());
  RunConfig run;
  run.path = document.path();
  run.directory = config::directory_of(document.path());
  const Entry *engine = document.root().find("engine");
  auto options = config::engine_options(document, engine == nullptr ? nullptr : &engine->value,
                                        run.directory, Options{});
  if (!options) return tl::unexpected(options.error());
  run.engine = *std::move(options);
  const Entry *jobs = document.root().find("jobs");
  std::set<std::string> names;
  for (const Node &node : jobs->value.items) {
    auto job = read_job(document, node, run.jobs.size() + 1, run.directory);
    if (!job) return tl::unexpected(job.error());
    if (!names.insert(job->name).second)
      return document.error(
          node.find("name") == nullptr ? node.place : node.find("name")->value.place,
          fmt::format("two jobs are named '{}'", job->name));
    run.jobs.push_back(*std::move(job));
  }
  if (run.jobs.empty()) return document.error(jobs->place, "jobs: there is none");
  return run;
}

}  // namespace

bool TensorFilter::matches(std::string_view name) const {
  const std::string text(name);
  const auto any = [&](const std::vector<std::string> &patterns) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const std::string &pattern) {
      return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
    });
  };
  return (include.empty() || any(include)) && !any(exclude);
}

Result<RunConfig> load_run_config(const std::string &path,
                                  const std::vector<std::string> &overrides) {
  auto document = Document::load(path);
  if (!document) return tl::unexpected(document.error());
  return read_run(*document, overrides);
}

Result<RunConfig> parse_run_config(const std::string &text, const std::string &path,
                                   const std::vector<std::string> &overrides) {
  auto document = Document::parse(text, path);
  if (!document) return tl::unexpected(document.error());
  return read_run(*document, overrides);
}

}  // namespace switchyard

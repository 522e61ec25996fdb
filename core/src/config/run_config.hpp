// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Run files: what `switchyard run CONFIG.yaml` executes. Parsed and fully checked; files named in
/// it are not opened here. docs/configuration.md lists every key.

#include <map>
#include <string>
#include <switchyard/engine.hpp>
#include <vector>

namespace switchyard {

/// Which tensors of a model file a job takes: glob patterns ('*', '?', '[a-z]') over tensor names.
struct TensorFilter {
  std::vector<std::string> include;  ///< empty = all
  std::vector<std::string> exclude;  ///< wins over include
  bool given = false;                ///< the job has `tensors:`; its input is a model file
  bool matches(std::string_view name) const;
};

/// One entry of `jobs:`. Only the parameter struct of `op` is meaningful; its tensor views (initial
/// centroids, weights, mask, sinks) are absent: the files are in `inputs`.
struct Job {
  std::string name;  ///< unique in the file; "job 1" and so on where not given
  std::string op;    ///< quantize | dequantize | kmeans | attention
  int line = 0;      ///< where the job starts in the run file, 1-based

  /// Slot -> absolute FILE or FILE:KEY, as io/array_file.hpp reads them.
  ///   quantize, dequantize: x;   kmeans: x [, sample_weight] [, init: initial centroids]
  ///   attention: q, k, v [, mask] [, sinks]
  std::map<std::string, std::string> inputs;
  /// Slot -> absolute file to write; what is missing is not written.
  ///   quantize, dequantize: out;   kmeans: labels, centroids, counts, picture;
  ///   attention: out, lse
  std::map<std::string, std::string> outputs;
  std::string dtype;  ///< cast of the (floating) inputs on load: "", "f32", "f16" or "bf16"

  QuantizeOptions quantize;
  TensorFilter tensors;  ///< quantize, dequantize
  KMeansOptions kmeans;  ///< init is "given" when inputs has "init"
  AttentionOptions attention;

  /// Backends (instance or plugin names) to time and check against on the same inputs.
  std::vector<std::string> compare;
  /// Comparing uses at most this many values of the main input (whole leading rows or query
  /// positions, never less than one); 0 = all.
  std::int64_t compare_limit = 0;
  int repeat = 1;  ///< runs of the op; the median time is reported
};

struct RunConfig {
  std::string path;       ///< of the file, as given
  std::string directory;  ///< absolute; relative paths in the file start here
  Options engine;  ///< defaults < preset < the file's `engine:`; the environment is not applied
  std::vector<Job> jobs;
};

/// Reads, overrides, checks. `overrides` are "dotted.path=value" texts as given to --set, such as
/// "engine.threads=2" or "jobs.0.k=32" (a job's name may stand for its number). Errors: io (the
/// file), usage (an override's form), config (all else, with line, column and excerpt, or naming
/// the --set text).
Result<RunConfig> load_run_config(const std::string &path,
                                  const std::vector<std::string> &overrides = {});

/// The same from text; `path` is used in messages and for the directory.
Result<RunConfig> parse_run_config(const std::string &text, const std::string &path,
                                   const std::vector<std::string> &overrides = {});

}  // namespace switchyard

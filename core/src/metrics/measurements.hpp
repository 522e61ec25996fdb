// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Measurements that come with the library (config/measurements/*.json, written by `switchyard
/// bench
/// --resume`): what backends that are not loaded here did on a like machine. Data, not knowledge of
/// the code: the backends' names are in the files alone.

#include <span>
#include <string>
#include <string_view>
#include <switchyard/engine.hpp>
#include <vector>

namespace switchyard {

struct Measurements {
  struct Timing {
    std::string backend;
    double best_ms = 0;  ///< the minimum: what other programs took does not count
  };
  struct Row {
    std::string op, shape;        ///< the whole description
    std::vector<Timing> timings;  ///< of right answers
  };
  std::string label, fingerprint, cpu;
  int threads = 0;
  std::vector<Row> rows;
};

/// Those compiled into the library. A file that cannot be read is left out.
const std::vector<Measurements> &shipped_measurements();
/// One file's text.
Result<Measurements> parse_measurements(std::string_view text);

/// A class of calls that this process made.
struct Usage {
  std::string op, shape, backend;
};

/// Backends that are not loaded here and were faster than the one that answers, on a machine with
/// the same fingerprint (processor, its flags, cores) and as many threads, at sizes within a factor
/// of four: best gain for each plugin and operation. `plugins` tells what is loaded and why others
/// are not.
std::vector<Recommendation> recommend_plugins(std::span<const Measurements> known,
                                              std::string_view fingerprint, int threads,
                                              std::span<const PluginInfo> plugins,
                                              std::span<const Usage> usage);

}  // namespace switchyard

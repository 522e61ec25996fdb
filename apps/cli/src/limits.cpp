// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <fmt/format.h>

#include "text.hpp"

namespace switchyard::cli {

Json bandwidth_json(const MachineLimits &limits) {
  Json list = Json::array();
  for (const BandwidthLimit &l : limits.bandwidth)
    for (const auto &[what, rate] :
         {std::pair("read", l.read), std::pair("write", l.write), std::pair("copy", l.copy)})
      list.push_back(Json{{"what", what},
                          {"where", l.level},
                          {"bytes", l.bytes},
                          {"threads", l.threads},
                          {"gb_per_s", rate / 1e9}});
  return list;
}

Json compute_json(const MachineLimits &limits) {
  Json list = Json::array();
  for (const ComputeLimit &l : limits.compute)
    list.push_back(Json{
        {"what", l.kind}, {"isa", l.isa}, {"threads", l.threads}, {"gflop_per_s", l.ops / 1e9}});
  return list;
}

std::string limits_text(const MachineLimits &limits) {
  Table memory({"level", "working set", "threads", "read", "write", "copy"}, "lrrrrr");
  for (const BandwidthLimit &l : limits.bandwidth)
    memory.add({l.level, byte_size(static_cast<double>(l.bytes)), std::to_string(l.threads),
                fmt::format("{:.1f} GB/s", l.read / 1e9), fmt::format("{:.1f} GB/s", l.write / 1e9),
                fmt::format("{:.1f} GB/s", l.copy / 1e9)});
  Table compute({"factors", "instructions", "threads", "peak"}, "llrr");
  for (const ComputeLimit &l : limits.compute)
    compute.add({l.kind, l.isa, std::to_string(l.threads),
                 fmt::format("{:.0f} G{}/s", l.ops / 1e9, l.kind == "int8" ? "OP" : "FLOP")});
  return memory.text("  ") + "\n" + compute.text("  ");
}

}  // namespace switchyard::cli

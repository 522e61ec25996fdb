// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What host and worker say to each other: one JSON argument in, lines of text out.

#include <string>
#include <switchyard/result.hpp>
#include <vector>

#include "op/shape.hpp"

namespace switchyard {

/// Probe a plugin file: map it, probe, create instances, list kernels.
struct ProbeRequest {
  std::string plugin, isa;
};

/// Gate kernels of one plugin on problems of one class.
struct GateRequest {
  std::string plugin, reference, op, isa;
  std::vector<std::string> kernels;  ///< full names, "quantize.f32_q4_0.block@avx512"
  std::vector<Shape> shapes;
  std::uint32_t threads = 1;
  bool background = false;  ///< of the host's side: see run_worker
};

std::string encode(const ProbeRequest &request);
std::string encode(const GateRequest &request);
Result<ProbeRequest> decode_probe(const std::string &text);
Result<GateRequest> decode_gate(const std::string &text);

/// The last line of an orderly run.
inline constexpr std::string_view kDone = "done";
/// "begin NAME", "pass NAME CHECKS", "fail NAME REASON"; for probes "unavailable REASON", or
/// "version VERSION" and "kernel NAME"; "fault TEXT" where the kernel begun last touched a guard
/// page, which ended the worker.
inline constexpr std::string_view kBegin = "begin ", kPass = "pass ", kFail = "fail ",
                                  kFault = "fault ", kUnavailable = "unavailable ",
                                  kVersion = "version ", kKernel = "kernel ";

/// The worker's side: answers on `out_fd`; returns the exit status.
int worker_probe(const ProbeRequest &request, int out_fd);
int worker_gate(const GateRequest &request, int out_fd);

/// What a probe found out.
struct ProbeAnswer {
  std::string failure;      ///< why the file is quarantined; "" = fine or merely unavailable here
  std::string unavailable;  ///< the plugin's own reason, or what is wrong with its structs
  std::string version;
  std::vector<std::string> kernels;  ///< full names
};
Result<ProbeAnswer> describe_in_worker(const ProbeRequest &request);

/// The host's side of a probe. "" = fine or merely unavailable here; else why the file is
/// quarantined. Fails only when no worker can be had.
Result<std::string> probe_in_worker(const ProbeRequest &request);

struct GateVerdict {
  std::string kernel;
  std::string failure;  ///< "" = passed
};
/// The host's side of a gate; one verdict a kernel, also when the worker died on one of them.
Result<std::vector<GateVerdict>> gate_in_worker(GateRequest request);

}  // namespace switchyard

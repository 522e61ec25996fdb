// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A plugin that is never mapped into this process: a worker holds it, and its kernels are
/// stand-ins that send each call there. Calls of one plugin go one after the other. No state is
/// kept between calls.

#include <memory>

#include "loader/plugin.hpp"
#include "worker/protocol.hpp"

namespace switchyard::remote {

struct RemotePlugin {
  std::string version, build_id;
  std::uint32_t flags = 0;                ///< SY_PLUGIN_*
  std::string unavailable;                ///< the plugin's own reason why it cannot be used here
  std::vector<DeviceInstance> instances;  ///< the worker ends with the last of them
};

/// Starts a worker for the file. A worker that dies, or a call that takes far longer than its work
/// explains, makes all the plugin's kernels answer SY_E_DEVICE_LOST from then on.
Result<RemotePlugin> open_remote(const PluginFile &file, const std::string &isa);

/// The worker's side; `request` names the plugin. Returns the exit status.
int worker_remote(const ProbeRequest &request);

}  // namespace switchyard::remote

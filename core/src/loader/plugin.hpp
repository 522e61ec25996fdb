// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A plugin mapped into this process, and the instances an engine makes of it.

#include <memory>
#include <string>
#include <vector>

#include <switchyard/plugin.h>
#include "loader/plugin_file.hpp"

namespace switchyard {

struct MappedPlugin {
  PluginFile file;
  const sy_plugin *api = nullptr;  ///< valid until the process ends
};

/// dlopen (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) and every check of the exported struct. Runs the
/// file's constructors: for files never seen before, only inside the worker.
Result<MappedPlugin> map_plugin(const PluginFile &file);

struct DeviceInstance {
  std::string name;  ///< "avx512", or "opencl:0" where the plugin has several devices
  std::string device, runtime_id;
  std::int32_t kind = SY_DEVICE_HOST;  ///< sy_device_kind of the memory it works on
  /// A driver's device that is this very processor: the driver compiles what is used first, for the
  /// same cores as everybody else.
  bool slow_start = false;
  std::shared_ptr<sy_instance> instance;
  std::vector<const sy_kernel *> kernels;  ///< checked; unknown operations left out
};

/// Probes and creates one instance per device. Errors carry the plugin's own reason.
Result<std::vector<DeviceInstance>> make_instances(const MappedPlugin &plugin, const sy_host *host);

}  // namespace switchyard

// SPDX-License-Identifier: Apache-2.0
/// The side that holds the plugin: answers questions and runs calls until the host is gone.
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/status_codes.hpp"
#include "host/host.hpp"
#include "registry/candidates.hpp"
#include "worker/remote.hpp"
#include "worker/remote_wire.hpp"

namespace switchyard::remote {
namespace {

constexpr std::uint64_t kProgressEveryNs = 5'000'000;

/// The memory file, mapped as far as the host has made it.
class Memory {
 public:
  std::byte *get(std::uint64_t bytes) noexcept {
    if (bytes == bytes_) return at_;
    if (at_ != nullptr) munmap(at_, bytes_);
    void *mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kMemory, 0);
    at_ = mapped == MAP_FAILED ? nullptr : static_cast<std::byte *>(mapped);
    bytes_ = bytes;
    return at_;
  }

 private:
  std::byte *at_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// The host's progress hook, asked now and then.
struct Progress {
  std::uint64_t last = 0;
  std::int32_t answer = 0;

  static std::int32_t hook(void *arg, double done) {
    auto &p = *static_cast<Progress *>(arg);
    const std::uint64_t now = now_ns();
    if (p.answer != 0 || now - p.last < kProgressEveryNs) return p.answer;
    p.last = now;
    Reply told;
    told.ask = Ask::progress;
    told.done = done;
    Message answer;
    if (send(kSocket, &told, sizeof(told), MSG_NOSIGNAL) != sizeof(told) ||
        recv(kSocket, &answer, sizeof(answer), 0) != sizeof(answer))
      _exit(1);  // the host is gone
    p.answer = answer.answer;
    return p.answer;
  }
};

nlohmann::json manifest(const MappedPlugin &plugin, const std::vector<DeviceInstance> &instances) {
  const auto text = [](const char *s) { return std::string(s == nullptr ? "" : s); };
  nlohmann::json doc{{"version", text(plugin.api->version)},
                     {"build_id", text(plugin.api->build_id)},
                     {"flags", plugin.api->flags},
                     {"instances", nlohmann::json::array()}};
  for (const DeviceInstance &i : instances) {
    nlohmann::json kernels = nlohmann::json::array();
    for (const sy_kernel *k : i.kernels)
      kernels.push_back({{"op", k->op},
                         {"name", k->name},
                         {"numerics_class", k->numerics_class},
                         {"traits", k->traits}});
    doc["instances"].push_back({{"name", i.name},
                                {"device", i.device},
                                {"runtime_id", i.runtime_id},
                                {"slow_start", i.slow_start},
                                {"kernels", kernels}});
  }
  return doc;
}

bool say(const nlohmann::json &doc) {
  const std::string text = doc.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return send(kSocket, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

int refuse(const Error &error) {
  say({{"unavailable", error.message}});
  return 0;
}

void answer(const Candidate &c, const Message &message, std::byte *memory, Reply &reply) {
  const auto &wire = *reinterpret_cast<const WireCall *>(memory);
  CallFrame frame(wire.n_inputs, wire.n_outputs);
  open_call(memory, frame);
  Progress progress;
  if (wire.has_progress != 0 && message.ask == Ask::run) {
    progress.last = now_ns();
    frame.call().progress = Progress::hook;
    frame.call().progress_arg = &progress;
  }
  reply.error = make_abi_error();
  switch (message.ask) {
    case Ask::supports:
      reply.status = c.kernel->supports(c.kernel, c.instance.get(), &frame.call(), &reply.error);
      break;
    case Ask::estimate:
      reply.value = c.estimate(frame.call());
      break;
    case Ask::run:
      reply.status = invoke(c, frame.call(), &reply.error);
      break;
    case Ask::progress:
      reply.status = SY_E_INTERNAL;
      break;
  }
}

}  // namespace

int worker_remote(const ProbeRequest &request) {
  // Also while a kernel hangs, this process does not outlive its host.
  std::thread([] {
    pollfd host{kSocket, 0, 0};
    while (poll(&host, 1, -1) < 0) {
    }
    _exit(1);
  }).detach();
  std::map<std::string, std::string> settings;
  if (!request.isa.empty()) settings["isa"] = request.isa;
  auto file = check_plugin_file(request.plugin);
  if (!file) return refuse(file.error());
  const auto plugin = map_plugin(*file);
  if (!plugin) return refuse(plugin.error());
  const auto instances = make_instances(*plugin, make_host(settings));
  if (!instances) return refuse(instances.error());
  const auto candidates = make_candidates(*plugin, *instances);
  if (!say(manifest(*plugin, *instances))) return 1;
  Memory memory;
  Message message;
  while (recv(kSocket, &message, sizeof(message), 0) == sizeof(message)) {
    Reply reply;
    reply.ask = message.ask;
    std::byte *mapped = memory.get(message.bytes);
    if (mapped == nullptr || message.kernel >= candidates.size())
      reply.status = SY_E_INTERNAL;
    else
      answer(*candidates[message.kernel], message, mapped, reply);
    if (send(kSocket, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply)) return 1;
  }
  return 0;
}

}  // namespace switchyard::remote

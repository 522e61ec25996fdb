// SPDX-License-Identifier: Apache-2.0
#include "worker/remote.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/status_codes.hpp"
#include "host/host.hpp"
#include "op/op_spec.hpp"
#include "worker/client.hpp"
#include "worker/remote_wire.hpp"

namespace switchyard::remote {
namespace {

constexpr int kStartMs = 10'000, kQuestionMs = 10'000;
constexpr std::size_t kMostManifest = 1 << 17;

/// A generous bound: no kernel worth calling is slower than this.
int deadline_ms(OpIndex op, const sy_call &call) noexcept {
  const Work w = all_ops()[op]->work(call);
  return static_cast<int>(std::min(30e3 + w.flops / 50e3 + w.bytes / 20e3, 24.0 * 3600e3));
}

class Connection;

/// The stand-in of one kernel. The strings live here.
struct RemoteKernel {
  Connection *connection = nullptr;
  std::uint32_t index = 0;
  OpIndex op = 0;
  std::string op_id, name, numerics_class;
  sy_kernel kernel{};
};

class Connection {
 public:
  static Result<std::shared_ptr<Connection>> start(const PluginFile &file, const std::string &isa);
  ~Connection();
  Connection(const Connection &) = delete;
  Connection &operator=(const Connection &) = delete;

  const nlohmann::json &manifest() const noexcept { return manifest_; }
  const sy_kernel *add_kernel(const nlohmann::json &entry, std::uint32_t index);

  std::int32_t question(const RemoteKernel &kernel, Ask ask, const sy_call &call, sy_error *error,
                        std::uint64_t *value) noexcept;
  std::int32_t run(const RemoteKernel &kernel, const sy_call &call, sy_error *error) noexcept;

 private:
  Connection() = default;
  bool reserve(std::uint64_t bytes) noexcept;
  /// Waits for the reply; progress is answered on the way. False when the worker is gone.
  bool await(Reply &reply, int limit_ms, const sy_call *call) noexcept;
  std::int32_t lost(sy_error *error) noexcept;
  void end(std::string why) noexcept;

  std::mutex mutex_;
  pid_t pid_ = -1;
  int socket_ = -1, memory_fd_ = -1;
  std::byte *memory_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::string gone_;  ///< why there is no worker any more
  std::string path_;
  nlohmann::json manifest_;
  std::vector<std::unique_ptr<RemoteKernel>> kernels_;
};

Result<std::shared_ptr<Connection>> Connection::start(const PluginFile &file,
                                                      const std::string &isa) {
  std::shared_ptr<Connection> c(new Connection);
  c->path_ = file.path;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(ErrorCode::backend, fmt::format("no socket for a worker: {}", strerror(errno)));
  c->socket_ = ends[0];
  c->memory_fd_ = memfd_create("switchyard", MFD_CLOEXEC);
  if (c->memory_fd_ < 0 || !c->reserve(kData)) {
    close(ends[1]);
    return fail(ErrorCode::backend, "no shared memory for a worker");
  }
  const auto pid = spawn_worker({"remote", encode(ProbeRequest{file.path, isa})},
                                {{ends[1], kSocket}, {c->memory_fd_, kMemory}});
  close(ends[1]);
  if (!pid) return tl::unexpected(pid.error());
  c->pid_ = *pid;
  std::string text(kMostManifest, '\0');
  pollfd ready{c->socket_, POLLIN, 0};
  const ssize_t got =
      poll(&ready, 1, kStartMs) == 1 ? recv(c->socket_, text.data(), text.size(), 0) : 0;
  if (got > 0) {
    text.resize(static_cast<std::size_t>(got));
    c->manifest_ = nlohmann::json::parse(text, nullptr, false);
  }
  if (c->manifest_.is_object()) return c;
  c->end(got == 0 && ready.revents == 0 ? "hung while loading" : "");
  return fail(ErrorCode::backend, fmt::format("{}: its worker {}", file.path, c->gone_));
}

Connection::~Connection() {
  end("was ended");
  if (memory_ != nullptr) munmap(memory_, bytes_);
  if (memory_fd_ >= 0) close(memory_fd_);
}

/// `why` "" = what its exit status tells.
void Connection::end(std::string why) noexcept {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
  if (pid_ <= 0) return;
  const std::string happened = end_worker(pid_, why.empty() ? 1000 : 0);
  pid_ = -1;
  gone_ = why.empty() ? happened : std::move(why);
}

bool Connection::reserve(std::uint64_t bytes) noexcept {
  if (bytes <= bytes_) return true;
  const std::uint64_t rounded = (bytes + bytes / 4 + 4095) / 4096 * 4096;
  if (ftruncate(memory_fd_, static_cast<off_t>(rounded)) != 0) return false;
  void *mapped = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd_, 0);
  if (mapped == MAP_FAILED) return false;
  if (memory_ != nullptr) munmap(memory_, bytes_);
  memory_ = static_cast<std::byte *>(mapped);
  bytes_ = rounded;
  return true;
}

bool Connection::await(Reply &reply, int limit_ms, const sy_call *call) noexcept {
  const std::uint64_t limit = static_cast<std::uint64_t>(limit_ms) * 1'000'000;
  std::uint64_t deadline = now_ns() + limit, granted = 0;
  while (true) {
    const std::uint64_t now = now_ns();
    pollfd ready{socket_, POLLIN, 0};
    const int left = now >= deadline ? 0 : static_cast<int>((deadline - now) / 1'000'000 + 1);
    const int got = poll(&ready, 1, left);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) {
      const std::uint64_t waited = std::min(waited_for_processor_ns(pid_), (kPatience - 1) * limit);
      if (waited <= granted + limit / 100)
        return end(fmt::format("hung; it was ended after {} ms", limit_ms)), false;
      deadline += waited - granted;
      granted = waited;
      continue;
    }
    if (recv(socket_, &reply, sizeof(reply), 0) != sizeof(reply)) return end(""), false;
    if (reply.ask != Ask::progress || call == nullptr) return true;
    Message answer{Ask::progress, 0, bytes_, 0, 0};
    answer.answer = call->progress(call->progress_arg, reply.done);
    if (send(socket_, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
      return end(""), false;
  }
}

std::int32_t Connection::lost(sy_error *error) noexcept {
  to_abi(Error{ErrorCode::backend,
               fmt::format("the worker that holds {} {}", path_, gone_),
               {},
               0,
               0,
               -1,
               {}},
         error);
  return SY_E_DEVICE_LOST;
}

std::int32_t Connection::question(const RemoteKernel &kernel, Ask ask, const sy_call &call,
                                  sy_error *error, std::uint64_t *value) noexcept {
  const std::lock_guard lock(mutex_);
  if (socket_ < 0) return lost(error);
  if (!wire_size(call)) {
    to_abi(Error{ErrorCode::unsupported, "the call cannot be sent to a worker", {}, 0, 0, -1, {}},
           error);
    return SY_E_UNSUPPORTED;
  }
  send_call(call, false, memory_);
  const Message message{ask, kernel.index, bytes_, 0, 0};
  Reply reply;
  if (send(socket_, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
    end("");
    return lost(error);
  }
  if (!await(reply, kQuestionMs, nullptr)) return lost(error);
  if (value != nullptr) *value = reply.value;
  if (reply.status != SY_OK && error != nullptr && error->struct_size >= sizeof(sy_error))
    *error = reply.error;
  return reply.status;
}

std::int32_t Connection::run(const RemoteKernel &kernel, const sy_call &call,
                             sy_error *error) noexcept {
  const std::lock_guard lock(mutex_);
  if (socket_ < 0) return lost(error);
  const auto needed = wire_size(call);
  if (!needed || !reserve(*needed)) {
    to_abi(Error{ErrorCode::out_of_memory, "no shared memory for the call", {}, 0, 0, -1, {}},
           error);
    return SY_E_OUT_OF_MEMORY;
  }
  send_call(call, true, memory_);
  const Message message{Ask::run, kernel.index, bytes_, 0, 0};
  Reply reply;
  if (send(socket_, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
    end("");
    return lost(error);
  }
  if (!await(reply, deadline_ms(kernel.op, call), &call)) return lost(error);
  if (reply.status == SY_OK) fetch_outputs(call, memory_);
  if (reply.status != SY_OK && error != nullptr && error->struct_size >= sizeof(sy_error))
    *error = reply.error;
  return reply.status;
}

// The stand-ins' functions.

const RemoteKernel &remote_of(const sy_kernel *self) noexcept {
  return *static_cast<const RemoteKernel *>(self->self_data);
}

std::int32_t supports(const sy_kernel *self, sy_instance *, const sy_call *call, sy_error *reason) {
  const RemoteKernel &k = remote_of(self);
  return k.connection->question(k, Ask::supports, *call, reason, nullptr);
}

std::uint64_t estimate(const sy_kernel *self, sy_instance *, const sy_call *call) {
  const RemoteKernel &k = remote_of(self);
  std::uint64_t value = 0;
  return k.connection->question(k, Ask::estimate, *call, nullptr, &value) == SY_OK ? value : 0;
}

std::int32_t run(const sy_kernel *self, sy_instance *, const sy_call *call, sy_error *error) {
  const RemoteKernel &k = remote_of(self);
  return k.connection->run(k, *call, error);
}

const sy_kernel *Connection::add_kernel(const nlohmann::json &entry, std::uint32_t index) {
  auto k = std::make_unique<RemoteKernel>();
  k->op_id = entry.value("op", "");
  const auto op = find_op(k->op_id);
  if (!op) return nullptr;
  k->connection = this;
  k->index = index;
  k->op = *op;
  k->name = entry.value("name", "");
  k->numerics_class = entry.value("numerics_class", "");
  k->kernel.struct_size = sizeof(sy_kernel);
  k->kernel.traits = entry.value("traits", 0u) & ~std::uint32_t{SY_TRAIT_DEVICE_MEMORY};
  k->kernel.op = k->op_id.c_str();
  k->kernel.name = k->name.c_str();
  k->kernel.numerics_class = k->numerics_class.c_str();
  k->kernel.self_data = k.get();
  k->kernel.supports = supports;
  k->kernel.estimate = estimate;
  k->kernel.run = remote::run;
  kernels_.push_back(std::move(k));
  return &kernels_.back()->kernel;
}

}  // namespace

Result<RemotePlugin> open_remote(const PluginFile &file, const std::string &isa) {
  auto started = Connection::start(file, isa);
  if (!started) return tl::unexpected(started.error());
  const std::shared_ptr<Connection> &connection = *started;
  const nlohmann::json &m = connection->manifest();
  RemotePlugin out;
  out.version = m.value("version", "");
  out.build_id = m.value("build_id", "");
  out.flags = m.value("flags", 0u);
  out.unavailable = m.value("unavailable", "");
  std::uint32_t index = 0;
  for (const auto &i : m.value("instances", nlohmann::json::array())) {
    DeviceInstance instance;
    instance.name = i.value("name", "");
    instance.device = i.value("device", "");
    instance.runtime_id = i.value("runtime_id", "");
    instance.slow_start = i.value("slow_start", false);
    // Never dereferenced: the kernels know their connection, which this keeps alive.
    instance.instance =
        std::shared_ptr<sy_instance>(connection, reinterpret_cast<sy_instance *>(connection.get()));
    for (const auto &k : i.value("kernels", nlohmann::json::array()))
      if (const sy_kernel *kernel = connection->add_kernel(k, index++))
        instance.kernels.push_back(kernel);
    out.instances.push_back(std::move(instance));
  }
  return out;
}

}  // namespace switchyard::remote

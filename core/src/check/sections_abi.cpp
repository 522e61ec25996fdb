// SPDX-License-Identifier: Apache-2.0
/// The plugin under hosts older and newer than the one it was built for: shorter structs before a
/// forbidden page, longer ones with unknown members.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "base/status_codes.hpp"
#include "check/section.hpp"
#include "host/float_state.hpp"

namespace switchyard::check {
namespace {

/// A copy of a struct, cut or lengthened to `size` bytes, whose last byte is the last of a page
/// before a forbidden one. What is beyond T is 0xFF.
class AtPageEnd {
 public:
  AtPageEnd(const void *from, std::size_t known, std::size_t size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = 2 * page;
    memory_ = static_cast<std::byte *>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory_ + page, page, PROT_NONE);
    at_ = memory_ + page - size;
    std::memset(memory_, 0xFF, page);
    std::memcpy(at_, from, std::min(known, size));
  }
  ~AtPageEnd() { munmap(memory_, mapped_); }
  AtPageEnd(const AtPageEnd &) = delete;
  AtPageEnd &operator=(const AtPageEnd &) = delete;
  template <class T>
  T *as() const noexcept {
    return reinterpret_cast<T *>(at_);
  }

 private:
  std::byte *memory_, *at_;
  std::size_t mapped_;
};

/// The sizes of one kind of host.
struct Host {
  const char *name;
  std::uint16_t minor;
  std::size_t more;  ///< bytes that this version does not know, behind each growing struct
};

constexpr Host kHosts[] = {{"an older host: structs of ABI 1.0, nothing behind them", 0, 0},
                           {"a newer host: longer structs, unknown members", 7, 64}};

/// Instances made with such a host's structs; "" or what went wrong.
std::string make_under(const Bench &bench, const Host &kind,
                       std::vector<std::unique_ptr<Candidate>> &out) {
  sy_host host = *bench.host;
  host.struct_size = static_cast<std::uint32_t>(sizeof(host) + kind.more);
  host.abi_minor = kind.minor;
  // Plugins may keep the pointer: it lives as long as the process.
  static auto *const hosts = new std::vector<std::unique_ptr<AtPageEnd>>;
  const AtPageEnd *at =
      hosts
          ->emplace_back(std::make_unique<AtPageEnd>(&host, sizeof(host), sizeof(host) + kind.more))
          .get();
  sy_device_info info{};
  info.struct_size = static_cast<std::uint32_t>(sizeof(info) + kind.more);
  const AtPageEnd info_at(&info, sizeof(info), sizeof(info) + kind.more);
  sy_error error = make_abi_error();
  error.struct_size = static_cast<std::uint32_t>(sizeof(error) + kind.more);
  const AtPageEnd error_at(&error, sizeof(error), sizeof(error) + kind.more);
  const sy_plugin &api = *bench.plugin.api;
  if (api.probe(at->as<sy_host>(), error_at.as<sy_error>()) != SY_OK)
    return fmt::format("probe refuses it: {}", error_at.as<sy_error>()->message);
  if (api.device_count(at->as<sy_host>()) == 0) return "it finds no device there";
  if (api.device_info(at->as<sy_host>(), 0, info_at.as<sy_device_info>(),
                      error_at.as<sy_error>()) != SY_OK)
    return fmt::format("device_info refuses it: {}", error_at.as<sy_error>()->message);
  if (info_at.as<sy_device_info>()->name[0] == '\0') return "device_info gives no name";
  if (info_at.as<sy_device_info>()->runtime_id[0] == '\0') return "device_info gives no runtime_id";
  auto instances = make_instances(bench.plugin, at->as<sy_host>());
  if (!instances) return instances.error().message;
  out = make_candidates(bench.plugin, *instances);
  return "";
}

/// One right call through such a host's structs.
std::string run_under(const Bench &bench, const Host &kind, const Candidate &candidate) {
  const auto trial = first_supported(candidate);
  if (trial == nullptr) return "";
  const auto want = Trial::make(candidate, trial->problem().shape);
  const OpSpec &op = *all_ops()[candidate.op];
  if (!bench.reference.run(candidate.op, want->call())) return "the reference failed";
  const std::uint64_t workspace = candidate.workspace_size(trial->call());
  std::vector<std::byte> memory(workspace + 64);
  // Hosts send longer parameters only where a call uses what is new in them.
  const AtPageEnd params(trial->call().params, trial->call().params_size,
                         trial->call().params_size);
  sy_call call = trial->call();
  call.struct_size = static_cast<std::uint32_t>(sizeof(call) + kind.more);
  call.params = params.as<void>();
  call.workspace = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
  call.workspace_size = workspace;
  const AtPageEnd call_at(&call, sizeof(call), sizeof(call) + kind.more);
  const FloatStateGuard guard;
  if (const auto status = candidate.kernel->supports(candidate.kernel, candidate.instance.get(),
                                                     call_at.as<sy_call>(), nullptr);
      status != SY_OK)
    return "supports refuses there what it accepts from this host";
  if (candidate.kernel->run(candidate.kernel, candidate.instance.get(), call_at.as<sy_call>(),
                            nullptr) != SY_OK)
    return "run failed";
  const auto on_reference = [&](const sy_call &c) { return bench.reference.run(candidate.op, c); };
  return op.compare(trial->problem(), trial->call(), want->call(), on_reference).value_or("");
}

/// An option nobody knows is an error, told in as much of an sy_error as there is.
std::string unknown_option(const Bench &bench) {
  const sy_option option{"no_such_option", "1"};
  const sy_option *options[] = {&option};
  sy_error error = make_abi_error();
  sy_instance *instance = nullptr;
  const auto status = bench.plugin.api->create(bench.host, 0, options, 1, &instance, &error);
  if (status == SY_OK) {
    bench.plugin.api->destroy(instance);
    return "create accepts an option that does not exist";
  }
  if (error.message[0] == '\0') return "create refuses an unknown option, but without words";
  error = make_abi_error();
  error.struct_size = offsetof(sy_error, message);
  const AtPageEnd small(&error, error.struct_size, error.struct_size);
  if (bench.plugin.api->create(bench.host, 0, options, 1, &instance, small.as<sy_error>()) == SY_OK)
    return "create accepts an option that does not exist";
  return "";
}

}  // namespace

void check_abi(const Bench &bench) {
  bench.begin("", "an unknown option is refused with words, within the error's struct_size");
  bench.verdict("", "an unknown option is refused with words, within the error's struct_size",
                unknown_option(bench));
  for (const Host &kind : kHosts) {
    bench.begin("", kind.name);
    std::vector<std::unique_ptr<Candidate>> candidates;
    const std::string wrong = make_under(bench, kind, candidates);
    bench.verdict("", kind.name, wrong);
    if (!wrong.empty()) continue;
    for (const auto &c : candidates) {
      bench.begin(c->name, kind.name);
      bench.verdict(c->name, kind.name, run_under(bench, kind, *c));
    }
  }
}

}  // namespace switchyard::check

// SPDX-License-Identifier: Apache-2.0
/// The rules that are about manners: same bits again, states, null handles, workspaces, the
/// processor's state, silence.
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/status_codes.hpp"
#include "check/section.hpp"
#include "host/float_state.hpp"
#include "host/host.hpp"

namespace switchyard::check {
namespace {

constexpr std::size_t kProblems = 12;
constexpr std::array kSignals{SIGINT, SIGTERM, SIGSEGV, SIGBUS, SIGFPE,
                              SIGILL, SIGABRT, SIGCHLD, SIGUSR1};

using Handlers = std::array<struct sigaction, kSignals.size()>;

Handlers handlers() {
  Handlers out{};
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], nullptr, &out[i]);
  return out;
}

bool same_handlers(const Handlers &a, const Handlers &b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].sa_sigaction != b[i].sa_sigaction) return false;
  return true;
}

std::string again_and_bits(const Bench &bench, const Candidate &c, const Shape &shape) {
  const auto trial = Trial::make(c, shape);
  if (auto wrong = trial->run(c); !wrong.empty()) return wrong;
  const auto first = trial->bytes();
  const std::uint32_t traits = c.kernel->traits;
  if ((traits & SY_TRAIT_DETERMINISTIC) != 0) {
    if (auto wrong = trial->run(c); !wrong.empty()) return wrong;
    if (trial->bytes() != first)
      return fmt::format("{}: a second run gave other bytes, but SY_TRAIT_DETERMINISTIC is set",
                         shape.text());
    for (const std::uint32_t threads : {2u, 3u}) {
      trial->call().threads = threads;
      if (auto wrong = trial->run(c); !wrong.empty()) return wrong;
      if (trial->bytes() != first)
        return fmt::format("{}: {} threads gave other bytes, but SY_TRAIT_DETERMINISTIC is set",
                           shape.text(), threads);
    }
  }
  if ((traits & SY_TRAIT_BIT_EXACT) != 0) {
    const auto want = Trial::make(c, shape);
    if (!bench.reference.run(c.op, want->call())) return "the reference failed";
    if (want->bytes() != first)
      return fmt::format("{}: not the reference's bytes, but SY_TRAIT_BIT_EXACT is set",
                         shape.text());
  }
  return "";
}

std::string with_state(const Candidate &c, const Shape &shape) {
  const auto trial = Trial::make(c, shape);
  if (auto wrong = trial->run(c); !wrong.empty()) return wrong;
  const auto first = trial->bytes();
  std::uint64_t constant = 0;
  for (std::uint32_t i = 0; i < trial->call().n_inputs; ++i)
    if (trial->call().inputs[i] != nullptr) constant |= std::uint64_t{1} << i;
  for (const std::uint64_t inputs : {constant, std::uint64_t{2} & constant, std::uint64_t{0}}) {
    void *state = nullptr;
    sy_error error = make_abi_error();
    const FloatStateGuard guard;
    const auto status =
        c.kernel->prepare(c.kernel, c.instance.get(), &trial->call(), inputs, &state, &error);
    if (status != SY_OK) continue;  // allowed: the host goes on without
    trial->call().state = state;
    std::string wrong;
    for (int i = 0; i < 3 && wrong.empty(); ++i) wrong = trial->run(c);
    trial->call().state = nullptr;
    if (state != nullptr) c.kernel->release(c.kernel, c.instance.get(), state);
    if (!wrong.empty()) return wrong + " (with a state)";
    if (trial->bytes() != first)
      return fmt::format("{}: with a state the bytes differ from those without", shape.text());
  }
  return "";
}

/// Descriptions without data: answered alike and quickly.
std::string null_handles(const Candidate &c, const Shape &shape, double &supports_ns) {
  const auto trial = Trial::make(c, shape);
  CallFrame bare(trial->call().n_inputs, trial->call().n_outputs);
  for (std::uint32_t i = 0; i < trial->call().n_inputs; ++i)
    if (const sy_tensor *t = trial->call().inputs[i]) {
      bare.input(i, TensorView(*t));
      bare.input_tensor(i)->handle = nullptr;
    }
  for (std::uint32_t i = 0; i < trial->call().n_outputs; ++i)
    if (const sy_tensor *t = trial->call().outputs[i]) {
      bare.output(i, TensorView(*t));
      bare.output_tensor(i)->handle = nullptr;
    }
  bare.call().params = trial->call().params;
  bare.call().params_size = trial->call().params_size;
  sy_error reason = make_abi_error();
  if (!c.supports(bare.call(), &reason))
    return fmt::format("{}: supports accepts the call with data and refuses it without: {}",
                       shape.text(), reason.message);
  (void)c.estimate(bare.call());
  (void)c.workspace_size(bare.call());
  constexpr int kCalls = 2000;
  const std::uint64_t start = now_ns();
  for (int i = 0; i < kCalls; ++i) (void)c.supports(bare.call(), nullptr);
  supports_ns = static_cast<double>(now_ns() - start) / kCalls;
  return "";
}

/// A workspace of exactly the size asked for, a forbidden page behind it.
std::string exact_workspace(const Candidate &c, const Shape &shape) {
  const auto trial = Trial::make(c, shape);
  const std::uint64_t bytes = c.workspace_size(trial->call());
  if (bytes == 0) return "";
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t rounded = (bytes + 63) / 64 * 64;
  const std::size_t mapped = (rounded + page - 1) / page * page + page;
  auto *memory = static_cast<std::byte *>(
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) return "";
  mprotect(memory + mapped - page, page, PROT_NONE);
  std::memset(memory, 0xA5, mapped - page);
  std::byte *at = memory + mapped - page - rounded;
  trial->call().workspace = at;
  trial->call().workspace_size = bytes;
  sy_error error = make_abi_error();
  std::int32_t status = SY_OK;
  {
    const FloatStateGuard guard;
    status = c.kernel->run(c.kernel, c.instance.get(), &trial->call(), &error);
  }
  bool over = false;
  for (std::size_t i = bytes; i < rounded; ++i) over |= at[i] != std::byte{0xA5};
  munmap(memory, mapped);
  if (status != SY_OK) return from_abi(error, status, "").message;
  return over ? fmt::format("{}: wrote beyond the workspace it asked for", shape.text()) : "";
}

std::string processor_state(const Candidate &c, const Shape &shape) {
#if defined(__x86_64__)
  const auto trial = Trial::make(c, shape);
  const std::uint64_t bytes = c.workspace_size(trial->call());
  std::vector<std::byte> memory(bytes + 64);
  trial->call().workspace =
      memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
  trial->call().workspace_size = bytes;
  const FloatStateGuard guard;
  _mm_setcsr(FloatStateGuard::kDefault);
  (void)c.kernel->run(c.kernel, c.instance.get(), &trial->call(), nullptr);
  if ((_mm_getcsr() & ~0x3Fu) != FloatStateGuard::kDefault)
    return fmt::format("{}: run leaves the floating-point state changed (MXCSR {:#x})",
                       shape.text(), _mm_getcsr());
#endif
  return "";
}

}  // namespace

void check_behaviour(const Bench &bench) {
  const int printed = memfd_create("printed", MFD_CLOEXEC);
  if (printed >= 0) {
    dup2(printed, 1);
    dup2(printed, 2);
  }
  const Handlers before = handlers();
  for (const auto &c : bench.candidates) {
    const auto shapes = supported_shapes(*c, kProblems);
    const auto each = [&](const std::string &name, const auto &test) {
      bench.begin(c->name, name);
      std::string wrong;
      for (const Shape &s : shapes)
        if (wrong.empty()) wrong = test(s);
      bench.verdict(c->name, name, wrong);
    };
    if (shapes.empty()) {
      bench.say(c->name, "manners", State::skip, "no problem is supported");
      continue;
    }
    each("the same bytes again, as its traits promise",
         [&](const Shape &s) { return again_and_bits(bench, *c, s); });
    if (c->stateful())
      each("the same bytes with a state", [&](const Shape &s) { return with_state(*c, s); });
    double supports_ns = 0, worst_ns = 0;
    each("descriptions without data are answered", [&](const Shape &s) {
      auto wrong = null_handles(*c, s, supports_ns);
      worst_ns = std::max(worst_ns, supports_ns);
      return wrong;
    });
    bench.say(c->name, "supports is cheap", worst_ns > 1000 ? State::warn : State::pass,
              fmt::format("{:.0f} ns at most; the header asks for less than 100", worst_ns));
    each("no byte beyond the workspace", [&](const Shape &s) { return exact_workspace(*c, s); });
    each("the floating-point state is left alone",
         [&](const Shape &s) { return processor_state(*c, s); });
  }
  bench.verdict("", "no signal handler is installed",
                same_handlers(before, handlers()) ? "" : "a signal's handler was exchanged");
  struct stat st {};
  if (printed >= 0 && fstat(printed, &st) == 0)
    bench.verdict(
        "", "nothing is printed",
        st.st_size == 0 ? "" : fmt::format("{} bytes went to stdout or stderr", st.st_size));
}

}  // namespace switchyard::check

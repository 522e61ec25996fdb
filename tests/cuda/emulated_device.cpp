// SPDX-License-Identifier: Apache-2.0
/// Blocks of an emulated device: one at a time, every thread a fiber with a stack of its own.
/// Between two meeting points fibers run in an order that changes, and background copies happen as
/// late as they may: what a kernel must wait for is not there if it does not.
#include "emulated_device.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include <kernels/emulated.hpp>

namespace switchyard::cuda::emulation {
namespace {

struct Entry {
  void (*run)(const void *);
  int most_threads;
  std::size_t argument_bytes;
};
std::map<std::string, Entry> &entries() {
  static std::map<std::string, Entry> all;
  return all;
}

[[noreturn]] void wrong(const std::string &what) {
  std::fprintf(stderr, "emulated device: %s\n", what.c_str());
  std::abort();
}

struct Copy {
  void *to;
  const void *from;
  int valid;
};

struct Fiber {
  ucontext_t context;
  void *stack_pointer = nullptr;
  Place place;
  bool done = false;
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
};

struct Warp {
  int arrived = 0;
  std::uint64_t generation = 0;
  const char *kind = nullptr;
  std::vector<char> in[2], out[2];  // of even and odd generations
};

constexpr std::size_t kStack = 128u << 10;

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<void *> stacks;
  std::vector<Warp> warps;
  ucontext_t scheduler;
  void *scheduler_stack_pointer = nullptr;
  Fiber *current = nullptr;
  int live = 0, at_barrier = 0;
  std::uint64_t barrier = 0;
  const Entry *entry = nullptr;
  const void *arguments = nullptr;
};
Machine &machine() {
  static Machine m;
  return m;
}

#if defined(__x86_64__)
// Callee-saved registers on the stack, then the other stack: a few nanoseconds, where swapcontext
// asks the kernel about signals each time.
extern "C" void sy_switch_stack(void **from, void *to);
asm(".text\n.globl sy_switch_stack\n.hidden sy_switch_stack\n.type sy_switch_stack,@function\n"
    "sy_switch_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size sy_switch_stack, .-sy_switch_stack\n");
void to_fiber(Machine &m, Fiber &f) {
  sy_switch_stack(&m.scheduler_stack_pointer, f.stack_pointer);
}
void to_scheduler(Machine &m, Fiber &f) {
  sy_switch_stack(&f.stack_pointer, m.scheduler_stack_pointer);
}
void prepare_fiber(Machine &, Fiber &f, void *stack, void (*main)()) {
  auto **top = reinterpret_cast<void **>(static_cast<char *>(stack) + kStack) - 2;
  *top = reinterpret_cast<void *>(main);  // aligned as after a call
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f.stack_pointer = top;
}
#else
void to_fiber(Machine &m, Fiber &f) { swapcontext(&m.scheduler, &f.context); }
void to_scheduler(Machine &m, Fiber &f) { swapcontext(&f.context, &m.scheduler); }
void prepare_fiber(Machine &m, Fiber &f, void *stack, void (*main)()) {
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = stack;
  f.context.uc_stack.ss_size = kStack;
  f.context.uc_link = &m.scheduler;
  makecontext(&f.context, main, 0);
}
#endif

void yield() {
  Machine &m = machine();
  to_scheduler(m, *m.current);
}

void fiber_main() {
  Machine &m = machine();
  m.entry->run(m.arguments);
  m.current->done = true;
  for (;;) yield();
}

void finish(std::vector<Copy> &copies) {
  for (const Copy &c : copies) {
    std::memset(c.to, 0, 16);
    std::memcpy(c.to, c.from, static_cast<std::size_t>(c.valid));
  }
}

void *new_stack() {
  void *p = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) wrong("no memory for a stack");
  return p;
}

void run_block(Machine &m, const Place &first, int threads) {
  while (static_cast<int>(m.stacks.size()) < threads) m.stacks.push_back(new_stack());
  m.fibers.clear();
  m.warps.assign(static_cast<std::size_t>((threads + 31) / 32), {});
  for (int t = 0; t < threads; ++t) {
    auto fiber = std::make_unique<Fiber>();
    fiber->place = first;
    fiber->place.thread = t;
    prepare_fiber(m, *fiber, m.stacks[static_cast<std::size_t>(t)], fiber_main);
    m.fibers.push_back(std::move(fiber));
  }
  m.live = threads;
  m.at_barrier = 0;
  std::uint64_t seed = static_cast<std::uint64_t>(first.block) * 0x9E3779B97F4A7C15ull + 1;
  int idle = 0;
  while (m.live > 0) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    const int start = static_cast<int>(seed >> 33) % threads, step = (seed >> 32 & 1) ? 1 : -1;
    const int before = m.live;
    std::uint64_t progress = m.barrier;
    for (const Warp &w : m.warps) progress += w.generation;
    for (int i = 0; i < threads; ++i) {
      Fiber &f =
          *m.fibers[static_cast<std::size_t>(((start + step * i) % threads + threads) % threads)];
      if (f.done) continue;
      m.current = &f;
      to_fiber(m, f);
      if (f.done) --m.live;
    }
    std::uint64_t now = m.barrier;
    for (const Warp &w : m.warps) now += w.generation;
    idle = now == progress && m.live == before ? idle + 1 : 0;
    if (idle > 3)
      wrong("threads wait for each other at different places; " + std::to_string(m.at_barrier) +
            " of " + std::to_string(m.live) + " at sync_block");
  }
}

}  // namespace

Kernel::Kernel(const char *name, void (*run)(const void *), int most_threads,
               std::size_t argument_bytes) {
  entries()[name] = {run, most_threads, argument_bytes};
}

const Place &place() { return machine().current->place; }

void sync_block() {
  Machine &m = machine();
  const std::uint64_t mine = m.barrier;
  ++m.at_barrier;
  while (m.barrier == mine) {
    // Threads that have returned count as having arrived.
    if (m.at_barrier == m.live) {
      m.at_barrier = 0;
      ++m.barrier;
      break;
    }
    yield();
  }
}

void collect(const char *kind, const void *in, std::size_t in_bytes, void *out,
             std::size_t out_bytes, void (*compute)(const char *in, char *out)) {
  Machine &m = machine();
  const auto lane = static_cast<std::size_t>(m.current->place.thread % 32);
  Warp &w = m.warps[static_cast<std::size_t>(m.current->place.thread / 32)];
  if (w.arrived == 0) w.kind = kind;
  if (std::strcmp(w.kind, kind) != 0)
    wrong(std::string("lanes of a warp meet at ") + w.kind + " and " + kind);
  const std::uint64_t mine = w.generation;
  std::vector<char> &from = w.in[mine % 2], &to = w.out[mine % 2];
  from.resize(32 * in_bytes);
  to.resize(32 * out_bytes);
  if (in_bytes != 0) std::memcpy(from.data() + lane * in_bytes, in, in_bytes);
  if (++w.arrived == 32) {
    compute(from.data(), to.data());
    w.arrived = 0;
    ++w.generation;
  }
  while (w.generation == mine) yield();
  if (out_bytes != 0) std::memcpy(out, to.data() + lane * out_bytes, out_bytes);
}

void copy_async(void *to, const void *from, int valid) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
      (valid != 0 && reinterpret_cast<std::uintptr_t>(from) % 16 != 0))
    wrong("a background copy of 16 bytes is not aligned");
  machine().current->open.push_back({to, from, valid});
}
void copy_commit() {
  Fiber &f = *machine().current;
  f.groups.push_back(std::move(f.open));
  f.open.clear();
}
void copy_wait(int groups) {
  Fiber &f = *machine().current;
  while (static_cast<int>(f.groups.size()) > groups) {
    finish(f.groups.front());
    f.groups.pop_front();
  }
}

std::size_t argument_bytes(const std::string &name) {
  const auto found = entries().find(name);
  return found == entries().end() ? 0 : found->second.argument_bytes;
}

bool launch(const std::string &name, const std::int64_t (&grid)[3], int threads,
            std::size_t shared_bytes, const void *arguments) {
  const auto found = entries().find(name);
  if (found == entries().end() || threads > found->second.most_threads || threads % 32 != 0)
    return false;
  Machine &m = machine();
  m.entry = &found->second;
  m.arguments = arguments;
  // Shared memory ends at a forbidden page.
  const std::size_t room = (shared_bytes + 4095) / 4096 * 4096;
  char *map = static_cast<char *>(
      mmap(nullptr, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (map == MAP_FAILED) wrong("no memory");
  mprotect(map + room, 4096, PROT_NONE);
  Place place{};
  place.threads = threads;
  place.blocks = grid[0];
  place.shared = map + (room - (shared_bytes + 15) / 16 * 16);
  for (std::int64_t z = 0; z < grid[2]; ++z)
    for (std::int64_t y = 0; y < grid[1]; ++y)
      for (std::int64_t x = 0; x < grid[0]; ++x) {
        place.block = x;
        place.block_y = static_cast<int>(y);
        place.block_z = static_cast<int>(z);
        std::memset(map, 0xFF, room);
        run_block(m, place, threads);
      }
  munmap(map, room + 4096);
  return true;
}

}  // namespace switchyard::cuda::emulation

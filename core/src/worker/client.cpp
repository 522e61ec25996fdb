// SPDX-License-Identifier: Apache-2.0
#include "worker/client.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "host/host.hpp"
#include "machine/machine.hpp"

extern char **environ;

namespace switchyard {
namespace {

constexpr std::size_t kMaxOutput = 1 << 20;
constexpr int kBackgroundNice = 10;  // a tenth of what an ordinary thread gets beside it

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  ~Fd() { reset(); }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Collects output until the worker and all who share its pipe are done, or the deadline.
bool collect(int pipe, pid_t pid, int pidfd, std::uint64_t limit_ns, std::string &output) {
  bool open = true, alive = true;
  char buffer[4096];
  const std::uint64_t start = now_ns();
  std::uint64_t deadline_ns = start + limit_ns;
  while (open || alive) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) {
      const std::uint64_t waited = waited_for_processor_ns(pid);
      deadline_ns = start + limit_ns + std::min(waited, (kPatience - 1) * limit_ns);
      // Little by little it would never end.
      if (now + limit_ns / 100 >= deadline_ns) return false;
    }
    pollfd fds[2] = {{open ? pipe : -1, POLLIN, 0}, {alive ? pidfd : -1, POLLIN, 0}};
    const auto wait_ms = static_cast<int>((deadline_ns - now) / 1'000'000 + 1);
    // Once the worker itself has ended, whatever it left running may not keep us waiting.
    if (poll(fds, 2, alive ? wait_ms : 0) < 0 && errno != EINTR) return false;
    if ((fds[0].revents & (POLLIN | POLLHUP)) != 0) {
      const ssize_t got = read(pipe, buffer, sizeof(buffer));
      if (got <= 0)
        open = false;
      else if (output.size() < kMaxOutput)
        output.append(buffer, static_cast<std::size_t>(got));
    } else if (!alive) {
      open = false;
    }
    if ((fds[1].revents & POLLIN) != 0) alive = false;
  }
  return true;
}

/// The environment as it was when the first engine was made: gates run on a thread of their own,
/// and the host may change the real one meanwhile.
struct Environment {
  Environment() {
    for (char **e = environ; e != nullptr && *e != nullptr; ++e) texts.emplace_back(*e);
    for (std::string &t : texts) pointers.push_back(t.data());
    pointers.push_back(nullptr);
  }
  std::vector<std::string> texts;
  std::vector<char *> pointers;
};

Environment &environment() {
  static auto *copy = new Environment;
  return *copy;
}

}  // namespace

std::uint64_t waited_for_processor_ns(pid_t pid) {
  std::uint64_t sum = 0;
  std::error_code gone;  // threads and processes end while one looks
  std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), gone);
  for (; !gone && task != std::filesystem::directory_iterator(); task.increment(gone)) {
    std::ifstream text(task->path() / "schedstat");
    std::uint64_t ran = 0, waited = 0;
    if (text >> ran >> waited) sum += waited;
  }
  return sum;
}

void copy_environment_for_workers() { (void)environment(); }

Result<pid_t> spawn_worker(const std::vector<std::string> &arguments,
                           const std::vector<std::pair<int, int>> &descriptors) {
  const auto program = find_worker();
  if (!program)
    return fail(ErrorCode::backend,
                "the program switchyard-worker is missing, so plugins that were never seen before "
                "cannot be tried safely");
  std::vector<char *> argv{const_cast<char *>(program->c_str())};
  for (const std::string &a : arguments) argv.push_back(const_cast<char *>(a.c_str()));
  argv.push_back(nullptr);

  // Above all numbers that they get there, so that none is overwritten before it was copied.
  std::vector<Fd> copies(descriptors.size());
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (const auto &[fd, path, flags] :
       {std::tuple{0, "/dev/null", O_RDONLY}, std::tuple{1, "/dev/null", O_WRONLY},
        std::tuple{2, "/dev/null", O_WRONLY}})
    posix_spawn_file_actions_addopen(&actions, fd, path, flags, 0);
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    copies[i].reset(fcntl(descriptors[i].first, F_DUPFD_CLOEXEC, 16));
    posix_spawn_file_actions_adddup2(&actions, copies[i].get(), descriptors[i].second);
  }
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, program->c_str(), &actions, &attributes, argv.data(),
                                environment().pointers.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return fail(ErrorCode::backend,
                fmt::format("{} cannot be started: {}", *program, strerror(error)));
  return pid;
}

namespace {

/// How a process ended, in words; "" for status 0.
std::string end_text(int status) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGILL)
    return "needs an instruction set that this machine lacks (SIGILL)";
  if (WIFSIGNALED(status)) return fmt::format("crashed (SIG{})", sigabbrev_np(WTERMSIG(status)));
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    return fmt::format("ended the process with exit status {}", WEXITSTATUS(status));
  return "";
}

}  // namespace

std::string end_worker(pid_t pid, int patience_ms) {
  // Whoever has ended already says how; the group goes in any case.
  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd ended{pidfd.get(), POLLIN, 0};
  if (patience_ms > 0) (void)poll(&ended, 1, patience_ms);
  kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string text = end_text(status);
  return text.empty() ? "ended the process (exit status 0)" : text;
}

Result<WorkerRun> run_worker(const std::vector<std::string> &arguments, std::uint32_t deadline_ms,
                             bool background) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return fail(ErrorCode::backend, fmt::format("no pipe for the worker: {}", strerror(errno)));
  Fd reading(ends[0]), writing(ends[1]);
  const auto pid = spawn_worker(arguments, {{writing.get(), 1}});
  if (!pid) return tl::unexpected(pid.error());
  writing.reset();
  // Beside a kernel with threads of its own, every core that a worker takes stalls all of them.
  if (background) (void)setpriority(PRIO_PROCESS, static_cast<id_t>(*pid), kBackgroundNice);

  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  WorkerRun run;
  const bool in_time =
      collect(reading.get(), *pid, pidfd.get(), std::uint64_t{deadline_ms} * 1'000'000, run.output);
  kill(-*pid, SIGKILL);  // the group: also what a plugin may have started
  int status = 0;
  while (waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) {
    run.failure = fmt::format("hung; it was ended after {} ms", deadline_ms);
  } else {
    run.illegal_instruction = WIFSIGNALED(status) && WTERMSIG(status) == SIGILL;
    run.failure = end_text(status);
  }
  return run;
}

}  // namespace switchyard

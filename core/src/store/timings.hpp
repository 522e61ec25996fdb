// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Measured times that outlive the process, per candidate: one document a plugin file, named by its
/// content hash, so that a new plugin or a new build measures only itself. Entries name the kernel,
/// the driver or library behind it, the threads and the shape; others are not looked at.

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "measure/model.hpp"
#include "registry/candidate.hpp"
#include "store/documents.hpp"

namespace switchyard {

class TimingStore {
 public:
  /// `directory` empty = memory of this process only.
  explicit TimingStore(std::string directory);
  ~TimingStore();  ///< writes what is not written yet
  TimingStore(const TimingStore &) = delete;
  TimingStore &operator=(const TimingStore &) = delete;

  /// The time of exactly this shape, or nullopt. [any-thread]
  std::optional<Timing> find(const Candidate &candidate, std::uint32_t threads, const Shape &shape);
  /// What the timings of other shapes of its regime say. [any-thread]
  Prediction predict(const Candidate &candidate, std::uint32_t threads, const Shape &shape,
                     const Work &work);
  /// Why `find` finds nothing, in words. [any-thread]
  std::string why_missing(const Candidate &candidate, std::uint32_t threads, const Shape &shape);
  /// Every timing of a candidate: threads, shape, timing. [any-thread]
  void each(const Candidate &candidate,
            const std::function<void(std::uint32_t, const std::string &, const Timing &)> &visit);
  /// Remembers, in place of an older timing of the same shape; written soon after. [any-thread]
  void record(const Candidate &candidate, std::uint32_t threads, const Shape &shape,
              const Timing &timing);
  /// Writes everything now. [any-thread]
  void flush();

  const std::string &directory() const noexcept { return documents_.directory(); }
  /// Why stored timings were not used; "" = all is well.
  std::string trouble() const { return documents_.trouble(); }

 private:
  /// Timings of one kernel at one thread count, by regime, then by shape text.
  using Shapes = std::map<std::string, TimedPlace>;
  using Regimes = std::map<std::string, Shapes>;
  struct Plugin {
    std::map<std::string, Regimes> series;  ///< by `series_of`
    nlohmann::json about, unwritten = nlohmann::json::object();
  };
  static std::string series_of(const Candidate &candidate, std::uint32_t threads);
  Plugin &plugin(const Candidate &candidate);
  void serve();
  void write_pending(std::unique_lock<std::mutex> &lock);

  DocumentStore documents_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Plugin> plugins_;  ///< by content hash
  std::thread thread_;
  bool stop_ = false, dirty_ = false;
};

}  // namespace switchyard

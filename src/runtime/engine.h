#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/group.h"
#include "runtime/engine_options.h"
#include "runtime/event.h"
#include "runtime/rank.h"
#include "runtime/sequence.h"

namespace shardspeed {

// A model at work: one thread loads it, forms steps, computes them and reports. Where the model is divided among ranks
// that are threads, that thread is rank 0 and starts the others. Where ranks are processes and this is not rank 0, it
// computes rank 0's steps until rank 0 is done, and takes no requests. Nothing here blocks the caller but join().
class Engine {
 public:
  // onExit is the last thing that the thread does; all memory is given back by then.
  Engine(EngineOptions options, EventSink sink, std::function<void()> onExit);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void submit(std::unique_ptr<Sequence> sequence);
  void cancel(int64_t id);
  EngineStats stats() const;
  // Asks the thread to end; returns at once.
  void requestStop();
  // Waits for the thread to end.
  void join();

 private:
  void threadMain();
  void runRanks();
  void runRank(int index);
  void load(Rank& rank, int index);
  void drive(Rank& rank, Group* group);
  void openGroup();
  void closeGroup();
  void leaveGroup();
  void emit(Event&& event);
  void emitProgress();
  void publish(const EngineStats& stats);
  // Waits for commands where `wait` is set; false when the engine is to stop.
  bool takeCommands(bool wait, std::vector<EngineCommand>& commands);

  EngineOptions options_;
  EventSink sink_;
  std::function<void()> onExit_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<EngineCommand> commands_;
  EngineStats stats_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> groupOver_{false};
  std::mutex groupMutex_;                       // of groups_, while it changes
  std::vector<std::unique_ptr<Group>> groups_;  // one for each rank in this process; empty: one rank alone
  LoadCounts loadCounts_;
  std::mutex failureMutex_;
  std::exception_ptr failure_;  // the first of a rank in this process
  // Where the ranks of this process wait for each other before they give up their memory.
  std::optional<std::latch> ranksEnded_;
  std::thread thread_;
};

}  // namespace shardspeed

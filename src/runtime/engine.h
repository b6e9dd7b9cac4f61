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
#include "runtime/drafter.h"
#include "runtime/engine_options.h"
#include "runtime/event.h"
#include "runtime/rank.h"
#include "runtime/sequence.h"

namespace shardspeed {

// A running model: one thread loads it, forms steps, computes them and reports. If the model is divided among ranks
// that are threads, that thread is rank 0 and starts the others. If ranks are processes and this one is not rank 0, it
// computes rank 0's steps until rank 0 has finished, and takes no requests. Only join() blocks the caller.
class Engine {
 public:
  // The thread calls onExit at its very end, when all memory has been freed.
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
  void load(Rank& rank, int index, std::unique_ptr<Drafter>& drafter);
  void drive(Rank& rank, Drafter* drafter, Group* group);
  void openGroup();
  void closeGroup();
  void leaveGroup();
  void emit(Event&& event);
  void emitProgress();
  void publish(const EngineStats& stats);
  // Waits for commands if `wait` is set. False when the engine has to stop.
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
  std::mutex groupMutex_;                       // guards groups_ while it changes
  std::vector<std::unique_ptr<Group>> groups_;  // one for each rank in this process; empty for a single rank
  LoadCounts loadCounts_;
  std::mutex failureMutex_;
  std::exception_ptr failure_;  // the first that a rank in this process had
  // The ranks of this process wait here for each other before they free their memory.
  std::optional<std::latch> ranksEnded_;
  std::thread thread_;
};

}  // namespace shardspeed

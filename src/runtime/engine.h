#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "model/spec.h"
#include "model/weight_plan.h"
#include "runtime/device.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"

namespace shardspeed {

struct EngineOptions {
  ModelSpec spec;
  std::optional<WeightPlan> plan;  // none = random weights
  std::string device = "cpu";
  DType dtype = DType::kF32;
  int threads = 1;
  int64_t maxSequenceTokens = 0;
  int64_t maxBatchTokens = 512;
  int64_t kvCachePages = 0;
};

enum class EventKind : uint8_t { kProgress, kReady, kFailed, kToken, kDone, kLogits, kRejected };
enum class FinishReason : uint8_t { kStop, kLength, kCancelled };

// What the engine tells its owner; the fields that count depend on the kind (lib/native.ts, EngineEvent).
struct Event {
  EventKind kind = EventKind::kProgress;
  int64_t id = 0;
  SampledToken sampled{};
  bool hasLogprob = false;
  FinishReason reason = FinishReason::kStop;
  std::vector<float> logits{};
  int64_t loadedBytes = 0;
  int64_t totalBytes = 0;
  double loadMs = 0;
  std::string code{};
  std::string message{};
};

struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t kvPagesTotal = 0;
  int64_t kvPagesFree = 0;
  int64_t weightBytes = 0;
  int64_t kvCacheBytes = 0;
  int64_t activationBytes = 0;
  int64_t steps = 0;
  int64_t promptTokens = 0;
  int64_t generatedTokens = 0;
  int64_t preemptions = 0;
};

// A model at work: one thread loads it, forms steps, computes them and reports. Nothing here blocks the caller but
// stop().
class Engine {
 public:
  // Called from the engine's thread, at most once a step. Must not throw.
  using EventSink = std::function<void(std::vector<Event>&&)>;

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
  struct Command {
    std::unique_ptr<Sequence> submitted;  // null = cancel id
    int64_t id;
  };
  class Session;

  void threadMain();
  // Waits for commands where `wait` is set; false when the engine is to stop.
  bool takeCommands(bool wait, std::vector<Command>& commands);

  EngineOptions options_;
  EventSink sink_;
  std::function<void()> onExit_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Command> commands_;
  EngineStats stats_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

MemoryEstimate estimateMemory(const EngineOptions& options);

}  // namespace shardspeed

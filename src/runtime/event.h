#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/rank.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"

namespace shardspeed {

// kEnded: rank 0, which this process followed, is done.
enum class EventKind : uint8_t { kProgress, kReady, kFailed, kEnded, kToken, kDone, kLogits, kRejected };
enum class FinishReason : uint8_t { kStop, kLength, kCancelled };

// What the engine tells its owner; the fields that count depend on the kind (lib/native/binding.ts, EngineEvent).
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
  std::vector<RankMemory> memory;  // by rank
  int64_t steps = 0;
  int64_t stepNanoseconds = 0;   // of all steps together
  int64_t groupNanoseconds = 0;  // of these, in sums over ranks and gathering; 0 where that cannot be told
  int64_t promptTokens = 0;
  int64_t generatedTokens = 0;
  int64_t preemptions = 0;
};

// What the owner asks for.
struct EngineCommand {
  std::unique_ptr<Sequence> submitted;  // null = cancel id
  int64_t id;
};

// Takes events from the engine's thread, at most once a step. Must not throw.
using EventSink = std::function<void(std::vector<Event>&&)>;

}  // namespace shardspeed

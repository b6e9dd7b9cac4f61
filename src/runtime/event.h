#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/rank.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"

namespace shardspeed {

// kEnded: rank 0, which this process followed, has finished.
enum class EventKind : uint8_t { kProgress, kReady, kFailed, kEnded, kPrompt, kToken, kDone, kOutputs, kRejected };
enum class FinishReason : uint8_t { kStop, kLength, kCancelled };

// An event that the engine reports to its owner. Which fields are set depends on the kind (lib/native/binding.ts,
// EngineEvent).
struct Event {
  EventKind kind = EventKind::kProgress;
  int64_t id = 0;
  SampledToken sampled{};
  bool hasLogprob = false;
  std::optional<int64_t> cachedTokens{};  // with the first token of a sequence
  PromptScores prompt{};
  FinishReason reason = FinishReason::kStop;
  std::optional<float> score{};  // kDone of a text that a beam search found
  std::vector<float> outputs{};
  std::vector<float> hidden{};
  int64_t loadedBytes = 0;
  int64_t totalBytes = 0;
  double loadMs = 0;
  std::map<std::string, int64_t> overflows{};  // OverflowCounts
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
  int64_t stepsAhead = 0;        // that were enqueued while another one was under way
  int64_t stepNanoseconds = 0;   // of all steps together
  int64_t groupNanoseconds = 0;  // of these, in sums over ranks and gathering; 0 if the backend cannot tell
  int64_t promptTokens = 0;
  int64_t generatedTokens = 0;
  int64_t preemptions = 0;
  int64_t kvPagesFindable = 0;  // by sequences that begin alike
  int64_t prefixQueries = 0;    // tokens of prompts that were looked for in the prefix cache
  int64_t prefixHits = 0;       // and that were found
  int64_t drafts = 0;           // that were verified
  int64_t draftTokens = 0;
  int64_t acceptedTokens = 0;
  std::vector<int64_t> acceptedAt;  // by position in the draft
};

// A request of the owner.
struct EngineCommand {
  std::unique_ptr<Sequence> submitted;  // null = cancel id
  int64_t id;
};

// Called on the engine's thread, at most once a step. Must not throw.
using EventSink = std::function<void(std::vector<Event>&&)>;

}  // namespace shardspeed

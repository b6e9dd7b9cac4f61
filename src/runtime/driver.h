#pragma once

#include <cstdint>
#include <vector>

#include "runtime/engine_options.h"
#include "runtime/event.h"
#include "runtime/rank.h"
#include "runtime/scheduler.h"

namespace shardspeed {

// What rank 0 does beside computing: it decides what is in a step, chooses tokens, and reports.
class Driver {
 public:
  // All of them outlive it.
  Driver(const EngineOptions& options, Rank& rank, const EventSink& sink);

  void apply(EngineCommand& command);
  // Whether nothing can be done before a command comes.
  bool waits() const { return scheduler_.idle() || !progressed_; }
  // Forms a step of whatever there is and computes it. False where the engine was stopped meanwhile.
  bool step();
  // Reports what has happened.
  void flush();
  EngineStats stats() const;

 private:
  // Whose row of logits, and behind which of its tokens.
  struct Owner {
    Sequence* sequence;
    int64_t position;
  };

  void emit(Event&& event) { events_.push_back(std::move(event)); }
  void emitDone(int64_t id, FinishReason reason);
  bool compute();
  void wantLogits();
  void want(int64_t row, Sequence* sequence, int64_t position);
  void takeLogits(int64_t first, int64_t count, float* logits);
  void deliver(Sequence& sequence, SampledToken&& sampled);
  void reject(const Sequence& sequence);
  void finishForward(Sequence& sequence);

  const EngineOptions& options_;
  Rank& rank_;
  const EventSink& sink_;
  Scheduler scheduler_;
  bool progressed_ = true;
  ScheduledStep scheduled_;
  Executor::Outputs outputs_;
  std::vector<Owner> owners_;  // of the wanted rows
  std::vector<SampledToken> sampled_;
  std::vector<int64_t> finished_;  // sequences that end with this step
  std::vector<Event> events_;
  EngineStats stats_;
};

}  // namespace shardspeed

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/error.h"
#include "runtime/beam_group.h"
#include "runtime/draft_pace.h"
#include "runtime/drafter.h"
#include "runtime/engine_options.h"
#include "runtime/event.h"
#include "runtime/rank.h"
#include "runtime/scheduler.h"

namespace shardspeed {

// The tokens of a sequence that the head computes.
enum class HeadRows : uint8_t { kAll, kFirst, kLast };
HeadRows headRows(const ModelSpec& spec);

// Rank 0's work beside computing: chooses the sequences of each step and the next tokens, and reports events.
class Driver {
 public:
  // drafter: null = no drafts. All arguments outlive it.
  Driver(const EngineOptions& options, Rank& rank, Drafter* drafter, const EventSink& sink);

  void apply(EngineCommand& command);
  // Whether there is no work until a command comes.
  bool waits() const { return !left_ && (scheduler_.idle() || !progressed_); }
  // Forms the next step and computes it, or leaves it under way; then what was left before is taken. False if the
  // engine was stopped meanwhile.
  bool step();
  // Sends the collected events.
  void flush();
  EngineStats stats() const;

 private:
  // The sequence that a wanted row belongs to, and the position of its token.
  struct Owner {
    Sequence* sequence;  // null where it went while the step was left
    int64_t position;
    const Sampler* sampler = nullptr;  // of a row to sample from
    int64_t drafted = 0;               // tokens of the sequence's draft ahead of what is sampled
  };
  // A step that is under way, whose tokens are taken later.
  struct LeftStep {
    struct Slice {
      Sequence* sequence;  // null likewise
      int64_t computed;    // its tokens that are in the KV cache behind the step
    };
    std::vector<Owner> owners;  // of what is chosen
    std::vector<Slice> slices;
    std::chrono::steady_clock::time_point begun;
  };

  bool mayLeave() const;
  bool leave(std::chrono::steady_clock::time_point begun);
  bool goOn(std::chrono::steady_clock::time_point begun);
  bool mayGoOn(const LeftStep& step);
  void take(LeftStep& step);
  void forgetLeft(const Sequence* sequence);
  void emit(Event&& event) { events_.push_back(std::move(event)); }
  void emitDone(int64_t id, FinishReason reason);
  void wantRows();
  void wantSampled(const ScheduledSlice& use, const SequenceSlice& slice);
  void wantScores(Sequence* sequence, const SequenceSlice& slice);
  void wantHeadRows(Sequence* sequence, const SequenceSlice& slice);
  void wantHiddenRows(Sequence* sequence, const SequenceSlice& slice);
  void want(const SequenceSlice& slice, int64_t row, Sequence* sequence);
  void takeHead(int64_t first, int64_t count, float* rows);
  void takeBeam(Sequence& sequence, float* row) const;
  void takeHidden(int64_t first, int64_t count, const float* rows);
  void keepScores();
  void endPrompts();
  void deliverSampled();
  bool deliver(const Owner& owner, SampledToken&& sampled);
  void endDraft(Sequence& sequence, int64_t drafted, int64_t accepted);
  int64_t makeDrafts();
  void weighDrafts(int64_t tokens, int64_t nanoseconds);
  bool remove(int64_t id);
  void rejectUnsound();
  bool isFinished(const Sequence& sequence) const;
  void reject(Sequence& sequence, int64_t tokens);
  void rejectBlocked(const Sequence& sequence, const std::optional<Error>& problem);
  void rejectBeams(const BeamGroup& group, int64_t tokens);
  void emitRejected(int64_t id, std::string code, std::string message);
  void emitUnsound(int64_t id, int64_t tokens);
  void emitBlocked(int64_t id, int64_t tokens, const std::optional<Error>& problem);
  void finishOutputs(Sequence& sequence);
  bool cancelBeams(int64_t id);
  bool isBeam(int64_t id) const;
  void endBeams(const BeamGroup& group);
  void advanceBeams();
  void advance(BeamGroup& group);
  void emitBeams(const BeamGroup& group);

  const EngineOptions& options_;
  const HeadSpec head_;
  const HeadRows headRows_;
  const bool onCpu_;
  Rank& rank_;
  Drafter* const drafter_;
  const EventSink& sink_;
  Scheduler scheduler_;
  bool progressed_ = true;
  std::optional<LeftStep> left_;
  std::chrono::steady_clock::time_point takenAt_{};  // when the last step that was left was done
  ScheduledStep scheduled_;
  Executor::Outputs outputs_;
  std::vector<Owner> owners_;  // of the wanted rows
  std::vector<SampledToken> sampled_;
  std::vector<DraftWish> wishes_;  // of the sequences whose drafts are being made
  DraftBudget draftBudget_;
  std::vector<TokenScore> scores_;
  std::deque<Sampler> draftSamplers_;  // as they are behind tokens of drafts
  std::vector<uint8_t> sound_;         // by row, 0 = a row that is an output holds NaN or infinity
  std::vector<int64_t> finished_;      // sequences that end with this step
  std::vector<Event> events_;
  std::vector<std::shared_ptr<BeamGroup>> beamGroups_;
  int64_t lastBeam_ = 0;  // ids of beams beside the first one are below 0
  EngineStats stats_;
};

}  // namespace shardspeed

#include <algorithm>
#include <utility>

#include "runtime/driver.h"

// What the driver does where a backend can go on without the host: it forms and enqueues the next step while one is
// computed, and takes the tokens of that one then. A sequence whose token is not known yet has a place for it, which
// says which one of the step it is (chosenToken); so the next step is formed as any other is. A sequence that turns out
// to have ended leaves a row in it that nobody looks at. What the host has to know of a token ahead of the next one,
// and all but the next rows of the same sequences, waits until nothing is left.

namespace shardspeed {

// Of the step that is formed.
bool Driver::mayLeave() const {
  const std::vector<const SamplingState*>& samplers = outputs_.samplers;
  if (drafter_ || samplers.empty() || scheduled_.step.wantedRows.size() != samplers.size()) return false;
  const auto onlyGenerates = [](const ScheduledSlice& slice) {
    const Sequence& sequence = *slice.sequence;
    return sequence.wanted == Wanted::kTokens && sequence.maxNewTokens > 0 && !sequence.beams &&
           (sequence.promptLogprobs < 0 || sequence.promptScored);
  };
  return std::all_of(scheduled_.slices.begin(), scheduled_.slices.end(), onlyGenerates) && rank_.canLeave(samplers);
}

// The step that is formed. False if the engine was stopped meanwhile.
bool Driver::leave(std::chrono::steady_clock::time_point begun) {
  if (!rank_.run(scheduled_.step, outputs_)) return false;
  LeftStep& left = left_.emplace();
  left.begun = begun;
  left.owners.swap(owners_);
  for (size_t i = 0; i < scheduled_.slices.size(); ++i) {
    const SequenceSlice& slice = scheduled_.step.sequences[i];
    left.slices.push_back({scheduled_.slices[i].sequence, slice.contextLength + slice.rowCount});
  }
  for (size_t i = 0; i < left.owners.size(); ++i) {
    Sequence& sequence = *left.owners[i].sequence;
    sequence.sampler.expect(static_cast<int32_t>(i));
    if (sequence.sampler.newTokens() < sequence.maxNewTokens)
      sequence.tokens.push_back(chosenToken(static_cast<int64_t>(i)));
  }
  return true;
}

// Whether what is chosen behind the sequences of a step can be chosen again without what the host learns of it.
bool Driver::mayGoOn(const LeftStep& step) {
  outputs_.samplers.clear();
  for (const Owner& owner : step.owners)
    if (owner.sequence) outputs_.samplers.push_back(&owner.sequence->sampler.state());
  return rank_.canLeave(outputs_.samplers);
}

// Leaves the next step, where it can be told, and takes the one that was left.
bool Driver::goOn(std::chrono::steady_clock::time_point begun) {
  LeftStep before = std::move(*left_);
  left_.reset();
  if (scheduler_.canAdvance() && mayGoOn(before)) {
    scheduler_.advance(scheduled_);
    wantRows();
    scheduled_.step.left = true;
    if (!leave(begun)) return false;
    ++stats_.stepsAhead;
  }
  take(before);
  return true;
}

void Driver::take(LeftStep& step) {
  sampled_.assign(step.owners.size(), {});
  rank_.take(sampled_.data());
  const auto now = std::chrono::steady_clock::now();
  stats_.stepNanoseconds +=
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - std::max(step.begun, takenAt_)).count();
  takenAt_ = now;
  for (size_t i = 0; i < step.owners.size(); ++i)
    if (step.owners[i].sequence) deliver(step.owners[i], std::move(sampled_[i]));
  for (const auto& [sequence, computed] : step.slices)
    if (sequence && !sequence->failed) scheduler_.share(*sequence, computed);
  for (const int64_t id : finished_) remove(id);
  finished_.clear();
  ++stats_.steps;
}

// A sequence that goes while a step is left: its rows there are of no use. Its pages may be taken at once, since what
// is written to them later is written behind that step.
void Driver::forgetLeft(const Sequence* sequence) {
  if (!left_) return;
  for (Owner& owner : left_->owners)
    if (owner.sequence == sequence) owner.sequence = nullptr;
  for (LeftStep::Slice& slice : left_->slices)
    if (slice.sequence == sequence) slice.sequence = nullptr;
}

}  // namespace shardspeed

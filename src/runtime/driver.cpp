#include "runtime/driver.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "base/thread_clock.h"
#include "runtime/pooling.h"
#include "runtime/token_scores.h"

namespace shardspeed {

HeadRows headRows(const ModelSpec& spec) {
  if (std::holds_alternative<HiddenOutput>(spec.output)) return HeadRows::kFirst;
  const auto* classes = std::get_if<ClassesOutput>(&spec.output);
  if (!classes) return HeadRows::kAll;
  return classes->pick == PickedRow::kFirst ? HeadRows::kFirst : HeadRows::kLast;
}

Driver::Driver(const EngineOptions& options, Rank& rank, Drafter* drafter, const EventSink& sink)
    : options_(options),
      head_(options.spec.head()),
      headRows_(headRows(options.spec)),
      onCpu_(options.devices.front() == "cpu"),
      rank_(rank),
      drafter_(drafter),
      sink_(sink),
      scheduler_({options.maxBatchTokens, options.kvCachePages, dynamicOriginalPositions(options.spec),
                  longOriginalPositions(options.spec), seesLater(options.spec), options.spec.embedding.tokenTypes > 0,
                  rank.computesRowsApart(), options.prefixCache, rank.promptLimits()}) {
  outputs_.sink = [this](int64_t first, int64_t count, float* rows) { takeHead(first, count, rows); };
  outputs_.hiddenSink = [this](int64_t first, int64_t count, float* rows) { takeHidden(first, count, rows); };
  stats_.kvPagesTotal = options.kvCachePages;
  stats_.memory = rank.memory();
}

EngineStats Driver::stats() const {
  EngineStats stats = stats_;
  stats.running = scheduler_.runningCount();
  stats.waiting = scheduler_.waitingCount();
  stats.kvPagesFree = scheduler_.freePages();
  stats.preemptions = scheduler_.preemptions();
  stats.kvPagesFindable = scheduler_.findablePages();
  stats.prefixQueries = scheduler_.prefixQueries();
  stats.prefixHits = scheduler_.prefixHits();
  stats.groupNanoseconds = rank_.groupNanoseconds();
  return stats;
}

bool Driver::step() {
  const auto start = std::chrono::steady_clock::now();
  if (left_) return goOn(start);
  const int64_t threadStart = threadNanoseconds();
  const int64_t readingNanoseconds = makeDrafts();
  scheduler_.next(scheduled_);
  progressed_ = scheduled_.step.rows > 0;
  if (!progressed_) return true;
  wantRows();
  scheduled_.step.left = mayLeave();
  if (scheduled_.step.left) return leave(start);
  if (!rank_.run(scheduled_.step, outputs_)) return false;
  const int64_t nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
  stats_.stepNanoseconds += nanoseconds;
  // A thread that waits for a GPU may sleep.
  const int64_t worked = onCpu_ ? threadNanoseconds() - threadStart : nanoseconds;
  keepScores();
  rejectUnsound();
  endPrompts();
  const int64_t tokens = stats_.generatedTokens;
  deliverSampled();
  weighDrafts(stats_.generatedTokens - tokens, worked - readingNanoseconds);
  for (const auto& [sequence, drafted, skipped] : scheduled_.slices)
    if (sequence->wanted != Wanted::kTokens && sequence->pending() == 0 && !isFinished(*sequence))
      finishOutputs(*sequence);
  for (const ScheduledSlice& slice : scheduled_.slices)
    if (!slice.sequence->failed) scheduler_.share(*slice.sequence);
  // Removed last, since the step points to them.
  for (const int64_t id : finished_) remove(id);
  finished_.clear();
  advanceBeams();
  ++stats_.steps;
  return true;
}

void Driver::flush() {
  if (events_.empty()) return;
  sink_(std::move(events_));
  events_.clear();
}

void Driver::apply(EngineCommand& command) {
  if (command.submitted) {
    stats_.promptTokens += command.submitted->promptLength;
    if (command.submitted->beams) {
      command.submitted->beams->running = {command.submitted.get()};
      command.submitted->beams->rows.resize(1);
      beamGroups_.push_back(command.submitted->beams);
    }
    scheduler_.add(std::move(command.submitted));
  } else if (cancelBeams(command.id) || (!isBeam(command.id) && remove(command.id))) {
    emitDone(command.id, FinishReason::kCancelled);
  }
}

// False if there is none.
bool Driver::remove(int64_t id) {
  if (drafter_) drafter_->forget(id);
  const std::unique_ptr<Sequence> removed = scheduler_.remove(id);
  if (removed) forgetLeft(removed.get());
  return removed != nullptr;
}

void Driver::emitDone(int64_t id, FinishReason reason) {
  Event event{EventKind::kDone};
  event.id = id;
  event.reason = reason;
  emit(std::move(event));
}

// Whether the slice has the sequence's last token, or one of its draft: others may be of tokens that are computed
// again.
static bool endsSequence(const Sequence& sequence, const SequenceSlice& slice) {
  return slice.contextLength + slice.rowCount >= sequence.length();
}

// Rows to sample from come first, then those that score a prompt, then other outputs of the head, then hidden states.
void Driver::wantRows() {
  owners_.clear();
  outputs_.samplers.clear();
  outputs_.scored.clear();
  draftSamplers_.clear();
  Step& step = scheduled_.step;
  step.wantedRows.clear();
  const auto each = [&](auto&& use) {
    for (size_t i = 0; i < scheduled_.slices.size(); ++i) use(scheduled_.slices[i].sequence, step.sequences[i]);
  };
  for (size_t i = 0; i < scheduled_.slices.size(); ++i) wantSampled(scheduled_.slices[i], step.sequences[i]);
  each([&](Sequence* sequence, const SequenceSlice& slice) { wantScores(sequence, slice); });
  each([&](Sequence* sequence, const SequenceSlice& slice) {
    if (sequence->wantsHead() && head_.columns > 0) wantHeadRows(sequence, slice);
    if (sequence->beams && sequence->pending() == 0 && endsSequence(*sequence, slice))
      want(slice, slice.rowCount - 1, sequence);
  });
  const size_t headRows = step.wantedRows.size();
  each([&](Sequence* sequence, const SequenceSlice& slice) {
    if (sequence->wantsHidden()) wantHiddenRows(sequence, slice);
  });
  step.hiddenRows = static_cast<int64_t>(step.wantedRows.size() - headRows);
  sampled_.assign(outputs_.samplers.size(), {});
  sound_.assign(owners_.size(), 1);
  outputs_.sampled = sampled_.data();
  scores_.assign(outputs_.scored.size(), {});
  outputs_.scores = scores_.data();
}

// A token behind the sequence's last one, and one behind each of its draft: by a sampler that has accepted these.
void Driver::wantSampled(const ScheduledSlice& use, const SequenceSlice& slice) {
  Sequence* sequence = use.sequence;
  if (sequence->wanted != Wanted::kTokens || sequence->pending() > 0 || sequence->maxNewTokens == 0) return;
  if (sequence->beams) return;  // its best tokens are looked for: wantRows()
  if (!endsSequence(*sequence, slice)) return;
  const bool isDraft = slice.contextLength >= sequence->length();
  for (int64_t row = isDraft ? 0 : slice.rowCount - 1 - use.drafted; row < slice.rowCount; ++row) {
    const int64_t position = slice.contextLength + row;
    const int64_t drafted = position + 1 - sequence->length();
    const Sampler* sampler = &sequence->sampler;
    if (drafted > 0) {
      // The row before is of the same sequence.
      draftSamplers_.push_back(owners_.back().sampler->withoutUnused());
      draftSamplers_.back().accept(sequence->draft[static_cast<size_t>(drafted - 1)]);
      sampler = &draftSamplers_.back();
    }
    outputs_.samplers.push_back(&sampler->state());
    want(slice, row, sequence);
    owners_.back().sampler = sampler;
    owners_.back().drafted = drafted;
  }
}

// What a sequence that gave its pages back has scored before it does not score again.
void Driver::wantScores(Sequence* sequence, const SequenceSlice& slice) {
  for (int64_t row = 0; row < slice.rowCount; ++row) {
    const int64_t position = slice.contextLength + row;
    if (!sequence->wantsScore(position)) continue;
    outputs_.scored.push_back({sequence->tokens[static_cast<size_t>(position + 1)], sequence->promptLogprobs});
    want(slice, row, sequence);
  }
}

void Driver::wantHeadRows(Sequence* sequence, const SequenceSlice& slice) {
  const int64_t rows = headRows_ == HeadRows::kAll ? sequence->promptLength : 1;
  sequence->outputs.resize(static_cast<size_t>(rows * head_.columns));
  if (headRows_ == HeadRows::kFirst && slice.contextLength == 0) want(slice, 0, sequence);
  if (headRows_ == HeadRows::kLast && sequence->pending() == 0) want(slice, slice.rowCount - 1, sequence);
  for (int64_t row = 0; headRows_ == HeadRows::kAll && row < slice.rowCount; ++row) want(slice, row, sequence);
}

void Driver::wantHiddenRows(Sequence* sequence, const SequenceSlice& slice) {
  const auto pooled = static_cast<int64_t>(sequence->poolings.size());
  const int64_t rows = pooled == 0 ? sequence->promptLength : pooled;
  sequence->hidden.resize(static_cast<size_t>(rows * options_.spec.hiddenSize));
  for (int64_t row = 0; row < slice.rowCount; ++row)
    if (isPooled(*sequence, slice.contextLength + row)) want(slice, row, sequence);
}

void Driver::want(const SequenceSlice& slice, int64_t row, Sequence* sequence) {
  scheduled_.step.wantedRows.push_back(static_cast<int32_t>(slice.firstRow + row));
  owners_.push_back({sequence, slice.contextLength + row, nullptr, 0});
}

void Driver::takeHead(int64_t first, int64_t count, float* rows) {
  const int64_t columns = head_.columns;
  rank_.pool().forEach(count, [&](int64_t i, int) {
    const auto index = static_cast<size_t>(first + i);
    const auto& [sequence, position, sampler, drafted] = owners_[index];
    float* row = rows + i * columns;
    if (sampler) {
      sampled_[index] = sampler->sample(row, columns);
      return;
    }
    if (const size_t scored = index - sampled_.size(); scored < scores_.size()) {
      scores_[scored] = scoreToken(outputs_.scored[scored], row, columns);
      return;
    }
    sound_[index] = canChoose(row, columns) ? 1 : 0;
    if (sequence->beams) return sound_[index] == 0 ? void() : takeBeam(*sequence, row);
    const int64_t at = headRows_ == HeadRows::kAll ? position : 0;
    std::copy(row, row + columns, sequence->outputs.begin() + at * columns);
  });
}

// One row after another: what is pooled adds up in the order of the tokens.
void Driver::takeHidden(int64_t first, int64_t count, const float* rows) {
  const int64_t columns = options_.spec.hiddenSize;
  for (int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<size_t>(scheduled_.step.headRows() + first + i);
    const auto& [sequence, position, sampler, drafted] = owners_[index];
    const float* row = rows + i * columns;
    sound_[index] = std::all_of(row, row + columns, [](float value) { return std::isfinite(value); }) ? 1 : 0;
    if (sequence->poolings.empty())
      std::copy(row, row + columns, sequence->hidden.begin() + position * columns);
    else
      addPooled(*sequence, position, row, columns);
  }
}

// Rows of a sequence are in the order of its tokens.
void Driver::keepScores() {
  for (size_t i = 0; i < scores_.size(); ++i) {
    const TokenScore& score = scores_[i];
    const size_t index = sampled_.size() + i;
    sound_[index] = score.finite ? 1 : 0;
    PromptScores& kept = owners_[index].sequence->promptScores;
    kept.logprobs.push_back(score.logprob);
    kept.ranks.push_back(score.rank);
    for (const auto& [token, logprob] : score.top) {
      kept.topTokens.push_back(token);
      kept.topLogprobs.push_back(logprob);
    }
  }
}

// Reports the scores of prompts that have been computed, and ends sequences that wanted nothing else.
void Driver::endPrompts() {
  for (const ScheduledSlice& use : scheduled_.slices) {
    Sequence& sequence = *use.sequence;
    if (sequence.wanted != Wanted::kTokens || sequence.pending() > 0 || isFinished(sequence)) continue;
    if (sequence.promptLogprobs >= 0 && !sequence.promptScored) {
      Event event{EventKind::kPrompt};
      event.id = sequence.id;
      event.prompt = std::move(sequence.promptScores);
      sequence.promptScored = true;
      emit(std::move(event));
    }
    if (sequence.maxNewTokens > 0) continue;
    emitDone(sequence.id, FinishReason::kLength);
    finished_.push_back(sequence.id);
  }
}

// The rows of a sequence are one behind another. A token of its draft that is what was sampled has been computed
// already; what was sampled behind another one is of no use. So tokens are the same as without drafts.
void Driver::deliverSampled() {
  for (size_t i = 0; i < sampled_.size();) {
    Sequence& sequence = *owners_[i].sequence;
    bool goesOn = !isFinished(sequence) && deliver(owners_[i], std::move(sampled_[i]));
    int64_t drafted = 0, accepted = 0;
    for (++i; i < sampled_.size() && owners_[i].drafted > 0; ++i) {
      ++drafted;
      if (!goesOn || sequence.tokens.back() != sequence.draft[static_cast<size_t>(owners_[i].drafted - 1)]) {
        goesOn = false;
        continue;
      }
      ++accepted;
      ++sequence.computed;
      goesOn = deliver(owners_[i], std::move(sampled_[i]));
    }
    if (drafted > 0) endDraft(sequence, drafted, accepted);
  }
}

void Driver::endDraft(Sequence& sequence, int64_t drafted, int64_t accepted) {
  sequence.draftPace.tell(drafted, accepted);
  ++stats_.drafts;
  stats_.draftTokens += drafted;
  stats_.acceptedTokens += accepted;
  stats_.acceptedAt.resize(std::max(stats_.acceptedAt.size(), static_cast<size_t>(accepted)));
  for (int64_t i = 0; i < accepted; ++i) ++stats_.acceptedAt[static_cast<size_t>(i)];
}

// For the next step of the sequences that decode. Returns the nanoseconds of reading prompts for it.
int64_t Driver::makeDrafts() {
  if (!drafter_) return 0;
  const bool affordable = !options_.weighsDrafts || draftBudget_.allows(scheduler_.runningCount());
  wishes_.clear();
  for (const std::unique_ptr<Sequence>& sequence : scheduler_.running()) {
    sequence->draft.clear();
    if (sequence->wanted != Wanted::kTokens || !sequence->speculates || sequence->pending() != 1) continue;
    // The last token is sampled in any case.
    const int64_t left = sequence->maxNewTokens - sequence->sampler.newTokens() - 1;
    const int64_t most = sequence->draftPace.next(std::min(drafter_->longest(), left));
    if (most > 0 && affordable) wishes_.push_back({sequence.get(), most});
  }
  return wishes_.empty() ? 0 : drafter_->makeDrafts(wishes_);
}

// Of a step that is nothing but the next tokens of all sequences, and drafts: others take their own time.
void Driver::weighDrafts(int64_t tokens, int64_t nanoseconds) {
  if (!drafter_) return;
  int64_t sequences = 0, drafted = 0;
  for (size_t i = 0; i < scheduled_.slices.size(); ++i) {
    const ScheduledSlice& use = scheduled_.slices[i];
    const int64_t rows = scheduled_.step.sequences[i].rowCount - use.drafted;
    const bool isAgain = use.drafted == 0 && scheduled_.step.sequences[i].follows > 0;
    if (rows > 1 || isAgain || use.sequence->wanted != Wanted::kTokens) return;
    sequences += rows;
    drafted += use.drafted;
  }
  draftBudget_.tell(sequences, tokens, drafted > 0 || !wishes_.empty(), nanoseconds);
}

// Whether the sequence goes on. Where its step was left, it has a place for the token already if it had to go on, and
// perhaps for others behind it.
bool Driver::deliver(const Owner& owner, SampledToken&& sampled) {
  Sequence& sequence = *owner.sequence;
  const int64_t place = owner.position + 1;
  if (!sampled.finite) {
    reject(sequence, place);
    return false;
  }
  if (sampled.blocked) {
    rejectBlocked(sequence, owner.sampler->state().constraints.problem());
    return false;
  }
  const int32_t token = sampled.token;
  if (place < sequence.length())
    sequence.tokens[static_cast<size_t>(place)] = token;
  else
    sequence.tokens.push_back(token);
  const int64_t newTokens = place + 1 - sequence.promptLength;
  if (newTokens > sequence.sampler.newTokens()) sequence.sampler.expect();
  sequence.sampler.learn(token);
  ++stats_.generatedTokens;
  Event event{EventKind::kToken};
  event.id = sequence.id;
  event.hasLogprob = sequence.sampler.params().logprobs >= 0;
  if (newTokens == 1) event.cachedTokens = sequence.cachedTokens;
  event.sampled = std::move(sampled);
  emit(std::move(event));
  // A stop token is chosen before minNewTokens where every token is one, and ends nothing then; but where constraints
  // allowed nothing else, it does.
  const Sampler& sampler = sequence.sampler;
  const bool mayStop = newTokens >= sampler.params().minNewTokens || !sampler.state().constraints.empty();
  const bool stopped = mayStop && sampler.isStop(token);
  if (!stopped && newTokens < sequence.maxNewTokens) return true;
  emitDone(sequence.id, stopped ? FinishReason::kStop : FinishReason::kLength);
  finished_.push_back(sequence.id);
  return false;
}

// Sequences whose outputs of this step hold NaN or infinity, each once.
void Driver::rejectUnsound() {
  for (size_t i = sampled_.size(); i < owners_.size(); ++i) {
    const Owner& owner = owners_[i];
    if (sound_[i] != 0 || isFinished(*owner.sequence)) continue;
    if (owner.sequence->beams)
      rejectBeams(*owner.sequence->beams, owner.position + 1);
    else
      reject(*owner.sequence, owner.position + 1);
  }
}

bool Driver::isFinished(const Sequence& sequence) const {
  return std::find(finished_.begin(), finished_.end(), sequence.id) != finished_.end();
}

void Driver::reject(Sequence& sequence, int64_t tokens) {
  sequence.failed = true;
  emitUnsound(sequence.id, tokens);
  finished_.push_back(sequence.id);
}

void Driver::rejectBlocked(const Sequence& sequence, const std::optional<Error>& problem) {
  emitBlocked(sequence.id, sequence.length(), problem);
  finished_.push_back(sequence.id);
}

void Driver::emitRejected(int64_t id, std::string code, std::string message) {
  Event event{EventKind::kRejected};
  event.id = id;
  event.code = std::move(code);
  event.message = std::move(message);
  emit(std::move(event));
}

void Driver::emitUnsound(int64_t id, int64_t tokens) {
  emitRejected(id, "ERR_NUMERIC",
               std::string("The model computed infinity or NaN as ") + (head_.isVocabulary ? "a logit" : "an output") +
                   " behind " + std::to_string(tokens) +
                   " tokens. Its weights hold such values, or lead to them: check the checkpoint.");
}

void Driver::emitBlocked(int64_t id, int64_t tokens, const std::optional<Error>& problem) {
  const std::string behind = std::to_string(tokens) + " tokens";
  if (problem) return emitRejected(id, problem->code(), "Behind " + behind + ", " + problem->what());
  emitRejected(id, "ERR_INVALID_ARGUMENT",
               "The request's constraints on tokens allow none behind " + behind +
                   ". Allow more tokens, have fewer bad words, or another format.");
}

void Driver::finishOutputs(Sequence& sequence) {
  Event event{EventKind::kOutputs};
  event.id = sequence.id;
  finishPooling(sequence);
  event.outputs = std::move(sequence.outputs);
  event.hidden = std::move(sequence.hidden);
  emit(std::move(event));
  finished_.push_back(sequence.id);
}

}  // namespace shardspeed

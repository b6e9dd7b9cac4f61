#include "runtime/driver.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

namespace shardspeed {

Driver::Driver(const EngineOptions& options, Rank& rank, const EventSink& sink)
    : options_(options),
      rank_(rank),
      sink_(sink),
      scheduler_({options.maxBatchTokens, options.kvCachePages, dynamicOriginalPositions(options.spec),
                  longOriginalPositions(options.spec)}) {
  outputs_.sink = [this](int64_t first, int64_t count, float* logits) { takeLogits(first, count, logits); };
  stats_.kvPagesTotal = options.kvCachePages;
  stats_.memory = rank.memory();
}

EngineStats Driver::stats() const {
  EngineStats stats = stats_;
  stats.running = scheduler_.runningCount();
  stats.waiting = scheduler_.waitingCount();
  stats.kvPagesFree = scheduler_.freePages();
  stats.preemptions = scheduler_.preemptions();
  stats.groupNanoseconds = rank_.groupNanoseconds();
  return stats;
}

bool Driver::step() {
  scheduler_.next(scheduled_);
  progressed_ = scheduled_.step.rows > 0;
  return !progressed_ || compute();
}

void Driver::flush() {
  if (events_.empty()) return;
  sink_(std::move(events_));
  events_.clear();
}

void Driver::apply(EngineCommand& command) {
  if (command.submitted) {
    stats_.promptTokens += command.submitted->promptLength;
    scheduler_.add(std::move(command.submitted));
  } else if (scheduler_.remove(command.id)) {
    emitDone(command.id, FinishReason::kCancelled);
  }
}

void Driver::emitDone(int64_t id, FinishReason reason) {
  Event event{EventKind::kDone};
  event.id = id;
  event.reason = reason;
  emit(std::move(event));
}

// False if the engine was stopped meanwhile.
bool Driver::compute() {
  wantLogits();
  sampled_.assign(outputs_.samplers.size(), {});
  sound_.assign(owners_.size(), 1);
  outputs_.sampled = sampled_.data();
  const auto start = std::chrono::steady_clock::now();
  if (!rank_.run(scheduled_.step, outputs_)) return false;
  stats_.stepNanoseconds +=
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < sampled_.size(); ++i) deliver(*owners_[i].sequence, std::move(sampled_[i]));
  rejectUnsound();
  for (Sequence* sequence : scheduled_.sequences)
    if (sequence->forward && sequence->pending() == 0 && !isFinished(*sequence)) finishForward(*sequence);
  // Removed last, since the step points to them.
  for (const int64_t id : finished_) scheduler_.remove(id);
  finished_.clear();
  ++stats_.steps;
  return true;
}

// Rows to sample from come first, then the rows of forward().
void Driver::wantLogits() {
  owners_.clear();
  outputs_.samplers.clear();
  scheduled_.step.wantedRows.clear();
  for (size_t i = 0; i < scheduled_.sequences.size(); ++i) {
    Sequence* sequence = scheduled_.sequences[i];
    const SequenceSlice& slice = scheduled_.step.sequences[i];
    if (sequence->forward || sequence->pending() > 0) continue;
    outputs_.samplers.push_back(&sequence->sampler.state());
    want(slice.firstRow + slice.rowCount - 1, sequence, sequence->length() - 1);
  }
  for (size_t i = 0; i < scheduled_.sequences.size(); ++i) {
    Sequence* sequence = scheduled_.sequences[i];
    const SequenceSlice& slice = scheduled_.step.sequences[i];
    if (!sequence->forward) continue;
    sequence->logits.resize(static_cast<size_t>(sequence->promptLength * options_.spec.vocabSize));
    for (int64_t row = 0; row < slice.rowCount; ++row) want(slice.firstRow + row, sequence, slice.contextLength + row);
  }
}

void Driver::want(int64_t row, Sequence* sequence, int64_t position) {
  scheduled_.step.wantedRows.push_back(static_cast<int32_t>(row));
  owners_.push_back({sequence, position});
}

void Driver::takeLogits(int64_t first, int64_t count, float* logits) {
  const int64_t vocab = options_.spec.vocabSize;
  rank_.pool().forEach(count, [&](int64_t i, int) {
    const auto index = static_cast<size_t>(first + i);
    const Owner& owner = owners_[index];
    float* row = logits + i * vocab;
    if (owner.sequence->forward) {
      sound_[index] = canChoose(row, vocab) ? 1 : 0;
      std::copy(row, row + vocab, owner.sequence->logits.begin() + owner.position * vocab);
    } else {
      sampled_[index] = owner.sequence->sampler.sample(row, vocab);
    }
  });
}

void Driver::deliver(Sequence& sequence, SampledToken&& sampled) {
  if (!sampled.finite) return reject(sequence, sequence.length());
  const int32_t token = sampled.token;
  sequence.tokens.push_back(token);
  sequence.sampler.accept(token);
  ++stats_.generatedTokens;
  Event event{EventKind::kToken};
  event.id = sequence.id;
  event.hasLogprob = sequence.sampler.params().logprobs >= 0;
  event.sampled = std::move(sampled);
  emit(std::move(event));
  // A stop token is chosen before minNewTokens where every token is one, and ends nothing then.
  const Sampler& sampler = sequence.sampler;
  const bool stopped = sampler.newTokens() >= sampler.params().minNewTokens && sampler.isStop(token);
  if (!stopped && sampler.newTokens() < sequence.maxNewTokens) return;
  emitDone(sequence.id, stopped ? FinishReason::kStop : FinishReason::kLength);
  finished_.push_back(sequence.id);
}

// Sequences of forward() whose rows of this step hold NaN or infinity, each once.
void Driver::rejectUnsound() {
  for (size_t i = sampled_.size(); i < owners_.size(); ++i)
    if (sound_[i] == 0 && !isFinished(*owners_[i].sequence)) reject(*owners_[i].sequence, owners_[i].position + 1);
}

bool Driver::isFinished(const Sequence& sequence) const {
  return std::find(finished_.begin(), finished_.end(), sequence.id) != finished_.end();
}

void Driver::reject(const Sequence& sequence, int64_t tokens) {
  Event event{EventKind::kRejected};
  event.id = sequence.id;
  event.code = "ERR_NUMERIC";
  event.message = "The model computed infinity or NaN as a logit behind " + std::to_string(tokens) +
                  " tokens. Its weights hold such values, or lead to them: check the checkpoint.";
  emit(std::move(event));
  finished_.push_back(sequence.id);
}

void Driver::finishForward(Sequence& sequence) {
  Event event{EventKind::kLogits};
  event.id = sequence.id;
  event.logits = std::move(sequence.logits);
  emit(std::move(event));
  finished_.push_back(sequence.id);
}

}  // namespace shardspeed

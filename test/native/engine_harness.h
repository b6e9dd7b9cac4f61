#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "runtime/engine.h"
#include "tiny_model.h"

namespace shardspeed::test {

// An engine with all that it reported, by sequence.
class Harness {
 public:
  struct Result {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    int prompts = 0;  // kPrompt events
    PromptScores prompt;
    std::vector<float> logits;
    std::vector<float> hidden;
    int done = 0;  // kDone, kOutputs and kRejected events
    std::string code;
    std::optional<float> score;
    FinishReason reason = FinishReason::kStop;
    int64_t cachedTokens = -1;
  };

  explicit Harness(EngineOptions options)
      : vocab_(options.spec.vocabSize),
        engine_(std::make_unique<Engine>(
            std::move(options), [this](std::vector<Event>&& events) { take(std::move(events)); },
            [this] {
              const std::lock_guard<std::mutex> lock(mutex_);
              ++exits_;
            })) {}

  void submit(int64_t id, std::vector<int32_t> prompt, int64_t newTokens, SamplingParams params = {},
              bool forward = false) {
    auto sequence = std::make_unique<Sequence>(id, std::move(prompt), newTokens, std::move(params));
    if (forward) sequence->wanted = Wanted::kHead;
    engine_->submit(std::move(sequence));
  }
  void submit(std::unique_ptr<Sequence> sequence) { engine_->submit(std::move(sequence)); }

  template <typename Condition>
  void wait(const char* what, Condition&& condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::seconds(100), condition)) return;
    FAIL(std::string("waited in vain for ") + what);
    throw CutShort{};
  }
  void waitReady() {
    wait("the model", [this] { return ready_ > 0; });
  }
  void waitFailed() {
    wait("a failure", [this] { return !failures_.empty(); });
  }
  void waitDone(int64_t id) {
    wait("a sequence", [this, id] { return results_[id].done > 0; });
  }
  void waitTokens(int64_t id, size_t count) {
    wait("tokens", [this, id, count] { return results_[id].tokens.size() >= count; });
  }
  // In the condition of a wait: so many tokens have come, or the sequence is done.
  bool has(int64_t id, size_t tokens) { return results_[id].tokens.size() >= tokens || results_[id].done > 0; }
  Result result(int64_t id) {
    waitDone(id);
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK_EQ(results_[id].done, 1);
    return results_[id];
  }
  void stop() {
    engine_->requestStop();
    engine_->join();
  }
  void destroy() { engine_.reset(); }

  Engine& engine() { return *engine_; }
  // For use behind stop() or under no other events.
  int ready() const { return ready_; }
  int exits() const { return exits_; }
  int ended() const { return ended_; }
  const std::vector<Event>& failures() const { return failures_; }

 private:
  void take(std::vector<Event>&& events) {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK_EQ(exits_, 0);  // leaving is the last thing that the thread does
    for (Event& event : events) {
      Result& result = results_[event.id];
      switch (event.kind) {
        case EventKind::kProgress:
          CHECK_EQ(ready_, 0);
          CHECK(event.loadedBytes <= event.totalBytes);
          break;
        case EventKind::kReady:
          ++ready_;
          break;
        case EventKind::kFailed:
          failures_.push_back(event);
          break;
        case EventKind::kEnded:
          ++ended_;
          break;
        case EventKind::kPrompt:
          CHECK_EQ(result.prompts, 0);
          CHECK(result.tokens.empty());
          ++result.prompts;
          result.prompt = std::move(event.prompt);
          break;
        case EventKind::kToken:
          CHECK_EQ(result.done, 0);
          CHECK(event.sampled.token >= 0 && event.sampled.token < vocab_);
          result.tokens.push_back(event.sampled.token);
          CHECK_EQ(event.cachedTokens.has_value(), result.tokens.size() == 1);
          if (event.cachedTokens) result.cachedTokens = *event.cachedTokens;
          if (event.hasLogprob) result.logprobs.push_back(event.sampled.logprob);
          break;
        case EventKind::kDone:
          result.reason = event.reason;
          result.score = event.score;
          ++result.done;
          break;
        case EventKind::kOutputs:
          result.logits = std::move(event.outputs);
          result.hidden = std::move(event.hidden);
          ++result.done;
          break;
        case EventKind::kRejected:
          result.code = event.code;
          ++result.done;
          break;
      }
    }
    changed_.notify_all();
  }

  int64_t vocab_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Result> results_;
  std::vector<Event> failures_;
  int ready_ = 0;
  int exits_ = 0;
  int ended_ = 0;
  std::unique_ptr<Engine> engine_;  // last: its thread uses all of the above
};

inline EngineOptions optionsFor(TinyModel& model, int threads = 2, int64_t batch = 64, int64_t pages = 64) {
  EngineOptions options;
  options.spec = model.spec();
  options.plan = model.plan();
  options.threads = threads;
  options.maxSequenceTokens = model.spec().maxPositions;
  options.maxBatchTokens = batch;
  options.kvCachePages = pages;
  return options;
}

inline std::vector<int32_t> promptOf(Random& random, const ModelSpec& spec, int64_t length) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < length; ++i) prompt.push_back(static_cast<int32_t>(random.below(spec.vocabSize)));
  return prompt;
}

}  // namespace shardspeed::test

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "base/error.h"
#include "bench.h"
#include "cuda/cuda_backend.h"
#include "runtime/device.h"
#include "runtime/engine.h"
#include "shapes.h"

// Whole models of random weights in the engine that users get, scheduler and sampling included: what a token costs, and
// a prompt.

namespace shardspeed::bench {

namespace {

using Clock = std::chrono::steady_clock;

double microsecondsBetween(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - start).count();
}

struct Lengths {
  int64_t decodePrompt;
  int64_t newTokens;
  int64_t prefillPrompt;
  int64_t mostSequences;
};

// The engine and what it reported, for one caller.
class ModelRun {
 public:
  ModelRun(const ModelShape& model, const Lengths& lengths, DType dtype)
      : vocab_(model.vocab),
        engine_(
            optionsFor(model, lengths, dtype), [this](std::vector<Event>&& events) { take(std::move(events)); },
            [] {}) {
    waitFor([this] { return ready_; });
  }

  // Whether all tokens so far were number 0, which is chosen where all logits are the same: of weights that are zeros.
  bool choseFirstToken() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return mostToken_ == 0;
  }

  // Runs `count` sequences at once; returns when the tokens came: one time a step, of those that brought a token.
  std::vector<Clock::time_point> run(int64_t count, int64_t promptLength, int64_t newTokens) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      steps_.clear();
      done_ = 0;
    }
    for (int64_t i = 0; i < count; ++i) {
      std::vector<int32_t> prompt(static_cast<size_t>(promptLength));
      for (size_t j = 0; j < prompt.size(); ++j)
        prompt[j] = static_cast<int32_t>((static_cast<int64_t>(j) * 31 + i * 17 + 3) % vocab_);
      engine_.submit(std::make_unique<Sequence>(nextId_++, std::move(prompt), newTokens, SamplingParams{}));
    }
    waitFor([&] { return done_ == count; });
    const std::lock_guard<std::mutex> lock(mutex_);
    return steps_;
  }

 private:
  static EngineOptions optionsFor(const ModelShape& model, const Lengths& lengths, DType dtype) {
    EngineOptions options;
    options.maxSequenceTokens = std::max(lengths.decodePrompt + lengths.newTokens, lengths.prefillPrompt + 1);
    options.spec = modelSpec(model, options.maxSequenceTokens);
    options.devices = {"cuda:0"};
    options.dtype = dtype;
    options.prefixCache = false;  // prompts come again, and are to be computed again
    options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    options.maxBatchTokens = std::max(lengths.prefillPrompt, lengths.mostSequences * lengths.decodePrompt);
    const auto pages = [](int64_t tokens) { return tokens / kPageTokens + 2; };
    options.kvCachePages = std::max(lengths.mostSequences * pages(lengths.decodePrompt + lengths.newTokens),
                                    pages(lengths.prefillPrompt + 1));
    return options;
  }

  void take(std::vector<Event>&& events) {
    const auto now = Clock::now();
    const std::lock_guard<std::mutex> lock(mutex_);
    bool hasToken = false;
    for (const Event& event : events) {
      if (event.kind == EventKind::kReady) ready_ = true;
      if (event.kind == EventKind::kToken) hasToken = true, mostToken_ = std::max(mostToken_, event.sampled.token);
      if (event.kind == EventKind::kDone) ++done_;
      if (event.kind == EventKind::kFailed || event.kind == EventKind::kRejected)
        failure_ = event.code + ": " + event.message;
    }
    if (hasToken) steps_.push_back(now);
    changed_.notify_all();
  }

  template <typename Condition>
  void waitFor(Condition condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return !failure_.empty() || condition(); });
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  int64_t done_ = 0;
  std::string failure_;
  std::vector<Clock::time_point> steps_;
  int32_t mostToken_ = -1;
  int64_t nextId_ = 1;
  int64_t vocab_;
  Engine engine_;  // last: its thread uses all of the above
};

// Weights that every step reads, in elements; of the embedding it reads but rows.
double weightsOf(const ModelShape& model) {
  const double attention = static_cast<double>(model.heads * model.headDim);
  const double kv = static_cast<double>(model.kvHeads * model.headDim);
  const auto hidden = static_cast<double>(model.hidden);
  const double layer =
      hidden * (2 * attention + 2 * kv) + hidden * static_cast<double>(model.ffn) * (model.isLlama ? 3 : 2);
  return layer * static_cast<double>(model.layers);
}

double headOf(const ModelShape& model) {
  return static_cast<double>(model.vocab * model.hidden);
}

void measureDecode(Bench& bench, const ModelShape& model, const Lengths& lengths, ModelRun& run, int64_t sequences) {
  run.run(sequences, lengths.decodePrompt, std::min<int64_t>(lengths.newTokens, 4));  // graphs are captured now
  std::vector<double> stepTimes;
  for (int repeat = 0; repeat < (bench.options().smoke ? 1 : bench.options().quick ? 2 : 3); ++repeat) {
    const auto steps = run.run(sequences, lengths.decodePrompt, lengths.newTokens);
    // The first token of each is the prompt's.
    stepTimes.push_back(microsecondsBetween(steps.front(), steps.back()) / static_cast<double>(lengths.newTokens - 1));
  }
  // A chip that multiplies by zeros draws less power, and so runs faster than with any model.
  if (run.choseFirstToken())
    bench.fail(std::string(model.name) + ": all tokens are number 0, as of weights that are zeros");
  std::sort(stepTimes.begin(), stepTimes.end());
  Figure figure{"model", "decode", model.name, std::to_string(sequences) + " sequences",
                stepTimes[stepTimes.size() / 2]};
  const auto meanLength = static_cast<double>(lengths.decodePrompt) + static_cast<double>(lengths.newTokens) / 2;
  const auto count = static_cast<double>(sequences);
  figure.bytes = 2 * (weightsOf(model) + headOf(model)) +
                 count * meanLength * static_cast<double>(model.layers * model.kvHeads * model.headDim) * 4;
  if (figure.microseconds > 0) figure.tokensPerSecond = count * 1e6 / figure.microseconds;
  bench.add(figure);
}

void measurePrefill(Bench& bench, const ModelShape& model, const Lengths& lengths, ModelRun& run) {
  run.run(1, lengths.prefillPrompt, 1);
  std::vector<double> times;
  for (int repeat = 0; repeat < (bench.options().smoke ? 1 : 5); ++repeat) {
    const auto start = Clock::now();
    const auto steps = run.run(1, lengths.prefillPrompt, 1);
    times.push_back(microsecondsBetween(start, steps.front()));
  }
  std::sort(times.begin(), times.end());
  const auto tokens = static_cast<double>(lengths.prefillPrompt);
  Figure figure{"prompt", "prefill", model.name, std::to_string(lengths.prefillPrompt) + " tokens",
                times[times.size() / 2]};
  figure.operations = 2 * (tokens * weightsOf(model) + headOf(model)) +
                      2 * tokens * (tokens + 1) * static_cast<double>(model.layers * model.heads * model.headDim);
  if (figure.microseconds > 0) figure.tokensPerSecond = tokens * 1e6 / figure.microseconds;
  bench.add(figure);
}

}  // namespace

namespace {

// Each model with an engine of its own. measure(run, model, lengths)
template <typename Measure>
void withModels(Bench& bench, const Lengths& lengths, Measure measure) {
  static const bool added = (addDeviceKind("cuda", cuda::cudaDeviceKind()), true);
  (void)added;
  for (const ModelShape& model : bench.models()) {
    try {
      ModelRun run(model, lengths, bench.options().dtype);
      measure(run, model);
    } catch (const std::runtime_error& error) {
      // A model that is too large for this device is no failure of the others.
      if (std::string(error.what()).find("ERR_OUT_OF_MEMORY") == std::string::npos) throw;
      bench.note(std::string(model.name) + ": not measured, " + error.what());
    }
  }
}

}  // namespace

void measureModels(Bench& bench) {
  const bool smoke = bench.options().smoke;
  std::vector<int64_t> counts{1, 8, 32, 64, 256};
  if (smoke) counts = {1, 3};
  if (!bench.options().sequences.empty()) counts = bench.options().sequences;
  const int64_t most = *std::max_element(counts.begin(), counts.end());
  const Lengths lengths = smoke ? Lengths{5, 3, 5, most} : Lengths{16, bench.options().quick ? 48 : 128, 16, most};
  withModels(bench, lengths, [&](ModelRun& run, const ModelShape& model) {
    for (const int64_t sequences : counts) measureDecode(bench, model, lengths, run, sequences);
  });
}

void measurePrompts(Bench& bench) {
  std::vector<int64_t> counts{2048, 8192};
  if (bench.options().quick) counts = {2048};
  if (bench.options().smoke) counts = {40};
  for (const int64_t tokens : counts) {
    const Lengths lengths{1, 1, tokens, 1};
    withModels(bench, lengths,
               [&](ModelRun& run, const ModelShape& model) { measurePrefill(bench, model, lengths, run); });
  }
}

}  // namespace shardspeed::bench

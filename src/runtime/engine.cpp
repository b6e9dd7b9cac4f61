#include "runtime/engine.h"

#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/loader.h"
#include "runtime/executor.h"
#include "runtime/scheduler.h"

namespace shardspeed {

static AttentionShape attentionShape(const ModelSpec& spec) {
  return {spec.heads, spec.kvHeads, spec.headDim};
}

static BackendOptions backendOptions(const EngineOptions& options, ThreadPool* pool) {
  return {options.dtype, pool, options.maxBatchTokens, options.maxSequenceTokens, options.kvCachePages};
}

MemoryEstimate estimateMemory(const EngineOptions& options) {
  return deviceOf(options.device).kind.estimate(options.spec, backendOptions(options, nullptr));
}

// The loaded model and its work, from ready to stop; lives on the engine's thread.
class Engine::Session {
 public:
  explicit Session(Engine& engine)
      : engine_(engine),
        options_(engine.options_),
        pool_(options_.threads),
        scheduler_({options_.maxBatchTokens, options_.kvCachePages, options_.spec.rotary.dynamicOriginalPositions}) {
    const Device device = deviceOf(options_.device);
    backend_ = device.kind.makeBackend(device.index, backendOptions(options_, &pool_));
    outputs_.sink = [this](int64_t first, int64_t count, float* logits) { takeLogits(first, count, logits); };
  }

  void load() {
    const auto start = std::chrono::steady_clock::now();
    LoadOptions loadOptions;
    loadOptions.dtype = options_.dtype;
    loadOptions.plan = options_.plan ? &*options_.plan : nullptr;
    loadOptions.stop = &engine_.stop_;
    loadOptions.onProgress = [this](int64_t loaded, int64_t total) {
      Event event{EventKind::kProgress};
      event.loadedBytes = loaded;
      event.totalBytes = total;
      emit(std::move(event));
      flush();
    };
    weights_ = loadModel(options_.spec, loadOptions, *backend_, pool_);
    cache_ = backend_->makeKvCache(options_.spec.layers, options_.kvCachePages, attentionShape(options_.spec));
    executor_ = std::make_unique<Executor>(options_.spec, weights_, *backend_, *cache_, options_.maxBatchTokens,
                                           options_.maxSequenceTokens);
    stats_.kvPagesTotal = options_.kvCachePages;
    stats_.weightBytes = static_cast<int64_t>(weights_.bytes());
    stats_.kvCacheBytes = static_cast<int64_t>(cache_->bytes());
    stats_.activationBytes = estimateMemory(options_).activationBytes;
    publishStats();
    Event ready{EventKind::kReady};
    ready.loadMs = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    emit(std::move(ready));
    flush();
  }

  void work() {
    std::vector<Command> commands;
    bool progressed = true;
    while (engine_.takeCommands(scheduler_.idle() || !progressed, commands)) {
      for (Command& command : commands) apply(command);
      scheduler_.next(scheduled_);
      progressed = scheduled_.step.rows > 0;
      if (progressed && !computeStep()) return;
      publishStats();
      flush();
    }
  }

 private:
  void emit(Event&& event) { events_.push_back(std::move(event)); }

  void flush() {
    if (events_.empty()) return;
    engine_.sink_(std::move(events_));
    events_.clear();
  }

  void apply(Command& command) {
    if (command.submitted) {
      stats_.promptTokens += command.submitted->promptLength;
      scheduler_.add(std::move(command.submitted));
    } else if (scheduler_.remove(command.id)) {
      emitDone(command.id, FinishReason::kCancelled);
    }
  }

  void emitDone(int64_t id, FinishReason reason) {
    Event event{EventKind::kDone};
    event.id = id;
    event.reason = reason;
    emit(std::move(event));
  }

  // False where the engine was stopped meanwhile.
  bool computeStep() {
    wantLogits();
    sampled_.assign(outputs_.samplers.size(), {});
    outputs_.sampled = sampled_.data();
    if (!executor_->run(scheduled_.step, outputs_, engine_.stop_)) return false;
    for (size_t i = 0; i < sampled_.size(); ++i) deliver(*owners_[i].sequence, std::move(sampled_[i]));
    for (Sequence* sequence : scheduled_.sequences)
      if (sequence->forward && sequence->pending() == 0) finishForward(*sequence);
    // Last, since the step points to them.
    for (const int64_t id : finished_) scheduler_.remove(id);
    finished_.clear();
    ++stats_.steps;
    return true;
  }

  // First the rows that tokens are sampled from, then those of forward().
  void wantLogits() {
    owners_.clear();
    outputs_.samplers.clear();
    scheduled_.step.wantedRows.clear();
    for (size_t i = 0; i < scheduled_.sequences.size(); ++i) {
      Sequence* sequence = scheduled_.sequences[i];
      const SequenceSlice& slice = scheduled_.step.sequences[i];
      if (sequence->forward || sequence->pending() > 0) continue;
      outputs_.samplers.push_back(&sequence->sampler);
      want(slice.firstRow + slice.rowCount - 1, sequence, sequence->length() - 1);
    }
    for (size_t i = 0; i < scheduled_.sequences.size(); ++i) {
      Sequence* sequence = scheduled_.sequences[i];
      const SequenceSlice& slice = scheduled_.step.sequences[i];
      if (!sequence->forward) continue;
      sequence->logits.resize(static_cast<size_t>(sequence->promptLength * options_.spec.vocabSize));
      for (int64_t row = 0; row < slice.rowCount; ++row)
        want(slice.firstRow + row, sequence, slice.contextLength + row);
    }
  }

  void want(int64_t row, Sequence* sequence, int64_t position) {
    scheduled_.step.wantedRows.push_back(static_cast<int32_t>(row));
    owners_.push_back({sequence, position});
  }

  void takeLogits(int64_t first, int64_t count, float* logits) {
    const int64_t vocab = options_.spec.vocabSize;
    pool_.forEach(count, [&](int64_t i, int) {
      const auto index = static_cast<size_t>(first + i);
      const Owner& owner = owners_[index];
      float* row = logits + i * vocab;
      if (owner.sequence->forward)
        std::copy(row, row + vocab, owner.sequence->logits.begin() + owner.position * vocab);
      else
        sampled_[index] = owner.sequence->sampler.sample(row, vocab);
    });
  }

  void deliver(Sequence& sequence, SampledToken&& sampled) {
    if (!sampled.finite) return reject(sequence);
    const int32_t token = sampled.token;
    sequence.tokens.push_back(token);
    sequence.sampler.accept(token);
    ++stats_.generatedTokens;
    Event event{EventKind::kToken};
    event.id = sequence.id;
    event.hasLogprob = sequence.sampler.params().logprobs >= 0;
    event.sampled = std::move(sampled);
    emit(std::move(event));
    const bool stopped = sequence.sampler.isStop(token);
    if (!stopped && sequence.sampler.newTokens() < sequence.maxNewTokens) return;
    emitDone(sequence.id, stopped ? FinishReason::kStop : FinishReason::kLength);
    finished_.push_back(sequence.id);
  }

  void reject(const Sequence& sequence) {
    Event event{EventKind::kRejected};
    event.id = sequence.id;
    event.code = "ERR_NUMERIC";
    event.message = "The model computed infinity or NaN as a logit behind " + std::to_string(sequence.length()) +
                    " tokens. Its weights hold such values, or lead to them: check the checkpoint.";
    emit(std::move(event));
    finished_.push_back(sequence.id);
  }

  void finishForward(Sequence& sequence) {
    Event event{EventKind::kLogits};
    event.id = sequence.id;
    event.logits = std::move(sequence.logits);
    emit(std::move(event));
    finished_.push_back(sequence.id);
  }

  void publishStats() {
    stats_.running = scheduler_.runningCount();
    stats_.waiting = scheduler_.waitingCount();
    stats_.kvPagesFree = scheduler_.freePages();
    stats_.preemptions = scheduler_.preemptions();
    const std::lock_guard<std::mutex> lock(engine_.mutex_);
    engine_.stats_ = stats_;
  }

  struct Owner {
    Sequence* sequence;
    int64_t position;
  };

  Engine& engine_;
  const EngineOptions& options_;
  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  ModelWeights weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Executor> executor_;
  Scheduler scheduler_;
  ScheduledStep scheduled_;
  Executor::Outputs outputs_;
  std::vector<Owner> owners_;  // of the wanted rows
  std::vector<SampledToken> sampled_;
  std::vector<int64_t> finished_;  // sequences that end with this step
  std::vector<Event> events_;
  EngineStats stats_;
};

Engine::Engine(EngineOptions options, EventSink sink, std::function<void()> onExit)
    : options_(std::move(options)), sink_(std::move(sink)), onExit_(std::move(onExit)) {
  thread_ = std::thread([this] { threadMain(); });
}

Engine::~Engine() {
  requestStop();
  join();
}

void Engine::submit(std::unique_ptr<Sequence> sequence) {
  const int64_t id = sequence->id;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back({std::move(sequence), id});
  }
  wake_.notify_one();
}

void Engine::cancel(int64_t id) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back({nullptr, id});
  }
  wake_.notify_one();
}

EngineStats Engine::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void Engine::requestStop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
}

void Engine::join() {
  if (thread_.joinable()) thread_.join();
}

bool Engine::takeCommands(bool wait, std::vector<Command>& commands) {
  commands.clear();
  std::unique_lock<std::mutex> lock(mutex_);
  if (wait) wake_.wait(lock, [this] { return stop_ || !commands_.empty(); });
  commands.swap(commands_);
  return !stop_;
}

void Engine::threadMain() {
  Event failure{EventKind::kFailed};
  try {
    Session session(*this);
    session.load();
    session.work();
  } catch (const Error& error) {
    failure.code = error.code();
    failure.message = error.what();
  } catch (const std::bad_alloc&) {
    failure.code = "ERR_OUT_OF_MEMORY";
    failure.message = "the engine could not allocate memory";
  } catch (const std::exception& error) {
    failure.code = "ERR_NATIVE";
    failure.message = error.what();
  } catch (...) {
    failure.code = "ERR_NATIVE";
    failure.message = "the engine failed for an unknown reason";
  }
  if (!failure.code.empty() && !stop_) {
    std::vector<Event> events;
    events.push_back(std::move(failure));
    sink_(std::move(events));
  }
  onExit_();
}

}  // namespace shardspeed

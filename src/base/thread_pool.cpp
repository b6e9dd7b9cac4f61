#include "base/thread_pool.h"

#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/machine.h"
#include "base/spin.h"

namespace shardspeed {

namespace {

// A decode step has some two hundred regions a few tens of microseconds long: spinning for about that long bridges the
// gaps between them, then the worker yields its processor, and sleeps if no work comes for longer.
constexpr int kWorkerYields = 100;

// State of a region in one word: its number in the upper half, one bit that says it is open, the count of workers
// inside.
constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInside = kOpen - 1;

uint32_t regionOf(uint64_t word) {
  return static_cast<uint32_t>(word >> 32);
}

}  // namespace

// Workers enter an open region; the caller closes it when all items are claimed and everyone inside has left. Nobody
// waits for a worker that has no processor or still sleeps: it finds the region closed and goes on to the next one.
struct ThreadPool::State {
  State(int threads, bool isCrowded) : threadCount(threads), crowded(isCrowded) {}

  const int threadCount;
  const bool crowded;
  // The region, written before it opens.
  Call call = nullptr;
  void* context = nullptr;
  int64_t items = 0;
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<uint64_t> word{0};
  alignas(64) std::atomic<uint32_t> bell{0};  // the region's number again, for sleepers to wait on
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;

  void work(int worker) {
    for (int64_t item = next.fetch_add(1, std::memory_order_relaxed); item < items;
         item = next.fetch_add(1, std::memory_order_relaxed))
      call(context, item, worker);
  }

  bool changed(uint32_t seen) const { return regionOf(word.load(std::memory_order_acquire)) != seen; }

  void awaitRegionAfter(uint32_t seen) {
    if (spinShortly([&] { return changed(seen); }, crowded)) return;
    for (int i = 0; i < (crowded ? 0 : kWorkerYields); ++i) {
      if (changed(seen)) return;
      std::this_thread::yield();
    }
    sleepers.fetch_add(1);
    while (bell.load() == seen) bell.wait(seen);
    sleepers.fetch_sub(1);
  }

  void open() {
    const uint64_t region = regionOf(word.load(std::memory_order_relaxed)) + 1ull;
    word.store((region << 32) | kOpen);
    bell.store(static_cast<uint32_t>(region));
    if (sleepers.load() > 0) bell.notify_all();
  }

  bool enter(uint32_t region) {
    uint64_t seen = word.load(std::memory_order_acquire);
    while (regionOf(seen) == region && (seen & kOpen))
      if (word.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    return false;
  }

  void workerMain(int worker) {
    uint32_t seen = 0;
    for (;;) {
      awaitRegionAfter(seen);
      // The number first: the last region opens after `stop` is set, so a worker that reads its number sees `stop` too.
      // In the other order a worker could take it for an ordinary region, and wait for the next one for ever.
      seen = regionOf(word.load(std::memory_order_acquire));
      if (stop.load(std::memory_order_acquire)) return;
      if (!enter(seen)) continue;
      work(worker);
      word.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void end() {
    stop = true;
    open();
    for (std::thread& worker : workers) worker.join();
  }

  void close() {
    uint64_t seen = word.load(std::memory_order_acquire);
    for (int i = 0;; ++i) {
      if ((seen & kInside) == 0 && word.compare_exchange_weak(seen, seen & ~kOpen, std::memory_order_acq_rel)) return;
      if (crowded)
        giveWay(i);
      else if (i < kSpins)
        pauseOnce();
      else
        std::this_thread::yield();
      seen = word.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int threads, int ranks)
    : state_(std::make_unique<State>(threads, threads * ranks > availableProcessors())) {
  try {
    for (int worker = 1; worker < threads; ++worker)
      state_->workers.emplace_back([state = state_.get(), worker] { state->workerMain(worker); });
  } catch (const std::exception& error) {
    const size_t started = state_->workers.size() + 1;
    state_->end();
    throw Error("ERR_OUT_OF_MEMORY", "the system started " + std::to_string(started) + " of " +
                                         std::to_string(threads) + " threads, then refused: " + error.what() +
                                         ". Use fewer threads");
  }
}

ThreadPool::~ThreadPool() {
  state_->end();
}

int ThreadPool::threads() const {
  return state_->threadCount;
}

bool ThreadPool::crowded() const {
  return state_->crowded;
}

void ThreadPool::run(int64_t items, Call call, void* context) {
  State& state = *state_;
  if (items <= 1 || state.threadCount == 1) {
    for (int64_t item = 0; item < items; ++item) call(context, item, 0);
    return;
  }
  state.call = call;
  state.context = context;
  state.items = items;
  state.next.store(0, std::memory_order_relaxed);
  state.open();
  state.work(0);
  state.close();
}

}  // namespace shardspeed

#include <algorithm>

#include "contexts.h"
#include "dispatch.h"
#include "hosts.h"
#include "memory.h"
#include "report.h"
#include "runtime.h"
#include "sanitizers.h"
#include "stream.h"

// Which work is done when. A host thread that waits does what its own stream needs, in order. Where that can only wait
// itself, for kernels of other streams, these are begun as well and take turns with it; and where those are yet to be
// enqueued by other host threads, they are let in.

namespace emulator {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// Threads that wait for each other in loops are tried this often with nothing else going on, where nobody else is there
// who could end that.
constexpr int kIdleRounds = 2000;
// Rounds in which they do something, but nothing that anybody else could notice, count for so much less.
constexpr int kBusyIdleRounds = 10;
// How far the clock moves on meanwhile: loops that give up after some time get there.
constexpr uint64_t kIdleCycles = 1 << 24;
// A pause between two looks that counts for no more: somebody did something else.
constexpr microseconds kLongestLook{50'000};
constexpr microseconds kShortestSleep{200}, kLongestSleep{2000};

// For how long there was nothing but waiting.
struct Idle {
  uint64_t progress = 0, effects = 0, activity = 0;  // when last looked
  int rounds = 0;
  Clock::time_point looked;
  microseconds time{0};
  bool watched = false;  // somebody looks again and again already
};
Idle idle;
uint64_t activity;  // counts what was enqueued, begun and done

// The calling host thread runs kernels.
void takeOver() {
  catchSignals();
  adoptHost(&engine.host);
}
struct Turn {
  Turn() { takeOver(); }
  ~Turn() {
    ignoreSignals();
    wakeOne();
  }
};

// The stream whose first operation comes next for mark, which is not reached, and may be done.
StreamPointer neededFor(const Mark& mark) {
  StreamPointer stream = mark.stream;
  for (;;) {
    const std::vector<Mark>& after = stream->queue.front().after;
    const auto missing = std::find_if_not(after.begin(), after.end(), reached);
    if (missing == after.end()) return stream;
    stream = missing->stream;
  }
}

bool isFree(const Operation& operation) {
  return std::all_of(operation.after.begin(), operation.after.end(), reached);
}

bool mayBegin(const StreamPointer& stream) {
  if (stream->queue.empty() || stream->begun) return false;
  return isFree(stream->queue.front());
}

void startKernel(CUstream_st* stream) {
  stream->begun = true;
  Grid* behind = nullptr;
  if (engine.schedule.prologueFirst && stream->queue.size() > 1) {
    const Operation& next = stream->queue[1];
    if (next.grid != nullptr && next.grid->overlaps && isFree(next)) behind = next.grid.get();
  }
  {
    const OnStream context(*stream);
    comeAfter(stream->queue.front());
    if (behind != nullptr) comeAfter(stream->queue[1]);
  }
  beginGrid(stream->queue.front().grid.get(), behind);
}

void finish(CUstream_st* stream) {
  {
    const OnStream context(*stream);
    stream->queue.pop_front();
  }
  ++stream->done;
  stream->begun = false;
  ++activity;
  wakeWhoIsDone();
  if (!stream->queue.empty() && stream->queue.front().grid != nullptr && stream->queue.front().grid->inProgress)
    startKernel(stream);
}

cudaError_t perform(CUstream_st& stream, const Operation& operation) {
  cudaError_t status = cudaSuccess;
  {
    const OnStream context(stream);
    comeAfter(operation);
    if (operation.work && operation.touches == Touches::kMemory) status = operation.work();
    tsanRelease(&stream.doneTag);
  }
  if (!operation.work || operation.touches == Touches::kMemory) return status;
  // On the stack of the host thread, so as that thread.
  if (operation.touches == Touches::kHost) comeAfter(stream);
  status = operation.work();
  if (operation.touches == Touches::kHost) {
    char tag;
    tsanRelease(&tag);
    const OnStream context(stream);
    tsanAcquire(&tag);
    tsanRelease(&stream.doneTag);
  }
  return status;
}

// Begins the stream's first operation if it is a kernel; anything else is done at once.
void start(const StreamPointer& stream) {
  if (stream->queue.front().grid != nullptr) {
    ++activity;
    return startKernel(stream.get());
  }
  const cudaError_t status = perform(*stream, stream->queue.front());
  if (status == cudaSuccess)
    finish(stream.get());
  else
    failDevice(stream->device, status);
}

std::vector<StreamPointer> startable() {
  std::vector<StreamPointer> found;
  for (const StreamPointer& stream : allStreams())
    if (mayBegin(stream)) found.push_back(stream);
  return found;
}

// Another stream's work, if there is some that may begin.
bool startAnother() {
  const std::vector<StreamPointer> found = startable();
  if (found.empty()) return false;
  switch (engine.schedule.order) {
    case Order::kFifo:
      start(found.front());
      break;
    case Order::kLifo:
      start(found.back());
      break;
    case Order::kRandom:
      start(found[randomBits() % found.size()]);
  }
  return true;
}

// What those that wait may be waiting for. Which of the two comes first makes a difference to kernels, so both do.
bool beginSomething() {
  const bool blocksFirst =
      engine.schedule.order == Order::kFifo || (engine.schedule.order == Order::kRandom && randomBits() % 2 == 0);
  return blocksFirst ? beginMoreBlocks() || startAnother() : startAnother() || beginMoreBlocks();
}

void settleFault() {
  composeReport();
  const cudaError_t code = engine.fault.code;
  std::vector<int> devices;
  for (const Grid* grid : engine.grids)
    if (engine.fault.grid == nullptr || engine.fault.grid == grid) devices.push_back(grid->stream->device);
  engine.fault = {};
  tsanRelease(&engine.fault);
  for (const int device : devices) failDevice(device, code);
}

// Takes note of whether anything has happened since it was called last.
bool anythingNew() {
  const Clock::time_point now = Clock::now();
  const auto gap = std::min(std::chrono::duration_cast<microseconds>(now - idle.looked), kLongestLook);
  const bool isNew = idle.effects != engine.effects || idle.activity != activity;
  const bool moved = idle.progress != engine.progress;
  idle.looked = now;
  idle.effects = engine.effects;
  idle.activity = activity;
  idle.progress = engine.progress;
  idle.rounds = isNew ? 0 : idle.rounds + (moved ? 1 : kBusyIdleRounds);
  idle.time = isNew ? microseconds{0} : idle.time + gap;
  if (isNew) return true;
  // Where only this thread could end the waiting nothing but the clock is left to do so.
  engine.clock += hostThreads() == 1 ? kIdleCycles : static_cast<uint64_t>(gap.count()) * 1000;
  return false;
}

// Host threads may enqueue something, or write into memory that kernels look at: unlike the former, the latter is not
// told, so one of those that wait looks again and again.
void letHostsAct(const Mark& mark) {
  ignoreSignals();
  const bool watch = !idle.watched;
  if (watch) idle.watched = true;
  sleep(mark, watch ? std::clamp(idle.time / 8, kShortestSleep, kLongestSleep) : kLongestLook, watch);
  if (watch) idle.watched = false;
  renewBudget();
  takeOver();
}

bool letContendersIn() {
  if (!othersWait()) return false;
  ignoreSignals();
  letOthersIn();
  takeOver();
  return true;
}

// Everything in progress waits. False: nothing to be done about it now, and the caller will not wait.
bool relieve(const Mark& mark, bool wait) {
  if (beginSomething()) return true;
  if (engine.pausing == 0) {
    noteFault(cudaErrorLaunchFailure, {}, nullptr, nullptr, "deadlock: no thread can go on");
    settleFault();
    return true;
  }
  const bool isNew = anythingNew(), alone = wait && hostThreads() == 1;
  if (alone ? idle.rounds >= kIdleRounds * kBusyIdleRounds : idle.time >= limits.idle) {
    noteFault(cudaErrorLaunchTimeout, {}, nullptr, nullptr,
              "livelock: all threads wait for something that nobody does");
    settleFault();
    return true;
  }
  if (isNew)
    letContendersIn();
  else if (wait && !alone)
    letHostsAct(mark);
  wakePausing();
  return isNew || wait;
}

// Does what mark needs until it is reached, or, where the caller will not wait, until that is all that is left to do.
void goOn(const Mark& mark, bool wait) {
  const Turn turn;
  while (!reached(mark)) {
    const StreamPointer stream = neededFor(mark);
    if (!stream->begun) {
      if (engine.schedule.order == Order::kRandom && randomBits() % 2 == 0)
        startAnother();
      else
        start(stream);
      continue;
    }
    engine.mayBeginMore = !startable().empty();
    Grid* ended = nullptr;
    switch (runGrids(&ended)) {
      case Outcome::kEnded:
        finish(ended->stream);
        letContendersIn();
        break;
      case Outcome::kInterrupted:
        if (!letContendersIn()) startAnother();
        break;
      case Outcome::kFault:
        settleFault();
        break;
      case Outcome::kBlocked:
        if (!relieve(mark, wait)) return;
    }
  }
}

}  // namespace

void noteEnqueued() {
  ++activity;
  wakeOne();
}

bool reached(const Mark& mark) {
  return mark.stream == nullptr || mark.stream->done >= mark.number;
}

cudaError_t runUntil(Mark mark) {
  if (mark.stream == nullptr) return cudaSuccess;
  if (!reached(mark)) goOn(mark, true);
  comeAfter(*mark.stream);
  return stickyError(mark.stream->device);
}

cudaError_t advance(Mark mark) {
  if (mark.stream == nullptr) return cudaSuccess;
  if (!reached(mark)) {
    const StreamPointer stream = neededFor(mark);
    goOn({stream, stream->done + 1}, false);
  }
  return stickyError(mark.stream->device);
}

cudaError_t failDevice(int device, cudaError_t status) {
  setStickyError(device, status);
  for (const StreamPointer& stream : allStreams()) {
    if (stream->device != device) continue;
    for (const Operation& operation : stream->queue)
      if (operation.grid != nullptr && operation.grid->inProgress) abandonGrid(operation.grid.get());
    {
      const OnStream context(*stream);
      for (Operation& operation : stream->queue) {
        comeAfter(operation);
        operation = Operation();
      }
    }
    // Not on the stream: the queue's own memory comes from whoever enqueued last, and the lock is what orders that.
    stream->queue.clear();
    stream->begun = false;
    stream->done = stream->enqueued;
  }
  ++activity;
  wakeWhoIsDone();
  return status;
}

}  // namespace emulator

#include <bit>

#include "engine.h"
#include "hosts.h"
#include "sanitizers.h"
#include "stream.h"

// Whose turn it is. Warps have ranks and the first with a lane that can run goes on, until none of its lanes can: in a
// fixed order a warp runs as far ahead of the others as barriers let it, which is what shows missing barriers. Random
// orders draw the ranks and change them now and then: S. Burckhardt et al., "A Randomized Scheduler with Probabilistic
// Guarantees of Finding Bugs", ASPLOS 2010. (Choosing a random thread each time finds next to nothing: all stay in
// step.)

namespace emulator {

ThreadView* running;
Engine engine;
Limits limits;

namespace {

Warp* firstReady() {
  while (engine.readyWords != 0) {
    const int word = std::countr_zero(engine.readyWords);
    while (engine.readyRanks[word] != 0) {
      const int bit = std::countr_zero(engine.readyRanks[word]);
      Warp* warp = engine.atRank[word * 64 + bit];
      if (warp != nullptr && warp->ready != 0) return warp;
      engine.readyRanks[word] &= engine.readyRanks[word] - 1;
    }
    engine.readyWords &= engine.readyWords - 1;
  }
  return nullptr;
}

void markReady(const Warp* warp) {
  static_assert(kMaxWarps <= 32 * 64);
  engine.readyRanks[warp->rank / 64] |= uint64_t{1} << warp->rank % 64;
  engine.readyWords |= 1u << warp->rank / 64;
}

// Gives the warp a random place among the others.
void changeRank(Warp* warp) {
  const int rank = static_cast<int>(randomBits() % kMaxWarps);
  Warp* other = engine.atRank[rank];
  engine.atRank[warp->rank] = other;
  if (other != nullptr) {
    other->rank = warp->rank;
    markReady(other);
  }
  warp->rank = rank;
  engine.atRank[rank] = warp;
  markReady(warp);
  warp->rotation = static_cast<int>(randomBits() % kLanes);
  engine.rescan = true;
}

// So often it is looked whether others want something, and so long a kernel runs before others are begun beside it
// without need: it may be one that waits for them in a way that does not look like waiting.
constexpr uint64_t kStepsToLook = 1 << 16, kStepsAlone = 1 << 20;

void planEvent() {
  engine.nextEvent = std::min(engine.budgetEnd, engine.nextLook);
  if (engine.schedule.order == Order::kRandom)
    engine.nextEvent = std::min(engine.nextEvent, engine.steps + 1 + randomBits() % engine.changeGap);
}

// False: back to the host's own stack.
bool passEvent() {
  if (engine.steps >= engine.budgetEnd) {
    engine.overBudget = true;
    return false;
  }
  if (engine.steps >= engine.nextLook) {
    engine.nextLook = engine.steps + kStepsToLook;
    engine.interrupted = othersWait() || (engine.mayBeginMore && engine.steps >= engine.aloneUntil);
  }
  if (engine.schedule.order == Order::kRandom) {
    if (engine.warp != nullptr) changeRank(engine.warp);
    if (engine.mayBeginMore && randomBits() % 8 == 0) engine.interrupted = true;
  }
  planEvent();
  return !engine.interrupted;
}

// The next thread to run; none if nothing is ready, or there is something else to see to first.
Thread* pick() {
  if (++engine.steps >= engine.nextEvent && !passEvent()) return nullptr;
  Warp* warp = engine.warp;
  if (engine.rescan || warp == nullptr || warp->ready == 0) {
    warp = firstReady();
    if (warp == nullptr && engine.wakePending) {
      wakePausing();
      warp = firstReady();
    }
    engine.warp = warp;
    engine.rescan = false;
    if (warp == nullptr) return nullptr;
  }
  int lane;
  switch (engine.schedule.order) {
    case Order::kFifo:
      lane = std::countr_zero(warp->ready);
      break;
    case Order::kLifo:
      lane = 31 - std::countl_zero(warp->ready);
      break;
    default:
      lane = (std::countr_zero(std::rotr(warp->ready, warp->rotation)) + warp->rotation) % kLanes;
  }
  warp->ready &= ~(1u << lane);
  return &warp->threads[lane];
}

// To a thread that is to run, unless it has begun.
void giveStack(Thread* thread) {
  if (thread->fiber == nullptr) thread->fiber = takeFiber(thread->warp->block->grid->device, threadMain);
}

void makeCurrent(Thread* thread) {
  running = thread;
  if (thread->warp->block != engine.block) enterBlock(thread->warp->block);
}

}  // namespace

uint32_t randomBits() {
  uint64_t& x = engine.random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return static_cast<uint32_t>(x >> 16);
}

void startSchedule() {
  engine.random = (engine.schedule.seed + 1) * 0x9e3779b97f4a7c15u | 1;
  for (int i = 0; i < 4; ++i) randomBits();
  // Seeds differ in how often priorities change: some mistakes need many changes, others few.
  engine.changeGap = uint64_t{16} << randomBits() % 8;
  engine.steps = 0;
  engine.nextLook = kStepsToLook;
  engine.warp = nullptr;
  engine.block = nullptr;
}

void renewBudget() {
  engine.budgetEnd = engine.steps + limits.stepBudget;
  engine.aloneUntil = engine.steps + kStepsAlone;
  engine.overBudget = false;
  planEvent();
}

void addWarp(Warp* warp) {
  int rank = 0;
  switch (engine.schedule.order) {
    case Order::kFifo:
      while (engine.atRank[rank] != nullptr) ++rank;
      break;
    case Order::kLifo:
      rank = kMaxWarps - 1;
      while (engine.atRank[rank] != nullptr) --rank;
      break;
    case Order::kRandom:
      rank = static_cast<int>(randomBits() % kMaxWarps);
      while (engine.atRank[rank] != nullptr) rank = (rank + 1) % kMaxWarps;
      warp->rotation = static_cast<int>(randomBits() % kLanes);
      break;
  }
  warp->rank = rank;
  engine.atRank[rank] = warp;
  ++engine.warpsUsed;
  ++engine.warpsOf[warp->block->grid->device];
  makeReady(warp, warp->living);
}

void removeWarp(Warp* warp) {
  engine.atRank[warp->rank] = nullptr;
  if (engine.warp == warp) engine.warp = nullptr;
  --engine.warpsUsed;
  --engine.warpsOf[warp->block->grid->device];
}

void makeReady(Warp* warp, uint32_t lanes) {
  warp->ready |= lanes;
  markReady(warp);
  if (warp != engine.warp) engine.rescan = true;
}

void wakePausing() {
  engine.wakePending = false;
  if (engine.pausing == 0) return;
  engine.pausing = 0;
  for (Block* block : engine.blocks) {
    for (int i = 0; i < block->warpCount; ++i) {
      Warp* warp = block->warps[i];
      if (warp->pausing == 0) continue;
      makeReady(warp, warp->pausing);
      warp->pausing = 0;
    }
  }
}

void yieldThread() {
  Thread* self = current();
  Thread* next = pick();
  if (next == self) return;
  Fiber* to = &engine.host;
  if (next != nullptr) {
    makeCurrent(next);
    giveStack(next);
    to = next->fiber;
  }
  switchFiber(self->fiber, to);
  self->state = State::kReady;
}

void threadMain() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  for (;;) {
    Thread* self = current();
    Grid* grid = self->warp->block->grid;
    tsanAcquire(&grid->startTag);
    grid->run();
    tsanRelease(&grid->endTag);
    threadEnded(self);
    Fiber* mine = self->fiber;
    self->fiber = nullptr;
    Thread* next = engine.ended != nullptr ? nullptr : pick();
    if (next != nullptr) makeCurrent(next);
    if (next != nullptr && next->fiber == nullptr && !tsan()) {
      next->fiber = mine;  // goes on here, with no switch at all
      continue;
    }
    if (next != nullptr) giveStack(next);
    giveFiber(grid->device, mine);
    leaveFiber(mine, next != nullptr ? next->fiber : &engine.host);
  }
}

void runReady() {
  Thread* next = pick();
  if (next == nullptr) return;
  makeCurrent(next);
  giveStack(next);
  switchFiber(&engine.host, next->fiber);
  running = nullptr;
}

void pause(Site site) {
  Thread* self = current();
  self->site = site;
  self->state = State::kPausing;
  self->polls = 0;
  self->warp->pausing |= 1u << self->lane;
  ++engine.pausing;
  yieldThread();
}

namespace {

void letOthersRun(Thread* self) {
  changeRank(self->warp);
  makeReady(self->warp, 1u << self->lane);
  yieldThread();
}
void perhapsLetOthersRun(Thread* self) {
  if (engine.schedule.order == Order::kRandom && randomBits() % 8 == 0) letOthersRun(self);
}

// Threads that wait look again when nothing else can go on: at once they would, in a fixed order, keep those behind
// them from ever running. In random orders they do so at once, or, where there are so many that most time would go into
// that, now and then.
void wakeAfterWrite() {
  constexpr uint32_t kFew = 64;
  const auto pausing = static_cast<uint32_t>(engine.pausing);
  if (engine.schedule.order == Order::kRandom && (pausing <= kFew || randomBits() % pausing < kFew))
    wakePausing();
  else
    engine.wakePending = true;
}

// A loop that waits without spinPause() must not keep the others from running.
constexpr uint32_t kMostPolls = 4096, kLikelyPoll = 16;

void access(uint32_t polls, Site site) {
  Thread* self = current();
  self->site = site;
  self->polls += polls;
  if (self->polls >= kMostPolls) return pause(site);
  perhapsLetOthersRun(self);
}

}  // namespace

void synchronizing(Site site) {
  access(kLikelyPoll, site);
}

void loading(const void* address, Site site) {
  Thread* self = current();
  const bool again = address == self->polled;
  self->polled = address;
  access(again ? kLikelyPoll : 1, site);
}

void storing(Site site) {
  access(0, site);
}

void wrote(Site site) {
  Thread* self = current();
  self->site = site;
  ++engine.progress;
  ++engine.effects;
  wakeAfterWrite();
  perhapsLetOthersRun(self);
}

int wordOrder() {
  switch (engine.schedule.order) {
    case Order::kFifo:
      return 0;
    case Order::kLifo:
      return 3;
    default:
      return static_cast<int>(randomBits() % 4);
  }
}

void betweenWords(bool written) {
  if (engine.schedule.order != Order::kRandom || randomBits() % (written ? 8 : 32) != 0) return;
  // Not for loads: threads that wait would wake each other by looking.
  if (written) wakeAfterWrite();
  letOthersRun(current());
}

void fence() {
  tsanRelease(&engine.fenceTag);
  tsanAcquire(&engine.fenceTag);
}

long long clock() {
  return static_cast<long long>(engine.clock + engine.steps * 8);
}

}  // namespace emulator

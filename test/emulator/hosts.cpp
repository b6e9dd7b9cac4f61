#include "hosts.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "runtime.h"

namespace emulator {
namespace {

// Never destroyed: threads may still call when the process ends.
std::mutex& mutex = *new std::mutex;
std::atomic<int> contenders;
std::atomic<uint64_t> entries;

struct Sleeper {
  const Mark& mark;
  bool watches;
  std::condition_variable changed{};
  bool woken = false;

  void wake() {
    woken = true;
    changed.notify_one();
  }
};
std::vector<Sleeper*>& sleepers = *new std::vector<Sleeper*>;

int threads;
uint64_t epoch = 1;
thread_local uint64_t countedIn;
thread_local int depth;

void acquire() {
  if (!mutex.try_lock()) {
    ++contenders;
    mutex.lock();
    --contenders;
  }
  ++entries;
}

}  // namespace

Lock::Lock() {
  if (depth++ > 0) return;
  acquire();
  if (countedIn == epoch) return;
  countedIn = epoch;
  ++threads;
}
Lock::~Lock() {
  if (--depth == 0) mutex.unlock();
}

int hostThreads() {
  return threads;
}

void forgetHosts() {
  ++epoch;
  countedIn = epoch;
  threads = 1;
}

void sleep(const Mark& mark, std::chrono::microseconds longest, bool watches) {
  Sleeper self{mark, watches};
  sleepers.push_back(&self);
  std::unique_lock<std::mutex> held(mutex, std::adopt_lock);
  self.changed.wait_for(held, longest, [&] { return self.woken; });
  held.release();
  std::erase(sleepers, &self);
}

void wakeWhoIsDone() {
  for (Sleeper* sleeper : sleepers)
    if (reached(sleeper->mark)) sleeper->wake();
}

void wakeOne() {
  const auto watcher = std::find_if(sleepers.begin(), sleepers.end(), [](const Sleeper* s) { return s->watches; });
  if (watcher != sleepers.end())
    (*watcher)->wake();
  else if (!sleepers.empty())
    sleepers.front()->wake();
}

bool othersWait() {
  return contenders > 0;
}

void letOthersIn() {
  mutex.unlock();
  // Whoever waits for the lock has to be woken first, which takes longer than it would to take the lock again here.
  const uint64_t before = entries;
  for (int i = 0; i < 50 && contenders > 0 && entries == before; ++i)
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  acquire();
}

}  // namespace emulator

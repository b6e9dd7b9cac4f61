#pragma once

#include <ctime>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shardspeed {

inline void pauseOnce() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Some tens of microseconds: about as long as it takes to sleep and be woken.
constexpr int kSpins = 2000;

// Waits until done(), but not longer than sleeping and being woken would take.
template <typename Done>
bool spinShortly(Done&& done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    pauseOnce();
  }
  return done();
}

// Waits until done(), however long it takes: spins, then yields the processor, then sleeps between two checks.
template <typename Done>
void spinUntil(Done&& done) {
  if (spinShortly(done)) return;
  for (int i = 0; i < 200; ++i) {
    if (done()) return;
    std::this_thread::yield();
  }
  const timespec interval{0, 50'000};
  while (!done()) nanosleep(&interval, nullptr);
}

}  // namespace shardspeed

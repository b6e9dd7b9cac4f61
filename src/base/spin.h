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
// crowded: fewer processors than threads that compute at once. Whoever is waited for may then need this one, so it does
// not wait at all.
template <typename Done>
bool spinShortly(Done&& done, bool crowded = false) {
  for (int i = 0; i < (crowded ? 0 : kSpins); ++i) {
    if (done()) return true;
    pauseOnce();
  }
  return done();
}

constexpr int kYields = 200;

// One turn of a wait that has spun enough: yields the processor, after kYields turns sleeps.
inline void giveWay(int turn) {
  const timespec interval{0, 50'000};
  if (turn < kYields)
    std::this_thread::yield();
  else
    nanosleep(&interval, nullptr);
}

// Waits until done(), however long it takes: spins, then yields the processor, then sleeps between two checks.
template <typename Done>
void spinUntil(Done&& done, bool crowded = false) {
  if (spinShortly(done, crowded)) return;
  for (int turn = 0; !done(); ++turn) giveWay(turn);
}

}  // namespace shardspeed

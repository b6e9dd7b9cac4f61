#pragma once

#include <time.h>

#include <cstdint>

namespace shardspeed {

// Nanoseconds for which this thread has had a processor. Other processes of the machine make the time by the clock
// longer, and hardly this one.
inline int64_t threadNanoseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{1000000000} * time.tv_sec + time.tv_nsec;
}

}  // namespace shardspeed

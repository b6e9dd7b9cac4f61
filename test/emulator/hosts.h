#pragma once

#include <chrono>

// The host threads that use the runtime. One at a time is inside it: whoever holds the lock of runtime.h. The functions
// here are called with that lock held.

namespace emulator {

struct Mark;

// How many have called since reset().
int hostThreads();
void forgetHosts();

// Lets the others in until this one is woken, but not for longer than this. watches: it is to be woken by whatever
// changes, otherwise when mark is reached or there is nobody else to go on with the work.
void sleep(const Mark& mark, std::chrono::microseconds longest, bool watches);
// Work has been done: those who waited for it may go on.
void wakeWhoIsDone();
// There is something to do for one of those who wait, rather for the one that watches.
void wakeOne();
// Whether others wait for the lock; lets them in.
bool othersWait();
void letOthersIn();

}  // namespace emulator

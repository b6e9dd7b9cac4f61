#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "vector_types.h"

// What code inside kernels calls into the engine for. Everything that a user sees of it is in warp_intrinsics.h,
// atomics.h and ptx_emulated.h.

namespace emulator {

// Where in a kernel something was called: for reports, and to tell one barrier from another.
using Site = std::source_location;

// The running thread. One at a time runs, so this is no thread-local: fibers and compilers disagree about those.
struct ThreadView {
  uint3 index;
  int lane;
};
extern ThreadView* running;

enum class Barrier { kPlain, kCount, kAnd, kOr };
// Waits for all threads of the block that have not ended. What it counts: threads whose predicate was true.
int blockBarrier(Barrier kind, bool predicate, Site site);

enum class Collective {
  kSync,
  kShuffle,
  kBallot,
  kMatch,
  kAdd,
  kMin,
  kMax,
  kMinSigned,
  kMaxSigned,
  kAnd,
  kOr,
  kXor,
  kLdmatrix,
  kLdmatrixTransposed,
  kMmaHalf,
  kMmaBfloat16
};
// Waits for all lanes of mask, which must come here with the same mask. in: what this lane gives, out: what it gets;
// each up to 4 words, or 10.
void warpCollective(Collective operation, uint32_t mask, const uint32_t* in, int inWords, uint32_t* out, int outWords,
                    Site site);

// 16 bytes, or zeros where !valid. A fault where either address is misaligned or outside its memory.
void asyncCopy(void* shared, const void* global, int bytes, bool valid, Site site);
void asyncCommit();
void asyncWait(int pending);

// A fault unless [address, address + 16) is memory that the kernel's device may use, and aligned to 16.
void checkGlobal16(const void* address, const char* operation, Site site);
// A fault unless [address, address + bytes) is memory that the kernel's device may use.
void checkGlobal(const void* address, int bytes, const char* operation, Site site);
void countPrefetch(uint32_t bytes);
// Whether what the running kernel stores there comes there (dropWrites).
bool arrives(const void* address);
// A fault unless the word at address is memory of the kernel's own device: for what orders only its threads.
void checkOwn(const void* address, const char* operation, Site site);

// Lets other threads run; what every waiting loop calls.
void pause(Site site);
// Before an access by which blocks come to terms, and after one that writes: places where the order of threads may
// change, and where loops that do nothing else are caught.
void synchronizing(Site site);
void loading(const void* address, Site site);
void storing(Site site);
void wrote(Site site);
// Accesses of several words that are none as a whole: word i ^ wordOrder() is the ith, and between two of them the
// order of threads may change.
int wordOrder();
void betweenWords(bool written);
void fence();
void waitForEarlierKernels(Site site);
void allowLaterKernels(Site site);
[[noreturn]] void trap(Site site);
long long clock();

}  // namespace emulator

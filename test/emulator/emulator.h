#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// A stand-in for the CUDA runtime and for a GPU: kernels and the host code around them compile with g++ against the
// headers here and run on this machine's CPU, every thread of a block on a fiber of its own. It looks for the mistakes
// that a GPU shows now and then, or never: threads run in adversarial orders, asynchronous copies arrive as late as
// they may, shared memory and fresh device memory hold NaN, work on streams waits until somebody waits for it.
//
// Building. Whatever includes these headers: -std=c++20 -ffp-contract=off -DSHARDSPEED_CUDA_EMULATOR -I test/emulator.
// Kernels may also take -fsanitize=alignment -fsanitize-undefined-trap-on-error (no run-time library needed): a
// misaligned access then becomes a fault of the launch, as on a GPU, instead of passing unseen (the emulator's tests
// then want -DSHARDSPEED_TRAP_MISALIGNED).
//  - AddressSanitizer, UndefinedBehaviourSanitizer: everything with -fsanitize=address,undefined, these sources too.
//    What is out of bounds is then reported by AddressSanitizer, which ends the process.
//  - ThreadSanitizer is a race checker for kernels: everything with -fsanitize=thread except the sources here (linked
//    into the same program), run under `setarch -R`. Barriers, __syncwarp, acquire and release order accesses;
//    shuffles, votes and mma do not, as on a GPU.
// One launch runs at a time; calls may come from any host thread.

namespace emulator {

// Which of the threads that can go on goes on: the warps and lanes in order, each as far as it gets; the same from the
// last to the first; or warps by random priorities that change at random points (probabilistic concurrency testing).
enum class Order { kFifo, kLifo, kRandom };
// When cp.async copies: at once; when it is waited for, the destination holding NaN until then; or either, by chance.
enum class Copies { kEager, kLate, kRandom };

struct Schedule {
  Order order = Order::kFifo;
  Copies copies = Copies::kEager;
  uint64_t seed = 1;
  // Runs the first block of a kernel launched with programmatic overlap up to its pdlWait() before the kernel ahead of
  // it has begun.
  bool prologueFirst = false;
};

// For launches that run from now on. Throws nothing; every schedule is valid.
void setSchedule(const Schedule& schedule);
// count schedules that differ as much as they can: all orders, all timings of copies, then more seeds.
std::vector<Schedule> schedules(int count);
std::string describe(const Schedule& schedule);

// What the last fault was: which kernel, block and thread, where, and where the other threads were. Empty if none.
std::string lastReport();
// As new: no memory, no streams, no error, the default schedule, device and limits.
void reset();

// The device. All take effect at once; memory must be above what is allocated now.
void setDeviceMemory(size_t bytes);
void setDeviceCount(int count);
void setComputeCapability(int major, int minor);
void setMultiprocessors(int count);
// Steps (switches between threads) that one launch may take before it counts as a livelock.
void setStepBudget(uint64_t steps);
// At least this many blocks of a launch are in progress at once, as far as threads allow (8192). Blocks beyond them are
// begun when all of these wait for something in a loop with spinPause().
void setResidentBlocks(int count);

// The nth call (1 is the next) of a function of the runtime, such as "cudaMalloc", fails with error and does nothing.
// An error that the fault of a kernel leads to, such as an illegal address, is sticky then as well.
void failCall(const std::string& function, int nth, int error);
// Whether a failure that was asked for has yet to come.
bool isFailurePending();
// Calls of a function of the runtime since reset(). What a graph does when it is launched calls nothing.
uint64_t calls(const std::string& function);

// The running block's dynamic shared memory; a fault if it holds fewer than bytes.
void* sharedMemory(size_t bytes);

}  // namespace emulator

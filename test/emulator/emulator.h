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
//    shuffles, votes, mma and relaxed loads and stores do not, as on a GPU. Nor does it help two streams, or a stream
//    and the host, that one happened to be done before the other began: only streams' own order, events, flags and
//    waiting do. A copy into memory that a kernel polls counts as a race.
//
// Several at once. A host thread that waits does what it waits for. Where kernels in progress can only wait themselves
// (all their threads are in loops with spinPause(), or polling), work of other streams that may begin is begun and
// takes turns with them under the same schedule: that of other devices, and of other streams of the same device that
// need not wait for each other. In random orders this happens now and then without need, in all orders where a kernel
// goes on for very long. So kernels of ranks can wait for each other whether one host thread enqueues for all of them,
// or each rank has a host thread of its own: where nothing is left to begin, a waiting host thread lets the others in,
// and lets the kernels look again every few tenths of a millisecond, as a host thread may have written what they poll.
// While kernels run other host threads stay outside the runtime; they get in when everything waits, when a kernel ends,
// and every few milliseconds. What a host thread has enqueued is not lost when it does not wait: the next one that
// needs it does it. With one host thread the emulator's clock leaps where everything waits, with several it runs with
// the real one. cudaDeviceSynchronize, cudaFree and the like wait for the current device (that of the memory) alone.
//
// Each device has its own memory, errors and access to others' memory. A fault ends what is in progress on its device,
// and all calls fail where that is current, until cudaDeviceReset(); other devices go on, or wait in vain until a flag
// in host memory tells them to end. When all that is in progress waits for something that nobody does, it ends with
// cudaErrorLaunchTimeout on all devices concerned: at once where one host thread alone has used the runtime since
// reset(), else after setIdleLimit(). Functions given to cudaLaunchHostFunc run inside the runtime's lock.
//
// Access to memory of a device that the kernel's device was given no access to (cudaDeviceEnablePeerAccess) is a fault
// where accesses are looked at: cp.async, loadStream16, and all of ptx.cuh's for order between devices. Those for order
// within a device (loadAcquire, storeRelease, ticket) are a fault anywhere but in the device's own memory.

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

// What the last fault was: which kernel, block and thread, where, and where the other threads were; which device and
// stream, if several were in progress. Faults of several devices stand one after another. Empty if none.
std::string lastReport();
// As new: no memory, no streams, no error, the default schedule, device and limits.
void reset();

// The devices, which are all alike, up to 64. All take effect at once; memory must be above what is allocated now.
void setDeviceMemory(size_t bytes);
void setDeviceCount(int count);
void setComputeCapability(int major, int minor);
void setMultiprocessors(int count);
// What a kernel may ask for in one block.
void setSharedMemory(size_t bytes);
// Steps (switches between threads) that what is in progress may take until one kernel ends, before it counts as a
// livelock.
void setStepBudget(uint64_t steps);
// How long all that is in progress may wait, in real time, while other host threads could still do something about it,
// before it counts as a livelock: 10 s unless set.
void setIdleLimit(int milliseconds);
// Whether devices can be given access to each other's memory, as they can unless set.
void setPeerAccess(bool possible);
// What kernels of device `from` store into the memory of device `to` by the stores between devices is lost, without an
// error: so some machines are whose driver says that there is access. Until reset().
void dropWrites(int from, int to);
// At least this many blocks of a launch are in progress at once, as far as threads allow (8192). Blocks beyond them are
// begun when all of these wait for something in a loop with spinPause(). A device has room for 8192 threads, all
// devices together for 32768 (7168 with ThreadSanitizer).
void setResidentBlocks(int count);

// The nth call (1 is the next) of a function of the runtime, such as "cudaMalloc", fails with error and does nothing;
// where a device is named, of the calls while it is current. An error that the fault of a kernel leads to, such as an
// illegal address, is sticky then as well.
void failCall(const std::string& function, int nth, int error, int device = -1);
// Whether a failure that was asked for has yet to come.
bool isFailurePending();
// Calls of a function of the runtime since reset(). What a graph does when it is launched calls nothing.
uint64_t calls(const std::string& function);
// Bytes copied between the host and devices since reset(), by graphs too.
uint64_t copiedBytes();
// Bytes that kernels have asked to be brought to the L2 cache since reset().
uint64_t prefetchedBytes();

// The running block's dynamic shared memory; a fault if it holds fewer than bytes.
void* sharedMemory(size_t bytes);

}  // namespace emulator

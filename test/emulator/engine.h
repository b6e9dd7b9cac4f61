#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "kernel_side.h"
#include "runtime_types.h"

// How launches run: dispatch.cpp says which, of several streams at once; their blocks are begun (run.cpp, block.cpp),
// the threads of all take turns (scheduler.cpp), meet at barriers (block.cpp) and in their warps (warp.cpp). All of it
// in one host thread at a time, the one that holds the lock of runtime.h; nothing here is locked besides.

namespace emulator {

constexpr int kLanes = 32;
constexpr int kMaxWarps = 1024;    // in progress at once, of all blocks
constexpr int kDeviceWarps = 256;  // of one device
constexpr int kMaxDevices = 64;

struct Block;
struct Warp;

enum class State : uint8_t { kReady, kAtBarrier, kInCollective, kPausing, kBehindEarlier, kEnded };

// A cp.async that was not done at once.
struct PendingCopy {
  void* shared;
  const void* global;
  int bytes;  // 8 or 16
  uint32_t group;
  bool valid;
  bool done;
};
struct PendingCopies {
  static constexpr uint32_t kCapacity = 256;  // beyond it the oldest is done early, which is allowed
  PendingCopy copies[kCapacity];
  uint32_t first = 0, count = 0;
  uint32_t group = 0;  // the one being filled
};

struct Thread : ThreadView {
  State state;
  Fiber* fiber;  // none before it begins
  Warp* warp;
  Site site;              // where it was last seen
  bool waited;            // called pdlWait()
  uint32_t polls;         // accesses to what others write, since it last waited
  const void* polled;     // by the last of them
  PendingCopies* copies;  // made when first needed, kept
};

// Lanes on their way to one collective operation.
struct Group {
  uint32_t mask;
  uint32_t arrived;
  Collective operation;
  Site site;
  char* tag;
};

struct Warp {
  uint32_t ready = 0;  // lanes that can run; what they wait for otherwise:
  uint32_t atBarrier = 0;
  uint32_t pausing = 0;
  uint32_t behindEarlier = 0;
  uint32_t living = 0;  // lanes that have not ended
  int rank = 0;         // place in the order of warps, 0 goes first
  int rotation = 0;     // the lane that goes first, in random orders
  int index = 0;        // in its block
  Block* block = nullptr;
  int groupCount = 0;
  uint32_t tagsUsed = 0;
  Group groups[kLanes];
  alignas(64) uint32_t in[kLanes][12];
  alignas(64) uint32_t out[kLanes][4];
  char tags[64];
  Thread threads[kLanes];
};

// One launch.
struct Grid {
  std::function<void()> run;
  const void* kernel = nullptr;
  dim3 size, block;
  size_t sharedBytes = 0;
  bool cooperative = false;
  bool overlaps = false;  // may start before the kernel ahead of it is done
  int device = 0;
  CUstream_st* stream = nullptr;
  // While it runs:
  bool inProgress = false;
  bool held = false;  // begins no blocks yet: the one behind it has begun early, and goes first
  bool earlierDone = true;
  uint64_t blocks = 0, begun = 0, done = 0;
  uint64_t resident = 0;        // blocks in progress at once
  std::vector<uint32_t> order;  // of blocks, where it is no plain one
  char startTag = 0, endTag = 0;
};

struct Block {
  uint3 index{};
  Grid* grid = nullptr;
  int threads = 0;
  int living = 0;
  int warpCount = 0;
  Warp* warps[kLanes];
  uint8_t* arena = nullptr;  // where its shared memory lies, at the end
  uint8_t* shared = nullptr;
  bool sawWait = false;  // some thread called pdlWait()
  // The barrier that threads wait at:
  int atBarrier = 0;
  int predicates = 0;
  int barrierResult = 0;
  Barrier barrierKind = Barrier::kPlain;
  Site barrierSite;
  int phase = 0;
  char tags[2];
};

struct Fault {
  cudaError_t code = cudaSuccess;
  char text[400];
  Site site;
  const Thread* thread = nullptr;
  const Grid* grid = nullptr;  // whose fault it is; none: that of all in progress together
};

struct Engine {
  Fiber host;
  Schedule schedule;
  Warp* warp = nullptr;                      // the one whose lanes run
  Block* block = nullptr;                    // the one that blockIdx and the others speak of
  bool rescan = false;                       // a warp that goes before `warp` may be ready
  uint64_t readyRanks[kMaxWarps / 64] = {};  // may name warps that are ready no longer
  uint32_t readyWords = 0;                   // those of readyRanks that are not 0
  Warp* atRank[kMaxWarps] = {};
  // Never destroyed, as everything global here: threads may still compute when the process ends.
  std::vector<Grid*>& grids = *new std::vector<Grid*>;     // in progress, in the order in which they began
  std::vector<Block*>& blocks = *new std::vector<Block*>;  // in progress
  int warpsUsed = 0;
  int warpsOf[kMaxDevices] = {};
  int pausing = 0;           // threads
  bool wakePending = false;  // something was written since the pausing ones last looked
  uint64_t progress = 0;     // counts what may end somebody's waiting
  uint64_t effects = 0;      // of these, what others than the threads of one block may see
  uint64_t steps = 0;        // since nothing was in progress
  uint64_t nextEvent = 0;    // the first of: the step with a change of priorities,
  uint64_t nextLook = 0;     // with a look at who else wants something,
  uint64_t budgetEnd = 0;    // that is one too many
  uint64_t aloneUntil = 0;   // the step from which other streams' work is begun at such a look
  uint64_t changeGap = 0;
  bool overBudget = false;
  bool mayBeginMore = false;  // another stream has work that could begin
  bool interrupted = false;   // that, or another host thread, is to be seen to now
  uint64_t clock = 0;
  uint64_t random = 1;
  Block* ended = nullptr;  // all its threads have ended
  Fault fault;
  char fenceTag = 0;
};
extern Engine engine;

struct Limits {
  uint64_t stepBudget = 2'000'000'000;
  int residentBlocks = 1;
  std::chrono::milliseconds idle{10'000};
};
extern Limits limits;

inline Thread* current() {
  return static_cast<Thread*>(running);
}
bool sameSite(Site a, Site b);
uint32_t randomBits();

// scheduler.cpp
void makeReady(Warp* warp, uint32_t lanes);
// Lets others run until the calling thread is ready again and its turn comes.
void yieldThread();
void addWarp(Warp* warp);
void removeWarp(Warp* warp);
void wakePausing();
// When the first of the grids in progress begins.
void startSchedule();
// A grid has begun or ended: what is in progress may take the whole budget of steps again.
void renewBudget();
void threadMain();
// Runs whatever is ready until a block has ended or nothing is.
void runReady();

// block.cpp
void beginBlock(Grid* grid, uint64_t number);
void endBlock(Block* block);
void threadEnded(Thread* thread);
void enterBlock(Block* block);
// Gives up the blocks of a grid: threads are left where they are.
void abandonBlocks(const Grid* grid);

// run.cpp
// Puts a grid into progress. behind: the one after it, which begins early, or null.
void beginGrid(Grid* grid, Grid* behind);
enum class Outcome { kEnded, kBlocked, kInterrupted, kFault };
// Runs what is in progress until a grid has ended, which is *ended and no longer in progress then, or all wait for
// something, or a fault.
Outcome runGrids(Grid** ended);
// One more block at once of a grid in progress that has blocks left, if there is one.
bool beginMoreBlocks();
// Gives up a grid in progress.
void abandonGrid(Grid* grid);

// fault.cpp
[[noreturn]] void fault(cudaError_t code, Site site, const char* format, ...) __attribute__((format(printf, 3, 4)));
// thread, grid: whose fault it is, where it is one's.
void noteFault(cudaError_t code, Site site, const Thread* thread, const Grid* grid, const char* format, ...)
    __attribute__((format(printf, 5, 6)));
void composeReport();
// For this host thread, which is about to run kernels, and is no longer.
void catchSignals();
void ignoreSignals();
std::string nameOfKernel(const void* kernel);

// matrix.cpp
void multiplyFragments(const uint32_t (*in)[12], uint32_t (*out)[4], bool bfloat16);
void loadMatrices(Warp& warp, bool transposed, Site site);

}  // namespace emulator

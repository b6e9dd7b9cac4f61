#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "kernel_side.h"
#include "runtime_types.h"

// How a launch runs: blocks are begun (block.cpp), their threads take turns (scheduler.cpp), meet at barriers
// (block.cpp) and in their warps (warp.cpp). All of it in one host thread at a time; nothing here is locked.

namespace emulator {

constexpr int kLanes = 32;
constexpr int kMaxWarps = 256;  // in progress at once, of all blocks

struct Block;
struct Warp;

enum class State : uint8_t { kReady, kAtBarrier, kInCollective, kPausing, kBehindEarlier, kEnded };

// A cp.async that was not done at once.
struct PendingCopy {
  void* shared;
  const void* global;
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
  uint32_t polls;         // accesses to what others write, since it last waited
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
  // While it runs:
  bool earlierDone = true;
  uint64_t blocks = 0, begun = 0, done = 0;
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
};

struct Engine {
  Fiber host;
  Schedule schedule;
  Warp* warp = nullptr;                      // the one whose lanes run
  Block* block = nullptr;                    // the one that blockIdx and the others speak of
  bool rescan = false;                       // a warp that goes before `warp` may be ready
  uint64_t readyRanks[kMaxWarps / 64] = {};  // may name warps that are ready no longer
  Warp* atRank[kMaxWarps] = {};
  std::vector<Block*> blocks;  // in progress
  int warpsUsed = 0;
  int pausing = 0;         // threads
  uint64_t progress = 0;   // counts what may end somebody's waiting
  uint64_t steps = 0;      // of this launch
  uint64_t nextEvent = 0;  // the step with a change of priorities, or beyond the budget
  uint64_t changeGap = 0;
  bool overBudget = false;
  uint64_t clock = 0;
  uint64_t random = 1;
  Block* ended = nullptr;  // all its threads have ended
  Fault fault;
  bool active = false;
  char fenceTag = 0;
};
extern Engine engine;

struct Limits {
  uint64_t stepBudget = 2'000'000'000;
  int residentBlocks = 1;
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
void startSchedule();
void threadMain();
// Runs whatever is ready until a block has ended or nothing is.
void runReady();

// block.cpp
void beginBlock(Grid* grid, uint64_t number);
void endBlock(Block* block);
void threadEnded(Thread* thread);
void enterBlock(Block* block);
void abandonBlocks();

// run.cpp: the whole grid; cudaSuccess or what the fault was. `behind`: the grid after it, which may begin early.
cudaError_t runGrid(Grid* grid, Grid* behind);

// fault.cpp
[[noreturn]] void fault(cudaError_t code, Site site, const char* format, ...) __attribute__((format(printf, 3, 4)));
void noteFault(cudaError_t code, Site site, const Thread* thread, const char* format, ...)
    __attribute__((format(printf, 4, 5)));
void composeReport(const Grid& grid);
void catchSignals();
std::string nameOfKernel(const void* kernel);

// matrix.cpp
void multiplyFragments(const uint32_t (*in)[12], uint32_t (*out)[4], bool bfloat16);
void loadMatrices(Warp& warp, bool transposed, Site site);

}  // namespace emulator

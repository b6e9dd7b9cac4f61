#include <algorithm>

#include "engine.h"
#include "sanitizers.h"

// A launch from its first block to its last, and what ends it early.

namespace emulator {
namespace {

// Threads that wait for each other in loops are tried this often with nothing else going on.
constexpr int kIdleRounds = 2000;
// How far the clock moves on meanwhile: loops that give up after some time get there.
constexpr uint64_t kIdleCycles = 1 << 24;

void prepare(Grid* grid) {
  grid->blocks = uint64_t{grid->size.x} * grid->size.y * grid->size.z;
  grid->begun = grid->done = 0;
  grid->earlierDone = true;
  grid->order.clear();
  if (engine.schedule.order == Order::kFifo) return;
  grid->order.resize(grid->blocks);
  for (uint64_t i = 0; i < grid->blocks; ++i) grid->order[i] = static_cast<uint32_t>(grid->blocks - 1 - i);
  if (engine.schedule.order == Order::kRandom)
    for (uint64_t i = grid->blocks; i > 1; --i) std::swap(grid->order[i - 1], grid->order[randomBits() % i]);
}

int warpsOf(const Grid* grid) {
  return static_cast<int>((grid->block.x * grid->block.y * grid->block.z + kLanes - 1) / kLanes);
}

bool canBegin(const Grid* grid) {
  return grid->begun < grid->blocks && engine.warpsUsed + warpsOf(grid) <= kMaxWarps;
}

uint64_t residentBlocks(const Grid* grid) {
  if (grid->cooperative) return grid->blocks;
  uint64_t blocks = static_cast<uint64_t>(limits.residentBlocks);
  if (engine.schedule.order == Order::kRandom) blocks = std::max<uint64_t>(blocks, 1 + randomBits() % 4);
  return blocks;
}

// Runs until nothing is ready. Blocks that end make room.
bool runUntilBlocked() {
  for (;;) {
    runReady();
    if (engine.fault.code != cudaSuccess) return false;
    if (engine.ended == nullptr) return true;
    Block* block = engine.ended;
    engine.ended = nullptr;
    endBlock(block);
    return engine.fault.code == cudaSuccess;
  }
}

// As much of the first block of the kernel behind as runs before its pdlWait().
void beginEarly(Grid* behind) {
  prepare(behind);
  behind->earlierDone = false;
  tsanRelease(&behind->startTag);
  beginBlock(behind, behind->begun++);
  uint64_t done;
  do {
    done = behind->done;
    if (!runUntilBlocked()) return;
  } while (behind->done != done);
  wakePausing();
}

void goOn(Grid* grid) {
  grid->earlierDone = true;
  for (Block* block : engine.blocks) {
    if (block->grid != grid) continue;
    for (int i = 0; i < block->warpCount; ++i) {
      makeReady(block->warps[i], block->warps[i]->behindEarlier);
      block->warps[i]->behindEarlier = 0;
    }
  }
}

void drive(Grid* grid) {
  uint64_t resident = residentBlocks(grid);
  uint64_t progress = 0;
  int idle = 0;
  while (grid->done < grid->blocks) {
    while (grid->begun - grid->done < resident && canBegin(grid)) beginBlock(grid, grid->begun++);
    const uint64_t done = grid->done;
    if (!runUntilBlocked()) return;
    if (engine.overBudget)
      return noteFault(cudaErrorLaunchTimeout, {}, nullptr, "livelock: more than %llu steps",
                       static_cast<unsigned long long>(limits.stepBudget));
    if (grid->done != done) continue;
    if (engine.pausing == 0) return noteFault(cudaErrorLaunchFailure, {}, nullptr, "deadlock: no thread can go on");
    if (canBegin(grid)) {
      ++resident;  // what these wait for may be done by a block not begun yet
    } else if (progress != engine.progress) {
      progress = engine.progress;
      idle = 0;
    } else if (++idle == kIdleRounds) {
      return noteFault(cudaErrorLaunchTimeout, {}, nullptr,
                       "livelock: all threads wait for something that nobody does");
    }
    engine.clock += kIdleCycles;
    wakePausing();
  }
}

}  // namespace

cudaError_t runGrid(Grid* grid, Grid* behind) {
  catchSignals();
  const bool begunEarly = !grid->earlierDone;
  engine.fault.code = cudaSuccess;
  engine.active = true;
  adoptHost(&engine.host);
  startSchedule();
  if (!begunEarly) prepare(grid);
  tsanRelease(&grid->startTag);
  if (behind != nullptr) beginEarly(behind);
  if (begunEarly) goOn(grid);
  if (engine.fault.code == cudaSuccess) drive(grid);
  tsanAcquire(&grid->endTag);
  if (behind != nullptr) tsanAcquire(&behind->endTag);
  engine.active = false;
  if (engine.fault.code == cudaSuccess) return cudaSuccess;
  composeReport(*grid);
  abandonBlocks();
  return engine.fault.code;
}

}  // namespace emulator

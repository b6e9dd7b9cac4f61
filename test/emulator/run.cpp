#include <algorithm>

#include "contexts.h"
#include "engine.h"
#include "sanitizers.h"

// The grids in progress, from their first block to their last. Those of several streams run side by side.

namespace emulator {
namespace {

void prepare(Grid* grid) {
  grid->blocks = uint64_t{grid->size.x} * grid->size.y * grid->size.z;
  grid->begun = grid->done = 0;
  grid->order.clear();
  if (engine.schedule.order == Order::kFifo) return;
  grid->order.resize(grid->blocks);
  for (uint64_t i = 0; i < grid->blocks; ++i) grid->order[i] = static_cast<uint32_t>(grid->blocks - 1 - i);
  if (engine.schedule.order == Order::kRandom)
    for (uint64_t i = grid->blocks; i > 1; --i) std::swap(grid->order[i - 1], grid->order[randomBits() % i]);
}

uint64_t residentBlocks(const Grid* grid) {
  if (grid->cooperative) return grid->blocks;
  uint64_t blocks = static_cast<uint64_t>(limits.residentBlocks);
  if (engine.schedule.order == Order::kRandom) blocks = std::max<uint64_t>(blocks, 1 + randomBits() % 4);
  return blocks;
}

void putIntoProgress(Grid* grid) {
  if (engine.grids.empty()) startSchedule();
  prepare(grid);
  grid->inProgress = true;
  engine.grids.push_back(grid);
  renewBudget();
}

int warpsOf(const Grid* grid) {
  return static_cast<int>((grid->block.x * grid->block.y * grid->block.z + kLanes - 1) / kLanes);
}

// ThreadSanitizer knows 8128 threads at most.
int mostWarps() {
  return tsan() ? 224 : kMaxWarps;
}

bool hasRoom(const Grid* grid) {
  const int warps = warpsOf(grid);
  return engine.warpsOf[grid->device] + warps <= kDeviceWarps && engine.warpsUsed + warps <= mostWarps();
}

// What is behind another one begins one block and waits with it.
bool canBegin(const Grid* grid) {
  return !grid->held && grid->begun < (grid->earlierDone ? grid->blocks : 1) && hasRoom(grid);
}

void fill() {
  for (Grid* grid : engine.grids)
    while (grid->begun - grid->done < grid->resident && canBegin(grid)) beginBlock(grid, grid->begun++);
}

// The kernel behind has got as far as it can: now this one.
bool releaseHeld() {
  bool released = false;
  for (Grid* grid : engine.grids) {
    if (!grid->held) continue;
    released = true;
    grid->held = false;
    grid->earlierDone = true;
    grid->resident = residentBlocks(grid);
    for (Block* block : engine.blocks) {
      if (block->grid != grid) continue;
      for (int i = 0; i < block->warpCount; ++i) {
        makeReady(block->warps[i], block->warps[i]->behindEarlier);
        block->warps[i]->behindEarlier = 0;
      }
    }
  }
  if (released) wakePausing();
  return released;
}

void takeOut(Grid* grid) {
  grid->inProgress = false;
  std::vector<uint32_t>().swap(grid->order);  // here, by the host thread, as it was filled
  std::erase(engine.grids, grid);
}

void endGrid(Grid* grid) {
  {
    const OnStream context(*grid->stream);
    tsanAcquire(&grid->endTag);
    tsanRelease(&grid->stream->doneTag);
  }
  takeOut(grid);
  ++engine.effects;
  renewBudget();
}

}  // namespace

void beginGrid(Grid* grid, Grid* behind) {
  if (!grid->inProgress) putIntoProgress(grid);
  if (behind != nullptr) {
    putIntoProgress(behind);
    behind->earlierDone = false;
    behind->resident = 1;
  }
  {
    const OnStream context(*grid->stream);
    tsanRelease(&grid->startTag);
  }
  grid->held = true;
  if (behind == nullptr) releaseHeld();
}

Outcome runGrids(Grid** ended) {
  for (;;) {
    fill();
    runReady();
    if (engine.fault.code != cudaSuccess) {
      for (Grid* grid : engine.grids) tsanAcquire(&grid->endTag);
      return Outcome::kFault;
    }
    if (Block* block = engine.ended; block != nullptr) {
      engine.ended = nullptr;
      Grid* grid = block->grid;
      endBlock(block);
      if (engine.fault.code != cudaSuccess) return Outcome::kFault;
      if (grid->done < grid->blocks) continue;
      endGrid(grid);
      *ended = grid;
      return Outcome::kEnded;
    }
    if (engine.overBudget) {
      noteFault(cudaErrorLaunchTimeout, {}, nullptr, nullptr, "livelock: more than %llu steps",
                static_cast<unsigned long long>(limits.stepBudget));
      return Outcome::kFault;
    }
    if (engine.interrupted) {
      engine.interrupted = false;
      return Outcome::kInterrupted;
    }
    if (!releaseHeld()) return Outcome::kBlocked;
  }
}

bool beginMoreBlocks() {
  // Of the grid that has the fewest: blocks of several that wait for each other come in about the same numbers.
  Grid* fewest = nullptr;
  for (Grid* grid : engine.grids)
    if (canBegin(grid) && (fewest == nullptr || grid->begun - grid->done < fewest->begun - fewest->done)) fewest = grid;
  if (fewest == nullptr) return false;
  fewest->resident = fewest->begun - fewest->done + 1;
  return true;
}

void abandonGrid(Grid* grid) {
  abandonBlocks(grid);
  {
    const OnStream context(*grid->stream);
    tsanAcquire(&grid->endTag);
  }
  takeOut(grid);
}

}  // namespace emulator

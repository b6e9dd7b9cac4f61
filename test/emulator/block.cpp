#include <sys/mman.h>

#include <bit>
#include <cstring>
#include <new>

#include "contexts.h"
#include "engine.h"
#include "sanitizers.h"

// Blocks: their threads, their shared memory, their barrier.

uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emulator {
namespace {

constexpr size_t kArenaBytes = 256 << 10;
constexpr size_t kPage = 4096;
constexpr size_t kSharedAlignment = 128;
constexpr size_t kCanaryBytes = 64;
constexpr uint8_t kCanary = 0xc5;

// Kept for the next launch, to the end of the process and beyond.
std::vector<Block*>& freeBlocks = *new std::vector<Block*>;
std::vector<Warp*>& freeWarps = *new std::vector<Warp*>;

// Kernels read threadIdx there. Static, because ThreadSanitizer takes the allocation of memory for a write, which would
// have to come before what kernels do.
alignas(Warp) uint8_t warpStorage[kMaxWarps][sizeof(Warp)];
int warpsMade;

Warp* takeWarp() {
  if (freeWarps.empty()) return new (warpStorage[warpsMade++]) Warp;
  Warp* warp = freeWarps.back();
  freeWarps.pop_back();
  return warp;
}

uint8_t* mapArena() {
  void* memory = mmap(nullptr, kArenaBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto* arena = static_cast<uint8_t*>(memory) + kPage;
  mprotect(arena, kArenaBytes, PROT_READ | PROT_WRITE);
  return arena;
}

size_t slack(const Block* block) {
  return block->arena + kArenaBytes - block->shared - block->grid->sharedBytes;
}

// The memory ends where a page begins that may not be touched, or a few bytes before, which are looked at afterwards.
// All bits set are NaN in every floating-point type.
void layOutShared(Block* block) {
  const size_t bytes = block->grid->sharedBytes;
  if (block->arena == nullptr) block->arena = mapArena();
  unpoison(block->arena, kArenaBytes);
  block->shared = block->arena + kArenaBytes - (bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  if (tsan()) {
    // Mapped anew, so that what the block before did there is forgotten.
    uint8_t* page = block->arena + (block->shared - block->arena) / kPage * kPage;
    mmap(page, block->arena + kArenaBytes - page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
  }
  memset(block->shared, 0xff, bytes);
  if (kAsan) {
    poison(block->arena, block->shared - block->arena);
    poison(block->shared + bytes, slack(block));
    return;
  }
  memset(block->shared + bytes, kCanary, slack(block));
  if (block->shared - block->arena >= static_cast<ptrdiff_t>(kCanaryBytes))
    memset(block->shared - kCanaryBytes, kCanary, kCanaryBytes);
}

bool intact(const uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (bytes[i] != kCanary) return false;
  return true;
}

void checkShared(const Block* block) {
  if (kAsan) return;
  const bool below = block->shared - block->arena < static_cast<ptrdiff_t>(kCanaryBytes) ||
                     intact(block->shared - kCanaryBytes, kCanaryBytes);
  if (!below || !intact(block->shared + block->grid->sharedBytes, slack(block)))
    noteFault(cudaErrorIllegalAddress, {}, nullptr, block->grid,
              "a write %s the block's %zu bytes of shared memory, block (%u, %u, %u)", below ? "behind" : "ahead of",
              block->grid->sharedBytes, block->index.x, block->index.y, block->index.z);
}

void beginThread(Thread* thread, Warp* warp, int number, dim3 size) {
  const auto n = static_cast<unsigned>(number);
  thread->index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
  thread->lane = number % kLanes;
  thread->state = State::kReady;
  thread->fiber = nullptr;
  thread->warp = warp;
  thread->site = {};
  thread->waited = false;
  thread->polls = 0;
  thread->polled = nullptr;
  if (thread->copies != nullptr) thread->copies->count = 0;
}

void releaseBarrier(Block* block) {
  switch (block->barrierKind) {
    case Barrier::kAnd:
      block->barrierResult = block->predicates == block->atBarrier;
      break;
    case Barrier::kOr:
      block->barrierResult = block->predicates > 0;
      break;
    default:
      block->barrierResult = block->predicates;
  }
  block->atBarrier = 0;
  block->predicates = 0;
  block->phase ^= 1;
  ++engine.progress;
  for (int i = 0; i < block->warpCount; ++i) {
    Warp* warp = block->warps[i];
    if (warp->atBarrier == 0) continue;
    makeReady(warp, warp->atBarrier);
    warp->atBarrier = 0;
  }
}

}  // namespace

void beginBlock(Grid* grid, uint64_t number) {
  if (!grid->order.empty()) number = grid->order[number];
  Block* block;
  if (freeBlocks.empty()) {
    block = new Block;
  } else {
    block = freeBlocks.back();
    freeBlocks.pop_back();
  }
  block->grid = grid;
  block->index = {static_cast<unsigned>(number % grid->size.x),
                  static_cast<unsigned>(number / grid->size.x % grid->size.y),
                  static_cast<unsigned>(number / grid->size.x / grid->size.y)};
  block->threads = static_cast<int>(grid->block.x * grid->block.y * grid->block.z);
  block->living = block->threads;
  block->warpCount = (block->threads + kLanes - 1) / kLanes;
  block->sawWait = false;
  block->atBarrier = 0;
  block->predicates = 0;
  {
    const OnStream context(*grid->stream);
    layOutShared(block);
    tsanRelease(&grid->startTag);
  }
  engine.blocks.push_back(block);
  for (int i = 0; i < block->warpCount; ++i) {
    Warp* warp = takeWarp();
    block->warps[i] = warp;
    warp->block = block;
    warp->index = i;
    warp->ready = warp->atBarrier = warp->pausing = warp->behindEarlier = 0;
    warp->groupCount = 0;
    const int lanes = std::min(kLanes, block->threads - i * kLanes);
    warp->living = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    for (int lane = 0; lane < lanes; ++lane) beginThread(&warp->threads[lane], warp, i * kLanes + lane, grid->block);
    addWarp(warp);
  }
}

void endBlock(Block* block) {
  if (engine.fault.code == cudaSuccess) checkShared(block);
  Grid* grid = block->grid;
  if (engine.fault.code == cudaSuccess && grid->overlaps && !block->sawWait)
    noteFault(cudaErrorLaunchFailure, {}, nullptr, grid,
              "block (%u, %u, %u) of a kernel launched with programmatic overlap ended without pdlWait()",
              block->index.x, block->index.y, block->index.z);
  ++grid->done;
  for (int i = block->warpCount - 1; i >= 0; --i) {
    removeWarp(block->warps[i]);
    freeWarps.push_back(block->warps[i]);
  }
  if (engine.block == block) engine.block = nullptr;
  std::erase(engine.blocks, block);
  freeBlocks.push_back(block);
}

void enterBlock(Block* block) {
  engine.block = block;
  blockIdx = block->index;
  blockDim = block->grid->block;
  gridDim = block->grid->size;
}

void threadEnded(Thread* thread) {
  Warp* warp = thread->warp;
  Block* block = warp->block;
  const uint32_t bit = 1u << thread->lane;
  for (int i = 0; i < warp->groupCount; ++i)
    if ((warp->groups[i].mask & bit) != 0)
      fault(cudaErrorLaunchFailure, warp->groups[i].site,
            "lane %d ended while other lanes of its warp wait for it, mask %08x", thread->lane, warp->groups[i].mask);
  thread->state = State::kEnded;
  warp->living &= ~bit;
  ++engine.progress;
  ++engine.effects;
  if (--block->living == 0)
    engine.ended = block;
  else if (block->atBarrier == block->living)
    releaseBarrier(block);  // threads that have ended are not waited for
}

void abandonBlocks(const Grid* grid) {
  for (Block* block : engine.blocks) {
    if (block->grid != grid) continue;
    for (int i = block->warpCount - 1; i >= 0; --i) {
      Warp* warp = block->warps[i];
      const int lanes = std::min(kLanes, block->threads - i * kLanes);
      for (int lane = 0; lane < lanes; ++lane) {
        Fiber*& fiber = warp->threads[lane].fiber;
        if (fiber != nullptr) giveAbandonedFiber(fiber, &block->grid->endTag);
        fiber = nullptr;
      }
      engine.pausing -= std::popcount(warp->pausing);
      removeWarp(warp);
      freeWarps.push_back(warp);
    }
    tsanAcquire(&block->grid->endTag);
    if (engine.ended == block) engine.ended = nullptr;
    if (engine.block == block) engine.block = nullptr;
    freeBlocks.push_back(block);
  }
  std::erase_if(engine.blocks, [=](const Block* block) { return block->grid == grid; });
  running = nullptr;
}

int blockBarrier(Barrier kind, bool predicate, Site site) {
  Thread* self = current();
  Warp* warp = self->warp;
  Block* block = warp->block;
  self->site = site;
  if (block->atBarrier == 0) {
    block->barrierSite = site;
    block->barrierKind = kind;
  } else if (kind != block->barrierKind || !sameSite(site, block->barrierSite)) {
    fault(cudaErrorLaunchFailure, site, "divergent barrier: %d threads of the block wait at %s:%u", block->atBarrier,
          block->barrierSite.file_name(), block->barrierSite.line());
  }
  // Two tags in turn: who is still to leave one barrier must not seem to come after who has reached the next.
  char* tag = &block->tags[block->phase];
  tsanRelease(tag);
  block->predicates += predicate;
  self->polls = 0;
  if (++block->atBarrier == block->living) {
    releaseBarrier(block);
  } else {
    self->state = State::kAtBarrier;
    warp->atBarrier |= 1u << self->lane;
    yieldThread();
  }
  tsanAcquire(tag);
  return block->barrierResult;
}

void* sharedMemory(size_t bytes) {
  const Block* block = current()->warp->block;
  if (bytes > block->grid->sharedBytes)
    fault(cudaErrorIllegalAddress, current()->site, "%zu bytes of shared memory asked for, launched with %zu", bytes,
          block->grid->sharedBytes);
  return block->shared;
}

void waitForEarlierKernels(Site site) {
  Thread* self = current();
  Warp* warp = self->warp;
  Block* block = warp->block;
  self->site = site;
  block->sawWait = self->waited = true;
  if (block->grid->earlierDone) return;
  self->state = State::kBehindEarlier;
  warp->behindEarlier |= 1u << self->lane;
  yieldThread();
  tsanAcquire(&block->grid->startTag);
}

// Nothing starts the earlier for it: what may start early always does, in schedules that ask for it. Ahead of the wait
// it would let a kernel start beside two others, of which that one's own wait covers the last.
void allowLaterKernels(Site site) {
  Thread* self = current();
  self->site = site;
  if (self->warp->block->grid->overlaps && !self->waited)
    fault(cudaErrorLaunchFailure, site, "pdlTrigger() ahead of pdlWait()");
}

}  // namespace emulator

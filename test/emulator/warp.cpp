#include <bit>
#include <cstring>

#include "engine.h"
#include "sanitizers.h"

// What lanes of a warp do together. Lanes leave what they give with the warp and wait; the last to come computes what
// everybody gets. A lane is in one such operation at a time, so nothing is overwritten before it is read.

namespace emulator {
namespace {

// By constant sizes: a loop becomes a call to memcpy, which costs more than the rest here and which
// ThreadSanitizer takes for the kernel's doing.
inline void copyWords(uint32_t* to, const uint32_t* from, int words) {
  switch (words) {
    case 0:
      return;
    case 1:
      *to = *from;
      return;
    case 2:
      __builtin_memcpy(to, from, 8);
      return;
    case 3:
      __builtin_memcpy(to, from, 12);
      return;
    case 4:
      __builtin_memcpy(to, from, 16);
      return;
    default:
      __builtin_memcpy(to, from, 40);
  }
}

void shuffleWords(Warp& warp, uint32_t mask, int words, Site site) {
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const uint32_t source = warp.in[lane][words] % kLanes;
    if ((mask >> source & 1) == 0)
      fault(cudaErrorLaunchFailure, site, "shuffle: lane %d reads lane %u, which is not in the mask %08x", lane, source,
            mask);
    copyWords(warp.out[lane], warp.in[source], words);
  }
}

template <typename Combine>
void reduceWords(Warp& warp, uint32_t mask, Combine combine) {
  uint32_t left = mask, result = warp.in[std::countr_zero(mask)][0];
  for (left &= left - 1; left != 0; left &= left - 1) result = combine(result, warp.in[std::countr_zero(left)][0]);
  for (left = mask; left != 0; left &= left - 1) warp.out[std::countr_zero(left)][0] = result;
}

void ballot(Warp& warp, uint32_t mask) {
  uint32_t result = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1)
    result |= warp.in[std::countr_zero(left)][0] << std::countr_zero(left);
  for (uint32_t left = mask; left != 0; left &= left - 1) warp.out[std::countr_zero(left)][0] = result;
}

void match(Warp& warp, uint32_t mask) {
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    uint32_t equal = 0;
    for (uint32_t others = mask; others != 0; others &= others - 1) {
      const int other = std::countr_zero(others);
      if (warp.in[lane][0] == warp.in[other][0] && warp.in[lane][1] == warp.in[other][1]) equal |= 1u << other;
    }
    warp.out[lane][0] = equal;
  }
}

void complete(Warp& warp, Collective operation, uint32_t mask, int inWords, Site site) {
  const auto asSigned = [](uint32_t word) { return static_cast<int32_t>(word); };
  switch (operation) {
    case Collective::kSync:
      return;
    case Collective::kShuffle:
      return shuffleWords(warp, mask, inWords - 1, site);
    case Collective::kBallot:
      return ballot(warp, mask);
    case Collective::kMatch:
      return match(warp, mask);
    case Collective::kAdd:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a + b; });
    case Collective::kMin:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
    case Collective::kMax:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
    case Collective::kMinSigned:
      return reduceWords(warp, mask, [=](uint32_t a, uint32_t b) { return asSigned(a) < asSigned(b) ? a : b; });
    case Collective::kMaxSigned:
      return reduceWords(warp, mask, [=](uint32_t a, uint32_t b) { return asSigned(a) > asSigned(b) ? a : b; });
    case Collective::kAnd:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a & b; });
    case Collective::kOr:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a | b; });
    case Collective::kXor:
      return reduceWords(warp, mask, [](uint32_t a, uint32_t b) { return a ^ b; });
    case Collective::kLdmatrix:
      return loadMatrices(warp, false, site);
    case Collective::kLdmatrixTransposed:
      return loadMatrices(warp, true, site);
    case Collective::kMmaHalf:
      return multiplyFragments(warp.in, warp.out, false);
    case Collective::kMmaBfloat16:
      return multiplyFragments(warp.in, warp.out, true);
  }
}

void checkMask(const Warp& warp, int lane, uint32_t mask, Site site) {
  if ((mask >> lane & 1) == 0) fault(cudaErrorLaunchFailure, site, "lane %d is not in its own mask %08x", lane, mask);
  fault(cudaErrorLaunchFailure, site, "mask %08x names lanes that have ended or never were: the warp has %08x", mask,
        warp.living);
}

// The operation under way that this lane joins, or a new one.
Group* join(Warp& warp, Collective operation, uint32_t mask, Site site) {
  for (int i = 0; i < warp.groupCount; ++i) {
    Group& group = warp.groups[i];
    if ((group.mask & mask) == 0) continue;
    if (group.mask != mask)
      fault(cudaErrorLaunchFailure, site, "mask %08x, but lanes %08x wait with mask %08x at %s:%u", mask, group.arrived,
            group.mask, group.site.file_name(), group.site.line());
    if (group.operation != operation || !sameSite(group.site, site))
      fault(cudaErrorLaunchFailure, site, "lanes %08x of the same mask %08x wait in another operation, at %s:%u",
            group.arrived, mask, group.site.file_name(), group.site.line());
    return &group;
  }
  Group& group = warp.groups[warp.groupCount++];
  group = {mask, 0, operation, site, &warp.tags[warp.tagsUsed++ % sizeof warp.tags]};
  return &group;
}

}  // namespace

bool sameSite(Site a, Site b) {
  static_assert(sizeof(Site) == sizeof(void*));
  return std::bit_cast<const void*>(a) == std::bit_cast<const void*>(b) ||
         (a.line() == b.line() && a.column() == b.column() && strcmp(a.file_name(), b.file_name()) == 0);
}

void warpCollective(Collective operation, uint32_t mask, const uint32_t* in, int inWords, uint32_t* out, int outWords,
                    Site site) {
  Thread* self = current();
  Warp& warp = *self->warp;
  const int lane = self->lane;
  const uint32_t bit = 1u << lane;
  self->site = site;
  self->polls = 0;
  if ((mask & bit) == 0 || (mask & ~warp.living) != 0) checkMask(warp, lane, mask, site);
  Group* group = join(warp, operation, mask, site);
  // Shuffles and votes order no accesses to memory; __syncwarp does.
  char* tag = operation == Collective::kSync ? group->tag : nullptr;
  if (tag != nullptr) tsanRelease(tag);
  copyWords(warp.in[lane], in, inWords);
  if (operation == Collective::kLdmatrix || operation == Collective::kLdmatrixTransposed) {
    const void* row;
    __builtin_memcpy(&row, in, sizeof row);
    tsanRead(row, 16);
  }
  group->arrived |= bit;
  if (group->arrived == mask) {
    complete(warp, operation, mask, inWords, site);
    ++engine.progress;
    *group = warp.groups[--warp.groupCount];
    makeReady(&warp, mask & ~bit);
  } else {
    self->state = State::kInCollective;
    yieldThread();
  }
  if (tag != nullptr) tsanAcquire(tag);
  copyWords(out, warp.out[lane], outWords);
}

}  // namespace emulator

#include <sys/mman.h>

#include <new>

#include "engine.h"
#include "memory.h"
#include "peers.h"
#include "sanitizers.h"

// cp.async. Between its issue and the wait for it the destination holds nobody knows what: NaN here, where the copy is
// done late.

namespace emulator {
namespace {

void perform(PendingCopy& copy) {
  if (copy.done) return;
  copy.done = true;
  if (copy.valid) tsanRead(copy.global, copy.bytes);
  tsanWrite(copy.shared, copy.bytes);
  const auto bytes = static_cast<size_t>(copy.bytes);
  if (copy.valid)
    __builtin_memcpy(copy.shared, copy.global, bytes);
  else
    __builtin_memset(copy.shared, 0, bytes);
}

PendingCopy& at(PendingCopies* pending, uint32_t i) {
  return pending->copies[(pending->first + i) % PendingCopies::kCapacity];
}

void dropFirst(PendingCopies* pending) {
  pending->first = (pending->first + 1) % PendingCopies::kCapacity;
  --pending->count;
}

// By hand and for good: kernels run here, where sanitizers' allocators do not expect to be called from.
PendingCopies* makePending() {
  void* memory =
      mmap(nullptr, sizeof(PendingCopies), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return new (memory) PendingCopies;
}

}  // namespace

void asyncCopy(void* shared, const void* global, int bytes, bool valid, Site site) {
  Thread* self = current();
  self->site = site;
  const Block* block = self->warp->block;
  const auto to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
  const auto first = reinterpret_cast<uintptr_t>(block->shared);
  const auto size = static_cast<uintptr_t>(bytes);
  if (to % size != 0 || from % size != 0)
    fault(cudaErrorMisalignedAddress, site, "cp.async: the %s address is not aligned to %d bytes",
          to % size != 0 ? "shared" : "global", bytes);
  if (to < first || to + size > first + block->grid->sharedBytes)
    fault(cudaErrorIllegalAddress, site, "cp.async: the destination is not in shared memory: offset %td of %zu bytes",
          static_cast<ptrdiff_t>(to - first), block->grid->sharedBytes);
  if (valid) checkGlobal(global, bytes, "cp.async", site);
  const Copies when = engine.schedule.copies;
  if (when == Copies::kEager || (when == Copies::kRandom && randomBits() % 2 == 0)) {
    PendingCopy copy{shared, global, bytes, 0, valid, false};
    return perform(copy);
  }
  if (self->copies == nullptr) self->copies = makePending();
  PendingCopies* pending = self->copies;
  if (pending->count == PendingCopies::kCapacity) {
    perform(at(pending, 0));
    dropFirst(pending);
  }
  at(pending, pending->count++) = {shared, global, bytes, pending->group, valid, false};
  tsanWrite(shared, bytes);
  __builtin_memset(shared, 0xff, static_cast<size_t>(bytes));
}

void asyncCommit() {
  if (PendingCopies* pending = current()->copies) ++pending->group;
}

void asyncWait(int left) {
  PendingCopies* pending = current()->copies;
  if (pending == nullptr) return;
  while (pending->count > 0 && pending->group - at(pending, 0).group > static_cast<uint32_t>(left)) {
    perform(at(pending, 0));
    dropFirst(pending);
  }
}

void checkGlobal16(const void* address, const char* operation, Site site) {
  Thread* self = current();
  self->site = site;
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0)
    fault(cudaErrorMisalignedAddress, site, "%s: address %p is not aligned to 16 bytes", operation, address);
  checkGlobal(address, 16, operation, site);
}

void checkGlobal(const void* address, int bytes, const char* operation, Site site) {
  const Access access = accessTo(address, static_cast<size_t>(bytes));
  const int device = current()->warp->block->grid->device;
  if ((access.users >> device & 1) != 0) return;
  if (access.users == 0)
    fault(cudaErrorIllegalAddress, site, "%s: %d bytes at %p, %s", operation, bytes, address, describeAddress(address));
  fault(cudaErrorIllegalAddress, site, "%s: %p is memory of device %d, to which device %d was given no access",
        operation, address, access.owner, device);
}

bool arrives(const void* address) {
  return takesWrites(current()->warp->block->grid->device, accessTo(address, 4).owner);
}

void checkOwn(const void* address, const char* operation, Site site) {
  checkGlobal(address, 4, operation, site);
  const int owner = accessTo(address, 4).owner, device = current()->warp->block->grid->device;
  if (owner == device) return;
  fault(cudaErrorIllegalAddress, site, "%s: orders nothing beyond device %d, but %p is memory of %s", operation, device,
        address, owner < 0 ? "the host" : "another one");
}

}  // namespace emulator

#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "contexts.h"
#include "sanitizers.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// Saves the registers that a function must keep on the running stack and the stack pointer in *save; goes on where the
// stack pointer `load` was saved. On other machines than x86-64 swapcontext does the same, slower.
#if defined(__x86_64__)
extern "C" void emulatorSwitch(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl emulatorSwitch
.hidden emulatorSwitch
.type emulatorSwitch,@function
emulatorSwitch:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulatorSwitch,.-emulatorSwitch
)");
#endif

namespace emulator {
namespace {

constexpr size_t kPage = 4096;
// Closed pages split mappings, of which a process may have 65530.
constexpr int kGuardedStacks = 20000;

int created;
int contexts;  // of ThreadSanitizer's

struct FiberList {
  Fiber* first;
  Fiber* last;
  int count;
};
FiberList freeStacks;  // without a context
FiberList freeFibers[kMaxDevices];

// To ThreadSanitizer what ran on a fiber comes before what runs there next, whether anything has ordered the two or
// not. So devices have fibers of their own there, and blocks of a launch get those that have been free the longest.
constexpr int kManyFree = 64;
// It knows 8128 threads; with so many of them devices share.
constexpr int kManyContexts = 6500;

void addFirst(FiberList& list, Fiber* fiber) {
  fiber->next = list.first;
  if (list.first == nullptr) list.last = fiber;
  list.first = fiber;
  ++list.count;
}
void addLast(FiberList& list, Fiber* fiber) {
  fiber->next = nullptr;
  (list.first == nullptr ? list.first : list.last->next) = fiber;
  list.last = fiber;
  ++list.count;
}
Fiber* takeFirst(FiberList& list) {
  Fiber* fiber = list.first;
  list.first = fiber->next;
  --list.count;
  return fiber;
}

Fiber* createFiber() {
  // The distance between stacks is no power of two, nor do they all begin at the same place in a page: the tops of
  // stacks, which is what gets used, would share a few sets of the caches.
  const size_t bytes = kStackBytes + 2 * kPage;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  if (created < kGuardedStacks) mprotect(memory, kPage, PROT_NONE);
  auto* fiber = new Fiber;
  fiber->stack = static_cast<uint8_t*>(memory) + kPage;
  fiber->stackBytes = kStackBytes + static_cast<size_t>(created++ * 5 % 16) * 256;
  return fiber;
}

#if !defined(__x86_64__)
void prepare(Fiber* fiber, void (*entry)()) {
  auto* context = new (fiber->stack) ucontext_t;
  getcontext(context);
  context->uc_stack = {fiber->stack + sizeof(ucontext_t), 0, fiber->stackBytes - sizeof(ucontext_t)};
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  fiber->saved = context;
}
void swap(Fiber* from, Fiber* to) {
  ucontext_t here;
  from->saved = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to->saved));
}
#else
void prepare(Fiber* fiber, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(fiber->stack + fiber->stackBytes);
  for (int i = 0; i < 3; ++i) *--top = nullptr;  // where entry would return to, and the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber->saved = top;
}
void swap(Fiber* from, Fiber* to) {
  emulatorSwitch(&from->saved, to->saved);
}
#endif

void giveStack(Fiber* fiber) {
  if (fiber->tsanFiber != nullptr) {
    destroyContext(fiber->tsanFiber);
    --contexts;
  }
  fiber->tsanFiber = nullptr;
  addFirst(freeStacks, fiber);
}

Fiber* freeFiber(int device) {
  if (!tsan()) return freeStacks.count > 0 ? takeFirst(freeStacks) : createFiber();
  if (freeFibers[device].count > kManyFree) return takeFirst(freeFibers[device]);
  if (contexts >= kManyContexts)
    for (int i = 0; i < kMaxDevices; ++i)
      if (FiberList& list = freeFibers[(device + i) % kMaxDevices]; list.count > 0) return takeFirst(list);
  Fiber* fiber = freeStacks.count > 0 ? takeFirst(freeStacks) : createFiber();
  fiber->tsanFiber = makeContext();
  ++contexts;
  return fiber;
}

}  // namespace

Fiber* takeFiber(int device, void (*entry)()) {
  Fiber* fiber = freeFiber(device);
  fiber->asanStack = nullptr;
  prepare(fiber, entry);
  return fiber;
}

void giveFiber(int device, Fiber* fiber) {
  if (tsan())
    addLast(freeFibers[device], fiber);
  else
    addFirst(freeStacks, fiber);  // the one used last is the warmest
}

void giveAbandonedFiber(Fiber* fiber, void* tag) {
  unpoison(fiber->stack, fiber->stackBytes);
  if (fiber->tsanFiber != nullptr) {
    void* self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsanFiber, 1);
    tsanRelease(tag);
    __tsan_switch_to_fiber(self, 1);
  }
  giveStack(fiber);
}

bool isStackGuard(const Fiber* fiber, const void* address) {
  const auto* at = static_cast<const uint8_t*>(address);
  return at < fiber->stack && at >= fiber->stack - kPage;
}

void adoptHost(Fiber* fiber) {
  if (tsan()) fiber->tsanFiber = __tsan_get_current_fiber();
  if (!kAsan) return;
  static thread_local void* low;
  static thread_local size_t bytes;
  if (low == nullptr) {
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &bytes);
    pthread_attr_destroy(&attributes);
  }
  fiber->stack = static_cast<uint8_t*>(low);
  fiber->stackBytes = bytes;
}

void switchFiber(Fiber* from, Fiber* to) {
  // Flag 1: a switch orders nothing.
  if (tsan()) __tsan_switch_to_fiber(to->tsanFiber, 1);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from->asanStack, to->stack, to->stackBytes);
#endif
  swap(from, to);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from->asanStack, nullptr, nullptr);
#endif
}

void leaveFiber(Fiber* from, Fiber* to) {
  if (tsan()) __tsan_switch_to_fiber(to->tsanFiber, 1);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(nullptr, to->stack, to->stackBytes);
#endif
  swap(from, to);
  abort();
}

}  // namespace emulator

#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <utility>

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

// A plain array: a race checker would take a container's own copying for that of the thread that runs.
Fiber* freeFibers[kMaxWarps * kLanes];
int freeCount;
int created;

// To ThreadSanitizer what ran on a fiber comes before what runs there next, whether anything has ordered the two or
// not. So that it seldom matters the next one is any of many.
constexpr int kManyFree = 512;
uint32_t choice = 1;

Fiber* takeFree() {
  if (tsan()) {
    choice = choice * 1664525 + 1013904223;
    std::swap(freeFibers[(choice >> 8) % static_cast<uint32_t>(freeCount)], freeFibers[freeCount - 1]);
  }
  return freeFibers[--freeCount];  // the one used last is the warmest
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

}  // namespace

Fiber* takeFiber(void (*entry)()) {
  Fiber* fiber = freeCount <= (tsan() ? kManyFree : 0) ? createFiber() : takeFree();
  if (tsan() && fiber->tsanFiber == nullptr) fiber->tsanFiber = makeContext();
  fiber->asanStack = nullptr;
  prepare(fiber, entry);
  return fiber;
}

void giveFiber(Fiber* fiber) {
  freeFibers[freeCount++] = fiber;
}

void giveAbandonedFiber(Fiber* fiber, void* tag) {
  unpoison(fiber->stack, fiber->stackBytes);
  if (fiber->tsanFiber != nullptr) {
    void* self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsanFiber, 1);
    tsanRelease(tag);
    __tsan_switch_to_fiber(self, 1);
    destroyContext(fiber->tsanFiber);
  }
  fiber->tsanFiber = nullptr;
  giveFiber(fiber);
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

#pragma once

#include <cstddef>
#include <cstdint>

// Stacks and switches between them.

namespace emulator {

struct Fiber {
  void* saved = nullptr;     // its stack pointer while it does not run
  uint8_t* stack = nullptr;  // the lowest address; below it lies a page that may not be touched
  size_t stackBytes = 0;
  void* tsanFiber = nullptr;
  void* asanStack = nullptr;
  Fiber* next = nullptr;
};

constexpr size_t kStackBytes = 64 << 10;

// A fiber that starts with entry(), which must never return. Its stack is taken from those given back; where that makes
// a difference, by the same device.
Fiber* takeFiber(int device, void (*entry)());
void giveFiber(int device, Fiber* fiber);
// The same for one that was left in the middle of something. What it did so far comes before an acquire of tag.
void giveAbandonedFiber(Fiber* fiber, void* tag);
// The fiber whose guard page address lies in is out of stack.
bool isStackGuard(const Fiber* fiber, const void* address);

// Makes fiber stand for the calling host thread and its stack.
void adoptHost(Fiber* fiber);

void switchFiber(Fiber* from, Fiber* to);
// Never comes back to `from`.
[[noreturn]] void leaveFiber(Fiber* from, Fiber* to);

}  // namespace emulator

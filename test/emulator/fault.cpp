#include <cxxabi.h>
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "engine.h"
#include "memory.h"
#include "report.h"
#include "sanitizers.h"
#include "stream.h"

// What a kernel did wrong: the launch is given up, threads are left where they are, and a report says who did what and
// where everybody else was.

namespace emulator {
namespace {

std::string place(Site site) {
  if (site.line() == 0) return "an unknown place";
  const char* slash = strrchr(site.file_name(), '/');
  return std::string(slash != nullptr ? slash + 1 : site.file_name()) + ":" + std::to_string(site.line());
}

std::string triple(uint3 v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

const char* doing(State state) {
  switch (state) {
    case State::kAtBarrier:
      return "wait at the barrier at";
    case State::kInCollective:
      return "wait for lanes of their warp at";
    case State::kPausing:
      return "wait in a loop at";
    case State::kBehindEarlier:
      return "wait for the kernel ahead at";
    case State::kEnded:
      return "have ended, last seen at";
    default:
      return "can go on, last seen at";
  }
}

std::string listThreads(const Block& block) {
  std::map<std::string, std::pair<int, uint3>> groups;
  for (int i = 0; i < block.threads; ++i) {
    const Thread& thread = block.warps[i / kLanes]->threads[i % kLanes];
    std::string what = std::string(doing(thread.state)) + " " + place(thread.site);
    if (thread.fiber == nullptr && thread.state != State::kEnded) what = "have not begun";
    auto [entry, isNew] = groups.try_emplace(what, 0, thread.index);
    ++entry->second.first;
  }
  std::string text;
  for (const auto& [what, who] : groups)
    text += "  block " + triple(block.index) + ": " + std::to_string(who.first) + " threads " + what +
            ", the first is " + triple(who.second) + "\n";
  return text;
}

thread_local bool runsKernels;
alignas(16) uint8_t escapeStack[16384];

// Where a signal handler leads: out of the kernel, whose own stack may be what failed.
[[noreturn]] void escape() {
  Fiber nowhere;
  running = nullptr;
  leaveFiber(&nowhere, &engine.host);
}

const int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
struct sigaction former[NSIG];

const Grid* gridOf(const Thread* thread) {
  return thread->warp->block->grid;
}

void explain(int signal, const siginfo_t* info) {
  const Thread* thread = current();
  const Site site = thread->site;
  if (signal == SIGILL)
    return noteFault(cudaErrorMisalignedAddress, site, thread, gridOf(thread),
                     "a misaligned access, or other undefined behaviour that the compiler made a trap of");
  if (signal == SIGFPE)
    return noteFault(cudaErrorLaunchFailure, site, thread, gridOf(thread), "division of an integer by zero");
  // The processor names no address where an instruction wanted an aligned one.
  if (info->si_code == SI_KERNEL)
    return noteFault(cudaErrorMisalignedAddress, site, thread, gridOf(thread), "a misaligned access");
  if (isStackGuard(thread->fiber, info->si_addr))
    return noteFault(cudaErrorLaunchFailure, site, thread, gridOf(thread), "out of stack: a thread has %zu bytes",
                     kStackBytes);
  noteFault(cudaErrorIllegalAddress, site, thread, gridOf(thread), "access to %p, %s", info->si_addr,
            describeAddress(info->si_addr));
}

// A host thread's, for as long as it lives.
struct SignalStack {
  SignalStack() {
    stack.ss_size = 64 << 10;
    stack.ss_sp = malloc(stack.ss_size);
    sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    void* memory = stack.ss_sp;
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
    free(memory);
  }
  stack_t stack{};
};

void onSignal(int signal, siginfo_t* info, void* context) {
  if (!runsKernels || running == nullptr) {
    // Not ours: happens again with whatever was to happen before.
    sigaction(signal, &former[signal], nullptr);
    return;
  }
  explain(signal, info);
#if defined(__x86_64__)
  auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RIP] = reinterpret_cast<greg_t>(escape);
  registers[REG_RSP] = reinterpret_cast<greg_t>(escapeStack + sizeof escapeStack - 8);
#else
  (void)context;
  abort();
#endif
}

}  // namespace

void catchSignals() {
  runsKernels = true;
  // Sanitizers explain such signals themselves.
  if (kAsan || tsan()) return;
  static thread_local SignalStack stack;
  static bool installed;
  if (installed) return;
  installed = true;
  struct sigaction action {};
  action.sa_sigaction = onSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : kSignals) sigaction(signal, &action, &former[signal]);
}

void ignoreSignals() {
  runsKernels = false;
}

void noteFault(cudaError_t code, Site site, const Thread* thread, const Grid* grid, const char* format, ...) {
  if (engine.fault.code != cudaSuccess) return;
  engine.fault.code = code;
  engine.fault.site = site;
  engine.fault.thread = thread;
  engine.fault.grid = grid;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(engine.fault.text, sizeof engine.fault.text, format, arguments);
  va_end(arguments);
}

void fault(cudaError_t code, Site site, const char* format, ...) {
  Thread* self = current();
  tsanAcquire(&engine.fault);
  engine.fault.code = code;
  engine.fault.site = site;
  engine.fault.thread = self;
  engine.fault.grid = gridOf(self);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(engine.fault.text, sizeof engine.fault.text, format, arguments);
  va_end(arguments);
  tsanRelease(&self->warp->block->grid->endTag);
  running = nullptr;
  leaveFiber(self->fiber, &engine.host);
}

void trap(Site site) {
  fault(cudaErrorLaunchFailure, site, "__trap()");
}

namespace {

std::string describeGrid(const Grid& grid) {
  return nameOfKernel(grid.kernel) + ", grid " + triple({grid.size.x, grid.size.y, grid.size.z}) + ", block " +
         triple({grid.block.x, grid.block.y, grid.block.z}) + ", " + std::to_string(grid.sharedBytes) +
         " bytes of shared memory";
}

}  // namespace

void composeReport() {
  const Fault& fault = engine.fault;
  const bool several = engine.grids.size() > 1;
  const Grid* grid = several || engine.grids.empty() ? fault.grid : engine.grids.front();
  std::string text;
  if (grid == nullptr)
    text = std::to_string(engine.grids.size()) + " kernels";
  else
    text = (several ? nameOf(*grid->stream) + ": " : "") + describeGrid(*grid);
  text += ", " + describe(engine.schedule) + ": " + fault.text + "\n";
  if (fault.thread != nullptr) {
    text += "  block " + triple(fault.thread->warp->block->index) + ", thread " + triple(fault.thread->index) +
            ", at or after " + place(fault.site);
    if (fault.site.line() != 0) text += std::string(", ") + fault.site.function_name();
    text += "\n";
  }
  for (const Grid* each : engine.grids) {
    if (several)
      text += "  " + nameOf(*each->stream) + ": " + describeGrid(*each) + ", " + std::to_string(each->done) +
              " blocks done, " + std::to_string(each->blocks - each->begun) + " not begun\n";
    for (const Block* block : engine.blocks)
      if (block->grid == each) text += listThreads(*block);
  }
  setReport(text);
}

std::string nameOfKernel(const void* kernel) {
  Dl_info info;
  if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr) return "kernel";
  int status = 0;
  char* name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string text = status == 0 ? name : info.dli_sname;
  free(name);
  return text;
}

}  // namespace emulator

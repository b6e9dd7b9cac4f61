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

thread_local bool onEngineThread;
alignas(16) uint8_t escapeStack[16384];

// Where a signal handler leads: out of the kernel, whose own stack may be what failed.
[[noreturn]] void escape() {
  Fiber nowhere;
  running = nullptr;
  leaveFiber(&nowhere, &engine.host);
}

const int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
struct sigaction former[NSIG];

void explain(int signal, const siginfo_t* info) {
  const Thread* thread = current();
  const Site site = thread->site;
  if (signal == SIGILL)
    return noteFault(cudaErrorMisalignedAddress, site, thread,
                     "a misaligned access, or other undefined behaviour that the compiler made a trap of");
  if (signal == SIGFPE) return noteFault(cudaErrorLaunchFailure, site, thread, "division of an integer by zero");
  // The processor names no address where an instruction wanted an aligned one.
  if (info->si_code == SI_KERNEL) return noteFault(cudaErrorMisalignedAddress, site, thread, "a misaligned access");
  if (isStackGuard(thread->fiber, info->si_addr))
    return noteFault(cudaErrorLaunchFailure, site, thread, "out of stack: a thread has %zu bytes", kStackBytes);
  noteFault(cudaErrorIllegalAddress, site, thread, "access to %p, %s", info->si_addr, describeAddress(info->si_addr));
}

void onSignal(int signal, siginfo_t* info, void* context) {
  if (!onEngineThread || !engine.active || running == nullptr) {
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
  if (onEngineThread) return;
  onEngineThread = true;
  // Sanitizers explain such signals themselves.
  if (kAsan || tsan()) return;
  stack_t stack{};
  stack.ss_size = 64 << 10;
  stack.ss_sp = malloc(stack.ss_size);  // for as long as the thread lives
  sigaltstack(&stack, nullptr);
  static bool installed;
  if (installed) return;
  installed = true;
  struct sigaction action {};
  action.sa_sigaction = onSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : kSignals) sigaction(signal, &action, &former[signal]);
}

void noteFault(cudaError_t code, Site site, const Thread* thread, const char* format, ...) {
  if (engine.fault.code != cudaSuccess) return;
  engine.fault.code = code;
  engine.fault.site = site;
  engine.fault.thread = thread;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(engine.fault.text, sizeof engine.fault.text, format, arguments);
  va_end(arguments);
}

void fault(cudaError_t code, Site site, const char* format, ...) {
  Thread* self = current();
  engine.fault.code = code;
  engine.fault.site = site;
  engine.fault.thread = self;
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

void composeReport(const Grid& grid) {
  const Fault& fault = engine.fault;
  std::string text = nameOfKernel(grid.kernel) + ", grid " + triple({grid.size.x, grid.size.y, grid.size.z}) +
                     ", block " + triple({grid.block.x, grid.block.y, grid.block.z}) + ", " +
                     std::to_string(grid.sharedBytes) + " bytes of shared memory, " + describe(engine.schedule) + ": " +
                     fault.text + "\n";
  if (fault.thread != nullptr) {
    text += "  block " + triple(fault.thread->warp->block->index) + ", thread " + triple(fault.thread->index) +
            ", at or after " + place(fault.site);
    if (fault.site.line() != 0) text += std::string(", ") + fault.site.function_name();
    text += "\n";
  }
  for (const Block* block : engine.blocks) text += listThreads(*block);
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

#include "contexts.h"

#include "sanitizers.h"

namespace emulator {
namespace {

// Contexts start out knowing what their maker knows, so this one makes them all.
void* maker;

}  // namespace

void* makeContext() {
  if (!tsan()) return nullptr;
  if (maker == nullptr) maker = __tsan_create_fiber(0);
  void* former = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(maker, 1);
  void* context = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(former, 1);
  return context;
}

void destroyContext(void* context) {
  if (context == nullptr) return;
  // What it did on its stack comes before what the next one does there.
  char tag;
  void* former = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(context, 1);
  tsanRelease(&tag);
  __tsan_switch_to_fiber(maker, 1);
  tsanAcquire(&tag);
  __tsan_switch_to_fiber(former, 1);
  __tsan_destroy_fiber(context);
}

OnStream::OnStream(CUstream_st& stream) {
  if (!tsan()) return;
  if (stream.context == nullptr) stream.context = makeContext();
  former_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(stream.context, 1);
}
OnStream::~OnStream() {
  if (former_ != nullptr) __tsan_switch_to_fiber(former_, 1);
}

void comeAfter(const Operation& operation) {
  tsanAcquire(operation.enqueued.get());
  for (const Mark& mark : operation.after) tsanAcquire(&mark.stream->doneTag);
}

void comeAfter(CUstream_st& stream) {
  tsanAcquire(&stream.doneTag);
}

}  // namespace emulator

CUstream_st::~CUstream_st() {
  emulator::destroyContext(context);
}

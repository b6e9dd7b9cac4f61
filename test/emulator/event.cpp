#include <algorithm>
#include <chrono>
#include <set>

#include "contexts.h"
#include "dispatch.h"
#include "runtime.h"
#include "runtime_api.h"
#include "stream.h"

// Events: places in streams, or in what is being captured.

namespace emulator {
namespace {

auto& events = *new std::set<cudaEvent_t>;

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

cudaError_t waitInCapture(const StreamPointer& stream, const CUevent_st& event) {
  if (event.capture == nullptr) {
    stream->capture->invalidated = true;
    return cudaErrorStreamCaptureIsolation;
  }
  if (stream->capture != nullptr && stream->capture != event.capture) {
    stream->capture->invalidated = event.capture->invalidated = true;
    return cudaErrorStreamCaptureMerge;
  }
  stream->capture = event.capture;
  auto& known = stream->capture->known[stream.get()];
  for (const auto& [other, number] : event.known) known[other] = std::max(known[other], number);
  return cudaSuccess;
}

cudaError_t recordEvent(CUevent_st& event, const StreamPointer& stream) {
  event.recorded = true;
  event.capture = stream->capture;
  if (isCapturing(stream)) {
    if (stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    event.known = stream->capture->known[stream.get()];
    return cudaSuccess;
  }
  auto happened = std::make_shared<double>(0);
  event.milliseconds = happened;
  Operation operation;
  operation.touches = Touches::kNothing;
  operation.work = [happened] {
    *happened = now();
    return cudaSuccess;
  };
  event.mark = {stream, stream->enqueued + 1};
  return enqueue(stream, std::move(operation));
}

}  // namespace

void forgetEvents(int device) {
  std::erase_if(events, [=](const cudaEvent_t event) {
    if (event->device != device) return false;
    delete event;
    return true;
  });
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call(__func__, [&] {
    if (event == nullptr) return cudaErrorInvalidValue;
    *event = new CUevent_st;
    (*event)->flags = flags;
    (*event)->device = currentDevice();
    events.insert(*event);
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call(__func__, [&] {
    if (events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr || !events.contains(event)) return cudaErrorInvalidResourceHandle;
    return recordEvent(*event, stream);
  });
}

namespace {
// What a wait for the event or a question about it must see first.
cudaError_t checkEvent(cudaEvent_t event) {
  if (!events.contains(event)) return cudaErrorInvalidResourceHandle;
  if (event->capture != nullptr) {
    event->capture->invalidated = true;
    return cudaErrorCapturedEvent;
  }
  return cudaSuccess;
}
}  // namespace

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call(__func__, [&] {
    if (const cudaError_t status = checkEvent(event); status != cudaSuccess) return status;
    const cudaError_t status = runUntil(event->mark);
    return status != cudaSuccess ? status : checkMemory();
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call(__func__, [&] {
    if (const cudaError_t status = checkEvent(event); status != cudaSuccess) return status;
    if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
    if (reached(event->mark)) {
      if (event->recorded) comeAfter(*event->mark.stream);
      return cudaSuccess;
    }
    const cudaError_t status = advance(event->mark);
    return status != cudaSuccess ? status : cudaErrorNotReady;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return call(__func__, [&] {
    for (const cudaEvent_t event : {start, end}) {
      if (const cudaError_t status = checkEvent(event); status != cudaSuccess) return status;
      if (!event->recorded || (event->flags & cudaEventDisableTiming) != 0) return cudaErrorInvalidResourceHandle;
      if (!reached(event->mark)) return cudaErrorNotReady;
    }
    *milliseconds = static_cast<float>(*end->milliseconds - *start->milliseconds);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr || !events.contains(event)) return cudaErrorInvalidResourceHandle;
    if (!event->recorded) return cudaSuccess;
    if (isCapturing(stream) || event->capture != nullptr) return waitInCapture(stream, *event);
    return enqueue(stream, {nullptr, nullptr, {event->mark}});
  });
}

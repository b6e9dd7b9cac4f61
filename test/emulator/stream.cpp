#include "stream.h"

#include <algorithm>

#include "memory.h"
#include "report.h"
#include "runtime.h"
#include "runtime_api.h"

namespace emulator {
namespace {

// CUDA makes callers wait beyond about as many.
constexpr size_t kMostQueued = 1024;

std::map<cudaStream_t, StreamPointer> streams;
std::map<int, StreamPointer> defaultStreams;  // by device
std::vector<std::weak_ptr<Capture>> captures;

template <typename Visit>
void forEachStream(Visit visit) {
  for (auto& [handle, stream] : streams) visit(stream);
  for (auto& [device, stream] : defaultStreams) visit(stream);
}

cudaError_t failed(cudaError_t status) {
  setStickyError(status);
  forEachStream([](const StreamPointer& stream) {
    stream->queue.clear();
    stream->done = stream->enqueued;
  });
  return status;
}

// The launch in front. Those behind it that may begin early do so, and then run as well.
cudaError_t runLaunches(CUstream_st* stream) {
  std::shared_ptr<Grid> grid = stream->queue.front().grid;
  for (;;) {
    std::shared_ptr<Grid> behind;
    if (engine.schedule.prologueFirst && stream->queue.size() > 1) {
      const Operation& next = stream->queue[1];
      if (next.grid != nullptr && next.grid->overlaps && next.after.empty()) behind = next.grid;
    }
    const cudaError_t status = runGrid(grid.get(), behind.get());
    if (status != cudaSuccess) return failed(status);
    stream->queue.pop_front();
    ++stream->done;
    if (behind == nullptr) return cudaSuccess;
    grid = behind;
  }
}

cudaError_t runNext(const StreamPointer& stream) {
  const std::vector<Mark> after = stream->queue.front().after;
  for (const Mark& mark : after)
    if (const cudaError_t status = runUntil(mark); status != cudaSuccess) return status;
  if (stream->queue.empty()) return stickyError();
  if (stream->queue.front().grid != nullptr) return runLaunches(stream.get());
  const Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  ++stream->done;
  const cudaError_t status = operation.work ? operation.work() : cudaSuccess;
  return status == cudaSuccess ? status : failed(status);
}

// In random orders now and then something of another stream runs, as it may.
void runSomethingElse() {
  std::vector<StreamPointer> waiting;
  forEachStream([&](const StreamPointer& stream) {
    if (!stream->queue.empty()) waiting.push_back(stream);
  });
  if (waiting.size() > 1) runNext(waiting[randomBits() % waiting.size()]);
}

void forgetReached(std::vector<Mark>& marks) {
  std::erase_if(marks, reached);
}

}  // namespace

cudaError_t checkMemory() {
  const char* damage = damagedAllocation();
  if (damage == nullptr) return cudaSuccess;
  setReport(std::string("found after a kernel: ") + damage + "\n");
  return failed(cudaErrorIllegalAddress);
}

bool reached(const Mark& mark) {
  return mark.stream == nullptr || mark.stream->done >= mark.number;
}

cudaError_t runUntil(const Mark& mark) {
  while (!reached(mark)) {
    if (engine.schedule.order == Order::kRandom && randomBits() % 2 == 0) runSomethingElse();
    if (reached(mark)) break;
    if (const cudaError_t status = runNext(mark.stream); status != cudaSuccess) return status;
  }
  return stickyError();
}

cudaError_t advance(const Mark& mark) {
  return reached(mark) ? stickyError() : runNext(mark.stream);
}

cudaError_t finishStream(const StreamPointer& stream) {
  const cudaError_t status = runUntil({stream, stream->enqueued});
  return status != cudaSuccess ? status : checkMemory();
}

cudaError_t finishAllWork() {
  std::vector<StreamPointer> all;
  forEachStream([&](const StreamPointer& stream) { all.push_back(stream); });
  for (const StreamPointer& stream : all)
    if (const cudaError_t status = runUntil({stream, stream->enqueued}); status != cudaSuccess) return status;
  return checkMemory();
}

StreamPointer findStream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) {
    StreamPointer& stream = defaultStreams[currentDevice()];
    if (stream == nullptr) {
      stream = std::make_shared<CUstream_st>();
      stream->device = currentDevice();
      stream->legacy = true;
    }
    return stream;
  }
  const auto found = streams.find(handle);
  return found != streams.end() ? found->second : nullptr;
}

cudaError_t enqueue(const StreamPointer& stream, Operation operation) {
  if (isCapturing(stream)) {
    if (stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    stream->capture->operations.push_back(std::move(operation));
    ++stream->capture->known[stream.get()][stream.get()];
    return cudaSuccess;
  }
  bool implicit = false;
  forEachStream([&](const StreamPointer& other) {
    if (!stream->legacy || !other->blocking || other->device != stream->device) return;
    if (isCapturing(other)) {
      other->capture->invalidated = true;
      implicit = true;
    }
    operation.after.push_back({other, other->enqueued});
  });
  if (implicit) return cudaErrorStreamCaptureImplicit;
  if (stream->blocking) {
    const auto standard = defaultStreams.find(stream->device);
    if (standard != defaultStreams.end()) operation.after.push_back({standard->second, standard->second->enqueued});
  }
  forgetReached(operation.after);
  stream->queue.push_back(std::move(operation));
  ++stream->enqueued;
  return stream->queue.size() > kMostQueued ? runNext(stream) : cudaSuccess;
}

cudaError_t refuseWhileCapturing() {
  bool refused = false;
  std::erase_if(captures, [](const std::weak_ptr<Capture>& capture) { return capture.expired(); });
  for (const auto& weak : captures) {
    const std::shared_ptr<Capture> capture = weak.lock();
    if (capture->mode == cudaStreamCaptureModeRelaxed || capture->origin->capture != capture) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id()) continue;
    capture->invalidated = true;
    refused = true;
  }
  return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

void forgetStreams() {
  forEachStream([](const StreamPointer& stream) {
    stream->queue.clear();
    stream->done = stream->enqueued;
    stream->capture = nullptr;
  });
  streams.clear();
  defaultStreams.clear();
  forgetEvents();
  forgetGraphs();
  captures.clear();
}

namespace {

cudaError_t createStream(cudaStream_t* handle, unsigned flags) {
  if (handle == nullptr || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  auto stream = std::make_shared<CUstream_st>();
  stream->device = currentDevice();
  stream->blocking = flags != cudaStreamNonBlocking;
  *handle = stream.get();
  streams[stream.get()] = stream;
  return cudaSuccess;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return call(__func__, [&] { return createStream(stream, cudaStreamDefault); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call(__func__, [&] { return createStream(stream, flags); });
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return call(__func__, [&] { return createStream(stream, flags); });
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr || stream->legacy) return cudaErrorInvalidResourceHandle;
    const cudaError_t status = runUntil({stream, stream->enqueued});
    stream->capture = nullptr;
    streams.erase(handle);
    return status;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (isCapturing(stream)) {
      stream->capture->invalidated = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    return finishStream(stream);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (isCapturing(stream)) {
      stream->capture->invalidated = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    const Mark end{stream, stream->enqueued};
    if (reached(end)) return checkMemory();
    const cudaError_t status = advance(end);
    return status != cudaSuccess ? status : cudaErrorNotReady;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call(__func__, [] {
    if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
    return finishAllWork();
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    Operation operation;
    operation.work = [function, data] {
      inHostFunction = true;
      function(data);
      inHostFunction = false;
      return cudaSuccess;
    };
    return enqueue(stream, std::move(operation));
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->legacy) return cudaErrorStreamCaptureUnsupported;
    if (isCapturing(stream)) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->mode = mode;
    capture->origin = handle;
    capture->thread = std::this_thread::get_id();
    captures.push_back(capture);
    stream->capture = capture;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* result) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    *result = !isCapturing(stream)           ? cudaStreamCaptureStatusNone
              : stream->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                             : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

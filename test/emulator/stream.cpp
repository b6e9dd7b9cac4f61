#include "stream.h"

#include <algorithm>

#include "contexts.h"
#include "dispatch.h"
#include "memory.h"
#include "report.h"
#include "runtime.h"
#include "runtime_api.h"
#include "sanitizers.h"

namespace emulator {
namespace {

// CUDA makes callers wait beyond about as many.
constexpr size_t kMostQueued = 1024;

std::vector<StreamPointer>& streams = *new std::vector<StreamPointer>;
int created;
auto& captures = *new std::vector<std::weak_ptr<Capture>>;

StreamPointer addStream(bool legacy) {
  std::erase_if(streams, [](const StreamPointer& stream) { return stream->destroyed && stream->queue.empty(); });
  auto stream = std::make_shared<CUstream_st>();
  stream->device = currentDevice();
  stream->legacy = legacy;
  stream->number = legacy ? 0 : ++created;
  streams.push_back(stream);
  return stream;
}

StreamPointer defaultStream(int device) {
  for (const StreamPointer& stream : streams)
    if (stream->legacy && stream->device == device) return stream;
  return nullptr;
}

}  // namespace

const std::vector<StreamPointer>& allStreams() {
  return streams;
}

std::string nameOf(const CUstream_st& stream) {
  return "device " + std::to_string(stream.device) +
         (stream.legacy ? ", default stream" : ", stream " + std::to_string(stream.number));
}

cudaError_t checkMemory() {
  int device = 0;
  const char* damage = damagedAllocation(&device);
  if (damage == nullptr) return cudaSuccess;
  setReport(std::string("found after a kernel: ") + damage + "\n");
  return failDevice(device, cudaErrorIllegalAddress);
}

cudaError_t finishStream(const StreamPointer& stream) {
  const cudaError_t status = runUntil({stream, stream->enqueued});
  return status != cudaSuccess ? status : checkMemory();
}

cudaError_t finishDevice(int device) {
  const std::vector<StreamPointer> all = streams;  // may change while this thread waits
  for (const StreamPointer& stream : all) {
    if (stream->device != device) continue;
    if (const cudaError_t status = runUntil({stream, stream->enqueued}); status != cudaSuccess) return status;
  }
  return checkMemory();
}

StreamPointer findStream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) {
    const StreamPointer stream = defaultStream(currentDevice());
    return stream != nullptr ? stream : addStream(true);
  }
  for (const StreamPointer& stream : streams)
    if (stream.get() == handle && !stream->destroyed) return stream;
  return nullptr;
}

cudaError_t enqueue(const StreamPointer& stream, Operation operation) {
  if (isCapturing(stream)) {
    if (stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    stream->capture->operations.push_back(std::move(operation));
    ++stream->capture->known[stream.get()][stream.get()];
    return cudaSuccess;
  }
  bool implicit = false;
  for (const StreamPointer& other : streams) {
    if (!stream->legacy || !other->blocking || other->device != stream->device) continue;
    if (isCapturing(other)) {
      other->capture->invalidated = true;
      implicit = true;
    }
    operation.after.push_back({other, other->enqueued});
  }
  if (implicit) return cudaErrorStreamCaptureImplicit;
  if (stream->blocking) {
    const StreamPointer standard = defaultStream(stream->device);
    if (standard != nullptr) operation.after.push_back({standard, standard->enqueued});
  }
  if (tsan()) {
    // Also what is reached comes before.
    operation.enqueued = std::make_shared<char>();
    tsanRelease(operation.enqueued.get());
  } else {
    std::erase_if(operation.after, reached);
  }
  if (operation.grid != nullptr) operation.grid->stream = stream.get();
  stream->queue.push_back(std::move(operation));
  ++stream->enqueued;
  noteEnqueued();
  return stream->queue.size() > kMostQueued ? runUntil({stream, stream->done + 1}) : cudaSuccess;
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

void forgetStreams(int device) {
  failDevice(device, cudaSuccess);
  for (const StreamPointer& stream : streams) {
    if (stream->device != device) continue;
    stream->capture = nullptr;
    stream->destroyed = true;
  }
  std::erase_if(streams, [=](const StreamPointer& stream) { return stream->device == device; });
  forgetEvents(device);
  forgetGraphs(device);
}

void forgetAllStreams() {
  for (int i = 0; i < kMaxDevices; ++i) forgetStreams(i);
  captures.clear();
  created = 0;
}

namespace {

cudaError_t createStream(cudaStream_t* handle, unsigned flags) {
  if (handle == nullptr || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  const StreamPointer stream = addStream(false);
  stream->blocking = flags != cudaStreamNonBlocking;
  *handle = stream.get();
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
    // What it holds is done when somebody waits for it.
    stream->capture = nullptr;
    stream->destroyed = true;
    return cudaSuccess;
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
    if (reached(end)) {
      comeAfter(*stream);
      return checkMemory();
    }
    const cudaError_t status = advance(end);
    return status != cudaSuccess ? status : cudaErrorNotReady;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call(__func__, [] {
    if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
    return finishDevice(currentDevice());
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    Operation operation;
    operation.touches = Touches::kHost;
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

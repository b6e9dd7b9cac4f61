#include <cmath>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Capture into graphs, replay, and what may not be done meanwhile.

namespace shardspeed::test {
namespace {

using cuda::launch;

__global__ void add(int* values, const int* amount) {
  cuda::pdlWait();
  values[threadIdx.x] += *amount;
}

// A stream and another beside it, values to add to and an amount in pinned memory that is copied to the device first.
struct Fresh {
  Fresh() { emulator::reset(); }
};
struct Fixture : Fresh {
  Fixture() : values(std::vector<int>(32, 0)), amount(1) {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    CHECK_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    CHECK_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    CHECK_EQ(cudaMallocHost(&host, sizeof(int)), cudaSuccess);
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    *host = 1;
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    CHECK_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
  }
  void work() {
    CHECK_EQ(cudaMemcpyAsync(amount.data(), host, sizeof(int), cudaMemcpyHostToDevice, stream), cudaSuccess);
    for (int i = 0; i < 3; ++i) launch(add, {"add", 1, 32, 0, stream, true}, values.data(), amount.data());
  }
  // A call that spoils the capture: it fails with `error`, and so does the end of the capture.
  void checkSpoilt(cudaError_t found, cudaError_t error) {
    CHECK_EQ(found, error);
    cudaStreamCaptureStatus status;
    CHECK_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    CHECK_EQ(status, cudaStreamCaptureStatusInvalidated);
    cudaGraph_t graph = nullptr;
    CHECK_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    cudaGetLastError();
  }
  DeviceArray<int> values, amount;
  cudaStream_t stream = nullptr, other = nullptr;
  cudaEvent_t event = nullptr;
  int* host = nullptr;
};

TEST(emulator_graphs, capture_and_replay) {
  Fixture f;
  f.begin();
  f.work();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaSuccess);
  CHECK_EQ(f.values.read()[0], 0);  // nothing ran
  size_t nodes = 0;
  CHECK_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
  CHECK_EQ(nodes, 4);
  CHECK_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
  CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
  CHECK_EQ(cudaGraphUpload(executable, f.stream), cudaSuccess);
  int expected = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(4)) {
    emulator::setSchedule(schedule);
    *f.host = expected + 1;  // read when the graph runs
    expected += 3 * *f.host;
    CHECK_EQ(cudaGraphLaunch(executable, f.stream), cudaSuccess);
    CHECK_EQ(f.values.read()[0], expected);
  }
  CHECK_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  CHECK_EQ(cudaGraphLaunch(executable, f.stream), cudaErrorInvalidValue);
  emulator::reset();
}

TEST(emulator_graphs, two_streams) {
  Fixture f;
  f.begin();
  CHECK_EQ(cudaEventRecord(f.event, f.stream), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(f.other, f.event), cudaSuccess);
  CHECK_EQ(cudaMemsetAsync(f.amount.data(), 1, 1, f.other), cudaSuccess);
  CHECK_EQ(cudaMemsetAsync(f.amount.data(), 0, 4, f.other), cudaSuccess);
  CHECK_EQ(cudaEventRecord(f.event, f.other), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(f.stream, f.event), cudaSuccess);
  f.work();
  cudaGraph_t graph = nullptr;
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaSuccess);
  cudaStreamCaptureStatus status;
  CHECK_EQ(cudaStreamIsCapturing(f.other, &status), cudaSuccess);
  CHECK_EQ(status, cudaStreamCaptureStatusNone);
  emulator::reset();
}

TEST(emulator_graphs, streams_not_joined_again) {
  Fixture f;
  f.begin();
  CHECK_EQ(cudaEventRecord(f.event, f.stream), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(f.other, f.event), cudaSuccess);
  CHECK_EQ(cudaMemsetAsync(f.amount.data(), 0, 4, f.other), cudaSuccess);
  cudaGraph_t graph = nullptr;
  CHECK_EQ(cudaStreamEndCapture(f.other, &graph), cudaErrorStreamCaptureUnmatched);
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaErrorStreamCaptureInvalidated);
  f.begin();
  CHECK_EQ(cudaEventRecord(f.event, f.stream), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(f.other, f.event), cudaSuccess);
  CHECK_EQ(cudaMemsetAsync(f.amount.data(), 0, 4, f.other), cudaSuccess);
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaErrorStreamCaptureUnjoined);
  emulator::reset();
}

TEST(emulator_graphs, calls_that_spoil_a_capture) {
  Fixture f;
  void* memory = nullptr;
  int value = 0;
  f.begin();
  f.checkSpoilt(cudaStreamSynchronize(f.stream), cudaErrorStreamCaptureUnsupported);
  f.begin();
  f.checkSpoilt(cudaStreamQuery(f.stream), cudaErrorStreamCaptureUnsupported);
  f.begin();
  f.checkSpoilt(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  f.begin();
  f.checkSpoilt(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  f.begin();
  f.checkSpoilt(cudaMallocHost(&memory, 16), cudaErrorStreamCaptureUnsupported);
  f.begin(cudaStreamCaptureModeThreadLocal);
  f.checkSpoilt(cudaFree(f.amount.data()), cudaErrorStreamCaptureUnsupported);
  f.begin();
  f.checkSpoilt(cudaMemcpy(&value, f.amount.data(), sizeof value, cudaMemcpyDeviceToHost),
                cudaErrorStreamCaptureUnsupported);
  f.begin();
  CHECK_EQ(cudaEventRecord(f.event, f.other), cudaSuccess);
  f.checkSpoilt(cudaStreamWaitEvent(f.stream, f.event), cudaErrorStreamCaptureIsolation);
  f.begin();
  CHECK_EQ(cudaEventRecord(f.event, f.stream), cudaSuccess);
  f.checkSpoilt(cudaEventSynchronize(f.event), cudaErrorCapturedEvent);
  // A relaxed capture lets memory be allocated beside it.
  f.begin(cudaStreamCaptureModeRelaxed);
  CHECK_EQ(cudaMalloc(&memory, 16), cudaSuccess);
  cudaGraph_t graph = nullptr;
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaSuccess);
  CHECK_EQ(cudaStreamEndCapture(f.stream, &graph), cudaErrorIllegalState);
  CHECK_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  emulator::reset();
}

TEST(emulator_graphs, default_stream_beside_a_capture) {
  Fixture f;
  cudaStream_t blocking = nullptr;
  CHECK_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  CHECK_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
  CHECK_EQ(cudaMemsetAsync(f.amount.data(), 0, 4, nullptr), cudaErrorStreamCaptureImplicit);
  cudaGraph_t graph = nullptr;
  CHECK_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
  emulator::reset();
}

}  // namespace
}  // namespace shardspeed::test

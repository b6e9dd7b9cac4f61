#include <cmath>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "emulator/other_process.h"
#include "test_threads.h"

// Streams, events and copies: what is ordered happens in order, what is not waited for has not happened.

namespace shardspeed::test {
namespace {

using cuda::launch;

__global__ void add(int* values, int amount) {
  values[threadIdx.x] += amount;
}
__global__ void multiply(int* values, int factor) {
  values[threadIdx.x] *= factor;
}

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { CHECK_EQ(cudaEventCreate(&event_), cudaSuccess); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Pinned memory, where copies arrive when they are done and not before.
class Pinned {
 public:
  explicit Pinned(int first) {
    CHECK_EQ(cudaMallocHost(&data_, 32 * sizeof(int)), cudaSuccess);
    for (int i = 0; i < 32; ++i) data_[i] = first;
  }
  ~Pinned() { cudaFreeHost(data_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  int* data() const { return data_; }

 private:
  int* data_ = nullptr;
};

constexpr size_t kBytes = 32 * sizeof(int);

// What the device may be writing or reading is not to be looked at: ThreadSanitizer would say so.
constexpr bool kMayPeek =
#ifdef __SANITIZE_THREAD__
    false;
#else
    true;
#endif

cuda::LaunchConfig on(cudaStream_t stream) {
  return {"kernel", 1, 32, 0, stream, false};
}

TEST(emulator_streams, work_waits_to_be_waited_for) {
  emulator::reset();
  const Stream stream;
  DeviceArray<int> values(std::vector<int>(32, 1));
  const Pinned host(0);
  launch(add, on(stream), values.data(), 2);
  launch(multiply, on(stream), values.data(), 5);
  CHECK_EQ(cudaMemcpyAsync(host.data(), values.data(), kBytes, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  if (kMayPeek) CHECK_EQ(host.data()[0], 0);
  CHECK_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(host.data()[0], 15);
  CHECK_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST(emulator_streams, asking_gets_on) {
  const Stream stream;
  DeviceArray<int> values(std::vector<int>(32, 1));
  for (int i = 0; i < 5; ++i) launch(add, on(stream), values.data(), 1);
  const Event event;
  CHECK_EQ(cudaEventRecord(event, stream), cudaSuccess);
  int asked = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady) ++asked;
  CHECK(asked >= 5);
  CHECK_EQ(cudaStreamQuery(stream), cudaSuccess);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(emulator_streams, events_order_streams) {
  underAllSchedules([] {
    const Stream first, second;
    const Event event;
    DeviceArray<int> values(std::vector<int>(32, 1));
    launch(add, on(first), values.data(), 2);
    CHECK_EQ(cudaEventRecord(event, first), cudaSuccess);
    CHECK_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);
    launch(multiply, on(second), values.data(), 5);
    CHECK_EQ(cudaStreamSynchronize(second), cudaSuccess);
    CHECK_EQ(values.read()[0], 15);
  });
}

// Under how many schedules the second stream's kernel does not come after the first's.
int countUnordered(bool withEvent) {
  int wrong = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(9)) {
    emulator::setSchedule(schedule);
    const Stream first, second;
    const Event event;
    DeviceArray<int> values(std::vector<int>(32, 1));
    launch(add, on(first), values.data(), 2);
    CHECK_EQ(cudaEventRecord(event, first), cudaSuccess);
    if (withEvent) CHECK_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);
    launch(multiply, on(second), values.data(), 5);
    CHECK_EQ(cudaStreamSynchronize(second), cudaSuccess);
    wrong += values.read()[0] != 15;
  }
  emulator::setSchedule({});
  return wrong;
}

// Without the event the streams do as they like, and some schedule shows it.
TEST(emulator_streams, missing_event_is_seen) {
  CHECK_EQ(countUnordered(true), 0);
  CHECK(inOtherProcess([] { return countUnordered(false); }) > 0);
}

TEST(emulator_streams, default_stream_waits_for_blocking_ones) {
  underAllSchedules([] {
    const Stream blocking(cudaStreamDefault);
    DeviceArray<int> values(std::vector<int>(32, 1));
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    launch(add, on(blocking), values.data(), 2);
    launch(multiply, on(nullptr), values.data(), 5);
    launch(add, on(blocking), values.data(), 1);
    CHECK_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
    CHECK_EQ(values.read()[0], 16);
  });
}

TEST(emulator_streams, pageable_memory_may_change_at_once_pinned_may_not) {
  emulator::reset();
  const Stream stream;
  DeviceArray<int> values(32);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::vector<int> pageable(32, 7);
  CHECK_EQ(cudaMemcpyAsync(values.data(), pageable.data(), kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
  pageable.assign(32, 8);
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(values.read()[0], 7);
  const Pinned pinned(7);
  CHECK_EQ(cudaMemcpyAsync(values.data(), pinned.data(), kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
  if (!kMayPeek) CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  pinned.data()[0] = 8;
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(values.read()[0], kMayPeek ? 8 : 7);
}

TEST(emulator_streams, host_functions_may_not_call_the_runtime) {
  const Stream stream;
  cudaError_t seen = cudaSuccess;
  CHECK_EQ(cudaLaunchHostFunc(
               stream, [](void* data) { *static_cast<cudaError_t*>(data) = cudaDeviceSynchronize(); }, &seen),
           cudaSuccess);
  CHECK_EQ(seen, cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(seen, cudaErrorNotPermitted);
}

TEST(emulator_streams, elapsed_time) {
  const Stream stream;
  const Event start, end;
  DeviceArray<int> values(32);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);  // the stream does not wait for the default one
  float milliseconds = -1;
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  CHECK_EQ(cudaEventRecord(start, stream), cudaSuccess);
  launch(add, on(stream), values.data(), 2);
  CHECK_EQ(cudaEventRecord(end, stream), cudaSuccess);
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady);
  CHECK_EQ(cudaEventSynchronize(end), cudaSuccess);
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  CHECK(milliseconds > 0);
  cudaGetLastError();
}

TEST(emulator_streams, copies_are_checked) {
  DeviceArray<int> values(32);
  int host[64] = {};
  CHECK_EQ(cudaMemcpy(values.data(), host, 33 * sizeof(int), cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpy(host, values.data(), kBytes, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpy(host, host + 32, kBytes, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemset(values.data() + 1, 0, kBytes), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpy(host, values.data(), kBytes, cudaMemcpyDefault), cudaSuccess);
  CHECK_EQ(host[0], -1);
  CHECK_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&values)), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
}

__global__ void count(int* values) {
  atomicAdd(&values[threadIdx.x], 1);
}
TEST(emulator_streams, any_host_thread) {
  DeviceArray<int> values(std::vector<int>(32, 1));
  TestThreads threads;
  for (int i = 0; i < 3; ++i) {
    threads.start([&] {
      cudaStream_t stream = nullptr;
      cudaStreamCreateWithFlags(&stream, cudaStreamDefault);
      for (int round = 0; round < 10; ++round) {
        launch(count, on(stream), values.data());
        cudaStreamSynchronize(stream);
      }
      cudaStreamDestroy(stream);
    });
  }
  threads.join();
  CHECK_EQ(values.read()[0], 31);
}

}  // namespace
}  // namespace shardspeed::test

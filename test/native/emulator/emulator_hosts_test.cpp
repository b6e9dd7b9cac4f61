#include <atomic>
#include <chrono>

#include "emulator/ranks.h"

// Kernels that wait for what somebody else has yet to do: another stream, another host thread, or the host itself.

namespace shardspeed::test {
namespace {

using cuda::launch;

__global__ void waitFor(const uint32_t* flag) {
  while (cuda::loadAcquireSystem(flag) == 0) cuda::spinPause();
}
__global__ void set(uint32_t* flag) {
  if (threadIdx.x == 0) cuda::storeReleaseSystem(flag, 1);
}
// Lanes that agree on when to stop do something in each round, though nothing that others notice.
__global__ void waitTogether(const uint32_t* flag) {
  while (!__any_sync(0xffffffffu, cuda::loadAcquireSystem(flag) != 0)) cuda::spinPause();
}
// Says that it is still there in each round.
__global__ void waitWithPulse(const uint32_t* flag, uint32_t* pulse) {
  while (cuda::loadAcquireSystem(flag) == 0) {
    if (threadIdx.x == 0) atomicAdd(pulse, 1u);
    cuda::spinPause();
  }
}

TEST(emulator_hosts, streams_of_one_device) {
  underAllSchedules([] {
    emulator::reset();
    cudaStream_t waiting = nullptr, other = nullptr;
    CHECK_EQ(cudaStreamCreateWithFlags(&waiting, cudaStreamNonBlocking), cudaSuccess);
    CHECK_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    const DeviceArray<uint32_t> flag(std::vector<uint32_t>{0});
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    launch(waitFor, {"wait", 4, 32, 0, waiting, false}, flag.data());
    launch(set, {"set", 1, 32, 0, other, false}, flag.data());
    CHECK_EQ(cudaStreamSynchronize(waiting), cudaSuccess);
#ifndef __SANITIZE_THREAD__  // to which a copy is no atomic write
    CHECK_EQ(cudaMemsetAsync(flag.data(), 0, 4, waiting), cudaSuccess);
    launch(waitFor, {"wait", 4, 32, 0, waiting, false}, flag.data());
    CHECK_EQ(cudaStreamQuery(waiting), cudaErrorNotReady);
    CHECK_EQ(cudaMemsetAsync(flag.data(), 1, 4, other), cudaSuccess);
    CHECK_EQ(cudaStreamSynchronize(waiting), cudaSuccess);
#endif
    // What waits may do things meanwhile.
    const DeviceArray<uint32_t> pulse(std::vector<uint32_t>{0});
    CHECK_EQ(cudaMemsetAsync(flag.data(), 0, 4, waiting), cudaSuccess);
    launch(waitWithPulse, {"wait", 2, 32, 0, waiting, false}, flag.data(), pulse.data());
    launch(set, {"set", 1, 32, 0, other, false}, flag.data());
    CHECK_EQ(cudaStreamSynchronize(waiting), cudaSuccess);
  });
  emulator::reset();
}

// A stream that must wait for the one that waits for it.
TEST(emulator_hosts, order_of_streams_is_kept) {
  emulator::reset();
  cudaStream_t waiting = nullptr, other = nullptr;
  CHECK_EQ(cudaStreamCreateWithFlags(&waiting, cudaStreamNonBlocking), cudaSuccess);
  CHECK_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  cudaEvent_t event = nullptr;
  CHECK_EQ(cudaEventCreate(&event), cudaSuccess);
  const DeviceArray<uint32_t> flag(std::vector<uint32_t>{0});
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  launch(waitFor, {"wait", 1, 32, 0, waiting, false}, flag.data());
  CHECK_EQ(cudaEventRecord(event, waiting), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(other, event), cudaSuccess);
  launch(set, {"set", 1, 32, 0, other, false}, flag.data());
  CHECK_EQ(cudaStreamSynchronize(other), cudaErrorLaunchTimeout);
  CHECK(reportHolds("livelock"));
  emulator::reset();
}

TEST(emulator_hosts, asking_again_and_again) {
  underAllSchedules([] {
    const Ranks ranks(2);
    uint32_t* flag = nullptr;
    CHECK_EQ(cudaHostAlloc(&flag, 4, cudaHostAllocMapped), cudaSuccess);
    *flag = 0;
    launch(waitFor, ranks.on(0, 1, 32), flag);
    for (int i = 0; i < 5000; ++i) CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorNotReady);
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
    while (cudaStreamQuery(ranks.stream(0)) == cudaErrorNotReady) {
    }
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
  });
}

// The host thread that ends the waiting has nothing to do with the runtime.
TEST(emulator_hosts, flag_in_host_memory) {
  for (const auto& kernel : {waitFor, waitTogether}) {
    const Ranks ranks(2);
    uint32_t* flag = nullptr;
    CHECK_EQ(cudaHostAlloc(&flag, 4, cudaHostAllocMapped), cudaSuccess);
    *flag = 0;
    TestThreads other;
    other.start([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
    });
    forRanks(Hosts::kThreads, 1, [&](int) {
      launch(kernel, ranks.on(0, 2, 32), flag);
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
    });
    other.join();
  }
}

// While a kernel of one device waits, everything may be done with another.
TEST(emulator_hosts, calls_beside_a_kernel_that_waits) {
  const Ranks ranks(2);
  auto* flag = ranks.allocate<uint32_t>(0, 1);
  auto* pulse = ranks.allocate<uint32_t>(0, 1);
  std::atomic<bool> launched{false};
  forRanks(Hosts::kThreads, 2, [&](int rank) {
    if (rank == 0) {
      launch(waitWithPulse, ranks.on(0, 2, 32), flag, pulse);
      launched = true;
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
      return;
    }
    while (!launched) std::this_thread::yield();
    for (int i = 0; i < 10; ++i) {
      void* memory = nullptr;
      uint32_t word = 5;
      CHECK_EQ(cudaMalloc(&memory, 4), cudaSuccess);
      CHECK_EQ(cudaMemset(memory, 0, 4), cudaSuccess);
      CHECK_EQ(cudaMemcpy(&word, memory, 4, cudaMemcpyDeviceToHost), cudaSuccess);
      CHECK_EQ(word, 0);
      CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
      CHECK_EQ(cudaFree(memory), cudaSuccess);
    }
    launch(set, ranks.on(1, 1, 32), flag);
    CHECK_EQ(cudaStreamSynchronize(ranks.stream(1)), cudaSuccess);
  });
}

// What a host thread has enqueued goes on when others wait, whether it waits itself or has ended.
TEST(emulator_hosts, thread_that_does_not_wait) {
  for (const emulator::Schedule& schedule : emulator::schedules(4)) {
    const Ranks ranks(2, schedule);
    auto* flag = ranks.allocate<uint32_t>(0, 1);
    forRanks(Hosts::kThreads, 2, [&](int rank) {
      if (rank == 0)
        launch(waitFor, ranks.on(0, 2, 32), flag);
      else
        launch(set, ranks.on(1, 1, 32), flag);
      if (rank == 0) CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
    });
  }
}

__global__ void trapped() {
  __trap();
}
// One rank fails, its host thread says so, and the others end.
TEST(emulator_hosts, rank_that_fails) {
  for (const emulator::Schedule& schedule : emulator::schedules(4)) {
    const Ranks ranks(4, schedule);
    uint32_t* abort = nullptr;
    CHECK_EQ(cudaHostAlloc(&abort, 4, cudaHostAllocPortable | cudaHostAllocMapped), cudaSuccess);
    *abort = 0;
    forRanks(Hosts::kThreads, 4, [&](int rank) {
      if (rank == 2)
        launch(trapped, ranks.on(2, 1, 32));
      else
        launch(waitFor, ranks.on(rank, 2, 32), abort);
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(rank)), rank == 2 ? cudaErrorLaunchFailure : cudaSuccess);
      if (rank == 2) __atomic_store_n(abort, 1, __ATOMIC_RELEASE);
    });
    CHECK(reportHolds("__trap()"));
  }
}

// A stream may be destroyed while its kernels wait; they go on.
TEST(emulator_hosts, destroyed_stream) {
  const Ranks ranks(2);
  auto* flag = ranks.allocate<uint32_t>(0, 1);
  auto* done = ranks.allocate<uint32_t>(0, 1);
  cudaStream_t stream = nullptr;
  CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  launch(waitFor, {"wait", 1, 32, 0, stream, false}, flag);
  launch(set, {"set", 1, 32, 0, stream, false}, done);
  CHECK_EQ(cudaStreamDestroy(stream), cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  launch(set, ranks.on(1, 1, 32), flag);
  CHECK_EQ(cudaSetDevice(0), cudaSuccess);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  uint32_t value = 0;
  CHECK_EQ(cudaMemcpy(&value, done, 4, cudaMemcpyDeviceToHost), cudaSuccess);
  CHECK_EQ(value, 1);
}

TEST(emulator_hosts, rank_that_never_comes) {
  for (const Hosts hosts : {Hosts::kAlone, Hosts::kThreads}) {
    const Ranks ranks(3);
    emulator::setIdleLimit(200);
    auto* flag = ranks.allocate<uint32_t>(2, 1);
    forRanks(hosts, 3, [&](int rank) {
      if (rank < 2) launch(waitFor, ranks.on(rank, 2, 32), flag);
    });
    CHECK_EQ(ranks.wait(hosts), cudaErrorLaunchTimeout);
    CHECK(reportHolds("2 kernels, fifo order"));
    CHECK(reportHolds("livelock: all threads wait for something that nobody does"));
    CHECK(reportHolds("device 0, stream 1: "));
    CHECK(reportHolds("device 1, stream 2: "));
    CHECK(reportHolds("32 threads wait in a loop at emulator_hosts_test.cpp"));
    for (int rank = 0; rank < 3; ++rank) CHECK_EQ(cudaSetDevice(rank), rank < 2 ? cudaErrorLaunchTimeout : cudaSuccess);
  }
}

TEST(emulator_hosts, asking_for_ever) {
  const Ranks ranks(2);
  emulator::setIdleLimit(100);
  auto* flag = ranks.allocate<uint32_t>(0, 1);
  launch(waitFor, ranks.on(0, 1, 32), flag);
  cudaError_t status = cudaErrorNotReady;
  while (status == cudaErrorNotReady) status = cudaStreamQuery(ranks.stream(0));
  CHECK_EQ(status, cudaErrorLaunchTimeout);
}

// Rings of kernels, captured once and launched again and again: each rank adds one to what it gets from the rank before
// it, the first begins when the round before has come back to it. Flags count rounds.
__global__ void hand(uint32_t* mine, uint32_t* next, uint32_t* round, int rank) {
  cuda::pdlWait();
  const uint32_t now = *round + 1;
  __syncthreads();
  const uint32_t awaited = rank > 0 ? now : now - 1;
  while (cuda::loadAcquireSystem(mine) < awaited) cuda::spinPause();
  if (threadIdx.x != 0) return;
  const uint32_t value = rank > 0 ? mine[1] : 0;
  next[1] = value + 1;
  cuda::storeReleaseSystem(next, now);
  *round = now;
}

void runGraphs(Hosts hosts, int count, const emulator::Schedule& schedule) {
  const Ranks ranks(count, schedule);
  constexpr int kLaunches = 4;
  std::vector<uint32_t*> slots, rounds;
  for (int rank = 0; rank < count; ++rank) {
    slots.push_back(ranks.allocate<uint32_t>(rank, 2));
    rounds.push_back(ranks.allocate<uint32_t>(rank, 1));
  }
  std::vector<cudaGraphExec_t> graphs(count);
  const auto capture = [&](int rank) {
    cudaGraph_t graph = nullptr;
    CHECK_EQ(cudaStreamBeginCapture(ranks.stream(rank), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    launch(hand, ranks.on(rank, 1, 32, true), slots[rank], slots[(rank + 1) % count], rounds[rank], rank);
    CHECK_EQ(cudaStreamEndCapture(ranks.stream(rank), &graph), cudaSuccess);
    CHECK_EQ(cudaGraphInstantiate(&graphs[rank], graph), cudaSuccess);
    CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
  };
  forRanks(hosts, count, [&](int rank) {
    capture(rank);
    for (int i = 0; i < kLaunches; ++i) {
      CHECK_EQ(cudaGraphLaunch(graphs[rank], ranks.stream(rank)), cudaSuccess);
      if (hosts == Hosts::kThreads) CHECK_EQ(cudaStreamSynchronize(ranks.stream(rank)), cudaSuccess);
    }
  });
  CHECK_EQ(ranks.wait(hosts), cudaSuccess);
  uint32_t found[2] = {};
  CHECK_EQ(cudaMemcpy(found, slots[0], sizeof found, cudaMemcpyDeviceToHost), cudaSuccess);
  CHECK_EQ(found[0], kLaunches);
  CHECK_EQ(found[1], count);
}

TEST(emulator_hosts, graphs_on_several_devices) {
  for (const Hosts hosts : {Hosts::kAlone, Hosts::kThreads}) {
    for (const int count : {2, 4, 8}) {
      for (const emulator::Schedule& schedule : emulator::schedules(kReduced ? 3 : 9)) {
        const std::string name = emulator::describe(schedule);
        const Note note("ranks", count, "schedule", name);
        runGraphs(hosts, count, schedule);
      }
    }
  }
}

}  // namespace
}  // namespace shardspeed::test

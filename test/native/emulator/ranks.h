#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "test_threads.h"

// Ranks with a device and a stream each, for tests of what kernels of several devices do together.

namespace shardspeed::test {

constexpr int kMostTestRanks = 8;

// kAlone: one host thread enqueues for all ranks, then waits for all. kThreads: every rank has a host thread of its
// own.
enum class Hosts { kAlone, kThreads };

// Calls body(rank) with the rank's device current.
inline void forRanks(Hosts hosts, int ranks, const std::function<void(int)>& body) {
  TestThreads threads;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto work = [&body, rank] {
      cudaSetDevice(rank);
      body(rank);
    };
    if (hosts == Hosts::kThreads)
      threads.start(work);
    else
      work();
  }
  threads.join();
  cudaSetDevice(0);
}

// A fresh emulator with a device a rank, each with access to all others' memory.
class Ranks {
 public:
  explicit Ranks(int count, const emulator::Schedule& schedule = {}, bool access = true) : count_(count) {
    emulator::reset();
    emulator::setDeviceCount(count);
    emulator::setSchedule(schedule);
    forRanks(Hosts::kAlone, count, [&](int rank) {
      for (int peer = 0; peer < count && access; ++peer)
        if (peer != rank) CHECK_EQ(cudaDeviceEnablePeerAccess(peer, 0), cudaSuccess);
      CHECK_EQ(cudaStreamCreateWithFlags(&streams_[rank], cudaStreamNonBlocking), cudaSuccess);
    });
  }
  ~Ranks() { emulator::reset(); }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int count() const { return count_; }
  cudaStream_t stream(int rank) const { return streams_[rank]; }
  cuda::LaunchConfig on(int rank, dim3 grid, dim3 block, bool overlap = false) const {
    return {"kernel of a rank", grid, block, 0, streams_[rank], overlap};
  }

  // Device memory of a rank, every byte the same; freed by reset().
  template <typename T>
  T* allocate(int rank, size_t count, int byte = 0) const {
    T* memory = nullptr;
    CHECK_EQ(cudaSetDevice(rank), cudaSuccess);
    CHECK_EQ(cudaMalloc(&memory, count * sizeof(T)), cudaSuccess);
    CHECK_EQ(cudaMemset(memory, byte, count * sizeof(T)), cudaSuccess);
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    return memory;
  }

  // The first error of any rank, waiting for all.
  cudaError_t wait(Hosts hosts) const {
    std::vector<cudaError_t> errors(count_);
    forRanks(hosts, count_, [&](int rank) { errors[rank] = cudaStreamSynchronize(streams_[rank]); });
    for (const cudaError_t error : errors)
      if (error != cudaSuccess) return error;
    return cudaSuccess;
  }

 private:
  int count_;
  cudaStream_t streams_[kMostTestRanks] = {};
};

inline bool reportHolds(const std::string& part) {
  return emulator::lastReport().find(part) != std::string::npos;
}

}  // namespace shardspeed::test

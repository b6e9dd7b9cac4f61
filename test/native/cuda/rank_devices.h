#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "cuda/memory.h"
#include "device.h"

// Devices for tests of what ranks do together: one each on the emulator, and on a machine that has as many whose memory
// all others can reach; else all ranks are streams of one.

namespace shardspeed::test {

// Where ranks share a device, loading a kernel when it is first used may wait for all that runs there, and so for a
// rank that waits for this one. Read when CUDA starts.
inline const int loadedEagerly = setenv("CUDA_MODULE_LOADING", "EAGER", 0);
// Streams share eight queues of the hardware unless told otherwise; of two in one queue the second would wait for the
// first, which waits for it.
inline const int queuesApart = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);

class RankDevices {
 public:
  // together: all are streams of one device, whatever there is.
  explicit RankDevices(int ranks, bool together = false) : ranks_(ranks) {
#ifdef SHARDSPEED_CUDA_EMULATOR
    emulator::setDeviceCount(together ? 1 : ranks);
    // As many blocks a rank, of 256 threads, with memory of its own for each thread under a sanitizer.
    if (kReduced) emulator::setMultiprocessors(2);
#endif
    int count = 0;
    cuda::check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    apart_ = !together && count >= ranks && reachEachOther();
    for (int rank = 0; rank < ranks; ++rank) {
      choose(rank);
      streams_.push_back(std::make_unique<cuda::Stream>());
    }
    cudaSetDevice(0);
  }
  ~RankDevices() {
    for (int rank = 0; rank < ranks_; ++rank) {
      cudaSetDevice(device(rank));
      streams_[static_cast<size_t>(rank)].reset();
    }
    cudaSetDevice(0);
#ifdef SHARDSPEED_CUDA_EMULATOR
    emulator::setMultiprocessors(8);
#endif
  }
  RankDevices(const RankDevices&) = delete;
  RankDevices& operator=(const RankDevices&) = delete;

  int count() const {
    return ranks_;
  }
  int sharers() const {
    return apart_ ? 1 : ranks_;
  }
  int device(int rank) const {
    return apart_ ? rank : 0;
  }
  void choose(int rank) const {
    cuda::check(cudaSetDevice(device(rank)), "cudaSetDevice");
  }
  cudaStream_t stream(int rank) const {
    return streams_[static_cast<size_t>(rank)]->get();
  }
  // Waits for all ranks; throws what went wrong.
  void wait() const {
    for (int rank = 0; rank < ranks_; ++rank) {
      choose(rank);
      streams_[static_cast<size_t>(rank)]->wait("a kernel of a rank");
    }
    cudaSetDevice(0);
  }
  // On the rank's device.
  template <typename T>
  std::unique_ptr<DeviceArray<T>> array(int rank, const std::vector<T>& values) const {
    choose(rank);
    auto made = std::make_unique<DeviceArray<T>>(values);
    cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return made;
  }

 private:
  bool reachEachOther() const {
    for (int device = 0; device < ranks_; ++device) {
      cuda::check(cudaSetDevice(device), "cudaSetDevice");
      for (int peer = 0; peer < ranks_; ++peer) {
        int can = 0;
        if (peer == device) continue;
        if (cudaDeviceCanAccessPeer(&can, device, peer) != cudaSuccess || !can) return false;
        const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
        if (status != cudaSuccess && status != cudaErrorPeerAccessAlreadyEnabled) return false;
        cudaGetLastError();
      }
    }
    return true;
  }

  int ranks_;
  bool apart_ = false;
  std::vector<std::unique_ptr<cuda::Stream>> streams_;
};

}  // namespace shardspeed::test

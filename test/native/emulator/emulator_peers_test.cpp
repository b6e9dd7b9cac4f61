#include "emulator/other_process.h"
#include "emulator/ranks.h"

// Several devices: access to each other's memory, copies between them, and errors that are one device's alone.

namespace shardspeed::test {
namespace {

using cuda::launch;

__global__ void storeTo(uint32_t* address) {
  cuda::storeRelaxedSystem(address, 7);
}
__global__ void store16To(uint32_t* address) {
  cuda::storeRelaxedSystem16(address, {1, 2, 3, 4});
}
__global__ void releaseTo(uint32_t* address) {
  cuda::storeReleaseSystem(address, 7);
}
__global__ void load(uint32_t* address) {
  cuda::loadRelaxedSystem(address);
}
__global__ void load16(uint32_t* address) {
  cuda::loadRelaxedSystem16(address);
}
__global__ void acquire(uint32_t* address) {
  cuda::loadAcquireSystem(address);
}
__global__ void streamLoad(uint32_t* address) {
  cuda::loadStream16(address);
}
__global__ void copy(uint32_t* address) {
  cuda::cpAsync16(&cuda::sharedMemory<uint4>(), address);
  cuda::cpAsyncCommit();
  cuda::cpAsyncWait<0>();
}

TEST(emulator_peers, no_access_unless_enabled) {
  void (*const kernels[])(uint32_t*) = {storeTo, store16To, releaseTo, load, load16, acquire, streamLoad, copy};
  for (const bool access : {true, false}) {
    for (auto* kernel : kernels) {
      const Ranks ranks(2, {}, access);
      auto* memory = ranks.allocate<uint32_t>(1, 4);
      cuda::LaunchConfig config = ranks.on(0, 1, 1);
      config.sharedBytes = sizeof(uint4);
      launch(kernel, config, memory);
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), access ? cudaSuccess : cudaErrorIllegalAddress);
      CHECK_EQ(reportHolds("memory of device 1, to which device 0 was given no access"), !access);
      // The other device has nothing to do with it.
      CHECK_EQ(cudaSetDevice(1), cudaSuccess);
      config.stream = ranks.stream(1);
      launch(kernel, config, memory);
      CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
  }
}

TEST(emulator_peers, giving_and_taking_access) {
  const Ranks ranks(3, {}, false);
  int can = 0;
  CHECK_EQ(cudaDeviceCanAccessPeer(&can, 0, 1), cudaSuccess);
  CHECK_EQ(can, 1);
  CHECK_EQ(cudaDeviceCanAccessPeer(&can, 1, 1), cudaSuccess);
  CHECK_EQ(can, 0);
  CHECK_EQ(cudaDeviceCanAccessPeer(&can, 0, 3), cudaErrorInvalidDevice);
  CHECK_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice);
  CHECK_EQ(cudaDeviceDisablePeerAccess(1), cudaErrorPeerAccessNotEnabled);
  CHECK_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaSuccess);
  CHECK_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  auto* memory = ranks.allocate<uint32_t>(1, 4);
  launch(storeTo, ranks.on(0, 1, 1), memory);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  // One way only.
  auto* other = ranks.allocate<uint32_t>(0, 4);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  launch(storeTo, ranks.on(1, 1, 1), other);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  CHECK_EQ(cudaSetDevice(0), cudaSuccess);
  CHECK_EQ(cudaDeviceDisablePeerAccess(1), cudaSuccess);
  launch(storeTo, ranks.on(0, 1, 1), memory);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
}

TEST(emulator_peers, machine_without_peer_access) {
  const Ranks ranks(2, {}, false);
  emulator::setPeerAccess(false);
  int value = 1;
  CHECK_EQ(cudaDeviceCanAccessPeer(&value, 0, 1), cudaSuccess);
  CHECK_EQ(value, 0);
  CHECK_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorInvalidDevice);
  value = 1;
  CHECK_EQ(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 0, 1), cudaSuccess);
  CHECK_EQ(value, 0);
  emulator::reset();
  emulator::setDeviceCount(2);
  CHECK_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaSuccess);
}

// Copies need no access: they may go by way of the host.
TEST(emulator_peers, copies_between_devices) {
  const Ranks ranks(2, {}, false);
  auto* from = ranks.allocate<uint32_t>(0, 4, 1);
  auto* to = ranks.allocate<uint32_t>(1, 4, 0);
  uint32_t found[4] = {};
  CHECK_EQ(cudaMemcpyPeerAsync(to, 1, from, 0, 8, ranks.stream(0)), cudaSuccess);
  CHECK_EQ(cudaMemcpyAsync(to + 2, from + 2, 4, cudaMemcpyDefault, ranks.stream(0)), cudaSuccess);
  CHECK_EQ(cudaMemcpyAsync(to + 3, from + 3, 4, cudaMemcpyDeviceToDevice, ranks.stream(0)), cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
  CHECK_EQ(cudaMemcpy(found, to, sizeof found, cudaMemcpyDefault), cudaSuccess);
  for (const uint32_t value : found) CHECK_EQ(value, 0x01010101u);
  CHECK_EQ(cudaMemcpyPeerAsync(to, 0, from, 0, 8, ranks.stream(0)), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpyPeerAsync(to, 2, from, 0, 8, ranks.stream(0)), cudaErrorInvalidDevice);
}

// What orders only a device's own threads is no use to others.
__global__ void releaseWithin(uint32_t* address) {
  cuda::storeRelease(address, 1);
}
__global__ void acquireWithin(uint32_t* address) {
  cuda::loadAcquire(address);
}
__global__ void ticketWithin(uint32_t* address) {
  cuda::ticket(address);
}
TEST(emulator_peers, order_within_a_device) {
  void (*const kernels[])(uint32_t*) = {releaseWithin, acquireWithin, ticketWithin};
  for (auto* kernel : kernels) {
    for (const int owner : {0, 1, 2}) {
      const Ranks ranks(2);
      uint32_t* memory = nullptr;
      if (owner < 2)
        memory = ranks.allocate<uint32_t>(owner, 1);
      else
        CHECK_EQ(cudaMallocHost(&memory, 4), cudaSuccess);
      launch(kernel, ranks.on(0, 1, 1), memory);
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), owner == 0 ? cudaSuccess : cudaErrorIllegalAddress);
      CHECK_EQ(reportHolds("orders nothing beyond device 0"), owner != 0);
    }
  }
}

__global__ void trapped() {
  __trap();
}
__global__ void waitFor(const uint32_t* flag, const uint32_t* otherFlag) {
  while (cuda::loadAcquireSystem(flag) == 0 && cuda::loadAcquireSystem(otherFlag) == 0) cuda::spinPause();
}

// A rank that fails leaves the others waiting, until somebody tells them.
TEST(emulator_peers, one_device_fails) {
  for (const emulator::Schedule& schedule : emulator::schedules(4)) {
    const Ranks ranks(2, schedule);
    auto* flag = ranks.allocate<uint32_t>(0, 1);
    uint32_t* abort = nullptr;
    CHECK_EQ(cudaHostAlloc(&abort, 4, cudaHostAllocPortable | cudaHostAllocMapped), cudaSuccess);
    *abort = 0;
    launch(waitFor, ranks.on(0, 1, 32), flag, abort);
    CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorNotReady);
    CHECK_EQ(cudaSetDevice(1), cudaSuccess);
    launch(trapped, ranks.on(1, 1, 32));
    CHECK_EQ(cudaStreamSynchronize(ranks.stream(1)), cudaErrorLaunchFailure);
    CHECK(reportHolds("device 1, stream 2: "));
    CHECK(reportHolds("__trap()"));
    CHECK_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    CHECK_EQ(cudaGetLastError(), cudaErrorLaunchFailure);  // this thread's, told once
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
    CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorNotReady);
    __atomic_store_n(abort, 1, __ATOMIC_RELEASE);
    CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
    CHECK_EQ(cudaSetDevice(1), cudaErrorLaunchFailure);
    CHECK_EQ(cudaFreeHost(abort), cudaSuccess);
  }
}

TEST(emulator_peers, errors_to_order) {
  const Ranks ranks(2);
  auto* flag = ranks.allocate<uint32_t>(1, 1);
  launch(waitFor, ranks.on(0, 1, 32), flag, flag);
  CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorNotReady);
  emulator::failCall("cudaStreamQuery", 2, cudaErrorIllegalAddress, 0);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  CHECK_EQ(cudaStreamQuery(ranks.stream(1)), cudaSuccess);
  CHECK_EQ(cudaStreamQuery(ranks.stream(1)), cudaSuccess);
  CHECK_EQ(cudaSetDevice(0), cudaSuccess);
  CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorNotReady);
  CHECK_EQ(cudaStreamQuery(ranks.stream(0)), cudaErrorIllegalAddress);
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(emulator_peers, reset_of_one_device) {
  const Ranks ranks(2);
  auto* kept = ranks.allocate<uint32_t>(0, 4, 1);
  auto* lost = ranks.allocate<uint32_t>(1, 4, 1);
  launch(waitFor, ranks.on(0, 1, 32), kept, kept);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  launch(trapped, ranks.on(1, 1, 32));
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  CHECK_EQ(cudaDeviceReset(), cudaSuccess);
  cudaPointerAttributes attributes;
  CHECK_EQ(cudaPointerGetAttributes(&attributes, lost), cudaSuccess);
  CHECK_EQ(attributes.type, cudaMemoryTypeUnregistered);
  CHECK_EQ(cudaStreamSynchronize(ranks.stream(1)), cudaErrorInvalidResourceHandle);
  CHECK_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(ranks.stream(0)), cudaSuccess);
  uint32_t value = 0;
  CHECK_EQ(cudaMemcpy(&value, kept, 4, cudaMemcpyDeviceToHost), cudaSuccess);
  CHECK_EQ(value, 0x01010101u);
}

// Data and a flag that says they are there: the flag has to be written with release and read with acquire.
template <bool kRelease>
__global__ void give(uint32_t* data, uint32_t* flag) {
  data[threadIdx.x] = threadIdx.x + 1;
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (kRelease)
    cuda::storeReleaseSystem(flag, 1);
  else
    cuda::storeRelaxedSystem(flag, 1);
}
template <bool kAcquire>
__global__ void take(const uint32_t* data, const uint32_t* flag, uint32_t* out) {
  if (threadIdx.x == 0)
    while ((kAcquire ? cuda::loadAcquireSystem(flag) : cuda::loadRelaxedSystem(flag)) == 0) cuda::spinPause();
  __syncthreads();
  out[threadIdx.x] = data[threadIdx.x];
}
template <bool kRelease, bool kAcquire>
int countWrong() {
  int wrong = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(kReduced ? 3 : 9)) {
    const Ranks ranks(2, schedule);
    auto* data = ranks.allocate<uint32_t>(1, 64);
    auto* flag = ranks.allocate<uint32_t>(1, 1);
    auto* out = ranks.allocate<uint32_t>(1, 64);
    forRanks(Hosts::kAlone, 2, [&](int rank) {
      if (rank == 0)
        launch(give<kRelease>, ranks.on(0, 1, 64), data, flag);
      else
        launch(take<kAcquire>, ranks.on(1, 1, 64), data, flag, out);
    });
    CHECK_EQ(cudaStreamSynchronize(ranks.stream(1)), cudaSuccess);
    CHECK_EQ(ranks.wait(Hosts::kAlone), cudaSuccess);
    uint32_t found[64];
    CHECK_EQ(cudaMemcpy(found, out, sizeof found, cudaMemcpyDefault), cudaSuccess);
    bool right = true;
    for (uint32_t i = 0; i < 64; ++i) right = right && found[i] == i + 1;
    wrong += !right;
  }
  return wrong;
}
TEST(emulator_peers, release_and_acquire) {
  CHECK_EQ((countWrong<true, true>()), 0);
}
// Rounds of the same, with one buffer: it may be written again when the other rank says that it has read it.
template <bool kAsk>
__global__ void giveRound(uint32_t* data, uint32_t* given, const uint32_t* taken, uint32_t round) {
  if (kAsk && threadIdx.x == 0)
    while (cuda::loadAcquireSystem(taken) < round - 1) cuda::spinPause();
  __syncthreads();
  data[threadIdx.x] = round * 100 + threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) cuda::storeReleaseSystem(given, round);
}
__global__ void takeRound(const uint32_t* data, const uint32_t* given, uint32_t* taken, uint32_t* out, uint32_t round) {
  if (threadIdx.x == 0)
    while (cuda::loadAcquireSystem(given) < round) cuda::spinPause();
  __syncthreads();
  out[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) cuda::storeReleaseSystem(taken, round);
}
// Where the taker is waited for first, a fixed order lets the giver run only when the taker has come to wait for it:
// nothing goes wrong, and that nothing made sure of it is for ThreadSanitizer to say.
template <bool kAsk>
int countWrongRounds(bool takerFirst, int schedules) {
  constexpr uint32_t kRounds = 3;
  int wrong = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(schedules)) {
    const Ranks ranks(2, schedule);
    auto* data = ranks.allocate<uint32_t>(1, 32);
    auto* given = ranks.allocate<uint32_t>(1, 1);
    auto* taken = ranks.allocate<uint32_t>(0, 1);
    auto* out = ranks.allocate<uint32_t>(1, 32 * kRounds);
    for (uint32_t round = 1; round <= kRounds; ++round) {
      for (const int rank : {0, 1}) {
        CHECK_EQ(cudaSetDevice(rank), cudaSuccess);
        if (rank == 0)
          launch(giveRound<kAsk>, ranks.on(0, 1, 32), data, given, taken, round);
        else
          launch(takeRound, ranks.on(1, 1, 32), data, given, taken, out + 32 * (round - 1), round);
      }
    }
    for (const int rank : {takerFirst ? 1 : 0, takerFirst ? 0 : 1})
      CHECK_EQ(cudaStreamSynchronize(ranks.stream(rank)), cudaSuccess);
    uint32_t found[32 * kRounds];
    CHECK_EQ(cudaMemcpy(found, out, sizeof found, cudaMemcpyDefault), cudaSuccess);
    bool right = true;
    for (uint32_t i = 0; i < 32 * kRounds; ++i) right = right && found[i] == (i / 32 + 1) * 100 + i % 32;
    wrong += !right;
  }
  return wrong;
}
TEST(emulator_peers, buffer_written_again) {
  for (const bool takerFirst : {false, true}) CHECK_EQ(countWrongRounds<true>(takerFirst, kReduced ? 3 : 9), 0);
  CHECK(inOtherProcess([] { return countWrongRounds<false>(false, 1); }) > 0);
#ifdef __SANITIZE_THREAD__
  CHECK(inOtherProcess([] { return countWrongRounds<false>(true, 1); }) > 0);
#else
  CHECK_EQ(countWrongRounds<false>(true, 1), 0);
#endif
}

TEST(emulator_peers, relaxed_where_release_or_acquire_is_needed) {
#ifdef __SANITIZE_THREAD__
  CHECK(inOtherProcess([] { return countWrong<false, true>(); }) > 0);
  CHECK(inOtherProcess([] { return countWrong<true, false>(); }) > 0);
#else
  SKIP("only ThreadSanitizer sees it");
#endif
}

}  // namespace
}  // namespace shardspeed::test

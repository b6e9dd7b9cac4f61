#include <cmath>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// What ends a launch early: the error it leaves, the report, and that all is well again after cudaDeviceReset().

namespace shardspeed::test {
namespace {

using cuda::launch;

constexpr unsigned kAll = 0xffffffffu;

// Without sanitizers an access out of bounds is a fault of the launch; with them it ends the process.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSignals = false;
#else
constexpr bool kSignals = true;
#endif

__global__ void fill(int* out) {
  out[threadIdx.x] = 1;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The launch must end with `error`, the report must hold `part`; the error stays until the device is reset.
template <typename... Params, typename... Args>
void checkFault(cudaError_t error, const std::string& part, void (*kernel)(Params...), cuda::LaunchConfig config,
                Args... args) {
  for (const emulator::Schedule& schedule : emulator::schedules(3)) {
    emulator::reset();
    emulator::setSchedule(schedule);
    const std::string name = emulator::describe(schedule);
    const Note note("schedule", name);
    int* memory = nullptr;
    CHECK_EQ(cudaMalloc(&memory, 64 * sizeof(int)), cudaSuccess);
    config.overlap = false;
    launch(kernel, config, memory, args...);
    CHECK_EQ(cudaDeviceSynchronize(), error);
    if (!contains(emulator::lastReport(), part)) FAIL("report: " + emulator::lastReport());
    CHECK_EQ(cudaDeviceSynchronize(), error);
    CHECK_EQ(cudaFree(memory), error);
    CHECK_EQ(cudaGetLastError(), error);
    CHECK_EQ(cudaDeviceReset(), cudaSuccess);
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
    DeviceArray<int> again(32);
    launch(fill, {"fill", 1, 32, 0, nullptr, false}, again.data());
    for (const int value : again.read()) CHECK_EQ(value, 1);
  }
  emulator::reset();
}

__global__ void writeAt(int* out, int64_t index) {
  if (threadIdx.x == 3) out[index] = 1;
}
TEST(emulator_faults, out_of_bounds) {
  if (!kSignals) SKIP("AddressSanitizer reports it");
  // 64 numbers end where a page does; far ahead of them is a closed page as well.
  checkFault(cudaErrorIllegalAddress, "0 bytes behind the end of 256 bytes of device memory", writeAt,
             {"write", 2, 32, 0, nullptr}, int64_t{64});
  checkFault(cudaErrorIllegalAddress, "thread (3, 0, 0)", writeAt, {"write", 2, 32, 0, nullptr}, int64_t{-1024});
  checkFault(cudaErrorIllegalAddress, "just ahead of 256 bytes", writeAt, {"write", 2, 32, 0, nullptr}, int64_t{-1});
}

TEST(emulator_faults, just_behind_an_allocation) {
  if (!kSignals) SKIP("AddressSanitizer reports it");
  int* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 40 * sizeof(int)), cudaSuccess);
  launch(writeAt, {"write", 1, 32, 0, nullptr, false}, memory, int64_t{41});
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  CHECK(contains(emulator::lastReport(), "just behind 160 bytes of device memory"));
  emulator::reset();
}

__global__ void nullAccess(int* out) {
  *reinterpret_cast<volatile int*>(static_cast<intptr_t>(out == nullptr) + 8) = 1;
}
TEST(emulator_faults, no_memory_there) {
  if (!kSignals) SKIP("AddressSanitizer reports it");
  checkFault(cudaErrorIllegalAddress, "where no device memory is allocated", nullAccess, {"null", 1, 32, 0, nullptr});
}

__global__ void sharedAt(int* out, int index) {
  volatile int* shared = &cuda::sharedMemory<int>();
  shared[index] = 5;
  *out = shared[index];
}
TEST(emulator_faults, out_of_bounds_in_shared_memory) {
  if (!kSignals) SKIP("AddressSanitizer reports it");
  checkFault(cudaErrorIllegalAddress, "", sharedAt, {"shared", 1, 1, 512, nullptr}, 128);
  checkFault(cudaErrorIllegalAddress, "behind the block's 100 bytes", sharedAt, {"shared", 1, 1, 100, nullptr}, 25);
  checkFault(cudaErrorIllegalAddress, "ahead of the block's 512 bytes", sharedAt, {"shared", 1, 1, 512, nullptr}, -1);
}

struct Large {
  int values[100];
};
__global__ void wantsMore(int* out) {
  *out = cuda::sharedMemory<Large>().values[0];
}
TEST(emulator_faults, too_little_shared_memory) {
  checkFault(cudaErrorIllegalAddress, "400 bytes of shared memory asked for, launched with 64", wantsMore,
             {"wants", 1, 1, 64, nullptr});
}

__global__ void copyFrom(int* out, int offset, int sharedOffset) {
  auto* shared = &cuda::sharedMemory<char>();
  cuda::cpAsync16(shared + sharedOffset, reinterpret_cast<char*>(out) + offset);
}
TEST(emulator_faults, asynchronous_copies_out_of_bounds) {
  checkFault(cudaErrorIllegalAddress, "0 bytes behind the end of 256 bytes", copyFrom, {"copy", 1, 1, 64, nullptr}, 256,
             0);
  checkFault(cudaErrorIllegalAddress, "destination is not in shared memory: offset 64 of 64", copyFrom,
             {"copy", 1, 1, 64, nullptr}, 0, 64);
  checkFault(cudaErrorMisalignedAddress, "global address is not aligned", copyFrom, {"copy", 1, 1, 64, nullptr}, 8, 0);
  checkFault(cudaErrorMisalignedAddress, "shared address is not aligned", copyFrom, {"copy", 1, 1, 64, nullptr}, 0, 4);
}

__global__ void loadFrom(int* out, int offset) {
  const uint4 value = cuda::loadStream16(reinterpret_cast<char*>(out) + offset);
  *out = static_cast<int>(value.x);
}
TEST(emulator_faults, wide_loads) {
  checkFault(cudaErrorMisalignedAddress, "not aligned to 16", loadFrom, {"load", 1, 1, 0, nullptr}, 4);
  checkFault(cudaErrorIllegalAddress, "16 bytes behind the end", loadFrom, {"load", 1, 1, 0, nullptr}, 272);
}

__global__ void rowsAt(int*, int misalignment) {
  uint32_t words[4];
  cuda::ldmatrixX4(words, &cuda::sharedMemory<char>() + threadIdx.x * 16 + misalignment);
}
TEST(emulator_faults, rows_of_matrices) {
  checkFault(cudaErrorMisalignedAddress, "ldmatrix", rowsAt, {"rows", 1, 32, 1024, nullptr}, 8);
  checkFault(cudaErrorIllegalAddress, "row of lane 31", rowsAt, {"rows", 1, 32, 512, nullptr}, 16);
}

__global__ void divergentBarrier(int* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
TEST(emulator_faults, divergent_barrier) {
  checkFault(cudaErrorLaunchFailure, "divergent barrier", divergentBarrier, {"divergent", 1, 64, 0, nullptr});
  checkFault(cudaErrorLaunchFailure, "emulator_faults_test.cpp:", divergentBarrier, {"divergent", 1, 64, 0, nullptr});
}

// One lane waits at the barrier, which the rest of its warp can only reach with it.
__global__ void deadlocked(int* out) {
  if (threadIdx.x <= 32)
    __syncthreads();
  else
    __syncwarp();
  out[threadIdx.x] = 1;
}
TEST(emulator_faults, deadlock) {
  const cuda::LaunchConfig config{"deadlocked", 1, 64, 0, nullptr};
  checkFault(cudaErrorLaunchFailure, "deadlock: no thread can go on", deadlocked, config);
  checkFault(cudaErrorLaunchFailure, "31 threads wait for lanes of their warp", deadlocked, config);
  checkFault(cudaErrorLaunchFailure, "33 threads wait at the barrier", deadlocked, config);
}

enum class Mistake { kNotOwn, kDiffer, kOtherPlace, kEnded, kMissing, kOutside };
__global__ void masks(int* out, Mistake mistake) {
  const unsigned lane = threadIdx.x;
  int value = 0;
  switch (mistake) {
    case Mistake::kNotOwn:
      value = __shfl_sync(0x0000fffeu, 1, 1);
      break;
    case Mistake::kDiffer:
      value = __shfl_sync(lane < 16 ? kAll : 0xffff8000u, 1, 20);
      break;
    case Mistake::kOtherPlace:
      if (lane < 16)
        value = __shfl_sync(kAll, 1, 0);
      else
        value = __shfl_sync(kAll, 2, 0);
      break;
    case Mistake::kEnded:
      if (lane == 7) return;
      value = __any_sync(kAll, 1);
      break;
    case Mistake::kMissing:
      if (lane != 9) __syncwarp(0x3ffu);
      while (lane == 9 && value < 100) {
        cuda::spinPause();
        ++value;
      }
      break;
    case Mistake::kOutside:
      if (lane < 8) value = __shfl_sync(0xffu, 1, 9);
      break;
  }
  out[threadIdx.x] = value;
}
TEST(emulator_faults, masks) {
  const cuda::LaunchConfig config{"masks", 1, 32, 0, nullptr};
  checkFault(cudaErrorLaunchFailure, "is not in its own mask", masks, config, Mistake::kNotOwn);
  checkFault(cudaErrorLaunchFailure, "mask", masks, config, Mistake::kDiffer);
  checkFault(cudaErrorLaunchFailure, "wait in another operation", masks, config, Mistake::kOtherPlace);
  checkFault(cudaErrorLaunchFailure, "ended", masks, config, Mistake::kEnded);
  checkFault(cudaErrorLaunchFailure, "reads lane 9, which is not in the mask", masks, config, Mistake::kOutside);
}
TEST(emulator_faults, lane_that_never_comes) {
  checkFault(cudaErrorLaunchFailure, "", masks, {"masks", 1, 32, 0, nullptr}, Mistake::kMissing);
}
TEST(emulator_faults, lanes_that_never_were) {
  checkFault(cudaErrorLaunchFailure, "never were", masks, {"masks", 1, 20, 0, nullptr}, Mistake::kEnded);
}

__global__ void waitForever(int* out) {
  while (cuda::loadAcquire(reinterpret_cast<uint32_t*>(out)) != 12345) cuda::spinPause();
}
// The same without spinPause().
__global__ void pollForever(int* out) {
  while (cuda::loadAcquire(reinterpret_cast<uint32_t*>(out)) != 12345) {
  }
}
__global__ void lockForever(int* out) {
  while (atomicCAS(out, 12345, 1) != 12345) {
  }
}
TEST(emulator_faults, livelock) {
  checkFault(cudaErrorLaunchTimeout, "livelock", waitForever, {"wait", 2, 32, 0, nullptr});
  checkFault(cudaErrorLaunchTimeout, "livelock", pollForever, {"poll", 1, 32, 0, nullptr});
}
TEST(emulator_faults, steps_are_limited) {
  emulator::reset();
  emulator::setStepBudget(100000);
  DeviceArray<int> out(1);
  launch(lockForever, {"lock", 1, 32, 0, nullptr, false}, out.data());
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorLaunchTimeout);
  CHECK(contains(emulator::lastReport(), "steps"));
  emulator::reset();
}

// Where the compiler was asked to trap what is misaligned.
#ifdef SHARDSPEED_TRAP_MISALIGNED
__global__ void misalignedPointer(int* out, int offset) {
  out[1] = *reinterpret_cast<int*>(reinterpret_cast<char*>(out) + offset);
}
TEST(emulator_faults, misaligned_pointer) {
  checkFault(cudaErrorMisalignedAddress, "misaligned", misalignedPointer, {"misaligned", 1, 1, 0, nullptr}, 2);
}
#endif

__global__ void trapped(int* out) {
  if (threadIdx.x == 5) __trap();
  out[threadIdx.x] = 1;
}
TEST(emulator_faults, trap) {
  checkFault(cudaErrorLaunchFailure, "__trap()", trapped, {"trapped", 1, 32, 0, nullptr});
}

__attribute__((noinline)) int descend(volatile int* out, int depth) {
  volatile int frame[256];
  frame[depth % 256] = depth;
  return depth == 1000000 ? *out : descend(out, depth + 1) + frame[depth % 256];
}
__global__ void deep(int* out) {
  *out = descend(out, 0);
}
TEST(emulator_faults, out_of_stack) {
  if (!kSignals) SKIP("AddressSanitizer reports it");
  checkFault(cudaErrorLaunchFailure, "out of stack", deep, {"deep", 1, 1, 0, nullptr});
}

__global__ void noWait(int* out) {
  out[threadIdx.x] = 1;
}
TEST(emulator_faults, overlap_without_a_wait) {
  emulator::reset();
  DeviceArray<int> out(32);
  launch(noWait, {"no wait", 1, 32, 0, nullptr, true}, out.data());
  CHECK_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  CHECK(contains(emulator::lastReport(), "without pdlWait()"));
  emulator::reset();
}

__global__ void triggerFirst(int* out) {
  if (threadIdx.x == 3) cuda::pdlTrigger();
  cuda::pdlWait();
  out[threadIdx.x] = 1;
}
TEST(emulator_faults, later_kernels_let_in_ahead_of_the_wait) {
  for (const bool overlap : {true, false}) {
    emulator::reset();
    DeviceArray<int> out(32);
    launch(triggerFirst, {"trigger first", 1, 32, 0, nullptr, overlap}, out.data());
    CHECK_EQ(cudaDeviceSynchronize(), overlap ? cudaErrorLaunchFailure : cudaSuccess);
    CHECK_EQ(contains(emulator::lastReport(), "pdlTrigger() ahead of pdlWait()"), overlap);
  }
  emulator::reset();
}

}  // namespace
}  // namespace shardspeed::test

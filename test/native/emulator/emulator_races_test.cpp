#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"
#include "emulator/other_process.h"

// Mistakes put into kernels on purpose, each beside the right kernel: the schedules must show every one of them, and
// must never find fault with what is right. Results are whole numbers, so that any difference is a mistake.

namespace shardspeed::test {
namespace {

using cuda::launch;

constexpr unsigned kAll = 0xffffffffu;
constexpr int kSchedules = kReduced ? 3 : 9;

// Under how many of the schedules run() finds wrong results or a fault.
int caught(const std::function<bool()>& isRight) {
  int count = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(kSchedules)) {
    emulator::reset();
    emulator::setSchedule(schedule);
    if (!isRight()) ++count;
  }
  emulator::reset();
  return count;
}

// What the kernel wrote, or nothing if it faulted.
std::vector<int> outcome(size_t count, void (*kernel)(int*), const cuda::LaunchConfig& config) {
  DeviceArray<int> out(count);
  launch(kernel, config, out.data());
  std::vector<int> values(count);
  const cudaError_t status = cudaMemcpy(values.data(), out.data(), count * sizeof(int), cudaMemcpyDeviceToHost);
  return status == cudaSuccess ? values : std::vector<int>();
}

bool writes(void (*kernel)(int*), cuda::LaunchConfig config, const std::vector<int>& expected) {
  config.overlap = false;
  return outcome(expected.size(), kernel, config) == expected;
}

#define CHECK_CAUGHT(mistake, right, config, expected)                                                  \
  CHECK(inOtherProcess([&] { return caught([&] { return writes(mistake, config, expected); }); }) > 0); \
  CHECK_EQ(caught([&] { return writes(right, config, expected); }), 0)

// Sums of the warps, added up by the first one.
template <bool Barrier>
__global__ void sumBlock(int* out) {
  int* partial = &cuda::sharedMemory<int>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int value = threadIdx.x;
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAll, value, distance);
  if (lane == 0) partial[warp] = value;
  if (Barrier) __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) total += partial[i];
    out[blockIdx.x] = total;
  }
}
TEST(emulator_races, missing_barrier) {
  const cuda::LaunchConfig config{"sum", 2, 128, 16, nullptr};
  CHECK_CAUGHT(sumBlock<false>, sumBlock<true>, config, (std::vector<int>{8128, 8128}));
}

// One stage of shared memory filled again and again: a barrier after reading it keeps the next round from overwriting.
template <bool Trailing>
__global__ void rounds(int* out) {
  int* stage = &cuda::sharedMemory<int>();
  const int i = threadIdx.x;
  int sum = 0;
  for (int round = 0; round < 8; ++round) {
    stage[i] = i * 8 + round;
    __syncthreads();
    sum += stage[(i + 32) % blockDim.x];
    if (Trailing) __syncthreads();
  }
  out[i] = sum;
}
TEST(emulator_races, missing_trailing_barrier) {
  std::vector<int> expected(128);
  for (int i = 0; i < 128; ++i) expected[i] = (i + 32) % 128 * 64 + 28;
  const cuda::LaunchConfig config{"rounds", 1, 128, 512, nullptr};
  CHECK_CAUGHT(rounds<false>, rounds<true>, config, expected);
}

// Two stages of copies under way; waiting for one group too few reads a stage that has not arrived.
template <int Pending>
__global__ void pipeline(int* out) {
  uint4* stages = &cuda::sharedMemory<uint4>();
  const int i = threadIdx.x;
  auto* source = reinterpret_cast<uint4*>(out) + i;
  source[0] = make_uint4(i, i, i, i);
  source[64] = make_uint4(2 * i, 0, 0, 0);
  __syncthreads();
  int sum = 0;
  cuda::cpAsync16(&stages[i], source);
  cuda::cpAsyncCommit();
  for (int step = 0; step < 2; ++step) {
    if (step == 0) cuda::cpAsync16(&stages[64 + i], source + 64);
    cuda::cpAsyncCommit();
    cuda::cpAsyncWait<Pending>();
    __syncthreads();
    sum += static_cast<int>(stages[step * 64 + (i + 1) % 64].x);
    __syncthreads();
  }
  source[0] = make_uint4(sum, sum, sum, sum);
  source[64] = make_uint4(0, 0, 0, 0);
}
TEST(emulator_races, wrong_wait_depth) {
  std::vector<int> expected(512, 0);
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 4; ++j) expected[i * 4 + j] = (i + 1) % 64 * 3;
  const cuda::LaunchConfig config{"pipeline", 1, 64, 2048, nullptr};
  CHECK_CAUGHT(pipeline<2>, pipeline<1>, config, expected);
}

// Lanes read what their neighbours wrote: only __syncwarp makes that right, a vote before it does not wait for writes
// that come after it.
template <bool Sync>
__global__ void neighbours(int* out) {
  int* values = &cuda::sharedMemory<int>();
  const int lane = threadIdx.x;
  __ballot_sync(kAll, 1);
  values[lane] = lane;
  if (Sync) __syncwarp();
  out[lane] = values[lane ^ 1];
}
TEST(emulator_races, missing_syncwarp) {
  std::vector<int> expected(32);
  for (int i = 0; i < 32; ++i) expected[i] = i ^ 1;
  const cuda::LaunchConfig config{"neighbours", 1, 32, 128, nullptr};
  CHECK_CAUGHT(neighbours<false>, neighbours<true>, config, expected);
}

// Half of the lanes take part, and say so or not.
template <bool Right>
__global__ void halfWarp(int* out) {
  const int lane = threadIdx.x;
  int value = lane;
  if (lane < 16) value += __shfl_xor_sync(Right ? 0xffffu : kAll, value, 8);
  out[lane] = value;
}
TEST(emulator_races, wrong_mask) {
  std::vector<int> expected(32);
  for (int i = 0; i < 32; ++i) expected[i] = i < 16 ? i + (i ^ 8) : i;
  const cuda::LaunchConfig config{"half warp", 1, 32, 0, nullptr};
  CHECK_CAUGHT(halfWarp<false>, halfWarp<true>, config, expected);
}

template <bool Right>
__global__ void divergent(int* out) {
  if (Right) {
    __syncthreads();
  } else if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
TEST(emulator_races, divergent_barrier) {
  const cuda::LaunchConfig config{"divergent", 1, 64, 0, nullptr};
  CHECK_CAUGHT(divergent<false>, divergent<true>, config, std::vector<int>(64, 1));
}

// A sum in shared memory that all add to, with an atomic or by reading and writing.
template <bool Atomic>
__global__ void histogram(int* out) {
  int& total = cuda::sharedMemory<int>();
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  if (Atomic) {
    atomicAdd(&total, 1);
  } else {
    const int old = total;
    __syncwarp();  // a place where others may come between
    total = old + 1;
  }
  __syncthreads();
  if (threadIdx.x == 0) *out = total;
}
TEST(emulator_races, racy_reduction) {
  const cuda::LaunchConfig config{"histogram", 1, 64, 4, nullptr};
  CHECK_CAUGHT(histogram<false>, histogram<true>, config, std::vector<int>{64});
}

// The last block to come adds up what the others left: out[0] the result, out[1] the counter, then the parts. It has to
// look for the last one, not for the block with the last number.
template <bool Right>
__global__ void lastBlock(int* out) {
  auto* counter = reinterpret_cast<uint32_t*>(out + 1);
  bool& isLast = cuda::sharedMemory<bool>();
  if (threadIdx.x == 0) {
    out[2 + blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    const uint32_t before = cuda::ticket(counter);
    isLast = Right ? (before + 1) % gridDim.x == 0 : blockIdx.x == gridDim.x - 1;
  }
  __syncthreads();
  if (!isLast || threadIdx.x != 0) return;
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += out[2 + i];
  out[0] = total;
}
TEST(emulator_races, blocks_in_any_order) {
  const auto isRight = [](auto kernel) {
    DeviceArray<int> out(18);
    out.zero();
    launch(kernel, {"last block", 16, 32, 1, nullptr, false}, out.data());
    return out.read()[0] == 136;
  };
  CHECK(inOtherProcess([&] { return caught([&] { return isRight(lastBlock<false>); }); }) > 0);
  CHECK_EQ(caught([&] { return isRight(lastBlock<true>); }), 0);
}

// Blocks hand a number on, each waiting for the one after it: they must all be in progress together. The counters say
// what is there; set before the number is written they lie.
template <bool Right>
__global__ void relay(int* values, uint32_t* flags) {
  const unsigned next = blockIdx.x + 1;
  int value = 0;
  if (next < gridDim.x) {
    while (cuda::loadAcquire(&flags[next]) == 0) cuda::spinPause();
    value = values[next];
  }
  if (Right) values[blockIdx.x] = value + 1;
  cuda::storeRelease(&flags[blockIdx.x], 1);
  if (!Right) values[blockIdx.x] = value + 1;
}
TEST(emulator_races, blocks_that_wait_for_each_other) {
  const auto isRight = [](auto kernel) {
    DeviceArray<int> values(12);
    DeviceArray<uint32_t> flags(12);
    flags.zero();
    launch(kernel, {"relay", 12, 1, 0, nullptr, false}, values.data(), flags.data());
    return values.read()[0] == 12;
  };
  CHECK_EQ(caught([&] { return isRight(relay<true>); }), 0);
  // Shown where priorities change between the two stores.
  const auto countWrong = [&] {
    int wrong = 0;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      emulator::reset();
      emulator::setSchedule({emulator::Order::kRandom, emulator::Copies::kEager, seed});
      wrong += !isRight(relay<false>);
    }
    emulator::reset();
    return wrong;
  };
  CHECK(inOtherProcess(countWrong) > 0);
}

// A kernel that may start before the one ahead of it is done reads what that one writes.
__global__ void produce(int* values) {
  cuda::pdlWait();
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
}
template <bool Right>
__global__ void consume(const int* values, int* out) {
  if (Right) cuda::pdlWait();
  const int value = values[threadIdx.x ^ 1];
  if (!Right) cuda::pdlWait();
  out[threadIdx.x] = value;
}
TEST(emulator_races, read_ahead_of_the_wait) {
  const auto isRight = [](auto kernel) {
    DeviceArray<int> values(64), out(64);
    launch(produce, {"produce", 1, 64, 0, nullptr, true}, values.data());
    launch(kernel, {"consume", 1, 64, 0, nullptr, true}, values.data(), out.data());
    const auto found = out.read();
    for (int i = 0; i < 64; ++i)
      if (found[i] != (i ^ 1)) return false;
    return true;
  };
  CHECK(inOtherProcess([&] { return caught([&] { return isRight(consume<false>); }); }) > 0);
  CHECK_EQ(caught([&] { return isRight(consume<true>); }), 0);
}

// A chain of overlapping kernels with several blocks: what was begun early is finished once, and in order.
__global__ void increment(int* values) {
  cuda::pdlWait();
  cuda::pdlTrigger();
  values[blockIdx.x * blockDim.x + threadIdx.x] += 1;
}
TEST(emulator_races, chain_of_overlapping_kernels) {
  underAllSchedules([] {
    DeviceArray<int> values(std::vector<int>(96, 0));
    for (int i = 0; i < 5; ++i) launch(increment, {"increment", 3, 32, 0, nullptr, true}, values.data());
    for (const int value : values.read()) CHECK_EQ(value, 5);
  });
}

}  // namespace
}  // namespace shardspeed::test

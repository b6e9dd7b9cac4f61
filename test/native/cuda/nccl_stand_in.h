#pragma once

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/memory.h"
#include "cuda/nccl.h"
#include "cuda/ptx.cuh"

// A stand-in for NCCL between threads of one process, which does what NVIDIA documents: calls of a group take effect
// together at its end, on the stream, and there the ranks really meet: a kernel sends what the other's kernel receives,
// waits for it as long as it takes, and is ended by an abort. Nothing here is quick. For the emulator, whose kernels
// reach all memory of the process.

namespace shardspeed::test {

// From one rank to another: what the sender brought, and what the receiver has taken. Counts go on from one launch to
// the next, so captured launches can be replayed. A sender that was stopped touches it no more, whatever it goes on to.
constexpr uint64_t kMostNcclWords = 1 << 17;  // in a message, of 32 bits
struct NcclChannel {
  uint32_t* message = nullptr;  // (kMostNcclWords)
  uint64_t count = 0;
  uint32_t offered = 0, taken = 0;  // what each tells the other
  uint32_t sent = 0, received = 0;  // what each knows itself
};

struct NcclMeeting {
  explicit NcclMeeting(int ranks)
      : size(ranks),
        memory(channelBytes() + static_cast<size_t>(ranks) * sizeof(uint32_t), "the stand-in of NCCL"),
        messages(static_cast<size_t>(ranks * ranks) * kMostNcclWords * sizeof(uint32_t), "the stand-in of NCCL") {
    for (int i = 0; i < ranks * ranks; ++i)
      (new (memory.as<NcclChannel>() + i) NcclChannel())->message =
          messages.as<uint32_t>() + static_cast<uint64_t>(i) * kMostNcclWords;
    for (int rank = 0; rank < ranks; ++rank) *stop(rank) = 0;
  }
  size_t channelBytes() const { return static_cast<size_t>(size * size) * sizeof(NcclChannel); }
  NcclChannel* channel(int from, int to) { return memory.as<NcclChannel>() + from * size + to; }
  // What ends the waiting of a rank's kernels, also when it has left.
  uint32_t* stop(int rank) { return reinterpret_cast<uint32_t*>(memory.as<uint8_t>() + channelBytes()) + rank; }
  const int size;
  std::atomic<int> joined{0};
  cuda::PinnedMemory memory;
  cuda::PinnedMemory messages;
};

}  // namespace shardspeed::test

namespace shardspeed::cuda {

struct NcclComm {
  std::shared_ptr<test::NcclMeeting> meeting;
  int rank = 0;
  int answersInProgress = 0;
};

}  // namespace shardspeed::cuda

namespace shardspeed::test {

using cuda::NcclApi;
using cuda::NcclComm;
using cuda::NcclConfig;
using cuda::NcclId;
using cuda::NcclStatus;
using cuda::NcclType;

// What the stand-in was asked and what it shall answer. One test at a time.
struct NcclLibrary {
  std::mutex mutex;
  std::map<std::vector<char>, std::shared_ptr<NcclMeeting>> meetings;
  int ids = 0;
  std::atomic<int> alive{0}, launches{0}, sends{0}, narrowSends{0}, gathers{0}, blocking{0}, version{22809};
  std::atomic<int> versionStep{0};  // by which the next to ask gets another version
  // Which call fails, 1 being the next; 0: none.
  std::atomic<int> failingInit{0}, failingGroup{0}, failingLater{0};
  std::atomic<int> slowAnswers{2};  // that are "in progress" before a group is on the stream
};
inline NcclLibrary ncclLibrary;

inline void startNcclAnew() {
  const std::lock_guard<std::mutex> lock(ncclLibrary.mutex);
  ncclLibrary.meetings.clear();
  for (std::atomic<int>* count :
       {&ncclLibrary.alive, &ncclLibrary.launches, &ncclLibrary.sends, &ncclLibrary.narrowSends, &ncclLibrary.gathers,
        &ncclLibrary.blocking, &ncclLibrary.failingInit, &ncclLibrary.failingGroup, &ncclLibrary.failingLater,
        &ncclLibrary.versionStep})
    *count = 0;
  ncclLibrary.version = 22809;
  ncclLibrary.slowAnswers = 2;
}

constexpr NcclStatus kNcclFailed{2};
inline bool isNth(std::atomic<int>& failing) {
  return failing > 0 && --failing == 0;
}

struct NcclOperation {
  NcclChannel* channel;
  uint32_t* memory;
  uint64_t count;
  bool sends;
};
struct NcclOperations {
  static constexpr int kMost = 16;
  NcclOperation all[kMost];
  const uint32_t* stop;
};

constexpr int kNcclThreads = 32;

// Whether the flag came to be `wanted`, for the whole block.
__device__ inline bool ncclWaitFor(const uint32_t* flag, uint32_t wanted, const uint32_t* stop) {
  bool came = true;
  if (threadIdx.x == 0)
    while (cuda::loadAcquireSystem(flag) != wanted) {
      if (cuda::loadRelaxedSystem(stop) != 0) {
        came = false;
        break;
      }
      cuda::spinPause();
    }
  return __syncthreads_and(came) != 0;
}

// A block an operation.
__global__ inline void ncclKernel(NcclOperations operations) {
  const NcclOperation& mine = operations.all[blockIdx.x];
  NcclChannel& channel = *mine.channel;
  if (mine.count > kMostNcclWords) __trap();
  if (__syncthreads_or(cuda::loadRelaxedSystem(operations.stop) != 0)) return;
  if (mine.sends) {
    const uint32_t turn = channel.sent + 1;
    for (uint64_t i = threadIdx.x; i < mine.count; i += kNcclThreads) channel.message[i] = mine.memory[i];
    __syncthreads();
    if (threadIdx.x == 0) {
      channel.count = mine.count;
      channel.sent = turn;
      cuda::storeReleaseSystem(&channel.offered, turn);
    }
    ncclWaitFor(&channel.taken, turn, operations.stop);
    return;
  }
  const uint32_t turn = channel.received + 1;
  __syncthreads();
  if (!ncclWaitFor(&channel.offered, turn, operations.stop)) return;
  if (channel.count != mine.count) __trap();
  for (uint64_t i = threadIdx.x; i < mine.count; i += kNcclThreads) mine.memory[i] = channel.message[i];
  __syncthreads();
  if (threadIdx.x == 0) {
    channel.received = turn;
    cuda::storeReleaseSystem(&channel.taken, turn);
  }
}

// What a thread has called since the group began.
struct NcclGroupCalls {
  int depth = 0;
  std::vector<NcclOperation> operations;
  NcclComm* comm = nullptr;
  cudaStream_t stream = nullptr;
};
inline thread_local NcclGroupCalls ncclCalls;

inline NcclStatus ncclLaunch() {
  NcclGroupCalls& calls = ncclCalls;
  if (calls.operations.empty()) return NcclStatus::kSuccess;
  REQUIRE(calls.operations.size() <= NcclOperations::kMost);
  NcclOperations operations{};
  std::copy(calls.operations.begin(), calls.operations.end(), operations.all);
  operations.stop = calls.comm->meeting->stop(calls.comm->rank);
  ++ncclLibrary.launches;
  const cuda::LaunchConfig config{"an NCCL kernel",   dim3(static_cast<unsigned>(calls.operations.size())),
                                  dim3(kNcclThreads), 0,
                                  calls.stream,       false};
  calls.operations.clear();
  if (isNth(ncclLibrary.failingGroup)) return kNcclFailed;
  cuda::launch(ncclKernel, config, operations);
  calls.comm->answersInProgress = ncclLibrary.slowAnswers;
  return NcclStatus::kInProgress;
}

inline NcclStatus ncclAdd(NcclOperation operation, NcclComm* comm, cudaStream_t stream) {
  ncclCalls.comm = comm;
  ncclCalls.stream = stream;
  ncclCalls.operations.push_back(operation);
  CHECK(ncclCalls.depth > 0);
  return NcclStatus::kSuccess;
}

// Of so many elements.
inline uint64_t ncclWords(size_t count, NcclType type) {
  CHECK(type == NcclType::kF32 || type == NcclType::kF16 || type == NcclType::kBF16);
  const size_t bytes = count * (type == NcclType::kF32 ? 4 : 2);
  CHECK_EQ(bytes % sizeof(uint32_t), 0u);
  return bytes / sizeof(uint32_t);
}

inline const NcclApi kNcclStandIn = {
    .getVersion =
        [](int32_t* version) {
          *version = ncclLibrary.version.fetch_add(ncclLibrary.versionStep);
          return NcclStatus::kSuccess;
        },
    .getUniqueId =
        [](NcclId* id) {
          const std::lock_guard<std::mutex> lock(ncclLibrary.mutex);
          std::memset(id->bytes, ++ncclLibrary.ids, sizeof id->bytes);
          return NcclStatus::kSuccess;
        },
    .initRank =
        [](NcclComm** comm, int32_t ranks, NcclId id, int32_t rank, NcclConfig* config) {
          if (isNth(ncclLibrary.failingInit)) return kNcclFailed;
          const std::lock_guard<std::mutex> lock(ncclLibrary.mutex);
          CHECK_EQ(config->size, sizeof(NcclConfig));
          if (config->blocking != 0) ++ncclLibrary.blocking;
          std::shared_ptr<NcclMeeting>& meeting = ncclLibrary.meetings[{id.bytes, id.bytes + sizeof id.bytes}];
          if (!meeting) meeting = std::make_shared<NcclMeeting>(ranks);
          *comm = new NcclComm{meeting, rank};
          ++meeting->joined;
          ++ncclLibrary.alive;
          return NcclStatus::kInProgress;
        },
    .getAsyncError =
        [](NcclComm* comm, NcclStatus* status) {
          const bool waits = comm->meeting->joined < comm->meeting->size || --comm->answersInProgress >= 0;
          *status = waits ? NcclStatus::kInProgress : NcclStatus::kSuccess;
          if (!waits && isNth(ncclLibrary.failingLater)) *status = kNcclFailed;
          return NcclStatus::kSuccess;
        },
    .abort =
        [](NcclComm* comm) {
          std::atomic_ref<uint32_t>(*comm->meeting->stop(comm->rank)).store(1);
          delete comm;
          --ncclLibrary.alive;
          return NcclStatus::kSuccess;
        },
    .getErrorString = [](NcclStatus) { return "an error of the test"; },
    .getLastError = [](NcclComm*) { return "said more closely"; },
    .groupStart =
        [] {
          ++ncclCalls.depth;
          return NcclStatus::kSuccess;
        },
    .groupEnd = [] { return --ncclCalls.depth == 0 ? ncclLaunch() : NcclStatus::kSuccess; },
    .send =
        [](const void* from, size_t count, NcclType type, int32_t to, NcclComm* comm, cudaStream_t stream) {
          CHECK(to != comm->rank && to >= 0 && to < comm->meeting->size);
          ++(type == NcclType::kF32 ? ncclLibrary.sends : ncclLibrary.narrowSends);
          auto* memory = const_cast<uint32_t*>(static_cast<const uint32_t*>(from));
          return ncclAdd({comm->meeting->channel(comm->rank, to), memory, ncclWords(count, type), true}, comm, stream);
        },
    .receive =
        [](void* to, size_t count, NcclType type, int32_t from, NcclComm* comm, cudaStream_t stream) {
          CHECK(from != comm->rank && from >= 0 && from < comm->meeting->size);
          return ncclAdd(
              {comm->meeting->channel(from, comm->rank), static_cast<uint32_t*>(to), ncclWords(count, type), false},
              comm, stream);
        },
    .allGather =
        [](const void* mine, void* all, size_t count, NcclType type, NcclComm* comm, cudaStream_t stream) {
          auto* whole = static_cast<uint32_t*>(all);
          auto* own = const_cast<uint32_t*>(static_cast<const uint32_t*>(mine));
          CHECK(type == NcclType::kF32 && own == whole + static_cast<size_t>(comm->rank) * count);  // in place
          ++ncclLibrary.gathers;
          for (int rank = 0; rank < comm->meeting->size; ++rank) {
            if (rank == comm->rank) continue;
            ncclAdd({comm->meeting->channel(comm->rank, rank), own, count, true}, comm, stream);
            ncclAdd({comm->meeting->channel(rank, comm->rank), whole + static_cast<size_t>(rank) * count, count, false},
                    comm, stream);
          }
          return NcclStatus::kSuccess;
        },
};

// The stand-in is what is found, while this lives.
class NcclStandIn {
 public:
  NcclStandIn() {
    startNcclAnew();
    cuda::replaceNccl(&kNcclStandIn);
  }
  ~NcclStandIn() {
    cuda::replaceNccl(nullptr);
    startNcclAnew();
  }
  NcclStandIn(const NcclStandIn&) = delete;
  NcclStandIn& operator=(const NcclStandIn&) = delete;
};

}  // namespace shardspeed::test

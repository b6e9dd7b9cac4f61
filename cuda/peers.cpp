#include "cuda/peers.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "cuda/all_reduce.h"
#include "cuda/error.h"
#include "cuda/nccl.h"
#include "cuda/projection_paths.h"
#include "cuda/switches.h"

namespace shardspeed::cuda {

static_assert(std::is_trivially_copyable_v<RankFacts>);
constexpr size_t kMarkWords = 4;  // of a store of 16 bytes, as pushes use

static std::array<uint32_t, 4> randomWords() {
  std::random_device source;
  return {source(), source(), source(), source()};
}

// Process ids are no use: they are given anew on every host and in every container.
static const std::array<uint32_t, 4>& thisProcess() {
  static const std::array<uint32_t, 4> words = randomWords();
  return words;
}

RankFacts factsOf(int device) {
  RankFacts facts;
  facts.process = thisProcess();
  facts.key = randomWords();
  facts.device = device;
  facts.multiprocessors = multiprocessors();
  facts.pushBytes = mostPushedBytes();
  std::string problem = "switched off by SHARDSPEED_CUDA_NCCL=0";
  const NcclApi* nccl = ncclWanted() ? findNccl(&problem) : nullptr;
  if (nccl) facts.ncclVersion = ncclVersion(*nccl);
  if (!nccl) std::strncpy(facts.ncclProblem, problem.c_str(), sizeof facts.ncclProblem - 1);
  return facts;
}

std::vector<RankFacts> shareFacts(Group& group, const RankFacts& own) {
  Group::Bytes mine(sizeof own);
  std::memcpy(mine.data(), &own, sizeof own);
  std::vector<RankFacts> facts;
  for (const Group::Bytes& bytes : group.exchange(mine)) {
    if (bytes.size() != sizeof(RankFacts))
      throw Error("ERR_COMM", "The ranks run different builds of shardspeed: rank " + std::to_string(facts.size()) +
                                  " describes its device in " + std::to_string(bytes.size()) + " bytes, expected " +
                                  std::to_string(sizeof(RankFacts)) + ". Install the same version everywhere.");
    std::memcpy(&facts.emplace_back(), bytes.data(), sizeof(RankFacts));
    facts.back().ncclProblem[sizeof own.ncclProblem - 1] = '\0';
  }
  return facts;
}

bool inOneProcess(const std::vector<RankFacts>& facts) {
  return std::all_of(facts.begin(), facts.end(),
                     [&](const RankFacts& other) { return other.process == facts.front().process; });
}

bool onDifferentDevices(const std::vector<RankFacts>& facts) {
  std::set<std::pair<std::array<uint32_t, 4>, int32_t>> seen;
  for (const RankFacts& rank : facts)
    if (!seen.insert({rank.process, rank.device}).second) return false;
  return true;
}

// Lets this device write to the memory of another.
static std::string enableAccess(int device, int peer) {
  const auto describe = [&](const std::string& why) {
    return "cuda:" + std::to_string(device) + " has no access to the memory of cuda:" + std::to_string(peer) + " (" +
           why + ")";
  };
  int can = 0;
  cudaError_t status = cudaDeviceCanAccessPeer(&can, device, peer);
  if (status == cudaSuccess && !can) return describe("no link between them carries it");
  if (status == cudaSuccess) status = cudaDeviceEnablePeerAccess(peer, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) status = cudaSuccess;
  cudaGetLastError();  // not to be found by the next call
  return status == cudaSuccess ? "" : describe(cudaGetErrorString(status));
}

// Collective. The first rank's problem, the same on all of them.
static std::string firstProblem(Group& group, const std::string& own) {
  for (const Group::Bytes& bytes : group.exchange({own.begin(), own.end()}))
    if (!bytes.empty()) return {bytes.begin(), bytes.end()};
  return "";
}

// What other ranks wrote to this one's marks, by the stores that a push uses.
static std::string lostMarks(const DeviceMemory& marks, int rank, const std::vector<RankFacts>& facts) {
  std::vector<std::array<uint32_t, kMarkWords>> found(facts.size());
  check(cudaMemcpy(found.data(), marks.as(), marks.bytes(), cudaMemcpyDeviceToHost), "reading what other ranks wrote");
  for (size_t other = 0; other < facts.size(); ++other) {
    const bool written = std::all_of(found[other].begin(), found[other].end(), [](uint32_t word) { return word != 0; });
    if (written || other == static_cast<size_t>(rank)) continue;
    const std::string to = std::to_string(facts[static_cast<size_t>(rank)].device);
    return "what cuda:" + std::to_string(facts[other].device) + " writes to the memory of cuda:" + to +
           " does not arrive there, although the driver says that it can";
  }
  return "";
}

// Collective.
static std::string verifyWrites(Group& group, const std::vector<RankFacts>& facts) {
  const int rank = group.rank();
  constexpr size_t kMarkBytes = kMarkWords * sizeof(uint32_t);
  const DeviceMemory marks(facts.size() * kMarkBytes, "marks of other ranks");
  const Stream stream;
  check(cudaDeviceSynchronize(), "preparing marks of other ranks");  // they are zeros before anybody writes
  const auto own = reinterpret_cast<uintptr_t>(marks.as());
  Group::Bytes address(sizeof own);
  std::memcpy(address.data(), &own, sizeof own);
  const std::vector<Group::Bytes> addresses = group.exchange(address);
  std::exception_ptr failure;
  try {
    for (size_t other = 0; other < facts.size(); ++other) {
      if (other == static_cast<size_t>(rank)) continue;
      uintptr_t there = 0;
      std::memcpy(&there, addresses[other].data(), std::min(sizeof there, addresses[other].size()));
      there += static_cast<size_t>(rank) * kMarkBytes;
      emptyMailbox(reinterpret_cast<uint32_t*>(there), kMarkBytes, stream.get());
    }
  } catch (...) {
    failure = std::current_exception();
  }
  // A rank that fails comes here too: until then the others may write to its marks, and it to theirs.
  try {
    stream.wait("writing to the memory of other ranks");
  } catch (...) {
    if (!failure) failure = std::current_exception();
  }
  group.exchange({});
  if (failure) std::rethrow_exception(failure);
  return firstProblem(group, lostMarks(marks, rank, facts));
}

std::string connectPeers(Group& group, const std::vector<RankFacts>& facts) {
  if (!inOneProcess(facts)) return "the ranks are different processes";
  const int device = facts[static_cast<size_t>(group.rank())].device;
  std::string problem;
  for (const RankFacts& other : facts)
    if (other.device != device && problem.empty()) problem = enableAccess(device, other.device);
  problem = firstProblem(group, problem);
  return problem.empty() ? verifyWrites(group, facts) : problem;
}

static std::mutex joinMutex;

std::shared_ptr<PeerMemory> PeerMemory::join(const std::array<uint32_t, 4>& key, int ranks) {
  // Never destroyed: a rank's thread may still run when the process exits.
  static auto& all = *new std::map<std::array<uint32_t, 4>, std::weak_ptr<PeerMemory>>;
  const std::lock_guard<std::mutex> lock(joinMutex);
  std::erase_if(all, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<PeerMemory> memory = all[key].lock();
  if (!memory) memory = std::make_shared<PeerMemory>(ranks);
  all[key] = memory;
  return memory;
}

PeerMemory::~PeerMemory() {
  int now = 0;
  const bool known = cudaGetDevice(&now) == cudaSuccess;
  for (Rank& rank : ranks_) {
    if (!rank.lease) continue;
    cudaSetDevice(rank.device);
    for (DeviceMemory* memory : {&rank.mailbox, &rank.landing, &rank.signals}) *memory = DeviceMemory();
    rank.lease.reset();
  }
  if (known) cudaSetDevice(now);
}

}  // namespace shardspeed::cuda

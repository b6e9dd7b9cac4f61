#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "comm/group.h"
#include "cuda/devices.h"
#include "cuda/memory.h"

// What ranks must know of each other before they exchange data, and the memory that ranks of one process share.

namespace shardspeed::cuda {

// What each rank says of itself, the same bytes in every build.
struct RankFacts {
  std::array<uint32_t, 4> process{};  // another in every process of the world
  std::array<uint32_t, 4> key{};      // of the group: rank 0's counts
  int32_t device = 0;
  int32_t multiprocessors = 0;
  int32_t ncclVersion = 0;  // 0: none; ncclProblem says why
  int64_t pushBytes = 0;    // of a message that this rank is willing to push, at most
  char ncclProblem[200] = {};
};
RankFacts factsOf(int device);
// Collective. By rank.
std::vector<RankFacts> shareFacts(Group& group, const RankFacts& own);
bool inOneProcess(const std::vector<RankFacts>& facts);
bool onDifferentDevices(const std::vector<RankFacts>& facts);

// Collective. Why ranks cannot write into each other's device memory, the same on all of them; empty: they can from now
// on. Each writes a mark to all others, which look for it: on some machines, virtual ones and such with an IOMMU, the
// driver says that there is access, and what is written is lost without an error. A push would wait for it for ever.
std::string connectPeers(Group& group, const std::vector<RankFacts>& facts);

// Memory of the devices of a group within one process, into which other ranks write. It goes when the last rank has
// left: each leaves when its own device is done, so nobody writes to memory that is gone.
class PeerMemory {
 public:
  struct Rank {
    std::unique_ptr<DeviceLease> lease;
    int device = 0;
    DeviceMemory mailbox;
    DeviceMemory landing;
    DeviceMemory signals;
  };

  // The same for all ranks with this key.
  static std::shared_ptr<PeerMemory> join(const std::array<uint32_t, 4>& key, int ranks);
  explicit PeerMemory(int ranks) : ranks_(static_cast<size_t>(ranks)) {}
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  // Each is filled by its own rank, and read by others after they have met.
  Rank& of(int rank) { return ranks_[static_cast<size_t>(rank)]; }

 private:
  std::vector<Rank> ranks_;
};

}  // namespace shardspeed::cuda

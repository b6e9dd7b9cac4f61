#include "cuda/collectives.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "cuda/error.h"
#include "cuda/step_buffers.h"
#include "cuda/switches.h"

namespace shardspeed::cuda {

namespace {

constexpr int64_t kMostPushRows = 128;
// Of a sum that NCCL takes to all other ranks whole. Larger ones go in two steps: every rank gets a slice of all parts,
// and gives away its sums. Between two ranks both ways move as much.
constexpr int64_t kMostWholeBytes = 256 << 10;
// Sums that may be under way on the device ahead of the host. Few enough that launches of a step, which are about ten
// for each, never have to wait for room in the queue: waiting there, for a rank that is gone, could not be ended.
constexpr int kPace = 16;

int64_t strideOf(int64_t cols) {
  return padTo(cols, kColumnStep);
}

int64_t partStride(const GroupShapes& shapes, int rank) {
  return strideOf(shapes.logitCols[static_cast<size_t>(rank)]);
}

// A rank's share of `count` elements.
int64_t sliceOf(int64_t count, int ranks) {
  return padTo((count + ranks - 1) / ranks, 8);
}

bool isSentWhole(int64_t bytes, int ranks) {
  return ranks == 2 || bytes <= kMostWholeBytes;
}

int64_t rowBytes(const GroupShapes& shapes) {
  return strideOf(shapes.hiddenSize) * static_cast<int64_t>(sizeof(float));
}

int64_t pushRowsFor(int64_t bytes, const GroupShapes& shapes) {
  return std::min({bytes / rowBytes(shapes), kMostPushRows, StepBuffers::paddedRows(shapes.maxRows)});
}

size_t floatBytes(int64_t count) {
  return static_cast<size_t>(count) * sizeof(float);
}

size_t narrowBytes(int64_t count) {
  return static_cast<size_t>(count) * 2;
}

int64_t bytesOfPart(const RankSum& sum, int64_t rows) {
  return rows * sum.stride * static_cast<int64_t>(dtypeSize(sum.partDtype));
}

// PushCounts, the flags of parts that have come from each rank, those of room for the own part.
constexpr size_t kCountsBytes = (sizeof(PushCounts) + 63) / 64 * 64;
constexpr size_t kFlagsBytes = kMostGatherBlocks * sizeof(uint32_t);
size_t signalBytes(int ranks) {
  return kCountsBytes + static_cast<size_t>(ranks + 1) * kFlagsBytes;
}
uint32_t* thereOf(const PeerMemory::Rank& memory, int rank) {
  return memory.signals.as<uint32_t>() + (kCountsBytes + static_cast<size_t>(rank) * kFlagsBytes) / sizeof(uint32_t);
}
uint32_t* roomOf(const PeerMemory::Rank& memory, int ranks) {
  return thereOf(memory, ranks);
}

}  // namespace

// Sizes in floats, unless something else is said.
struct Collectives::Plan {
  Plan(const GroupShapes& shapes, int rank, DType partDtype, int64_t pushBytes, bool pushes, bool nccl) {
    const int ranks = static_cast<int>(shapes.logitCols.size());
    const int64_t stride = strideOf(shapes.hiddenSize);
    const int64_t most = StepBuffers::paddedRows(shapes.maxRows) * stride;
    const int64_t slices = sliceOf(most, ranks) * ranks;  // slices of less than that are no longer
    if (partDtype == DType::kF32 || nccl) wide = slices;
    if (partDtype != DType::kF32) narrow = slices;
    if (pushes) pushWords = pushRowsFor(pushBytes, shapes) * stride;
    if (nccl) {
      const int64_t whole = ranks == 2 ? most : std::min<int64_t>(most, kMostWholeBytes / 4);
      received = (ranks - 1) * std::max(whole, ranks == 2 ? 0 : sliceOf(most, ranks));
    }
    mailbox = mailboxBytes(ranks, pushWords) / sizeof(float);
    if (rank == 0)
      for (int other = 1; other < ranks; ++other) landing += shapes.logitRows * partStride(shapes, other);
  }
  int64_t pushWords = 0;
  int64_t wide = 0;
  int64_t narrow = 0;  // elements of 16 bits
  int64_t received = 0;
  int64_t mailbox = 0;
  int64_t landing = 0;
};

size_t Collectives::bytesOf(const GroupShapes& shapes, int rank, DType partDtype) {
  const int ranks = static_cast<int>(shapes.logitCols.size());
  const int64_t pushBytes = mostPushedBytes();
  const Plan plan(shapes, rank, partDtype, pushBytes, pushBytes > 0 && ranks <= kMostPushRanks, ncclWanted());
  return floatBytes(plan.wide + plan.received + plan.mailbox + plan.landing) + narrowBytes(plan.narrow) +
         signalBytes(ranks);
}

// Why the ranks cannot use NCCL together; empty: they can.
static std::string whyNoNccl(const std::vector<RankFacts>& facts) {
  for (size_t rank = 0; rank < facts.size(); ++rank) {
    const int32_t version = facts[rank].ncclVersion, first = facts.front().ncclVersion;
    const std::string where = "rank " + std::to_string(rank) + ": ";
    if (version == 0) return where + facts[rank].ncclProblem;
    if (version != first)
      return where + "is of version " + std::to_string(version) + ", rank 0's is of " + std::to_string(first);
  }
  return onDifferentDevices(facts) ? "" : "it needs a device for each rank";
}

// Collective. Likewise, why they cannot write into each other's memory.
static std::string whyNoPush(Group& group, const std::vector<RankFacts>& facts, int64_t pushBytes) {
  if (pushBytes == 0) return "pushing is switched off by SHARDSPEED_CUDA_PUSH_BYTES=0";
  if (group.size() > kMostPushRanks) return "the ranks are more than " + std::to_string(kMostPushRanks);
  return connectPeers(group, facts);
}

// What is decided here is decided from what all ranks know, and so by all alike.
Collectives::Agreement Collectives::agree(const std::vector<RankFacts>& facts) const {
  Agreement agreed;
  agreed.pushBytes = facts.front().pushBytes;
  for (const RankFacts& rank : facts) agreed.pushBytes = std::min(agreed.pushBytes, rank.pushBytes);
  const std::string noPush = whyNoPush(group_, facts, agreed.pushBytes), noNccl = whyNoNccl(facts);
  if (!noPush.empty() && !noNccl.empty())
    throw Error("ERR_COMM", "There is no way between the devices of the ranks. Direct access: " + noPush +
                                ". NCCL: " + noNccl +
                                ". Use devices that are linked (nvidia-smi topo -p2p w), or install the same NCCL for "
                                "all ranks where the dynamic loader finds libnccl.so.2.");
  agreed.pushes = noPush.empty();
  // By rows at least, where there is nothing else.
  if (!noNccl.empty()) agreed.pushBytes = std::max(agreed.pushBytes, rowBytes(shapes_));
  const bool allPushed =
      agreed.pushes && pushRowsFor(agreed.pushBytes, shapes_) == StepBuffers::paddedRows(shapes_.maxRows);
  agreed.nccl = noNccl.empty() && !allPushed;
  return agreed;
}

Collectives::Collectives(int device, Group& group, const GroupShapes& shapes, DType partDtype, const Stream& stream)
    : group_(group),
      stream_(stream),
      shapes_(shapes),
      stopWord_(sizeof(uint32_t), "the ranks of a group"),
      partDtype_(partDtype) {
  *stopWord_.as<uint32_t>() = 0;
  const std::vector<RankFacts> facts = shareFacts(group, factsOf(device));
  const Agreement agreed = agree(facts);
  pushes_ = agreed.pushes;
  leastMultiprocessors_ = facts.front().multiprocessors;
  for (const RankFacts& rank : facts) {
    leastMultiprocessors_ = std::min(leastMultiprocessors_, rank.multiprocessors);
    if (rank.device == device && rank.process == facts[static_cast<size_t>(group.rank())].process) ++sharers_;
  }
  prepareMemory(Plan(shapes, group.rank(), partDtype, agreed.pushBytes, agreed.pushes, agreed.nccl), facts);
  const NcclApi* api = agreed.nccl ? findNccl(nullptr) : nullptr;
  const NcclId own = api && group.rank() == 0 ? Nccl::makeId(*api) : NcclId{};
  Group::Bytes bytes(sizeof own.bytes);
  std::copy_n(own.bytes, bytes.size(), bytes.begin());
  // From here on every rank's memory is there for the others.
  const Group::Bytes first = group.exchange(bytes).front();
  connect();
  if (api) {
    NcclId id;
    std::copy_n(first.begin(), std::min(first.size(), sizeof id.bytes), id.bytes);
    nccl_ = std::make_unique<Nccl>(*api, id, group);
  }
  watch_ = std::make_unique<GroupWatch>(group, [this] { stop(); });
}

Collectives::~Collectives() {
  watch_.reset();
}

void Collectives::prepareMemory(const Plan& plan, const std::vector<RankFacts>& facts) {
  const int rank = group_.rank(), ranks = group_.size();
  pushWords_ = plan.pushWords;
  wide_ = DeviceMemory(floatBytes(plan.wide), "sums over ranks");
  narrow_ = DeviceMemory(narrowBytes(plan.narrow), "sums over ranks");
  received_ = DeviceMemory(floatBytes(plan.received), "sums over ranks");
  // Shared where ranks push; else this rank is the only one that knows of it.
  peers_ = PeerMemory::join(pushes_ ? facts.front().key : facts[static_cast<size_t>(rank)].key, ranks);
  PeerMemory::Rank& own = peers_->of(rank);
  own.device = facts[static_cast<size_t>(rank)].device;
  own.lease = std::make_unique<DeviceLease>(own.device);
  own.landing = DeviceMemory(floatBytes(plan.landing), "logits of other ranks");
  own.signals = DeviceMemory(signalBytes(ranks), "sums over ranks");
  own.mailbox = DeviceMemory(floatBytes(plan.mailbox), "sums over ranks");
  emptyMailbox(own.mailbox.as<uint32_t>(), own.mailbox.bytes(), stream_.get());
  stream_.wait("preparing sums over ranks");
}

void Collectives::connect() {
  if (pushes_) connectPushes();
  describeParts();
}

void Collectives::connectPushes() {
  const int rank = group_.rank(), ranks = group_.size();
  std::vector<uint32_t*> boxes;
  for (int other = 0; other < ranks; ++other) boxes.push_back(peers_->of(other).mailbox.as<uint32_t>());
  mailboxes_ = connectMailboxes(rank, ranks, pushWords_, boxes.data());
  mailboxes_.sharers = sharers_;
  mailboxes_.counts = peers_->of(rank).signals.as<PushCounts>();
  void* seen = nullptr;
  check(cudaHostGetDevicePointer(&seen, stopWord_.as(), 0), "preparing sums over ranks");
  mailboxes_.stop = static_cast<const uint32_t*>(seen);
}

void Collectives::describeParts() {
  const int rank = group_.rank(), ranks = group_.size();
  const PeerMemory::Rank& first = peers_->of(0);
  int64_t landed = 0, firstCol = 0;
  for (int other = 0; other < ranks; ++other) {
    LogitPart part;
    part.stride = static_cast<int32_t>(partStride(shapes_, other));
    part.firstCol = static_cast<int32_t>(firstCol);
    part.cols = static_cast<int32_t>(shapes_.logitCols[static_cast<size_t>(other)]);
    if (other > 0 && (pushes_ || rank == 0)) {
      part.from = first.landing.as<float>() + landed;
      landed += shapes_.logitRows * part.stride;
    }
    if (other > 0 && pushes_) {
      part.there = thereOf(first, other);
      part.room = roomOf(peers_->of(other), ranks);
    }
    firstCol += part.cols;
    logitParts_.push_back(part);
  }
  if (rank != 0) return;
  parts_ = DeviceMemory(logitParts_.size() * sizeof(LogitPart), "logits of other ranks");
  check(cudaMemcpy(parts_.as(), logitParts_.data(), parts_.bytes(), cudaMemcpyHostToDevice),
        "preparing sums over ranks");
  check(cudaStreamSynchronize(nullptr), "preparing sums over ranks");
}

void Collectives::keepPace() {
  if (++calls_ % kPace != 0) return;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_.get(), &capturing), "asking whether a step is captured");
  if (capturing != cudaStreamCaptureStatusNone) return;
  Event& before = pace_[calls_ / kPace % 2];
  before.wait("computing a step");
  before.record(stream_);
}

// The number of rows that are pushed at once.
int64_t Collectives::pushRows(const RankSum& sum) const {
  return std::min(pushWords_ * static_cast<int64_t>(sizeof(uint32_t)) / bytesOfPart(sum, 1), kMostPushRows);
}

void Collectives::sum(RankSum sum) {
  keepPace();
  const int64_t most = pushes_ ? pushRows(sum) : 0;
  if (pushes_ && (sum.rows <= most || !nccl_)) {
    const RankSum whole = sum;
    for (int64_t first = 0; first < whole.rows; first += most) {
      const int64_t skip = first * sum.stride;
      sum.rows = std::min(most, whole.rows - first);
      const bool isLast = first + sum.rows == whole.rows;  // what is fetched earlier would be pushed out again
      sum.fetchedBytes = isLast ? whole.fetchedBytes : 0;
      sum.in = static_cast<const uint8_t*>(whole.in) + bytesOfPart(sum, first);
      sum.x = whole.x + skip;
      if (sum.narrow) sum.narrow = static_cast<uint8_t*>(whole.narrow) + skip * 2;
      sumPushed(sum, mailboxes_);
    }
    return;
  }
  sumByNccl(sum);
}

void Collectives::sumByNccl(RankSum sum) {
  const int rank = group_.rank(), ranks = group_.size();
  const int64_t count = sum.rows * sum.stride;
  auto* wide = wide_.as<float>();
  if (sum.in == sum.x) {
    // Slices may reach behind the rows, for which only the own buffer has room.
    check(cudaMemcpyAsync(wide, sum.in, floatBytes(count), cudaMemcpyDeviceToDevice, sum.stream),
          "copying rows to be summed");
    sum.in = wide;
  }
  if (isSentWhole(bytesOfPart(sum, sum.rows), ranks)) {
    nccl_->exchange(sum.partDtype, sum.in, 0, received_.as(), count, sum.stream);
    return sumReceived(sum, {rank, ranks, received_.as(), count});
  }
  const int64_t slice = sliceOf(count, ranks);
  nccl_->exchange(sum.partDtype, sum.in, slice, received_.as(), slice, sum.stream);
  const void* own = static_cast<const uint8_t*>(sum.in) + static_cast<size_t>(rank * slice) * dtypeSize(sum.partDtype);
  sumSlice(sum.partDtype, own, wide + rank * slice, slice, {rank, ranks, received_.as(), slice}, sum.stream);
  // Sums go on in fp32, so that their bits are those of a sum that is sent whole or pushed.
  nccl_->shareParts(wide, slice, sum.stream);
  sum.in = wide;
  sum.partDtype = DType::kF32;
  sumReceived(sum, {});
}

void Collectives::gather(int64_t rows, const float* part, float* whole, int64_t wholeStride) {
  keepPace();
  const int rank = group_.rank(), ranks = group_.size();
  int64_t mostUnits = 0;
  for (const LogitPart& each : logitParts_) mostUnits = std::max(mostUnits, rows * each.stride / 4);
  constexpr int64_t kUnitsABlock = 2048;
  const int64_t room = std::clamp<int64_t>(leastMultiprocessors_ / ranks, 1, kMostGatherBlocks);
  const auto blocks = static_cast<int>(std::clamp<int64_t>(mostUnits / kUnitsABlock, 1, room));
  const LogitPart& own = logitParts_[static_cast<size_t>(rank)];
  const int64_t count = rows * own.stride;
  if (!pushes_) {
    std::vector<float*> to;
    std::vector<int64_t> counts;
    for (const LogitPart& each : logitParts_) {
      to.push_back(const_cast<float*>(each.from));
      counts.push_back(rows * each.stride);
    }
    nccl_->bringToFirst(part, to.data(), counts.data(), stream_.get());
  } else if (rank != 0) {
    pushLogits({part, count, const_cast<float*>(own.from), own.room, own.there, blocks, stream_.get()},
               mailboxes_.counts, mailboxes_.stop);
  }
  if (rank != 0) return;
  const Whole joined{rows, part, whole, wholeStride, parts_.as<LogitPart>(), ranks, blocks, stream_.get()};
  if (pushes_)
    takeLogits(joined, mailboxes_.counts, mailboxes_.stop);
  else
    joinLogits(joined);
}

void Collectives::stop() {
  std::atomic_ref<uint32_t>(*stopWord_.as<uint32_t>()).store(1);
  if (nccl_) nccl_->abort();
}

}  // namespace shardspeed::cuda

#include "cuda/gather_logits.h"

#include <thread>

#include "cuda/rank_devices.h"
#include "random.h"

// Columns of all ranks side by side on rank 0: pushed there, and put together where they are there already.

namespace shardspeed::test {
namespace {

using cuda::kColumnStep;
using cuda::kMostGatherBlocks;
using cuda::padTo;

template <typename T>
using Arrays = std::vector<std::unique_ptr<DeviceArray<T>>>;

struct GatheringRanks {
  GatheringRanks(std::vector<int64_t> columns, int64_t maxRows, uint32_t gathersBefore = 0)
      : cols(std::move(columns)), devices(static_cast<int>(cols.size())) {
    const int ranks = devices.count();
    stop = cuda::PinnedMemory(sizeof(uint32_t), "a test");
    *stop.as<uint32_t>() = 0;
    int32_t firstCol = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto flags = [&](int owner) {
        words.push_back(devices.array(owner, std::vector<uint32_t>(kMostGatherBlocks, gathersBefore)));
        return words.back()->data();
      };
      cuda::LogitPart part;
      part.cols = static_cast<int32_t>(cols[static_cast<size_t>(rank)]);
      part.stride = static_cast<int32_t>(padTo(part.cols, kColumnStep));
      part.firstCol = firstCol;
      firstCol += part.cols;
      if (rank > 0) {
        landing.push_back(devices.array(0, std::vector<float>(static_cast<size_t>(maxRows * part.stride), NAN)));
        part.from = landing.back()->data();
        part.room = flags(rank);
        part.there = flags(0);
      }
      parts.push_back(part);
      counts.push_back(devices.array<cuda::PushCounts>(rank, {{0, 0, gathersBefore, 0}}));
    }
    table = devices.array(0, parts);
    vocab = firstCol;
    wholeStride = padTo(vocab, kColumnStep);
  }

  // What each rank has, with its padding, and what rank 0 shall have.
  struct Logits {
    std::vector<std::vector<float>> parts;
    std::vector<float> whole;
  };
  Logits logitsOf(int64_t rows, uint64_t seed) const {
    Random random(seed);
    Logits logits;
    logits.whole.assign(static_cast<size_t>(rows * wholeStride), 0);
    for (const cuda::LogitPart& part : parts) {
      logits.parts.push_back(random.normals(rows * part.stride));
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(logits.parts.back().begin() + row * part.stride, part.cols,
                    logits.whole.begin() + row * wholeStride + part.firstCol);
    }
    return logits;
  }
  void enqueue(int rank, int64_t rows, const float* part, float* whole, int blocks) const {
    const cuda::LogitPart& own = parts[static_cast<size_t>(rank)];
    cuda::PushCounts* count = counts[static_cast<size_t>(rank)]->data();
    devices.choose(rank);
    if (rank == 0)
      cuda::takeLogits({rows, part, whole, wholeStride, table->data(), devices.count(), blocks, devices.stream(0)},
                       count, stop.as<uint32_t>());
    else
      cuda::pushLogits(
          {part, rows * own.stride, const_cast<float*>(own.from), own.room, own.there, blocks, devices.stream(rank)},
          count, stop.as<uint32_t>());
  }

  std::vector<int64_t> cols;
  RankDevices devices;
  cuda::PinnedMemory stop;
  Arrays<uint32_t> words;
  Arrays<float> landing;
  Arrays<cuda::PushCounts> counts;
  std::vector<cuda::LogitPart> parts;
  std::unique_ptr<DeviceArray<cuda::LogitPart>> table;
  int64_t vocab = 0;
  int64_t wholeStride = 0;
};

// Several gathers with nothing waited for in between: what is pushed for the next must not come over what rank 0 has
// yet to read.
void checkPushed(const std::vector<int64_t>& cols, const std::vector<int64_t>& rowCounts, int blocks, int lateRank,
                 uint32_t gathersBefore = 0) {
  const Note note("ranks", cols.size(), "blocks", blocks, "late", lateRank, "before", gathersBefore);
  const GatheringRanks ranks(cols, *std::max_element(rowCounts.begin(), rowCounts.end()), gathersBefore);
  std::vector<GatheringRanks::Logits> logits;
  std::vector<Arrays<float>> parts;
  Arrays<float> wholes;
  for (size_t i = 0; i < rowCounts.size(); ++i) {
    logits.push_back(ranks.logitsOf(rowCounts[i], 70 + i));
    parts.emplace_back();
    for (int rank = 0; rank < ranks.devices.count(); ++rank)
      parts.back().push_back(ranks.devices.array(rank, logits.back().parts[static_cast<size_t>(rank)]));
    wholes.push_back(ranks.devices.array(0, std::vector<float>(logits.back().whole.size())));
  }
  for (int i = 1; i <= ranks.devices.count(); ++i) {
    const int rank = (lateRank + i) % ranks.devices.count();
    for (size_t gather = 0; gather < rowCounts.size(); ++gather)
      ranks.enqueue(rank, rowCounts[gather], parts[gather][static_cast<size_t>(rank)]->data(), wholes[gather]->data(),
                    blocks);
  }
  ranks.devices.wait();
  for (size_t gather = 0; gather < rowCounts.size(); ++gather) {
    const Note which("gather", gather);
    const std::vector<float> found = wholes[gather]->read();
    CHECK_BITS(found.data(), logits[gather].whole.data(), static_cast<int64_t>(found.size()));
  }
  for (const auto& count : ranks.counts)
    CHECK_EQ(count->read()[0].gathers, gathersBefore + static_cast<uint32_t>(rowCounts.size()));
}

TEST(gather_logits, pushed_columns_come_together) {
  checkPushed({64, 64}, {1, 3, 2, 1}, 1, 0);
  checkPushed({64, 64}, {1, 3, 2, 1}, 3, 1);
  checkPushed({100, 97}, {5, 2}, 2, 1);
  checkPushed({1, 2, 3}, {1, 2, 1}, 2, 2);
  checkPushed({80, 64, 77, 3}, {2, 2}, 2, 1);
  checkPushed({16, 16, 16, 16, 16, 16, 16, 9}, {2, 1}, 1, 4);
  checkPushed({3000, 2990}, {2, 1}, 4, 0);
  checkPushed({70, 70}, {1, 2, 3}, 2, 0, 0xfffffffd);  // the count wraps around
}

TEST(gather_logits, under_all_schedules) {
  underAllSchedules([] {
    checkPushed({70, 75}, {1, 3, 2}, 2, 0, 0xfffffffd);
    checkPushed({65, 3, 20}, {2, 1, 1}, 2, 1);
  });
}

TEST(gather_logits, columns_that_are_there_are_joined) {
  for (const std::vector<int64_t>& cols : {std::vector<int64_t>{64, 60}, {5, 6, 7}, {100, 28, 1, 64}}) {
    const Note note("ranks", cols.size());
    const GatheringRanks ranks(cols, 3);
    const GatheringRanks::Logits logits = ranks.logitsOf(3, 81);
    const auto own = ranks.devices.array(0, logits.parts[0]);
    const auto whole = ranks.devices.array(0, std::vector<float>(logits.whole.size()));
    for (size_t rank = 1; rank < cols.size(); ++rank) ranks.landing[rank - 1]->write(logits.parts[rank]);
    cuda::joinLogits({3, own->data(), whole->data(), ranks.wholeStride, ranks.table->data(), ranks.devices.count(), 2,
                      ranks.devices.stream(0)});
    ranks.devices.wait();
    CHECK_BITS(whole->read().data(), logits.whole.data(), static_cast<int64_t>(logits.whole.size()));
  }
}

TEST(gather_logits, the_host_ends_the_waiting) {
  const GatheringRanks ranks({64, 64}, 1);
  const auto part = ranks.devices.array(0, std::vector<float>(64)),
             other = ranks.devices.array(1, std::vector<float>(64));
  const auto whole = ranks.devices.array(0, std::vector<float>(128));
  *ranks.stop.as<uint32_t>() = 1;
  for (const int rank : {0, 1}) {
    ranks.enqueue(rank, 1, (rank == 0 ? part : other)->data(), whole->data(), 1);
    CHECK_EQ(cudaStreamSynchronize(ranks.devices.stream(rank)), cudaSuccess);
  }
}

}  // namespace
}  // namespace shardspeed::test

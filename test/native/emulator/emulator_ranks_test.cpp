#include "ranks.h"

// Sums over ranks, whose kernels wait for each other's writes: right ones pass under all schedules, mistakes put into
// them on purpose are found.

namespace shardspeed::test {
namespace {

using cuda::launch;

constexpr uint32_t kNothing = 0xffffffffu;  // no value yet
constexpr int kCount = 48;                  // of uint4, a rank
constexpr int kRounds = 6;

enum class Mistake { kNone, kOneWord, kFewBuffers };

// Every rank writes what it has into all ranks' buffers and adds up what arrives in its own. Whether something has
// arrived is seen by the value itself. A buffer is used every third round: one is read, the next is being written by
// ranks that are ahead, the one before is made empty again.
struct Exchange {
  uint4* buffers[kMostTestRanks];  // (3, ranks, kCount) each
  int ranks, rank;
};

template <Mistake kMistake>
__device__ uint4 arrived(const uint4* place) {
  for (;;) {
    const uint4 v = cuda::loadRelaxedSystem16(place);
    const bool first = v.x != kNothing, rest = v.y != kNothing && v.z != kNothing && v.w != kNothing;
    if (first && (rest || kMistake == Mistake::kOneWord)) return v;
    cuda::spinPause();
  }
}

template <Mistake kMistake>
__global__ void addUp(Exchange exchange, const uint4* in, uint4* out, int round) {
  constexpr int kBuffers = kMistake == Mistake::kFewBuffers ? 2 : 3;
  const int size = exchange.ranks * kCount, step = static_cast<int>(gridDim.x * blockDim.x);
  const int now = round % kBuffers * size, past = (round + kBuffers - 1) % kBuffers * size;
  uint4* mine = exchange.buffers[exchange.rank];
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < kCount; i += step) {
    for (int to = 0; to < exchange.ranks; ++to)
      cuda::storeRelaxedSystem16(exchange.buffers[to] + now + exchange.rank * kCount + i, in[i]);
    uint4 sum{0, 0, 0, 0};
    for (int from = 0; from < exchange.ranks; ++from) {
      const uint4 v = arrived<kMistake>(mine + now + from * kCount + i);
      sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w};
      cuda::storeRelaxedSystem16(mine + past + from * kCount + i, {kNothing, kNothing, kNothing, kNothing});
    }
    out[i] = sum;
  }
}

// The next round's values of a rank, from the sums.
__global__ void prepareNext(uint4* in, const uint4* out, int rank) {
  for (int i = static_cast<int>(threadIdx.x); i < kCount; i += static_cast<int>(blockDim.x)) {
    const unsigned r = static_cast<unsigned>(rank);
    in[i] = {out[i].x % 1000 + r, out[i].y % 1000 + 2 * r, out[i].z % 1000 + 3 * r, out[i].w % 1000 + 5 * r};
  }
}

std::vector<uint32_t> expectedSums(int ranks) {
  std::vector<uint32_t> sums(kCount * 4, 0);
  const unsigned factors[] = {1, 2, 3, 5};
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kCount * 4; ++i) {
      const uint32_t before = sums[i] % 1000;
      sums[i] = 0;
      for (int rank = 0; rank < ranks; ++rank) sums[i] += before + factors[i % 4] * static_cast<unsigned>(rank);
    }
  }
  return sums;
}

// Sums of several rounds; each rank's, or nothing where a launch failed.
std::vector<std::vector<uint32_t>> sumOverRanks(const Ranks& ranks, Hosts hosts,
                                                void (*kernel)(Exchange, const uint4*, uint4*, int), int participants) {
  const int count = ranks.count();
  Exchange exchange{};
  exchange.ranks = count;
  std::vector<uint4*> in(count), out(count);
  for (int rank = 0; rank < count; ++rank) {
    exchange.buffers[rank] = ranks.allocate<uint4>(rank, size_t{3} * count * kCount, 0xff);
    in[rank] = ranks.allocate<uint4>(rank, kCount);
    out[rank] = ranks.allocate<uint4>(rank, kCount);
  }
  const auto enqueue = [&](int rank) {
    Exchange mine = exchange;
    mine.rank = rank;
    for (int round = 0; round < kRounds; ++round) {
      launch(prepareNext, ranks.on(rank, 1, 32), in[rank], out[rank], rank);
      launch(kernel, ranks.on(rank, 2, 32), mine, in[rank], out[rank], round);
      // Other ranks are not waited for by way of the host, but what is enqueued may be.
      if (hosts == Hosts::kThreads && (round + rank) % 3 == 0) cudaStreamSynchronize(ranks.stream(rank));
    }
  };
  std::vector<std::vector<uint32_t>> sums(count, std::vector<uint32_t>(kCount * 4));
  const auto read = [&](int rank) {
    if (cudaStreamSynchronize(ranks.stream(rank)) != cudaSuccess ||
        cudaMemcpy(sums[rank].data(), out[rank], kCount * sizeof(uint4), cudaMemcpyDeviceToHost) != cudaSuccess)
      sums[rank].clear();
  };
  if (hosts == Hosts::kAlone) {
    forRanks(hosts, participants, enqueue);
    forRanks(hosts, participants, read);
  } else {
    forRanks(hosts, participants, [&](int rank) {
      enqueue(rank);
      read(rank);
    });
  }
  return sums;
}

// Under how many of the schedules the sums are wrong on some rank.
template <Mistake kMistake>
int countWrong(int ranks, Hosts hosts, int schedules) {
  const std::vector<uint32_t> expected = expectedSums(ranks);
  int wrong = 0;
  for (const emulator::Schedule& schedule : emulator::schedules(schedules)) {
    const Ranks fresh(ranks, schedule);
    emulator::setIdleLimit(500);
    bool right = true;
    for (const auto& sums : sumOverRanks(fresh, hosts, addUp<kMistake>, ranks)) right = right && sums == expected;
    wrong += !right;
  }
  return wrong;
}

TEST(emulator_ranks, sums_in_one_host_thread) {
  for (const int ranks : {2, 4, 8}) {
    const Note note("ranks", ranks);
    CHECK_EQ(countWrong<Mistake::kNone>(ranks, Hosts::kAlone, kReduced ? 3 : 9), 0);
  }
}
TEST(emulator_ranks, sums_in_a_host_thread_each) {
  for (const int ranks : {2, 4, 8}) {
    const Note note("ranks", ranks);
    CHECK_EQ(countWrong<Mistake::kNone>(ranks, Hosts::kThreads, kReduced ? 3 : 9), 0);
  }
}
TEST(emulator_ranks, one_word_of_four) {
  CHECK(countWrong<Mistake::kOneWord>(2, Hosts::kAlone, kReduced ? 4 : 12) > 0);
}
TEST(emulator_ranks, a_buffer_too_few) {
  CHECK(countWrong<Mistake::kFewBuffers>(2, Hosts::kAlone, kReduced ? 4 : 12) > 0);
}

}  // namespace
}  // namespace shardspeed::test

#include "cuda/all_reduce.h"

#include <atomic>
#include <cmath>
#include <thread>

#include "cuda/rank_devices.h"
#include "random.h"
#include "reference_math.h"
#include "test_threads.h"

// Sums over ranks: pushed and received, against sums on the host.

namespace shardspeed::test {
namespace {

using cuda::kColumnStep;
using cuda::padTo;
using cuda::RankSum;

template <typename T>
using Arrays = std::vector<std::unique_ptr<DeviceArray<T>>>;

// Everything that the ranks of a test have, for sums of up to `capacity` words.
struct PushedRanks {
  PushedRanks(int ranks, int64_t capacity, uint32_t sumsBefore = 0, bool together = false) : devices(ranks, together) {
    std::vector<uint32_t*> places;
    stop = cuda::PinnedMemory(sizeof(uint32_t), "a test");
    *stop.as<uint32_t>() = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const size_t bytes = cuda::mailboxBytes(ranks, capacity);
      boxes.push_back(devices.array<uint32_t>(rank, std::vector<uint32_t>(bytes / sizeof(uint32_t))));
      places.push_back(boxes.back()->data());
      cuda::emptyMailbox(places.back(), bytes, devices.stream(rank));
      counts.push_back(devices.array<cuda::PushCounts>(rank, {{sumsBefore, 0, 0, 0}}));
    }
    devices.wait();
    for (int rank = 0; rank < ranks; ++rank) {
      mailboxes.push_back(cuda::connectMailboxes(rank, ranks, capacity, places.data()));
      mailboxes.back().sharers = devices.sharers();
      mailboxes.back().counts = counts[static_cast<size_t>(rank)]->data();
      mailboxes.back().stop = stop.as<uint32_t>();
    }
  }

  RankDevices devices;
  cuda::PinnedMemory stop;
  Arrays<uint32_t> boxes;
  Arrays<cuda::PushCounts> counts;
  std::vector<cuda::Mailboxes> mailboxes;
};

struct Shape {
  DType dtype = DType::kF16;
  int64_t rows = 1;
  int64_t cols = 64;
  bool bias = true;
  bool residual = true;
  bool next = true;
  NormKind norm = NormKind::kLayer;
  bool inPlace = false;  // x is what is summed
  bool narrow = false;   // parts are of dtype, else fp32
};

// The numbers of one sum and what comes of them. What is in the padding is zeros, as everywhere.
struct SumCase {
  SumCase(const Shape& wanted, int ranks, uint64_t seed) : shape(wanted), stride(padTo(wanted.cols, kColumnStep)) {
    Random random(seed);
    for (int rank = 0; rank < ranks; ++rank) {
      parts.push_back(rowsOf(random));
      // Now and then what looks like an empty cell, or like nothing at all; in 16 bits a pair of them.
      for (size_t i = 0; i < parts.back().size(); i += shape.narrow ? 9 : 17)
        if (static_cast<int64_t>(i) % stride < shape.cols) parts.back()[i] = i % 2 || i % 4 == 2 ? -0.0f : 0.0f;
      for (float& value : parts.back())
        if (shape.narrow) value = fromElement(shape.dtype, toElement(shape.dtype, value));
    }
    before = rowsOf(random);
    const auto vectorOf = [&] {
      std::vector<float> values = random.normals(stride);
      std::fill(values.begin() + shape.cols, values.end(), 0.0f);
      return values;
    };
    bias = vectorOf(), weight = vectorOf(), normBias = vectorOf();
    for (size_t i = 0; i < before.size(); ++i) {
      float sum = 0;
      for (const std::vector<float>& part : parts) sum += part[i];
      if (shape.bias) sum += bias[i % static_cast<size_t>(stride)];
      expected.push_back(shape.residual ? before[i] + sum : sum);
    }
  }
  std::vector<float> rowsOf(Random& random) const {
    std::vector<float> values(static_cast<size_t>(shape.rows * stride));
    for (int64_t row = 0; row < shape.rows; ++row)
      for (int64_t col = 0; col < shape.cols; ++col) values[static_cast<size_t>(row * stride + col)] = random.normal();
    return values;
  }

  std::vector<uint16_t> elementsOf(int rank) const {
    std::vector<uint16_t> elements;
    for (const float value : parts[static_cast<size_t>(rank)]) elements.push_back(toElement(shape.dtype, value));
    return elements;
  }

  Shape shape;
  int64_t stride;
  std::vector<std::vector<float>> parts;
  std::vector<float> before, bias, weight, normBias, expected;
};

// One rank's memory for a sum.
struct RankMemory {
  RankMemory(const RankDevices& devices, int rank, const SumCase& sum)
      : in(devices.array(rank, sum.parts[static_cast<size_t>(rank)])),
        x(devices.array(rank, sum.before)),
        bias(devices.array(rank, sum.bias)),
        weight(devices.array(rank, sum.weight)),
        normBias(devices.array(rank, sum.normBias)),
        narrowIn(devices.array(rank, sum.elementsOf(rank))),
        narrow(devices.array(rank, std::vector<uint16_t>(sum.before.size(), 0xffff))),
        apart(devices.array(rank, std::vector<uint16_t>(sum.before.size(), 0xffff))) {
    norm = {sum.shape.norm, 1e-5f, weight->data(), sum.shape.norm == NormKind::kLayer ? normBias->data() : nullptr};
    request.dtype = sum.shape.dtype;
    request.rows = sum.shape.rows;
    request.cols = sum.shape.cols;
    request.stride = sum.stride;
    request.partDtype = sum.shape.narrow ? sum.shape.dtype : DType::kF32;
    request.in = in->data();
    if (sum.shape.narrow) request.in = narrowIn->data();
    request.x = sum.shape.inPlace ? in->data() : x->data();
    request.bias = sum.shape.bias ? bias->data() : nullptr;
    request.residual = sum.shape.residual;
    request.next = sum.shape.next ? &norm : nullptr;
    request.narrow = sum.shape.next ? narrow->data() : nullptr;
    request.stream = devices.stream(rank);
  }
  std::unique_ptr<DeviceArray<float>> in, x, bias, weight, normBias;
  std::unique_ptr<DeviceArray<uint16_t>> narrowIn, narrow, apart;
  cuda::NormParams norm;
  RankSum request;
};

using Memories = std::vector<std::unique_ptr<RankMemory>>;
Memories memoriesFor(const RankDevices& devices, const SumCase& sum) {
  Memories memories;
  for (int rank = 0; rank < devices.count(); ++rank)
    memories.push_back(std::make_unique<RankMemory>(devices, rank, sum));
  return memories;
}

// The sums have the bits of the same additions on the host, the norm those of the kernel that does nothing else, and
// both are near what fp64 says.
void checkSum(const RankDevices& devices, const SumCase& sum, const Memories& memories) {
  const auto count = static_cast<int64_t>(sum.expected.size());
  for (int rank = 0; rank < devices.count(); ++rank) {
    const Note note("rank", rank);
    const RankMemory& memory = *memories[static_cast<size_t>(rank)];
    const std::vector<float> x = (sum.shape.inPlace ? memory.in : memory.x)->read();
    CHECK_BITS(x.data(), sum.expected.data(), count);
    if (!sum.shape.next) continue;
    devices.choose(rank);
    cuda::normalizeRows(sum.shape.dtype, sum.shape.rows, sum.shape.cols, memory.request.x, sum.stride, &memory.norm,
                        memory.apart->data(), sum.stride, nullptr);
    const std::vector<uint16_t> apart = memory.apart->read(), narrow = memory.narrow->read();
    CHECK_BITS(narrow.data(), apart.data(), count);
    if (rank > 0) continue;
    const std::vector<double> weight(sum.weight.begin(), sum.weight.begin() + sum.shape.cols);
    const std::vector<double> bias(sum.normBias.begin(), sum.normBias.begin() + sum.shape.cols);
    for (int64_t row = 0; row < sum.shape.rows; row += 29) {
      const auto first = sum.expected.begin() + row * sum.stride;
      const std::vector<double> values(first, first + sum.shape.cols);
      const std::vector<double> expected = normOf(sum.shape.norm, static_cast<double>(1e-5f), weight.data(),
                                                  memory.norm.bias ? bias.data() : nullptr, values);
      for (int64_t col = 0; col < sum.shape.cols; ++col)
        CHECK_NEAR(fromElement(sum.shape.dtype, narrow[static_cast<size_t>(row * sum.stride + col)]),
                   expected[static_cast<size_t>(col)], sum.shape.dtype == DType::kF16 ? 4e-3 : 3e-2,
                   sum.shape.dtype == DType::kF16 ? 1e-3 : 1e-2);
    }
  }
  cudaSetDevice(0);
}

void checkPushed(PushedRanks& ranks, const Shape& shape, uint64_t seed, int firstRank = 0) {
  const Note note("rows", shape.rows, "cols", shape.cols, "bias", shape.bias, "residual", shape.residual, "next",
                  shape.next, "norm", shape.norm, "in place", shape.inPlace, "narrow", shape.narrow);
  const SumCase sum(shape, ranks.devices.count(), seed);
  const Memories memories = memoriesFor(ranks.devices, sum);
  for (int i = 0; i < ranks.devices.count(); ++i) {
    const int rank = (firstRank + i) % ranks.devices.count();
    ranks.devices.choose(rank);
    cuda::sumPushed(memories[static_cast<size_t>(rank)]->request, ranks.mailboxes[static_cast<size_t>(rank)]);
  }
  ranks.devices.wait();
  checkSum(ranks.devices, sum, memories);
}

const int64_t kRowCounts[] = {1, 2, 7, 33, 130};
const int64_t kWidths[] = {1, 20, 64, 130, 1028, 2500, 5000};

TEST(all_reduce, pushed_sums_match_the_host) {
  constexpr int64_t kCapacity = 130 * 128;
  int turn = 0;
  for (const int ranks : {2, 3, 4, 5, 8}) {
    if (kReduced && ranks > 3) continue;
    const Note note("ranks", ranks);
    PushedRanks pushed(ranks, kCapacity);
    for (const int64_t cols : kWidths) {
      for (const int64_t rows : kRowCounts) {
        const int64_t stride = padTo(cols, kColumnStep);
        // Each width with each number of rows somewhere, not each with all of them, and on the emulator little that
        // takes long.
        if (turn++ % (kRaces ? 9 : 3) != 0 || rows * stride > kCapacity) continue;
        if (kEmulated && rows * stride * ranks * ranks > (kReduced ? 10'000 : 200'000) && rows > 2) continue;
        Shape shape{turn % 2 ? DType::kBF16 : DType::kF16, rows, cols};
        shape.bias = turn % 5 != 0;
        shape.residual = turn % 7 != 0;
        shape.next = turn % 11 != 0;
        shape.norm = turn % 4 < 2 ? NormKind::kLayer : NormKind::kRms;
        shape.narrow = turn % 13 < 5;
        checkPushed(pushed, shape, static_cast<uint64_t>(turn), turn % ranks);
      }
    }
    checkPushed(pushed, {DType::kF16, kReduced ? 33 : 130, 10}, 6);
    checkPushed(pushed, {DType::kF16, 3, 200, false, false, true, NormKind::kRms, true}, 7);
    checkPushed(pushed, {DType::kF16, 2, 70, false, false, false, NormKind::kRms, true}, 8);
    for (const DType dtype : {DType::kF16, DType::kBF16})
      checkPushed(pushed, {dtype, 3, 1100, true, true, true, NormKind::kLayer, false, true}, 9);
  }
}

// However many blocks each rank has for a row: some have one, others as many as there are multiprocessors.
TEST(all_reduce, the_number_of_blocks_changes_no_bits) {
  Random random(71);
  for (const int ranks : {2, 3, 4, 8}) {
    if (kReduced && ranks > 3) continue;
    const Note note("ranks", ranks);
    PushedRanks pushed(ranks, 6 * padTo(5200, kColumnStep));
    const int shared = pushed.devices.sharers();
    for (int round = 0; round < (kReduced ? 3 : 8); ++round) {
      Shape shape{round % 2 ? DType::kBF16 : DType::kF16, random.between(1, ranks > 4 ? 2 : 6),
                  random.between(500, 5100)};
      if (kReduced) shape.rows = 1;
      shape.norm = round % 4 < 2 ? NormKind::kLayer : NormKind::kRms;
      shape.next = round % 5 != 4;
      shape.narrow = round % 3 == 1;
      for (cuda::Mailboxes& mailboxes : pushed.mailboxes)
        mailboxes.sharers = shared * static_cast<int>(random.chance(0.3) ? 1000 : random.between(1, 3));
      checkPushed(pushed, shape, static_cast<uint64_t>(200 + round), static_cast<int>(random.below(ranks)));
    }
    for (const auto& counts : pushed.counts) {
      const cuda::PushCounts found = counts->read()[0];
      for (const uint32_t done : found.stretches) CHECK_EQ(done, 0u);
    }
  }
}

// The blocks of all ranks have to be on the device at once: each rank has its share of the multiprocessors.
TEST(all_reduce, ranks_share_a_device) {
  for (const int ranks : {2, 4, 8}) {
    if (kReduced && ranks > 2) continue;
    const Note note("ranks", ranks);
    PushedRanks pushed(ranks, 9 * 1152, 0, true);
    CHECK_EQ(pushed.devices.sharers(), ranks);
    checkPushed(pushed, {DType::kF16, 1, kReduced ? 600 : 5000}, 81, 1);
    checkPushed(pushed, {DType::kBF16, kReduced ? 3 : 9, 1100}, 82, 0);
  }
}

// A row has the same bits alone, in company, and at another place in it.
TEST(all_reduce, rows_do_not_depend_on_their_company) {
  for (const int ranks : {2, 4}) {
    if (kReduced && ranks > 2) continue;
    const Note note("ranks", ranks);
    PushedRanks pushed(ranks, 40 * 320);
    const Shape shape{DType::kF16, 40, 300};
    const SumCase together(shape, ranks, 11);
    const Memories memories = memoriesFor(pushed.devices, together);
    const auto run = [&](const Memories& of) {
      for (int rank = 0; rank < ranks; ++rank) {
        pushed.devices.choose(rank);
        cuda::sumPushed(of[static_cast<size_t>(rank)]->request, pushed.mailboxes[static_cast<size_t>(rank)]);
      }
      pushed.devices.wait();
    };
    run(memories);
    const std::vector<float> sums = memories[0]->x->read();
    const std::vector<uint16_t> rows = memories[0]->narrow->read();
    for (const int64_t row : {0, 17, 39}) {
      const Note which("row", row);
      SumCase alone = together;
      alone.shape.rows = 1;
      const auto cut = [&](std::vector<float>& values) {
        values = {values.begin() + row * alone.stride, values.begin() + (row + 1) * alone.stride};
      };
      for (std::vector<float>& part : alone.parts) cut(part);
      cut(alone.before);
      const Memories own = memoriesFor(pushed.devices, alone);
      run(own);
      CHECK_BITS(own[0]->x->read().data(), sums.data() + row * alone.stride, alone.stride);
      CHECK_BITS(own[0]->narrow->read().data(), rows.data() + row * alone.stride, alone.stride);
    }
    cudaSetDevice(0);
  }
}

// Many sums one behind the other with nothing waited for in between, the ranks begun in another order each time, one
// of them held up by other work, and the count of sums wrapping around.
void checkManySums(int ranks, int sums, uint32_t sumsBefore, int late) {
  const Note note("ranks", ranks, "before", sumsBefore, "late", late);
  const int64_t rowCounts[] = {1, 5, 2, 9, 1, 3};
  PushedRanks pushed(ranks, 9 * 128, sumsBefore);
  std::vector<std::unique_ptr<SumCase>> cases;
  std::vector<Memories> memories;
  for (int i = 0; i < sums; ++i) {
    Shape shape{DType::kF16, rowCounts[i % 6], i % 2 ? 100 : 70};
    shape.next = i % 3 == 0;
    shape.narrow = i % 4 == 1;  // both kinds use the same cells
    cases.push_back(std::make_unique<SumCase>(shape, ranks, static_cast<uint64_t>(100 + i)));
    memories.push_back(memoriesFor(pushed.devices, *cases.back()));
  }
  for (int i = 0; i < ranks; ++i) {
    const int rank = (late + 1 + i) % ranks;
    pushed.devices.choose(rank);
    for (int sum = 0; sum < sums; ++sum) {
      const RankMemory& memory = *memories[static_cast<size_t>(sum)][static_cast<size_t>(rank)];
      // Work of its own between sums: more for one rank, and for others now and then.
      for (int more = rank == late ? 3 : (sum + rank) % 2; more > 0; --more)
        cuda::normalizeRows(DType::kF16, 2, 60, memory.weight->data(), 0, nullptr, memory.apart->data(), 64,
                            pushed.devices.stream(rank));
      cuda::sumPushed(memory.request, pushed.mailboxes[static_cast<size_t>(rank)]);
    }
  }
  pushed.devices.wait();
  for (int sum = 0; sum < sums; ++sum) {
    const Note which("sum", sum);
    checkSum(pushed.devices, *cases[static_cast<size_t>(sum)], memories[static_cast<size_t>(sum)]);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    CHECK_EQ(pushed.counts[static_cast<size_t>(rank)]->read()[0].sums, sumsBefore + static_cast<uint32_t>(sums));
    const std::vector<uint32_t> box = pushed.boxes[static_cast<size_t>(rank)]->read();
    for (const uint32_t word : box) CHECK_EQ(word, 0x80000000u);  // empty again
  }
}

TEST(all_reduce, sums_follow_each_other) {
  checkManySums(2, 12, 0, 0);
  checkManySums(3, 7, 0xfffffffc, 2);
  if (kReduced) return;
  checkManySums(4, 6, 1, 1);
  checkManySums(8, 5, 0xfffffffe, 7);
}

TEST(all_reduce, under_all_schedules) {
  underAllSchedules([] {
    checkManySums(2, 5, 0xfffffffe, 1);
    PushedRanks pushed(3, 4 * 1152);
    checkPushed(pushed, {DType::kF16, 4, kReduced ? 70 : 1100}, 21, 1);
    checkPushed(pushed, {DType::kF16, 1, 1100}, 22, 2);
    checkPushed(pushed, {DType::kBF16, 1, 1100, true, true, true, NormKind::kRms, false, true}, 23, 0);
    if (kReduced) return;
    checkManySums(4, 3, 0xffffffff, 0);
    checkManySums(8, 2, 3, 5);
  });
}

// What is fetched changes nothing, and ends where it should: behind it the emulator has no memory.
TEST(all_reduce, the_next_weights_are_fetched) {
  constexpr int kRanks = 2;
  PushedRanks pushed(kRanks, 3 * 1152);
  const SumCase sum({DType::kF16, 3, 1100}, kRanks, 35);
  const int sharers = pushed.devices.sharers();
  for (const size_t bytes : {size_t{16}, size_t{4096}, size_t{4112}, size_t{4100}, size_t{3'000'000}})
    for (const int more : {1, 1000}) {
      const Note note("bytes", bytes, "more", more);
      Arrays<unsigned char> weights;
      const Memories memories = memoriesFor(pushed.devices, sum);
#ifdef SHARDSPEED_CUDA_EMULATOR
      const uint64_t before = emulator::prefetchedBytes();
#endif
      for (int rank = 0; rank < kRanks; ++rank) {
        weights.push_back(pushed.devices.array(rank, std::vector<unsigned char>(bytes)));
        RankSum& request = memories[static_cast<size_t>(rank)]->request;
        request.fetched = weights.back()->data();
        request.fetchedBytes = bytes;
        cuda::Mailboxes& mailboxes = pushed.mailboxes[static_cast<size_t>(rank)];
        mailboxes.sharers = sharers * more;
        pushed.devices.choose(rank);
        cuda::sumPushed(request, mailboxes);
      }
      pushed.devices.wait();
      checkSum(pushed.devices, sum, memories);
#ifdef SHARDSPEED_CUDA_EMULATOR
      const size_t room = (size_t{50} << 20) / 2 / static_cast<size_t>(sharers * more);
      CHECK_EQ(emulator::prefetchedBytes() - before, kRanks * (std::min(bytes, room) / 16 * 16));
#endif
    }
}

// A captured sum goes on counting when it is replayed.
TEST(all_reduce, sums_are_replayed) {
  constexpr int kRanks = 3;
  PushedRanks pushed(kRanks, 5 * 64, 0xfffffffd);
  const SumCase sum({DType::kF16, 5, 50, true, false}, kRanks, 31);
  const Memories memories = memoriesFor(pushed.devices, sum);
  std::vector<cudaGraphExec_t> graphs(kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    pushed.devices.choose(rank);
    cudaGraph_t graph = nullptr;
    cuda::check(cudaStreamBeginCapture(pushed.devices.stream(rank), cudaStreamCaptureModeThreadLocal), "capturing");
    cuda::sumPushed(memories[static_cast<size_t>(rank)]->request, pushed.mailboxes[static_cast<size_t>(rank)]);
    cuda::sumPushed(memories[static_cast<size_t>(rank)]->request, pushed.mailboxes[static_cast<size_t>(rank)]);
    cuda::check(cudaStreamEndCapture(pushed.devices.stream(rank), &graph), "capturing");
    cuda::check(cudaGraphInstantiate(&graphs[static_cast<size_t>(rank)], graph, 0), "capturing");
    cuda::check(cudaGraphDestroy(graph), "capturing");
  }
  for (int round = 0; round < 4; ++round) {
    for (int rank = 0; rank < kRanks; ++rank) {
      pushed.devices.choose(rank);
      cuda::check(cudaGraphLaunch(graphs[static_cast<size_t>(rank)], pushed.devices.stream(rank)), "replaying");
    }
    pushed.devices.wait();
    checkSum(pushed.devices, sum, memories);
  }
  for (const cudaGraphExec_t graph : graphs) cudaGraphExecDestroy(graph);
  CHECK_EQ(pushed.counts[0]->read()[0].sums, 5u);
}

// What ends all waiting for a rank that never comes.
TEST(all_reduce, the_host_ends_the_waiting) {
  PushedRanks pushed(2, 4 * 128);
  const SumCase sum({DType::kF16, 4, 100}, 2, 41);
  const Memories memories = memoriesFor(pushed.devices, sum);
  std::atomic_ref<uint32_t> stop(*pushed.stop.as<uint32_t>());
  pushed.devices.choose(0);
  cuda::sumPushed(memories[0]->request, pushed.mailboxes[0]);
  std::atomic<bool> known = false;
  TestThreads other;
  other.start([&] {
    cudaSetDevice(0);  // the emulator waits for threads that have called it
    known = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop.store(1);
  });
  while (!known) std::this_thread::yield();
  const cudaError_t status = cudaStreamSynchronize(pushed.devices.stream(0));
  other.join();
  CHECK_EQ(status, cudaSuccess);
  // And nothing is waited for any more.
  pushed.devices.choose(0);
  cuda::sumPushed(memories[0]->request, pushed.mailboxes[0]);
  pushed.devices.wait();
  CHECK_EQ(pushed.counts[0]->read()[0].sums, 2u);
}

// --- Parts that are there already.

template <typename T>
void checkReceivedOf(const SumCase& sum, const std::vector<std::vector<T>>& parts) {
  const auto ranks = static_cast<int>(parts.size());
  RankDevices devices(ranks);
  const Memories memories = memoriesFor(devices, sum);
  const auto count = static_cast<int64_t>(sum.before.size());
  Arrays<T> received;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<T> others;
    for (int other = 0; other < ranks; ++other)
      if (const std::vector<T>& theirs = parts[static_cast<size_t>(other)]; other != rank)
        others.insert(others.end(), theirs.begin(), theirs.end());
    received.push_back(devices.array(rank, others));
    devices.choose(rank);
    cuda::sumReceived(memories[static_cast<size_t>(rank)]->request, {rank, ranks, received.back()->data(), count});
  }
  devices.wait();
  checkSum(devices, sum, memories);
}

void checkReceived(int ranks, Shape shape, uint64_t seed) {
  const Note note("ranks", ranks, "rows", shape.rows, "cols", shape.cols);
  checkReceivedOf(SumCase(shape, ranks, seed), SumCase(shape, ranks, seed).parts);
  shape.narrow = true;
  const SumCase narrow(shape, ranks, seed);
  std::vector<std::vector<uint16_t>> parts;
  for (int rank = 0; rank < ranks; ++rank) parts.push_back(narrow.elementsOf(rank));
  checkReceivedOf(narrow, parts);
}

TEST(all_reduce, received_sums_match_the_host) {
  checkReceived(2, {DType::kF16, 3, 1030}, 51);
  checkReceived(3, {DType::kBF16, 40, 20, false}, 52);
  checkReceived(4, {DType::kF16, 2, 130, true, false, false}, 53);
  if (!kRaces) checkReceived(8, {DType::kF16, 5, 100, true, true, true, NormKind::kRms}, 54);
  underAllSchedules([] { checkReceived(3, {DType::kF16, 2, 1100}, 55); });
}

// One rank's slice of the sums of all.
template <typename T>
std::vector<float> sliceOf(DType dtype, const std::vector<std::vector<T>>& parts, int rank, int64_t slice) {
  const auto ranks = static_cast<int>(parts.size());
  std::vector<T> own, others;
  for (int other = 0; other < ranks; ++other) {
    std::vector<T> values = parts[static_cast<size_t>(other)];
    values.resize(static_cast<size_t>(slice * ranks));
    std::vector<T>& to = other == rank ? own : others;
    to.insert(to.end(), values.begin() + rank * slice, values.begin() + (rank + 1) * slice);
  }
  const DeviceArray<T> in(own), received(others);
  const DeviceArray<float> out(static_cast<size_t>(slice));
  cuda::sumSlice(dtype, in.data(), out.data(), slice, {rank, ranks, received.data(), slice}, nullptr);
  return out.read();
}

// Slices by slices and then the rest in one go: the same bits as all at once.
TEST(all_reduce, slices_have_the_same_bits) {
  constexpr int kRanks = 3;
  for (const bool narrow : {false, true})
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      const Note note("narrow", narrow, dtypeName(dtype));
      const SumCase sum({dtype, 7, 90, true, true, true, NormKind::kLayer, false, narrow}, kRanks, 61);
      RankDevices devices(1);
      const auto count = static_cast<int64_t>(sum.before.size());
      const int64_t slice = padTo((count + kRanks - 1) / kRanks, 8);
      std::vector<std::vector<uint16_t>> elements;
      for (int rank = 0; rank < kRanks; ++rank) elements.push_back(sum.elementsOf(rank));
      std::vector<float> sums;
      for (int rank = 0; rank < kRanks; ++rank) {
        const std::vector<float> found =
            narrow ? sliceOf(dtype, elements, rank, slice) : sliceOf(DType::kF32, sum.parts, rank, slice);
        sums.insert(sums.end(), found.begin(), found.end());
      }
      sums.resize(static_cast<size_t>(count));
      SumCase summed = sum;
      summed.shape.narrow = false;
      summed.parts = {sums};
      const Memories memories = memoriesFor(devices, summed);
      cuda::sumReceived(memories[0]->request, {});
      devices.wait();
      checkSum(devices, summed, memories);
    }
}

}  // namespace
}  // namespace shardspeed::test

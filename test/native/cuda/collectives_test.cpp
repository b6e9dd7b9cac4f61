#ifdef SHARDSPEED_CUDA_EMULATOR  // for the stand-in of NCCL, and for devices as they are wanted

#include "cuda/collectives.h"

#include <cmath>
#include <functional>
#include <thread>

#include "comm/thread_group.h"
#include "cuda/nccl_stand_in.h"
#include "cuda/switch.h"
#include "random.h"
#include "test_threads.h"

// What ranks do together, by every way there is between them: which one is taken, and that it changes no bit.

namespace shardspeed::test {
namespace {

using cuda::Collectives;
using cuda::kColumnStep;
using cuda::padTo;

// One rank's end of a group, with rows to sum.
struct Member {
  Member(Group& theGroup, const GroupShapes& shapes, DType partDtype = DType::kF32)
      : group(theGroup),
        collectives(std::make_unique<Collectives>(theGroup.rank(), theGroup, shapes, partDtype, stream)) {}
  ~Member() {
    collectives->stop();
    cudaStreamSynchronize(stream.get());
  }
  Group& group;
  cuda::Stream stream;
  std::unique_ptr<Collectives> collectives;
};

// Runs body on every rank, each a thread with a device of its own; the codes and texts of the errors, by rank.
std::vector<std::string> onMembers(int ranks, const GroupShapes& shapes, const std::function<void(Member&)>& body,
                                   DType partDtype = DType::kF32) {
  const auto groups = makeThreadGroup(ranks);
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  TestThreads threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.start([&, rank] {
      Group& group = *groups[static_cast<size_t>(rank)];
      try {
        cuda::check(cudaSetDevice(rank), "cudaSetDevice");
        Member member(group, shapes, partDtype);
        body(member);
      } catch (const Error& error) {
        errors[static_cast<size_t>(rank)] = error.code() + ": " + error.what();
        group.fail(error.what());
      } catch (...) {
        errors[static_cast<size_t>(rank)] = describeException();
        group.fail(describeException());
      }
    });
  threads.join();
  return errors;
}

GroupShapes shapesOf(int ranks, int64_t rows, int64_t cols) {
  GroupShapes shapes{rows, cols, std::min<int64_t>(rows, 4), {}};
  for (int rank = 0; rank < ranks; ++rank) shapes.logitCols.push_back(70 - rank);
  return shapes;
}

struct Sums {
  std::vector<float> x;
  std::vector<uint16_t> narrow;
};

// A sum of `rows` rows with everything that may come with it. inPlace: of the rows of x themselves, without the rest.
Sums sumOf(Member& member, int64_t rows, int64_t cols, bool inPlace, std::vector<float>* expected) {
  const int rank = member.group.rank(), ranks = member.group.size();
  const int64_t stride = padTo(cols, kColumnStep);
  const auto valuesOf = [&](uint64_t seed, int64_t count) {
    Random random(seed);
    std::vector<float> values(static_cast<size_t>(count * stride));
    for (int64_t row = 0; row < count; ++row)
      for (int64_t col = 0; col < cols; ++col) values[static_cast<size_t>(row * stride + col)] = random.normal();
    return values;
  };
  std::vector<std::vector<float>> parts;
  // Rows in place are never narrowed.
  const DType partDtype = inPlace ? DType::kF32 : member.collectives->partDtype();
  const bool narrows = partDtype != DType::kF32;
  for (int other = 0; other < ranks; ++other) {
    parts.push_back(valuesOf(static_cast<uint64_t>(other + 1), rows));
    for (float& value : parts.back())
      if (narrows) value = fromElement(partDtype, toElement(partDtype, value));
  }
  const std::vector<float> before = valuesOf(50, rows), bias = valuesOf(51, 1);
  expected->clear();
  for (size_t i = 0; i < before.size(); ++i) {
    float sum = 0;
    for (const auto& part : parts) sum += part[i];
    expected->push_back(inPlace ? sum : before[i] + (sum + bias[i % static_cast<size_t>(stride)]));
  }
  const std::vector<float>& own = parts[static_cast<size_t>(rank)];
  const DeviceArray<float> x(inPlace ? own : before), biases(bias);
  const DeviceArray<uint16_t> narrow(before.size());
  const cuda::NormParams norm{NormKind::kRms, 1e-5f, nullptr, nullptr};
  cuda::RankSum sum;
  if (narrows) sum.dtype = partDtype;
  sum.partDtype = partDtype;
  sum.rows = rows;
  sum.cols = cols;
  sum.stride = stride;
  sum.x = x.data();
  sum.in = inPlace ? static_cast<void*>(x.data()) : member.collectives->partial();
  sum.bias = inPlace ? nullptr : biases.data();
  sum.residual = !inPlace;
  sum.next = &norm;
  sum.narrow = narrow.data();
  sum.stream = member.stream.get();
  std::vector<uint16_t> elements;
  for (const float value : own)
    if (narrows) elements.push_back(toElement(partDtype, value));
  const void* from = narrows ? static_cast<const void*>(elements.data()) : own.data();
  if (!inPlace)
    cuda::check(
        cudaMemcpy(member.collectives->partial(), from, own.size() * dtypeSize(partDtype), cudaMemcpyHostToDevice),
        "copying");
  cuda::check(cudaDeviceSynchronize(), "copying");
  member.collectives->sum(sum);
  member.stream.wait("a sum");
  return {x.read(), narrow.read()};
}

// The normalised rows against those of the host, each within the rounding of fp16.
void checkNarrow(const std::vector<uint16_t>& narrow, const std::vector<float>& sums, int64_t rows, int64_t cols,
                 DType dtype = DType::kF16) {
  const int64_t stride = padTo(cols, kColumnStep);
  for (int64_t row = 0; row < rows; ++row) {
    const float* sum = sums.data() + row * stride;
    double squares = 0;
    for (int64_t col = 0; col < cols; ++col) squares += static_cast<double>(sum[col]) * static_cast<double>(sum[col]);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
    for (int64_t col = 0; col < cols; ++col) {
      const Note note("row", row, "col", col);
      const double found = static_cast<double>(fromElement(dtype, narrow[static_cast<size_t>(row * stride + col)]));
      CHECK_NEAR(found, static_cast<double>(sum[col]) * factor, 1e-4, dtype == DType::kF16 ? 1e-3 : 8e-3);
    }
  }
}

struct Way {
  const char* title;
  const char* pushBytes;
  bool nccl;
  DType partDtype = DType::kF32;
};

// Sums of these numbers of rows by this way: the bits of the host's additions on every rank. Returns what NCCL did.
struct NcclWork {
  int launches, sends, narrowSends, gathers;
};
NcclWork checkWay(const Way& way, int ranks, int64_t cols, const std::vector<int64_t>& rowCounts) {
  const Note note(way.title, "ranks", ranks, "cols", cols);
  emulator::reset();
  emulator::setDeviceCount(ranks);
  const NcclStandIn standIn;
  const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", way.pushBytes), nccl("SHARDSPEED_CUDA_NCCL", way.nccl ? "1" : "0");
  std::mutex mutex;
  std::vector<Sums> first;
  const auto errors = onMembers(
      ranks, shapesOf(ranks, rowCounts.back(), cols),
      [&](Member& member) {
        CHECK_EQ(member.collectives->usesNccl(), way.nccl);
        std::vector<Sums> all;
        for (const int64_t rows : rowCounts)
          for (const bool inPlace : {false, true}) {
            std::vector<float> expected;
            all.push_back(sumOf(member, rows, cols, inPlace, &expected));
            const std::lock_guard<std::mutex> lock(mutex);
            const Note which("rows", rows, "in place", inPlace, "rank", member.group.rank());
            CHECK_BITS(all.back().x.data(), expected.data(), static_cast<int64_t>(expected.size()));
            checkNarrow(all.back().narrow, expected, rows, cols,
                        way.partDtype == DType::kF32 || inPlace ? DType::kF16 : way.partDtype);
          }
        const std::lock_guard<std::mutex> lock(mutex);
        if (first.empty()) first = all;
        for (size_t i = 0; i < all.size(); ++i)
          CHECK_BITS(all[i].narrow.data(), first[i].narrow.data(), static_cast<int64_t>(first[i].narrow.size()));
      },
      way.partDtype);
  for (const std::string& error : errors) CHECK_EQ(error, std::string());
  CHECK_EQ(ncclLibrary.alive.load(), 0);
  CHECK_EQ(ncclLibrary.blocking.load(), 0);
  return {ncclLibrary.launches, ncclLibrary.sends, ncclLibrary.narrowSends, ncclLibrary.gathers};
}

TEST(collectives, every_way_gives_the_same_bits) {
  if (kReduced) {
    checkWay({"pushed in several goes", "1000", false}, 2, 90, {1, 5});
    checkWay({"pushed where rows are few", "4000", true}, 3, 90, {1, 9});
    return;
  }
  for (const int ranks : {2, 3, 4}) {
    checkWay({"pushed at once", "1000000", false}, ranks, 90, {1, 9, 40});
    checkWay({"pushed in several goes", "1000", false}, ranks, 90, {1, 9});
    checkWay({"pushed where rows are few", "4000", true}, ranks, 90, {1, 7, 8, 40});
    checkWay({"NCCL", "0", true}, ranks, 90, {1, 40});
  }
  checkWay({"NCCL", "0", true}, 8, 30, {1, 3});
}

// Parts of 16 bits: likewise, and what is summed in place travels in fp32 as before.
TEST(collectives, every_way_gives_the_same_bits_with_narrow_parts) {
  if (kRaces) {
    checkWay({"pushed in several goes", "1000", false, DType::kF16}, 2, 90, {1, 5});
    return;
  }
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const Note note(dtypeName(dtype));
    if (kReduced && dtype == DType::kBF16) continue;
    for (const int ranks : {2, 3}) {
      if (kReduced && ranks == 2) continue;
      checkWay({"pushed at once", "1000000", false, dtype}, ranks, 90, {1, 9, 40});
      checkWay({"pushed in several goes", "1000", false, dtype}, ranks, 90, {1, 9});
      // As many bytes hold twice as many rows.
      const NcclWork some = checkWay({"pushed where rows are few", "4096", true, dtype}, ranks, 90, {8, 9, 16, 17});
      CHECK_EQ(some.narrowSends, ranks * (ranks - 1));
      CHECK_EQ(some.sends, ranks * (ranks - 1) * 3);
      checkWay({"NCCL", "0", true, dtype}, ranks, 90, {1, 40});
    }
  }
  // In slices: the parts are narrow, the sums that come back are not.
  const NcclWork work = checkWay({"slices", "0", true, DType::kBF16}, 3, 2000, {1, 66});
  CHECK_EQ(work.narrowSends, 3 * 2 * 2);
  CHECK_EQ(work.gathers, 3 * 2);
}

// What is too large to be sent whole goes in two steps; with three ranks slices do not come out even.
TEST(collectives, large_sums_are_sent_in_slices) {
  const int64_t rows = 33;
  for (const int ranks : {2, 3, 4}) {
    if (kReduced && ranks != 3) continue;
    const NcclWork work = checkWay({"slices", "0", true}, ranks, 2000, {1, rows});
    // Every rank: two sums of each size. Whole ones are one launch of it, sliced ones two.
    CHECK_EQ(work.launches, ranks * (ranks == 2 ? 4 : 6));
    CHECK_EQ(work.gathers, ranks == 2 ? 0 : ranks * 2);
  }
}

TEST(collectives, under_all_schedules) {
  for (const emulator::Schedule& schedule : emulator::schedules(kReduced ? 2 : 4)) {
    const Note note("schedule", emulator::describe(schedule));
    const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "2000");
    for (const bool withNccl : {false, true}) {
      emulator::reset();
      emulator::setDeviceCount(3);
      emulator::setSchedule(schedule);
      const NcclStandIn standIn;
      const Switch nccl("SHARDSPEED_CUDA_NCCL", withNccl ? "1" : "0");
      const auto errors = onMembers(3, shapesOf(3, 9, 70), [&](Member& member) {
        for (const int64_t rows : {1, 9, 2}) {
          std::vector<float> expected;
          const Sums sums = sumOf(member, rows, 70, rows == 2, &expected);
          CHECK_BITS(sums.x.data(), expected.data(), static_cast<int64_t>(expected.size()));
          checkNarrow(sums.narrow, expected, rows, 70);
        }
      });
      for (const std::string& error : errors) CHECK_EQ(error, std::string());
    }
  }
  emulator::reset();
}

void checkGather(const Way& way, int ranks) {
  const Note note(way.title, "ranks", ranks);
  emulator::reset();
  emulator::setDeviceCount(ranks);
  const NcclStandIn standIn;
  const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", way.pushBytes), nccl("SHARDSPEED_CUDA_NCCL", way.nccl ? "1" : "0");
  const GroupShapes shapes = shapesOf(ranks, 4, 64);
  const auto errors = onMembers(ranks, shapes, [&](Member& member) {
    const int rank = member.group.rank();
    int64_t vocab = 0;
    for (const int64_t cols : shapes.logitCols) vocab += cols;
    const int64_t wholeStride = padTo(vocab, kColumnStep);
    for (const int64_t rows : {3, 1, 4}) {
      std::vector<float> expected(static_cast<size_t>(rows * wholeStride)), own;
      int64_t firstCol = 0;
      for (int other = 0; other < ranks; ++other) {
        const int64_t cols = shapes.logitCols[static_cast<size_t>(other)], stride = padTo(cols, kColumnStep);
        const std::vector<float> part = Random(static_cast<uint64_t>(rows * 10 + other)).normals(rows * stride);
        for (int64_t row = 0; row < rows; ++row)
          std::copy_n(part.begin() + row * stride, cols, expected.begin() + row * wholeStride + firstCol);
        firstCol += cols;
        if (other == rank) own = part;
      }
      const DeviceArray<float> part(own), whole(std::vector<float>(expected.size()));
      cuda::check(cudaDeviceSynchronize(), "copying");
      member.collectives->gather(rows, part.data(), rank == 0 ? whole.data() : nullptr, wholeStride);
      member.stream.wait("gathering");
      if (rank == 0) CHECK_BITS(whole.read().data(), expected.data(), static_cast<int64_t>(expected.size()));
    }
  });
  for (const std::string& error : errors) CHECK_EQ(error, std::string());
  emulator::reset();
}

TEST(collectives, logits_come_together) {
  for (const int ranks : {2, 3, 5}) {
    if (kReduced && ranks > 3) continue;
    checkGather({"pushed", "100000", false}, ranks);
    checkGather({"NCCL", "0", true}, ranks);
  }
}

// --- What cannot be

std::vector<std::string> tryToMeet(int ranks, bool peerAccess) {
  emulator::reset();
  emulator::setDeviceCount(ranks);
  emulator::setPeerAccess(peerAccess);
  return onMembers(ranks, shapesOf(ranks, 4, 64), [](Member&) {});
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(collectives, without_a_way_the_error_says_what_is_missing) {
  {
    const Switch nccl("SHARDSPEED_CUDA_NCCL", "0");
    for (const std::string& error : tryToMeet(3, false)) {
      const Note note(error);
      CHECK(error.starts_with("ERR_COMM: There is no way between the devices of the ranks."));
      CHECK(
          has(error, "Direct access: cuda:0 has no access to the memory of cuda:1 (no link between them carries it)"));
      CHECK(has(error, "NCCL: rank 0: switched off by SHARDSPEED_CUDA_NCCL=0"));
    }
    const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "0");
    for (const std::string& error : tryToMeet(2, true)) CHECK(has(error, "SHARDSPEED_CUDA_PUSH_BYTES=0"));
  }
  // The library is not installed where these tests run, or not usable: either way the message says why.
  emulator::reset();
  std::string whyNot;
  if (!cuda::findNccl(&whyNot))
    for (const std::string& error : tryToMeet(2, false)) CHECK(has(error, whyNot.substr(0, 20).c_str()));
  const NcclStandIn standIn;
  for (const std::string& error : tryToMeet(2, false)) CHECK_EQ(error, std::string());
  emulator::reset();
}

// The driver says that there is access, and what is written is lost.
TEST(collectives, memory_that_takes_no_writes_is_found_at_the_start) {
  const auto meet = [] {
    emulator::reset();
    emulator::setDeviceCount(3);
    emulator::dropWrites(2, 1);
    return onMembers(3, shapesOf(3, 4, 64), [](Member& member) {
      std::vector<float> expected;
      const Sums found = sumOf(member, 3, 64, false, &expected);
      CHECK_BITS(found.x.data(), expected.data(), static_cast<int64_t>(expected.size()));
    });
  };
  {
    const Switch nccl("SHARDSPEED_CUDA_NCCL", "0");
    for (const std::string& error : meet()) {
      const Note note(error);
      CHECK(error.starts_with("ERR_COMM: There is no way between the devices of the ranks."));
      CHECK(has(error, "Direct access: what cuda:2 writes to the memory of cuda:1 does not arrive there"));
    }
  }
  // NCCL has other ways.
  const NcclStandIn standIn;
  for (const std::string& error : meet()) CHECK_EQ(error, std::string());
  emulator::reset();
}

TEST(collectives, ranks_that_do_not_match_are_refused) {
  const NcclStandIn standIn;
  ncclLibrary.versionStep = 1;
  emulator::reset();
  emulator::setDeviceCount(2);
  emulator::setPeerAccess(false);
  for (const std::string& error : onMembers(2, shapesOf(2, 4, 64), [](Member&) {})) {
    const Note note(error);
    CHECK(has(error, "NCCL: rank 1: is of version 228") && has(error, ", rank 0's is of 228"));
  }
  const auto groups = makeThreadGroup(2);
  TestThreads other;
  other.start([&] { groups[1]->exchange({1, 2, 3}); });
  CHECK_THROWS("ERR_COMM", "rank 1 describes its device in 3 bytes", Member(*groups[0], shapesOf(2, 4, 64)));
  other.join();
  emulator::reset();
}

// More ranks than can push to each other.
TEST(collectives, many_ranks_need_nccl) {
  if (kReduced) SKIP("nine ranks take long under a sanitizer");
  {
    const Switch nccl("SHARDSPEED_CUDA_NCCL", "0");
    for (const std::string& error : tryToMeet(9, true)) CHECK(has(error, "the ranks are more than 8"));
  }
  emulator::reset();
}

TEST(collectives, failures_of_nccl_are_errors_on_all_ranks) {
  const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "0");
  const auto check = [](const char* title, std::atomic<int>& failing, const char* words) {
    const Note note(title);
    for (const int nth : {1, 2, 3}) {
      const Note which("call", nth);
      emulator::reset();
      emulator::setDeviceCount(3);
      const NcclStandIn standIn;
      failing = nth;
      const auto errors = onMembers(3, shapesOf(3, 4, 64), [](Member& member) {
        std::vector<float> ignored;
        for (int round = 0; round < 3; ++round) {
          sumOf(member, 2, 64, false, &ignored);
          member.group.check();
        }
        member.group.exchange({});
      });
      int failed = 0;
      for (const std::string& error : errors) {
        const Note said(error);
        CHECK(error.starts_with("ERR_COMM: "));
        if (has(error, words)) ++failed;
      }
      CHECK(failed >= 1);
      CHECK_EQ(ncclLibrary.alive.load(), 0);
    }
    emulator::reset();
  };
  check("joining", ncclLibrary.failingInit, "NCCL, joining the group: an error of the test (said more closely)");
  check("calling", ncclLibrary.failingGroup, "NCCL, exchanging parts of a sum: an error of the test");
  check("on the way", ncclLibrary.failingLater, "an error of the test (said more closely)");
}

// A rank that does not come: the others wait on their devices until the group ends, and no longer.
TEST(collectives, the_end_of_the_group_ends_all_waiting) {
  for (const Way& way : {Way{"pushed", "100000", false}, Way{"NCCL", "0", true}})
    for (const bool gathering : {false, true}) {
      const Note note(way.title, "gathering", gathering);
      emulator::reset();
      emulator::setDeviceCount(3);
      const NcclStandIn standIn;
      const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", way.pushBytes),
          nccl("SHARDSPEED_CUDA_NCCL", way.nccl ? "1" : "0");
      const auto errors = onMembers(3, shapesOf(3, 4, 64), [&](Member& member) {
        if (member.group.rank() == 1) {
          std::this_thread::sleep_for(std::chrono::milliseconds(100));
          throw Error("ERR_CUDA", "the rank of the test is gone");
        }
        std::vector<float> ignored;
        if (gathering) {
          const DeviceArray<float> part(4 * 128), whole(4 * 256);
          cuda::check(cudaDeviceSynchronize(), "filling");
          member.collectives->gather(4, part.data(), member.group.rank() == 0 ? whole.data() : nullptr, 256);
          member.stream.wait("gathering");
        } else {
          sumOf(member, 3, 64, false, &ignored);
        }
        // Who only sends logits has no one to wait for yet.
        if (gathering && member.group.rank() == 2) member.group.exchange({});
        member.group.check();
        FAIL("went on after the group had ended");
      });
      CHECK_EQ(errors[1], std::string("ERR_CUDA: the rank of the test is gone"));
      for (const size_t rank : {size_t{0}, size_t{2}}) {
        const Note which("rank", rank, errors[rank]);
        CHECK(errors[rank].starts_with("ERR_COMM: ") && has(errors[rank], "the rank of the test is gone"));
      }
      CHECK_EQ(ncclLibrary.alive.load(), 0);
    }
  emulator::reset();
}

}  // namespace
}  // namespace shardspeed::test

#endif

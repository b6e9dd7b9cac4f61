#include "cuda/graph_cache.h"

#include "base/error.h"
#include "cuda/device.h"

namespace shardspeed::test {
namespace {

// A step that puts its mark into a row of the output: what a replayed graph wrote says whose graph it was.
struct Marks {
  explicit Marks(int64_t count) : out(static_cast<size_t>(count)), source(static_cast<size_t>(count)) {
    std::vector<int32_t> numbers;
    for (int32_t i = 0; i < count; ++i) numbers.push_back(i);
    source.write(numbers);
    cuda::check(cudaDeviceSynchronize(), "starting");
  }
  bool run(const cuda::GraphCache::Form& form, int64_t mark) {
    return graphs.run(form, stream, [&] {
      ++bodies;
      cuda::check(
          cudaMemcpyAsync(out.data(), source.data() + mark, sizeof(int32_t), cudaMemcpyDeviceToDevice, stream.get()),
          "a step");
      return true;
    });
  }
  int32_t last() {
    stream.wait("a step");
    return out.read()[0];
  }

  cuda::Stream stream;
  DeviceArray<int32_t> out, source;
  cuda::GraphCache graphs;
  int bodies = 0;
};

}  // namespace

// Once as it is, once captured, from then on replayed; rows and items both make a form.
TEST(cuda_graph_cache, each_form_is_replayed_as_itself) {
  Marks marks(8);
  for (int round = 0; round < 4; ++round)
    for (const int64_t rows : {1, 2})
      for (const int64_t items : {1, 2, 4}) {
        const Note note("round", round, "rows", rows, "items", items);
        const int64_t mark = rows + items;
        CHECK(marks.run({rows, items}, round < 2 ? mark : 0));
        CHECK_EQ(marks.last(), mark);
      }
  CHECK_EQ(marks.bodies, 12);
}

// 48 forms are kept; which one goes is the one that was not used for longest.
TEST(cuda_graph_cache, the_form_least_recently_used_goes) {
  Marks marks(64);
  for (int round = 0; round < 2; ++round)
    for (int64_t rows = 1; rows <= 48; ++rows) marks.run({rows, 1}, rows);
  CHECK_EQ(marks.bodies, 96);
  marks.run({1, 1}, 0);
  CHECK_EQ(marks.bodies, 96);
  marks.run({49, 1}, 49);  // in the place of 2
  CHECK_EQ(marks.bodies, 97);
  marks.run({1, 1}, 0);
  CHECK_EQ(marks.last(), 1);
  CHECK_EQ(marks.bodies, 97);
  marks.run({3, 1}, 0);
  CHECK_EQ(marks.last(), 3);
  CHECK_EQ(marks.bodies, 97);
  marks.run({2, 1}, 2);
  CHECK_EQ(marks.last(), 2);
  CHECK_EQ(marks.bodies, 98);
}

TEST(cuda_graph_cache, what_is_not_finished_is_no_form) {
  Marks marks(2);
  for (int i = 0; i < 3; ++i) CHECK(!marks.graphs.run({1, 1}, marks.stream, [] { return false; }));
  CHECK(marks.run({1, 1}, 1));
  CHECK_EQ(marks.last(), 1);
}

// What cannot be captured runs as it is from then on; where other ranks capture it too, that is an error.
TEST(cuda_graph_cache, steps_that_cannot_be_captured) {
  for (const bool required : {false, true}) {
    const Note note("required", required);
    Marks marks(2);
    if (required) marks.graphs.requireCapture();
    int runs = 0;
    const auto step = [&] {
      return marks.graphs.run({1, 1}, marks.stream, [&] {
        if (++runs == 2) throw Error("ERR_CUDA", "not in a capture");
        return true;
      });
    };
    CHECK(step());
    if (required) {
      CHECK_THROWS("ERR_CUDA", "not in a capture", step());
    } else {
      CHECK(step());
      CHECK(step());
      CHECK_EQ(runs, 4);
    }
  }
}

}  // namespace shardspeed::test

#ifdef SHARDSPEED_CUDA_EMULATOR  // the stand-in computes in the host's memory, which is the emulator's device memory
                                 // too

#include "cuda/products.h"

#include "cuda/cublaslt_stand_in.h"
#include "random.h"

// Which rows go to the library and which to our kernels, and that both come to the same.

namespace shardspeed::test {

struct ProductCase {
  const char* title;
  RowKind inKind, outKind;
  bool norm, bias, gated, residual;
  ActivationKind activation;
};

constexpr int64_t kRows = 12, kGenerated = 4, kIn = 40, kOut = 64;  // gated: 32 columns come out
constexpr PromptRows kPrompts = {3, 2, 3};                          // the last are of short prompts
constexpr int64_t kOwn = kGenerated + 3;

class SplitProduct {
 public:
  SplitProduct(const ProductCase& wanted, DType dtype) : case_(wanted), dtype_(dtype) {
    Random random(95);
    std::vector<uint16_t> weight(static_cast<size_t>(kOut * kInStride)), in(static_cast<size_t>(kRows * kInStride));
    std::vector<float> wideIn(in.size());
    for (int64_t row = 0; row < kOut; ++row)
      for (int64_t k = 0; k < kIn; ++k)
        weight[static_cast<size_t>(row * kInStride + k)] = toElement(dtype, random.normal() * 0.2f);
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t k = 0; k < kIn; ++k) {
        const auto at = static_cast<size_t>(row * kInStride + k);
        in[at] = toElement(dtype, random.normal());
        wideIn[at] = fromElement(dtype, in[at]);
      }
    before_ = random.normals(kRows * kOut);
    weight_.write(weight);
    in_.write(in);
    wideIn_.write(wideIn);
    bias_.write(random.normals(kOut));
  }

  // What comes out, row by row.
  std::vector<float> compute(Products& products, int64_t generated = kGenerated, const PromptRows& prompts = kPrompts) {
    const DeviceArray<float> wideOut(before_);
    const DeviceArray<uint16_t> out(static_cast<size_t>(kRows * kOut));
    const NormParams norm{NormKind::kRms, 1e-5f, nullptr, nullptr};
    const bool fromStream = case_.inKind == RowKind::kStream, toStream = case_.outKind == RowKind::kStream;
    ProjectionParams params;
    params.dtype = dtype_;
    params.rows = kRows;
    params.outFeatures = kOut;
    params.inFeatures = kIn;
    params.weight = weight_.data();
    params.bias = case_.bias ? bias_.data() : nullptr;
    params.inKind = case_.inKind;
    params.in = fromStream ? static_cast<const void*>(wideIn_.data()) : in_.data();
    params.inStride = kInStride;
    params.norm = case_.norm ? &norm : nullptr;
    params.outKind = case_.outKind;
    params.out = toStream ? static_cast<void*>(wideOut.data()) : out.data();
    params.outStride = kOut;
    params.activation = case_.activation;
    params.gated = case_.gated;
    params.residual = case_.residual;
    params.scratch = scratch_.data();
    products.setRows(generated, prompts);
    const uint64_t start = emulator::calls("cudaLaunchKernelEx");
    products.run(params);
    launches_ = emulator::calls("cudaLaunchKernelEx") - start;
    if (toStream) return wideOut.read();
    std::vector<float> values;
    const int64_t columns = case_.gated ? kOut / 2 : kOut;
    const std::vector<uint16_t> bits = out.read();
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < columns; ++col)
        values.push_back(fromElement(dtype_, bits[static_cast<size_t>(row * kOut + col)]));
    return values;
  }
  // The same by products that have the stand-in.
  std::vector<float> share(int64_t generated = kGenerated, const PromptRows& prompts = kPrompts) {
    Products products;
    products.prepare(kRows, kOut, std::make_unique<CublasLt>(waitingStandIn(), nullptr, 0));
    return compute(products, generated, prompts);
  }
  uint64_t launches() const { return launches_; }  // of our kernels, by what was computed last

 private:
  static constexpr int64_t kInStride = padTo(kIn, kColumnStep);
  const ProductCase& case_;
  DType dtype_;
  DeviceArray<uint16_t> weight_{static_cast<size_t>(kOut * kInStride)}, in_{static_cast<size_t>(kRows * kInStride)},
      scratch_{static_cast<size_t>(kRows * kInStride)};
  DeviceArray<float> wideIn_{static_cast<size_t>(kRows * kInStride)}, bias_{static_cast<size_t>(kOut)};
  std::vector<float> before_;
  uint64_t launches_ = 0;
};

static void checkSplit(const ProductCase& wanted, DType dtype) {
  const Note note(wanted.title, dtypeName(dtype));
  SplitProduct product(wanted, dtype);
  Products own;
  const std::vector<float> expected = product.compute(own);
  const uint64_t ownLaunches = product.launches();
  // The rows ahead of the others are by the same kernel.
  const auto compare = [&](const std::vector<float>& found, int64_t sameRows) {
    const auto columns = static_cast<int64_t>(expected.size()) / kRows;
    REQUIRE(found.size() == expected.size());
    CHECK_BITS(found.data(), expected.data(), sameRows * columns);
    for (size_t i = 0; i < found.size(); ++i) {
      const Note place("element", i);
      CHECK_NEAR(found[i], static_cast<double>(expected[i]), dtype == DType::kF16 ? 4e-3 : 3e-2,
                 dtype == DType::kF16 ? 2e-3 : 2e-2);
    }
  };
  using Made = std::vector<std::pair<uint64_t, uint64_t>>;
  startAnew();
  library.answerByPlan = true;
  compare(product.share(), kOwn);
  CHECK(library.made == Made({{256, 2}, {2048, 3}}));
  // A table, which the step's rows say nothing about, and some of a step's rows.
  compare(product.share(0, {3, 0, 0}), 0);
  CHECK(library.made.back() == std::pair(uint64_t{2048}, uint64_t{kRows}));
  CHECK_EQ(library.made.size(), 3u);
  compare(product.share(kRows + 1, {}), kRows);
  CHECK_EQ(library.made.size(), 3u);
  // One algorithm for both classes is one product.
  startAnew();
  compare(product.share(), kOwn);
  CHECK(library.made == Made({{11, 5}}));
  CHECK(library.plans == std::vector<uint64_t>({256, 2048}));
  // Where the library does not take a class, its rows are our kernels', in one product with those beside them.
  startAnew();
  library.refusedPlans = {256};
  compare(product.share(), kOwn + 2);
  CHECK(library.made == Made({{11, 3}}));
  startAnew();
  library.refusedPlans = {256, 2048};
  compare(product.share(), kRows);
  CHECK(library.made.empty());
  CHECK_EQ(product.launches(), ownLaunches);
}

TEST(cuda_products, rows_of_prompts_go_to_the_library) {
  const ProductCase cases[] = {
      {"plain", RowKind::kElement, RowKind::kElement, false, false, false, false, ActivationKind::kNone},
      {"norm and bias", RowKind::kStream, RowKind::kElement, true, true, false, false, ActivationKind::kNone},
      {"activation", RowKind::kStream, RowKind::kElement, true, true, false, false, ActivationKind::kGelu},
      {"gated", RowKind::kStream, RowKind::kElement, true, true, true, false, ActivationKind::kSilu},
      {"residual", RowKind::kElement, RowKind::kStream, false, true, false, true, ActivationKind::kNone},
      {"stream to stream", RowKind::kStream, RowKind::kStream, true, false, false, false, ActivationKind::kNone},
  };
  for (const ProductCase& wanted : cases)
    for (const DType dtype : {DType::kF16, DType::kBF16}) underAllSchedules([&] { checkSplit(wanted, dtype); });
}

}  // namespace shardspeed::test

#endif

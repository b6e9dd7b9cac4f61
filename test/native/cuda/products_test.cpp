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

static void checkSplit(const ProductCase& wanted, DType dtype) {
  const Note note(wanted.title, dtypeName(dtype));
  constexpr int64_t kRows = 12, kGenerated = 4, kIn = 40, kOut = 64;  // gated: 32 columns come out
  const PromptRows prompts = {3, 2, 3};                               // the last are of short prompts
  constexpr int64_t kOwn = kGenerated + 3;
  Random random(95);
  const int64_t inStride = padTo(kIn, kColumnStep), outStride = kOut;
  std::vector<uint16_t> weight(static_cast<size_t>(kOut * inStride)), in(static_cast<size_t>(kRows * inStride));
  std::vector<float> wideIn(in.size());
  for (int64_t row = 0; row < kOut; ++row)
    for (int64_t k = 0; k < kIn; ++k)
      weight[static_cast<size_t>(row * inStride + k)] = toElement(dtype, random.normal() * 0.2f);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t k = 0; k < kIn; ++k) {
      const auto at = static_cast<size_t>(row * inStride + k);
      in[at] = toElement(dtype, random.normal());
      wideIn[at] = fromElement(dtype, in[at]);
    }
  const std::vector<float> bias = random.normals(kOut), before = random.normals(kRows * outStride);
  const DeviceArray<uint16_t> deviceWeight(weight), deviceIn(in), scratch(in.size());
  const DeviceArray<float> deviceWideIn(wideIn), deviceBias(bias);
  const NormParams norm{NormKind::kRms, 1e-5f, nullptr, nullptr};
  const auto compute = [&](Products& products) {
    const DeviceArray<float> wideOut(before);
    const DeviceArray<uint16_t> out(static_cast<size_t>(kRows * outStride));
    ProjectionParams params;
    params.dtype = dtype;
    params.rows = kRows;
    params.outFeatures = kOut;
    params.inFeatures = kIn;
    params.weight = deviceWeight.data();
    params.bias = wanted.bias ? deviceBias.data() : nullptr;
    params.inKind = wanted.inKind;
    params.in = wanted.inKind == RowKind::kStream ? static_cast<const void*>(deviceWideIn.data()) : deviceIn.data();
    params.inStride = inStride;
    params.norm = wanted.norm ? &norm : nullptr;
    params.outKind = wanted.outKind;
    params.out = wanted.outKind == RowKind::kStream ? static_cast<void*>(wideOut.data()) : out.data();
    params.outStride = outStride;
    params.activation = wanted.activation;
    params.gated = wanted.gated;
    params.residual = wanted.residual;
    params.scratch = scratch.data();
    products.setRows(kGenerated, prompts);
    products.run(params);
    std::vector<float> values;
    if (wanted.outKind == RowKind::kStream) return wideOut.read();
    const int64_t columns = wanted.gated ? kOut / 2 : kOut;
    const std::vector<uint16_t> bits = out.read();
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < columns; ++col)
        values.push_back(fromElement(dtype, bits[static_cast<size_t>(row * outStride + col)]));
    return values;
  };
  const auto shared = [&](uint64_t& launches) {
    Products products;
    products.prepare(kRows, kOut, std::make_unique<CublasLt>(waitingStandIn(), nullptr, 0));
    const uint64_t start = emulator::calls("cudaLaunchKernelEx");
    std::vector<float> values = compute(products);
    launches = emulator::calls("cudaLaunchKernelEx") - start;
    return values;
  };
  Products own;
  uint64_t launches = 0;
  const uint64_t start = emulator::calls("cudaLaunchKernelEx");
  const std::vector<float> expected = compute(own);
  const uint64_t ownLaunches = emulator::calls("cudaLaunchKernelEx") - start;
  const auto compare = [&](const std::vector<float>& found, int64_t sameRows) {
    const auto columns = static_cast<int64_t>(expected.size()) / kRows;
    REQUIRE(found.size() == expected.size());
    CHECK_BITS(found.data(), expected.data(), sameRows * columns);  // by the same kernel
    for (size_t i = 0; i < found.size(); ++i) {
      const Note place("element", i);
      CHECK_NEAR(found[i], static_cast<double>(expected[i]), dtype == DType::kF16 ? 4e-3 : 3e-2,
                 dtype == DType::kF16 ? 2e-3 : 2e-2);
    }
  };
  using Made = std::vector<std::pair<uint64_t, uint64_t>>;
  startAnew();
  compare(shared(launches), kOwn);
  CHECK(library.made == Made({{11, 2}, {11, 3}}));
  CHECK(library.plans == std::vector<uint64_t>({256, 2048}));
  // Where the library does not take a class, its rows are our kernels', in one product with those beside them.
  startAnew();
  library.refusedPlans = {256};
  compare(shared(launches), kOwn + 2);
  CHECK(library.made == Made({{11, 3}}));
  startAnew();
  library.refusedPlans = {256, 2048};
  compare(shared(launches), kRows);
  CHECK(library.made.empty());
  CHECK_EQ(launches, ownLaunches);
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

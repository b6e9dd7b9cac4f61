#include "reference_sums.h"

#include "stored.h"

namespace shardspeed::test {

double sumOfProducts(double first, const double* x, const double* weights, size_t count) {
  double sum = first;
  for (size_t i = 0; i < count; ++i) sum += x[i] * weights[i];
  return sum;
}

double sumOfProducts(double first, const double* x, const float* weights, size_t count, DType dtype) {
  double sum = first;
  if (dtype == DType::kF32) {
    for (size_t i = 0; i < count; ++i) sum += x[i] * static_cast<double>(weights[i]);
  } else {
    for (size_t i = 0; i < count; ++i) sum += x[i] * static_cast<double>(roundedTo(dtype, weights[i]));
  }
  return sum;
}

void addScaled(double weight, const double* values, size_t count, double* out) {
  for (size_t i = 0; i < count; ++i) out[i] += weight * values[i];
}

}  // namespace shardspeed::test

#pragma once

#include <cstddef>

#include "base/dtype.h"

// The innermost loops of references, by which most of the time of some topics goes: these are compiled without the
// checks of sanitizers, which are for the code that is compared with them.

namespace shardspeed::test {

// first + x[0] weights[0] + x[1] weights[1] + ..., in this order.
double sumOfProducts(double first, const double* x, const double* weights, size_t count);
// The same with weights as an engine of this dtype keeps them.
double sumOfProducts(double first, const double* x, const float* weights, size_t count, DType dtype);

// out[i] += weight * values[i].
void addScaled(double weight, const double* values, size_t count, double* out);

}  // namespace shardspeed::test

// Resource quantities: exact multiples of 1/10,000, so that 0.1 + 0.2 - 0.3 is zero.
// Threads: immutable value.
#pragma once

#include <cmath>
#include <compare>
#include <cstdint>

namespace ray::base {

class FixedPoint {
 public:
  static constexpr int64_t kUnit = 10'000;

  constexpr FixedPoint() = default;
  static constexpr FixedPoint FromRaw(int64_t raw) {
    FixedPoint value;
    value.raw_ = raw;
    return value;
  }
  static FixedPoint FromDouble(double value) { return FromRaw(std::llround(value * kUnit)); }
  static constexpr FixedPoint FromInt(int64_t value) { return FromRaw(value * kUnit); }

  constexpr int64_t raw() const { return raw_; }
  constexpr double ToDouble() const { return static_cast<double>(raw_) / kUnit; }
  constexpr bool IsZero() const { return raw_ == 0; }

  constexpr FixedPoint& operator+=(FixedPoint other) {
    raw_ += other.raw_;
    return *this;
  }
  constexpr FixedPoint& operator-=(FixedPoint other) {
    raw_ -= other.raw_;
    return *this;
  }
  friend constexpr FixedPoint operator+(FixedPoint a, FixedPoint b) { return a += b; }
  friend constexpr FixedPoint operator-(FixedPoint a, FixedPoint b) { return a -= b; }
  friend constexpr auto operator<=>(FixedPoint a, FixedPoint b) = default;

 private:
  int64_t raw_ = 0;
};

}  // namespace ray::base

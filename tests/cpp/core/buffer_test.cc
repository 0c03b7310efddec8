#include "ray/core/buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace ray::core {
namespace {

TEST(Buffer, IsAlignedAndWritableToItsEnd) {
  std::vector<std::unique_ptr<Buffer>> buffers;
  for (size_t size = 0; size < 300; ++size) {
    buffers.push_back(std::make_unique<Buffer>(size));
    Buffer& buffer = *buffers.back();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % Buffer::kAlignment, 0u);
    EXPECT_EQ(buffer.size(), size);
    std::memset(buffer.mutable_data(), 'x', size);
  }
  for (const auto& buffer : buffers) {
    EXPECT_EQ(buffer->view(), std::string(buffer->size(), 'x'));
  }
}

TEST(Buffer, CopyHoldsTheSameBytes) {
  EXPECT_EQ(Buffer::Copy("some bytes")->view(), "some bytes");
  EXPECT_EQ(Buffer::Copy("")->view(), "");
}

}  // namespace
}  // namespace ray::core

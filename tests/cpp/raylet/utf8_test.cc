#include "ray/raylet/utf8.h"

#include <gtest/gtest.h>

namespace ray::raylet {
namespace {

TEST(ToValidUtf8, KeepsWhatIsValid) {
  for (const char* text : {"", "plain", "Grüße", "日本", "\xf0\x9f\x98\x80", "\x1b[0m"}) {
    EXPECT_EQ(ToValidUtf8(text), text);
  }
}

TEST(ToValidUtf8, ReplacesEachByteThatIsNot) {
  EXPECT_EQ(ToValidUtf8("a\xff"
                        "b"),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(ToValidUtf8("\xe6\x97"), "\xef\xbf\xbd\xef\xbf\xbd") << "cut short";
  EXPECT_EQ(ToValidUtf8("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd") << "overlong";
  EXPECT_EQ(ToValidUtf8("\xed\xa0\x80").size(), 9u) << "a surrogate";
  EXPECT_EQ(ToValidUtf8("\xf4\x90\x80\x80").size(), 12u) << "beyond Unicode";
}

}  // namespace
}  // namespace ray::raylet

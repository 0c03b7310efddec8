#include "ray/accelerators/json_writer.h"

#include <gtest/gtest.h>

namespace ray::accelerators {
namespace {

TEST(JsonWriter, NestsAndSeparates) {
  JsonWriter json;
  json.BeginObject();
  json.Key("list");
  json.BeginArray();
  json.Value(1u);
  json.Value(0.5);
  json.BeginObject();
  json.EndObject();
  json.EndArray();
  json.Field("text", std::string("a"));
  json.EndObject();
  EXPECT_EQ(json.text(), R"({"list":[1,0.5,{}],"text":"a"})");
}

TEST(JsonWriter, EscapesWhatMayNotStandInText) {
  JsonWriter json;
  json.Value("quote \" backslash \\ newline \n");
  EXPECT_EQ(json.text(), R"("quote \" backslash \\ newline \u000a")");
}

}  // namespace
}  // namespace ray::accelerators

// Writes JSON without a library, for programs that must build on a bare machine.
// Threads: thread-compatible.   The caller keeps the order of calls that JSON wants: a key before
// each value of an object.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace ray::accelerators {

class JsonWriter {
 public:
  void BeginObject() { Open('{'); }
  void EndObject() { Close('}'); }
  void BeginArray() { Open('['); }
  void EndArray() { Close(']'); }
  void Key(std::string_view key);
  void Value(std::string_view text);
  void Value(double number);
  void Value(std::unsigned_integral auto number) { Raw(std::to_string(number)); }

  template <typename T>
  void Field(std::string_view key, const T& value) {
    Key(key);
    Value(value);
  }

  const std::string& text() const { return text_; }

 private:
  void Open(char bracket);
  void Close(char bracket);
  void Raw(std::string_view json);
  // A comma, unless the value is the first of its object or array, or follows its key.
  void Separate();
  void Quote(std::string_view text);

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace ray::accelerators

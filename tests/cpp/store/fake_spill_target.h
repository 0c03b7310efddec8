// A spill target of the tests: files are strings, and operations end when the test says so.
// Threads: of the test's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "ray/store/spill_target.h"

namespace ray::store {

class FakeSpillTarget final : public SpillTarget {
 public:
  // `memory` stands for the arena's bytes.
  explicit FakeSpillTarget(std::string* memory) : memory_(memory) {}

  void Write(SpillFileId file, std::vector<Extent> pieces, Done done) override {
    ++writes;
    operations_.push_back(
        [this, file, pieces = std::move(pieces), done = std::move(done)]() mutable {
          if (!next_error.ok()) return done(std::exchange(next_error, absl::OkStatus()));
          for (Extent piece : pieces) {
            files[file].push_back(memory_->substr(piece.offset, piece.size));
          }
          done(absl::OkStatus());
        });
  }

  void Read(SpillFileId file, uint32_t index, Extent into, Done done) override {
    ++reads;
    operations_.push_back([this, file, index, into, done = std::move(done)]() mutable {
      if (!next_error.ok()) return done(std::exchange(next_error, absl::OkStatus()));
      const std::string& bytes = files.at(file).at(index);
      ASSERT_EQ(bytes.size(), into.size);
      memory_->replace(into.offset, into.size, bytes);
      done(absl::OkStatus());
    });
  }

  void Map(SpillFileId file, uint32_t index, MapDone done) override {
    ++maps;
    operations_.push_back([this, file, index, done = std::move(done)]() mutable {
      if (!next_error.ok()) return done(std::exchange(next_error, absl::OkStatus()));
      if (!mappable) return done(absl::UnimplementedError("its storage cannot be mapped"));
      done(MappedPlace{.path = PathOf(file, index)});
    });
  }

  void Make(SpillFileId file, uint64_t size_bytes, MapDone done) override {
    ++makes;
    operations_.push_back([this, file, size_bytes, done = std::move(done)]() mutable {
      if (!next_error.ok()) return done(std::exchange(next_error, absl::OkStatus()));
      files[file].emplace_back(size_bytes, '\0');
      done(MappedPlace{.path = PathOf(file)});
    });
  }

  void Remove(SpillFileId file) override {
    operations_.push_back([this, file] { EXPECT_EQ(files.erase(file), 1u); });
  }

  static std::string PathOf(SpillFileId file, uint32_t index = 0) {
    return std::to_string(static_cast<uint64_t>(file)) + "/" + std::to_string(index);
  }
  // The piece of that path, as if mapped.
  std::string& Mapped(const std::string& path) {
    return files.at(SpillFileId{std::stoull(path)}).at(std::stoul(path.substr(path.find('/') + 1)));
  }
  const std::string& Mapped(const std::string& path) const {
    return const_cast<FakeSpillTarget*>(this)->Mapped(path);
  }

  // False: there is no operation to end.
  bool FinishOne() {
    if (operations_.empty()) return false;
    auto operation = std::move(operations_.front());
    operations_.pop_front();
    operation();
    return true;
  }
  void FinishAll() {
    while (FinishOne()) {
    }
  }
  size_t pending() const { return operations_.size(); }

  absl::Status next_error;  // what the next operation ends with
  int writes = 0;
  int reads = 0;
  int makes = 0;
  int maps = 0;
  bool mappable = true;  // what was written
  std::map<SpillFileId, std::vector<std::string>> files;

 private:
  std::string* const memory_;
  std::deque<absl::AnyInvocable<void()>> operations_;
};

}  // namespace ray::store

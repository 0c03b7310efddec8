// What the store does on threads of its own, in the virtual world: pages are returned, and files
// written and read, a while later, as the raylet. Files are strings.
#include <cstring>
#include <map>
#include <utility>

#include "ray/base/check.h"
#include "ray/raylet/spill_setup.h"
#include "ray/store/page_warmer.h"
#include "tests/sim/world/world.h"

namespace ray::store {

using sim::World;

struct PageWarmer::Thread {
  const SharedMemory* memory;
  Post post;
};

PageWarmer::PageWarmer(const SharedMemory* memory, uint64_t, Post post, OnWarm)
    : thread_(new Thread{memory, std::move(post)}) {}

PageWarmer::~PageWarmer() = default;

void PageWarmer::ReturnPages(Extent extent, absl::AnyInvocable<void()> done) {
  thread_->memory->ReturnPages(extent);
  World* world = World::Current();
  world->After(world->Between(absl::Microseconds(20), absl::Milliseconds(2)), world->current(),
               [post = thread_->post, done = std::move(done)]() mutable { post(std::move(done)); });
}

namespace {

// One operation after the other, as a disk does them.
class VirtualDisk final : public SpillTarget {
 public:
  VirtualDisk(const SharedMemory* memory, IoThread::Post post)
      : memory_(memory), post_(std::move(post)), process_(World::Current()->current()) {}

  void Write(SpillFileId file, std::vector<Extent> pieces, Done done) override {
    Later([this, file, pieces = std::move(pieces), done = std::move(done)]() mutable {
      for (Extent piece : pieces) {
        files_[file].emplace_back(reinterpret_cast<const char*>(memory_->At(piece.offset)),
                                  piece.size);
      }
      post_([done = std::move(done)]() mutable { done(absl::OkStatus()); });
    });
  }
  void Read(SpillFileId file, uint32_t index, Extent into, Done done) override {
    Later([this, file, index, into, done = std::move(done)]() mutable {
      const std::string& bytes = files_.at(file).at(index);
      MANTA_CHECK(bytes.size() == into.size);
      std::memcpy(memory_->At(into.offset), bytes.data(), bytes.size());
      post_([done = std::move(done)]() mutable { done(absl::OkStatus()); });
    });
  }
  void Map(SpillFileId, uint32_t, MapDone done) override { Refuse(std::move(done)); }
  void Make(SpillFileId, uint64_t, MapDone done) override { Refuse(std::move(done)); }
  void Remove(SpillFileId file) override {
    Later([this, file] { files_.erase(file); });
  }

 private:
  void Refuse(MapDone done) {
    Later([this, done = std::move(done)]() mutable {
      post_([done = std::move(done)]() mutable { done(absl::UnimplementedError("no files")); });
    });
  }
  void Later(sim::Action run) {
    World* world = World::Current();
    free_at_ = std::max(free_at_, world->now()) +
               world->Between(absl::Microseconds(50), absl::Milliseconds(5));
    world->After(free_at_ - world->now(), process_, std::move(run));
  }

  const SharedMemory* const memory_;
  const IoThread::Post post_;
  sim::Process* const process_;
  absl::Time free_at_;
  std::map<SpillFileId, std::vector<std::string>> files_;
};

}  // namespace
}  // namespace ray::store

namespace ray::raylet {

absl::StatusOr<std::unique_ptr<store::SpillTarget>> MakeSpillTarget(
    const SpillSetup&, const std::string&, const store::SharedMemory* memory,
    const store::IoThread::Post& post) {
  return std::make_unique<store::VirtualDisk>(memory, post);
}

}  // namespace ray::raylet

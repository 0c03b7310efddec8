// An ObjectStore of 1 MiB on a virtual clock, its bytes, and short names for requests.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/store/object_store.h"
#include "tests/cpp/store/fake_spill_target.h"

namespace ray::store {

inline constexpr uint64_t kKiB = 1 << 10;
inline constexpr uint64_t kCapacity = 1 << 20;
inline constexpr ClientId kAnn{1};
inline constexpr ClientId kBob{2};

// The n-th object, worker of a test.
inline base::ObjectId Id(uint32_t n) {
  return base::PutObjectId(base::DriverTaskId(base::JobIdFromInt(1)), n);
}
inline base::WorkerId Owner(uint8_t n) {
  base::WorkerId owner;
  owner.mutable_data()[0] = n;
  return owner;
}

class ObjectStoreFixture : public testing::Test {
 protected:
  using Created = CreateReply::Outcome;
  using Got = GetReply::Outcome;

  void Start(ObjectStoreOptions options, bool with_spilling = true) {
    options.capacity_bytes = kCapacity;
    options.full_timeout = absl::Seconds(10);
    store =
        std::make_unique<ObjectStore>(options, &clock, with_spilling ? &disk : nullptr, nullptr);
  }
  void TearDown() override {
    if (store) store->CheckInvariants();
  }

  // The reply stays empty while the request waits.
  using CreateResult = std::shared_ptr<std::optional<CreateReply>>;
  using GetResult = std::shared_ptr<std::optional<GetReply>>;

  CreateResult Create(ClientId client, uint32_t id, uint64_t size,
                      base::WorkerId owner = Owner(1)) {
    auto result = std::make_shared<std::optional<CreateReply>>();
    absl::Status status =
        store->Create(client, {.id = Id(id), .size_bytes = size, .owner = owner, .note = "put"},
                      [result](CreateReply reply) { *result = std::move(reply); });
    EXPECT_TRUE(status.ok()) << status;
    return result;
  }
  GetResult Get(ClientId client, std::vector<uint32_t> ids,
                absl::Duration timeout = absl::InfiniteDuration()) {
    std::vector<base::ObjectId> object_ids;
    for (uint32_t id : ids) object_ids.push_back(Id(id));
    auto result = std::make_shared<std::optional<GetReply>>();
    store->Get(client, std::move(object_ids), timeout,
               [result](GetReply reply) { *result = std::move(reply); });
    return result;
  }

  // A sealed object filled with a letter that depends on its id.
  void Put(ClientId client, uint32_t id, uint64_t size, base::WorkerId owner = Owner(1)) {
    PutPinned(client, id, size, owner);
    Release(client, id);
  }
  void PutPinned(ClientId client, uint32_t id, uint64_t size, base::WorkerId owner = Owner(1)) {
    CreateResult created = Create(client, id, size, owner);
    ASSERT_TRUE(created->has_value()) << "object " << id << " waits for memory";
    ASSERT_EQ((*created)->outcome, Created::kCreated);
    Fill(id, (*created)->offset, size);
    Seal(client, id);
  }
  void Fill(uint32_t id, uint64_t offset, uint64_t size) {
    memory.replace(offset, size, size, Letter(id));
  }
  // Of an object whose creator was told to map a file.
  void FillFile(uint32_t id, const std::string& path) {
    std::string& bytes = disk.Mapped(path);
    bytes.assign(bytes.size(), Letter(id));
  }
  static char Letter(uint32_t id) { return static_cast<char>('a' + id % 26); }
  bool HoldsItsBytes(uint32_t id, const GetReply::Entry& entry) const {
    const std::string& bytes = entry.path.empty() ? memory : disk.Mapped(entry.path);
    return bytes.compare(entry.extent.offset, entry.extent.size,
                         std::string(entry.extent.size, Letter(id))) == 0;
  }

  void Seal(ClientId client, uint32_t id) {
    absl::Status status = store->Seal(client, Id(id));
    EXPECT_TRUE(status.ok()) << status;
  }
  void Release(ClientId client, uint32_t id) {
    absl::Status status = store->Release(client, Id(id));
    EXPECT_TRUE(status.ok()) << status;
  }
  void Free(uint32_t id) { store->Free({Id(id)}); }
  void Advance(absl::Duration by) {
    clock.Advance(by);
    store->Tick();
  }

  base::VirtualClock clock;
  std::string memory = std::string(kCapacity, '.');
  FakeSpillTarget disk{&memory};
  std::unique_ptr<ObjectStore> store;
};

}  // namespace ray::store

// Random clients, owners, disk failures and time against a model that knows what every client must
// read. Replay a failure with --gtest_filter=*/<seed>.
#include <map>
#include <random>

#include "tests/cpp/store/object_store_fixture.h"

namespace ray::store {
namespace {

constexpr uint32_t kIds = 60;
constexpr uint64_t kClients = 5;
constexpr uint8_t kOwners = 4;

class ObjectStoreRandom : public ObjectStoreFixture, public testing::WithParamInterface<uint32_t> {
 protected:
  struct Client {
    int waiting_creates = 0;
    std::map<uint32_t, GetReply::Entry> writing;    // where
    std::multimap<uint32_t, GetReply::Entry> pins;  // of sealed objects
  };

  void SetUp() override {
    Start(
        {.spilling_threshold = 0.7, .spill_quota_bytes = GetParam() % 3 == 0 ? 3 * kCapacity : 0});
    for (uint64_t i = 0; i < kClients; ++i) ConnectClient();
  }

  uint32_t Random(uint32_t below) { return random_() % below; }
  ClientId AnyClient() {
    auto it = clients_.begin();
    std::advance(it, Random(static_cast<uint32_t>(clients_.size())));
    return it->first;
  }
  void ConnectClient() { clients_[ClientId{++last_client_}]; }

  void CreateSome() {
    ClientId client = AnyClient();
    uint32_t id = Random(kIds);
    if (clients_[client].writing.contains(id)) return;
    uint64_t size = Random(20) == 0 ? 1 + Random(600'000) : 1 + Random(60'000);
    if (Random(50) == 0) size = kCapacity + 1 + Random(100'000);
    ++waiting_creates_;
    ++clients_[client].waiting_creates;
    absl::Status status = store->Create(
        client,
        {.id = Id(id), .size_bytes = size, .owner = Owner(static_cast<uint8_t>(Random(kOwners)))},
        [this, client, id, size](CreateReply reply) {
          ASSERT_TRUE(clients_.contains(client)) << "STORE-4";
          --waiting_creates_;
          --clients_[client].waiting_creates;
          if (reply.outcome != Created::kCreated) return;
          clients_[client].writing[id] = {.extent = {reply.offset, size}, .path = reply.path};
          reply.path.empty() ? Fill(id, reply.offset, size) : FillFile(id, reply.path);
        });
    ASSERT_TRUE(status.ok()) << status;
  }

  void LetGoOfEverything() {
    for (auto& [client, held] : clients_) {
      while (!held.writing.empty()) FinishWritingOf(client);
      for (const auto& [id, entry] : held.pins) ASSERT_TRUE(store->Release(client, Id(id)).ok());
      held.pins.clear();
    }
  }

  void FinishWriting() { FinishWritingOf(AnyClient()); }
  void FinishWritingOf(ClientId client) {
    auto& writing = clients_[client].writing;
    if (writing.empty()) return;
    auto [id, entry] = *writing.begin();
    writing.erase(writing.begin());
    if (Random(10) == 0) {
      store->Abort(client, Id(id));
      return;
    }
    clients_[client].pins.emplace(id, entry);
    ASSERT_TRUE(store->Seal(client, Id(id)).ok());
  }

  void GetSome() {
    ClientId client = AnyClient();
    std::vector<uint32_t> ids;
    for (uint32_t n = 1 + Random(6); n > 0; --n) ids.push_back(Random(kIds));
    std::vector<base::ObjectId> object_ids;
    for (uint32_t id : ids) object_ids.push_back(Id(id));
    absl::Duration timeout = Random(4) == 0 ? absl::InfiniteDuration() : absl::Seconds(Random(8));
    store->Get(client, object_ids, timeout, [this, client, ids](GetReply reply) {
      ASSERT_TRUE(clients_.contains(client)) << "STORE-4";
      ASSERT_EQ(reply.entries.size(), ids.size());
      for (size_t i = 0; i < ids.size(); ++i) {
        const GetReply::Entry& entry = reply.entries[i];
        if (entry.outcome != Got::kPresent) continue;
        EXPECT_TRUE(HoldsItsBytes(ids[i], entry));
        clients_[client].pins.emplace(ids[i], entry);
      }
    });
  }

  void ReleaseSome() {
    ClientId client = AnyClient();
    auto& pins = clients_[client].pins;
    if (pins.empty()) return;
    auto pin = pins.begin();
    std::advance(pin, Random(static_cast<uint32_t>(pins.size())));
    uint32_t id = pin->first;
    pins.erase(pin);
    absl::Status status = store->Release(client, Id(id));
    ASSERT_TRUE(status.ok()) << status;
  }

  void LoseClient() {
    ClientId client = AnyClient();
    waiting_creates_ -= clients_[client].waiting_creates;
    clients_.erase(client);
    ConnectClient();
    store->ClientGone(client);
  }

  void Step() {
    uint32_t dice = Random(1000);
    if (dice < 250) return CreateSome();
    if (dice < 480) return FinishWriting();
    if (dice < 600) return GetSome();
    if (dice < 780) return ReleaseSome();
    if (dice < 850) return Free(Random(kIds));
    if (dice < 870) return LoseClient();
    if (dice < 873) return store->OwnerGone(Owner(static_cast<uint8_t>(Random(kOwners))));
    if (dice < 878) {
      return store->FailGets(Id(Random(kIds)), Got::kLost, "no copy anywhere");
    }
    if (dice < 893) return Advance(absl::Milliseconds(Random(3000)));
    if (dice < 900) {
      disk.next_error = absl::UnavailableError("input/output error");
      return;
    }
    disk.FinishOne();
  }

  // STORE-1, STORE-2: what a client holds is what it was given, whatever else happened.
  void CheckPinnedBytes() {
    for (const auto& [client, held] : clients_) {
      for (const auto& [id, entry] : held.pins) {
        ASSERT_TRUE(HoldsItsBytes(id, entry)) << "object " << id;
      }
    }
  }

  std::mt19937 random_{GetParam()};
  std::map<ClientId, Client> clients_;
  uint64_t last_client_ = 0;
  int waiting_creates_ = 0;
};

TEST_P(ObjectStoreRandom, KeepsItsInvariantsAndThenComesToRest) {
  for (int step = 0; step < 4000; ++step) {
    Step();
    if (HasFailure()) FAIL() << "at step " << step;
    if (step % 20 == 0) store->CheckInvariants();
    if (step % 100 == 0) CheckPinnedBytes();
  }
  // Liveness: without faults, and with clients that let go of what they have, every creation is
  // answered in time.
  disk.next_error = absl::OkStatus();
  for (int second = 0; second < 25; ++second) {
    LetGoOfEverything();
    disk.FinishAll();
    Advance(absl::Seconds(1));
    store->CheckInvariants();
  }
  EXPECT_EQ(store->Stats().waiting_creates, 0u);
  EXPECT_EQ(waiting_creates_, 0);
  // Without clients, and with all objects freed, nothing is left.
  while (!clients_.empty()) {
    ClientId client = clients_.begin()->first;
    clients_.erase(client);
    store->ClientGone(client);
  }
  for (uint32_t id = 0; id < kIds; ++id) Free(id);
  disk.FinishAll();
  store->CheckInvariants();
  StoreStats stats = store->Stats();
  EXPECT_EQ(stats.objects, 0u);
  EXPECT_EQ(stats.allocated_bytes, 0u);
  EXPECT_EQ(stats.disk_bytes, 0u);
  EXPECT_EQ(stats.waiting_creates + stats.waiting_gets, 0u);
  EXPECT_TRUE(disk.files.empty());
  EXPECT_EQ(store->NextDeadline(), absl::InfiniteFuture());
  // The disk was used, or the test shows little.
  EXPECT_GT(stats.spilled_bytes_total, 0u);
  EXPECT_GT(stats.restored_bytes_total, 0u);
  EXPECT_GT(disk.makes, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ObjectStoreRandom, testing::Range(1u, 25u));

}  // namespace
}  // namespace ray::store

// The object store without its sockets: blocks, the life of an object, and copies into shared
// memory.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/store/arena.h"
#include "ray/store/object_store.h"
#include "ray/store/parallel_copy.h"
#include "ray/store/shared_memory.h"

namespace ray::store {
namespace {

constexpr uint64_t kCapacityBytes = 2ULL << 30;

// Replaces a random block among range(0) of random sizes: free memory is as broken up as in a
// long-lived store.
void BM_ArenaReplaceBlock(benchmark::State& state) {
  absl::BitGen random;
  const auto size = [&] { return absl::LogUniform<uint64_t>(random, 64, 64 << 10); };
  Arena arena(kCapacityBytes);
  std::vector<uint64_t> blocks(state.range(0));
  for (uint64_t& block : blocks) block = arena.Allocate(size())->offset;
  for (auto _ : state) {
    uint64_t& block = blocks[absl::Uniform<size_t>(random, 0, blocks.size())];
    arena.Free(block);
    block = arena.Allocate(size())->offset;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ArenaReplaceBlock)->ArgName("blocks")->Arg(100)->Arg(10'000);

class Store {
 public:
  base::ObjectId Put() {
    CreateRequest request;
    request.id = base::ObjectId::Random();
    request.size_bytes = 1 << 20;
    request.owner = owner_;
    const base::ObjectId id = request.id;
    const auto check_created = [](const CreateReply& reply) {
      MANTA_CHECK(reply.outcome == CreateReply::Outcome::kCreated);
    };
    MANTA_CHECK(store_.Create(kClient, std::move(request), check_created).ok());
    MANTA_CHECK(store_.Seal(kClient, id).ok());
    MANTA_CHECK(store_.Release(kClient, id).ok());
    return id;
  }

  void Get(const base::ObjectId& id) {
    store_.Get(kClient, {id}, absl::InfiniteDuration(), [](const GetReply& reply) {
      MANTA_CHECK(reply.entries[0].outcome == GetReply::Outcome::kPresent);
    });
    MANTA_CHECK(store_.Release(kClient, id).ok());
  }

  void Free(const base::ObjectId& id) { store_.Free({id}); }

 private:
  static constexpr ClientId kClient{1};
  const base::WorkerId owner_ = base::WorkerId::Random();
  ObjectStore store_{{.capacity_bytes = kCapacityBytes}, base::RealClock::Get(), nullptr, nullptr};
};

void BM_CreateSealFree(benchmark::State& state) {
  Store store;
  for (auto _ : state) store.Free(store.Put());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_CreateSealFree);

void BM_GetAndRelease(benchmark::State& state) {
  Store store;
  std::vector<base::ObjectId> ids(1000);
  for (base::ObjectId& id : ids) id = store.Put();
  size_t next = 0;
  for (auto _ : state) store.Get(ids[next++ % ids.size()]);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_GetAndRelease);

// 400 MB into pages that are present (warm) or were never touched.
void BM_CopyInto(benchmark::State& state) {
  const CopyOptions options{.threads = static_cast<int>(state.range(0))};
  const bool warm = state.range(1) != 0;
  const std::string value(400'000'000, 'x');
  std::unique_ptr<SharedMemory> memory;
  const auto renew = [&] { memory = std::move(SharedMemory::Create(value.size()).value()); };
  renew();
  if (warm) CopyInto(*memory, 0, value.data(), value.size(), options);
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      renew();
      state.ResumeTiming();
    }
    CopyInto(*memory, 0, value.data(), value.size(), options);
  }
  state.SetBytesProcessed(state.iterations() * value.size());
}
BENCHMARK(BM_CopyInto)
    ->ArgNames({"threads", "warm"})
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// The reference for the rows above.
void BM_Memcpy(benchmark::State& state) {
  const std::string value(400'000'000, 'x');
  std::string target(value.size(), 'y');
  for (auto _ : state) {
    std::memcpy(target.data(), value.data(), value.size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * value.size());
}
BENCHMARK(BM_Memcpy)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ray::store

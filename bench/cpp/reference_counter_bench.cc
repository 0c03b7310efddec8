// What the owner's table costs an object, by how many objects it holds.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "ray/base/ids.h"
#include "ray/core/buffer.h"
#include "ray/core/object_table.h"

namespace ray::core {
namespace {

class NoActions final : public ObjectTable::Actions {
 public:
  void RegisterBorrow(const base::ObjectId&, const AddressPtr&) override {}
  void ReleaseBorrow(const base::ObjectId&, const AddressPtr&, uint32_t) override {}
  void FetchFromOwner(const base::ObjectId&, const AddressPtr&) override {}
  void Recover(const base::ObjectId&) override {}
  void FreeStored(const base::ObjectId&, const base::NodeId&) override {}
  void KeepCopy(const base::ObjectId&, const base::NodeId&) override {}
  void OwnedObjectGone(const base::ObjectId&) override {}
};

class Owner {
 public:
  explicit Owner(int64_t objects) {
    table_.set_self(base::WorkerId::Random());
    for (int64_t i = 0; i < objects; ++i) AddObject();
  }

  // A return value of a new task, with one handle.
  base::ObjectId AddObject() {
    const base::ObjectId id = base::ReturnObjectId(task_ids_.Next(actor_), 1);
    table_.AddOwned(id);
    table_.AddLocal(id, nullptr);
    return id;
  }
  ObjectTable& table() { return table_; }

 private:
  const base::ActorId actor_ = base::NilActorOf(base::JobIdFromInt(1));
  base::TaskIdGenerator task_ids_;
  NoActions actions_;
  ObjectTable table_{&actions_};
};

// The life of a task's result: handle, value, end.
void BM_ResultLife(benchmark::State& state) {
  Owner owner(state.range(0));
  const BufferPtr value = Buffer::Copy("ok");
  for (auto _ : state) {
    const base::ObjectId id = owner.AddObject();
    owner.table().SetInline(id, value);
    owner.table().RemoveLocal(id);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_ResultLife)->ArgName("objects")->Arg(0)->Arg(10'000)->Arg(1'000'000);

// A reference that goes along with a task.
void BM_PinAndUnpin(benchmark::State& state) {
  Owner owner(10'000);
  const base::ObjectId id = owner.AddObject();
  for (auto _ : state) {
    owner.table().Pin(id, nullptr);
    owner.table().Unpin(id);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_PinAndUnpin);

// Another process takes a reference and gives it back.
void BM_BorrowerComesAndGoes(benchmark::State& state) {
  Owner owner(10'000);
  const base::ObjectId id = owner.AddObject();
  const base::WorkerId borrower = base::WorkerId::Random();
  for (auto _ : state) {
    owner.table().AddBorrower(id, borrower, 1);
    owner.table().RemoveBorrower(id, borrower, 1);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_BorrowerComesAndGoes);

// An object whose value holds range(0) references, from arrival to end.
void BM_ContainedReferences(benchmark::State& state) {
  Owner owner(0);
  std::vector<base::ObjectId> inner(state.range(0));
  for (base::ObjectId& id : inner) id = owner.AddObject();
  for (auto _ : state) {
    std::vector<ContainedObject> contains;
    for (const base::ObjectId& id : inner) contains.push_back({id, nullptr});
    const base::ObjectId outer = owner.AddObject();
    owner.table().SetContains(outer, std::move(contains), base::WorkerId());
    owner.table().RemoveLocal(outer);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_ContainedReferences)->Arg(10'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace ray::core
